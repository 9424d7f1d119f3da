//! The codecs by their numbers.

use std::fmt;
use std::str::FromStr;

/// How the records of a batch are compressed: bits 0 to 2 of its attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As they are.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy blocks in the framing of xerial's Java library; raw snappy is read too.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// Zstandard frames (KIP-110).
    Zstd = 4,
}

impl Codec {
    /// All of them.
    pub const ALL: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    /// The codec that a batch's attributes name.
    pub fn from_attributes(attributes: i16) -> Option<Codec> {
        Codec::ALL.get((attributes & 7) as usize).copied()
    }

    /// As Kafka's `compression.type` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no codec's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no codec: none, gzip, snappy, lz4, zstd are")]
pub struct UnknownCodec(String);

impl FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(text: &str) -> Result<Codec, UnknownCodec> {
        let named = |codec: &Codec| codec.name() == text;
        let found = Codec::ALL.into_iter().find(named);
        found.ok_or_else(|| UnknownCodec(text.chars().take(32).collect()))
    }
}
