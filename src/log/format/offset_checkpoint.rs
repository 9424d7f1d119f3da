//! `recovery-point-offset-checkpoint`, `replication-offset-checkpoint` (high watermarks),
//! `log-start-offset-checkpoint`: an offset for each partition of a log directory. Text: version 0,
//! count, then lines "topic partition offset".

use std::fmt::Write as _;

use crate::base::ids::{Offset, PartitionId};
use crate::log::format::{FormatError, lines};

/// Up to where Kafka need not check after an unclean stop.
pub const RECOVERY_POINT: &str = "recovery-point-offset-checkpoint";
/// High watermarks.
pub const REPLICATION: &str = "replication-offset-checkpoint";
/// Log starts above the first segment's base (after DeleteRecords).
pub const LOG_START: &str = "log-start-offset-checkpoint";
/// Up to where the cleaner came.
pub const CLEANER: &str = "cleaner-offset-checkpoint";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of the topic.
    pub topic: String,
    /// Its partition.
    pub partition: PartitionId,
    /// The offset.
    pub offset: Offset,
}

/// The file with these entries.
pub fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut text = lines::head(entries.len());
    for entry in entries {
        // a String takes all
        let _ = writeln!(text, "{} {} {}", entry.topic, entry.partition, entry.offset);
    }
    text.into_bytes()
}

/// Reads a whole file. One without a byte has no entries: Kafka makes it so before it has any.
///
/// # Errors
/// At the first line that cannot be true.
pub fn decode(bytes: &[u8]) -> Result<Vec<Entry>, FormatError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    lines::counted(bytes)?
        .into_iter()
        .map(|(line, text)| {
            let mut words = text.split_whitespace();
            (|| {
                let entry = Entry {
                    topic: words.next()?.to_owned(),
                    partition: PartitionId(words.next()?.parse().ok()?),
                    offset: Offset(words.next()?.parse().ok()?),
                };
                words.next().is_none().then_some(entry)
            })()
            .filter(|entry| entry.partition.0 >= 0 && entry.offset.0 >= 0)
            .ok_or_else(|| FormatError::line(line, "not of the form \"topic partition offset\""))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_kafkas() {
        let entries = [
            Entry {
                topic: "orders".into(),
                partition: PartitionId(0),
                offset: Offset(17),
            },
            Entry {
                topic: "a.b-c_d".into(),
                partition: PartitionId(12),
                offset: Offset(0),
            },
        ];
        let text = b"0\n2\norders 0 17\na.b-c_d 12 0\n";
        assert_eq!(encode(&entries), text);
        assert_eq!(decode(text).unwrap(), entries);
    }

    #[test]
    fn a_line_that_cannot_be_true_is_named() {
        for text in ["orders 0", "orders 0 1 2", "orders -1 5", "orders 0 x"] {
            let file = format!("0\n1\n{text}\n");
            assert!(
                matches!(
                    decode(file.as_bytes()),
                    Err(FormatError::Line { line: 3, .. })
                ),
                "{text}"
            );
        }
    }
}
