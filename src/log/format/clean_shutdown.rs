//! `.kafka_cleanshutdown` of a log directory: tells Kafka that every log ends where its file does.

/// Name of the file in the log directory.
pub const FILE_NAME: &str = ".kafka_cleanshutdown";

/// The file. Kafka's brokers prove with the epoch that they lost nothing (KIP-966); -1 is none.
pub fn encode(broker_epoch: i64) -> Vec<u8> {
    format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_kafkas() {
        assert_eq!(encode(-1), br#"{"version":0,"brokerEpoch":-1}"#);
    }
}
