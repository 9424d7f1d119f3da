//! What is at the front of each value, so that whoever reads it knows which record it is and when
//! it was to be sent.

use crate::base::time::Monotonic;

/// Bytes of it.
pub const BYTES: usize = 24;

/// Names a record: no other has the same producer, partition and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The connection that sent it.
    pub producer: u32,
    /// The partition it was sent to.
    pub partition: u32,
    /// Counts a producer's records in a partition, from 0.
    pub number: u64,
    /// When it was to be sent.
    pub due: Monotonic,
}

impl Name {
    pub fn write(self, to: &mut [u8]) {
        to[0..4].copy_from_slice(&self.producer.to_be_bytes());
        to[4..8].copy_from_slice(&self.partition.to_be_bytes());
        to[8..16].copy_from_slice(&self.number.to_be_bytes());
        to[16..24].copy_from_slice(&self.due.0.to_be_bytes());
    }

    pub fn read(value: &[u8]) -> Option<Name> {
        let (producer, rest) = value.split_first_chunk::<4>()?;
        let (partition, rest) = rest.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (due, _) = rest.split_first_chunk::<8>()?;
        Some(Name {
            producer: u32::from_be_bytes(*producer),
            partition: u32::from_be_bytes(*partition),
            number: u64::from_be_bytes(*number),
            due: Monotonic(u64::from_be_bytes(*due)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back() {
        let name = Name {
            producer: 7,
            partition: 99_999,
            number: u64::MAX - 1,
            due: Monotonic(123_456_789),
        };
        let mut value = vec![0; 100];
        name.write(&mut value);
        assert_eq!(Name::read(&value), Some(name));
        assert_eq!(Name::read(&value[..23]), None);
    }
}
