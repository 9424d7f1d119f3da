//! Newtypes of the field: parsed once at the edge, trusted after that.

use std::fmt;
use std::str::FromStr;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A record's place in its partition, counted from 0.
    Offset(i64)
);
number!(
    /// A partition's number in its topic.
    PartitionId(i32)
);
number!(
    /// How often the leadership of a partition changed (KIP-101).
    LeaderEpoch(i32)
);
number!(
    /// An idempotent producer, as handed out by InitProducerId (KIP-98).
    ProducerId(i64)
);
number!(
    /// A machine (or a lane of one) as clients see it.
    NodeId(i32)
);
number!(
    /// A shard of this machine, counted from 0. Never stored: files name machines, not cores.
    ShardId(u16)
);

impl Offset {
    /// The offset `n` records later.
    pub fn plus(self, n: i64) -> Offset {
        Offset(self.0 + n)
    }
}

impl LeaderEpoch {
    /// What Kafka sends where an epoch is not known.
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);
}

impl ProducerId {
    /// A batch of a producer that is not idempotent.
    pub const NONE: ProducerId = ProducerId(-1);
}

/// 16 bytes that name a topic, a log directory or a cluster (KIP-516); shown as URL-safe base64
/// without padding, as Kafka does.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

/// The id of a topic: a topic deleted and made again under its name has another one.
pub type TopicId = Uuid;

impl Uuid {
    /// All zeros: no id.
    pub const ZERO: Uuid = Uuid([0; 16]);

    /// A version 4 id from 128 random bits. Never begins with `-`, which command lines mistake for
    /// a flag.
    pub fn from_random(high: u64, low: u64) -> Uuid {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        if bytes[0] >> 2 == 62 {
            bytes[0] &= 0x7f; // 62 is '-' in URL-safe base64
        }
        Uuid(bytes)
    }

    /// True for the id that means none.
    pub fn is_zero(&self) -> bool {
        *self == Uuid::ZERO
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 22];
        let value = u128::from_be_bytes(self.0);
        for (i, c) in text.iter_mut().enumerate() {
            // 128 bits in 22 characters of 6: the last carries 2 bits and 4 zeros
            let shift = 122 - 6 * i as i32;
            let bits = if shift >= 0 {
                value >> shift
            } else {
                value << -shift
            };
            *c = BASE64[(bits & 63) as usize];
        }
        f.pad(std::str::from_utf8(&text).expect("base64 is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no URL-safe base64 of 16 bytes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not an id: 22 characters of URL-safe base64 are expected")]
pub struct BadUuid(String);

impl FromStr for Uuid {
    type Err = BadUuid;

    fn from_str(text: &str) -> Result<Uuid, BadUuid> {
        let bad = || BadUuid(text.chars().take(64).collect());
        if text.len() != 22 {
            return Err(bad());
        }
        let mut value: u128 = 0;
        for (i, c) in text.bytes().enumerate() {
            let bits = BASE64.iter().position(|b| *b == c).ok_or_else(bad)? as u128;
            if i < 21 {
                value = value << 6 | bits;
            } else if bits & 15 == 0 {
                value = value << 2 | bits >> 4;
            } else {
                return Err(bad());
            }
        }
        Ok(Uuid(value.to_be_bytes()))
    }
}

/// A partition by its topic's id, which is how files and shards name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// Id of the topic.
    pub topic: TopicId,
    /// Number of the partition in it.
    pub partition: PartitionId,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_and_write_as_kafka_does() {
        // made with org.apache.kafka.common.Uuid
        let text = "TiWAFcDuQkGRsS_3YF2R7w";
        let id: Uuid = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert!(
            "AAAAAAAAAAAAAAAAAAAAAB".parse::<Uuid>().is_err(),
            "bits beyond 128"
        );
        assert!("AAAA".parse::<Uuid>().is_err());
        assert!("AAAAAAAAAAAAAAAAAAAAA+".parse::<Uuid>().is_err());
    }

    #[test]
    fn random_ids_never_begin_with_a_dash() {
        for high in (0..=255u64).map(|b| b << 56) {
            assert!(!Uuid::from_random(high, 0).to_string().starts_with('-'));
        }
    }
}
