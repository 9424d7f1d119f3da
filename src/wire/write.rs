//! A writer into a vector or into a fixed buffer.

use smallvec::SmallVec;

use crate::base::ids::Uuid;

/// A place in an answer for bytes that are sent from elsewhere: a file, or pages of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Bytes written before it.
    pub at: usize,
    /// Bytes that belong there.
    pub len: usize,
}

/// Writes a message. What does not fit into a fixed buffer is counted, not written: see
/// [`Writer::overflowed`]. Callers size first.
#[derive(Debug)]
pub struct Writer<'w> {
    out: Out<'w>,
    holes: SmallVec<[Hole; 4]>,
    hole_bytes: usize,
}

#[derive(Debug)]
enum Out<'w> {
    Growing(&'w mut Vec<u8>),
    Fixed { bytes: &'w mut [u8], len: usize },
}

impl<'w> Writer<'w> {
    /// Appends to a vector.
    pub fn vec(bytes: &'w mut Vec<u8>) -> Writer<'w> {
        Writer::over(Out::Growing(bytes))
    }

    /// Fills a buffer from its start.
    pub fn slice(bytes: &'w mut [u8]) -> Writer<'w> {
        Writer::over(Out::Fixed { bytes, len: 0 })
    }

    fn over(out: Out<'w>) -> Writer<'w> {
        Writer {
            out,
            holes: SmallVec::new(),
            hole_bytes: 0,
        }
    }

    /// Bytes written, holes not counted; for a vector, with what it held before.
    pub fn len(&self) -> usize {
        match &self.out {
            Out::Growing(bytes) => bytes.len(),
            Out::Fixed { len, .. } => *len,
        }
    }

    /// True if nothing is written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if the fixed buffer was too small. Its content is worth nothing then.
    pub fn overflowed(&self) -> bool {
        match &self.out {
            Out::Growing(_) => false,
            Out::Fixed { bytes, len } => *len > bytes.len(),
        }
    }

    /// Where bytes from elsewhere belong, in order.
    pub fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// Bytes that belong into the holes.
    pub fn hole_bytes(&self) -> usize {
        self.hole_bytes
    }

    /// Leaves a place for `len` bytes that come from elsewhere.
    pub fn hole(&mut self, len: usize) {
        if len > 0 {
            self.holes.push(Hole {
                at: self.len(),
                len,
            });
            self.hole_bytes += len;
        }
    }

    /// Writes bytes as they are.
    #[inline]
    pub fn raw(&mut self, data: &[u8]) {
        match &mut self.out {
            Out::Growing(bytes) => bytes.extend_from_slice(data),
            Out::Fixed { bytes, len } => {
                let end = *len + data.len();
                if let Some(to) = bytes.get_mut(*len..end) {
                    to.copy_from_slice(data);
                }
                *len = end;
            }
        }
    }

    /// Writes over four bytes that are already there: a size known only at the end.
    pub fn patch_i32(&mut self, at: usize, value: i32) {
        let bytes = match &mut self.out {
            Out::Growing(bytes) => bytes.as_mut_slice(),
            Out::Fixed { bytes, .. } => bytes,
        };
        if let Some(to) = bytes.get_mut(at..at + 4) {
            to.copy_from_slice(&value.to_be_bytes());
        }
    }

    /// A byte that is a number.
    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    /// Two bytes, big-endian.
    #[inline]
    pub fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    /// Four bytes, big-endian.
    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    /// Eight bytes, big-endian.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// A byte that is a truth value.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.i8(i8::from(value));
    }

    /// Sixteen bytes.
    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.raw(&value.0);
    }

    /// An unsigned number in groups of 7 bits, lowest first.
    #[inline]
    pub fn uvarint(&mut self, mut value: u32) {
        let mut bytes = [0; 5];
        let mut n = 0;
        while value >= 0x80 {
            bytes[n] = value as u8 | 0x80;
            value >>= 7;
            n += 1;
        }
        bytes[n] = value as u8;
        self.raw(&bytes[..=n]);
    }

    /// A signed (zigzag) number in groups of 7 bits.
    #[inline]
    pub fn varint(&mut self, value: i32) {
        self.uvarint(((value << 1) ^ (value >> 31)) as u32);
    }

    /// A signed (zigzag) number of 64 bits in groups of 7 bits.
    #[inline]
    pub fn varlong(&mut self, value: i64) {
        let mut value = ((value << 1) ^ (value >> 63)) as u64;
        let mut bytes = [0; 10];
        let mut n = 0;
        while value >= 0x80 {
            bytes[n] = value as u8 | 0x80;
            value >>= 7;
            n += 1;
        }
        bytes[n] = value as u8;
        self.raw(&bytes[..=n]);
    }

    /// The length of bytes or the count of a list: 4 bytes, or a compact one more than it; `None`
    /// is null.
    #[inline]
    pub fn length(&mut self, length: Option<usize>, flex: bool) {
        match (length, flex) {
            (None, false) => self.i32(-1),
            (None, true) => self.uvarint(0),
            // lengths are bounded by the frame, which is below 2^31
            (Some(n), false) => self.i32(n as i32),
            (Some(n), true) => self.uvarint(n as u32 + 1),
        }
    }

    /// Text or null.
    #[inline]
    pub fn string(&mut self, text: Option<&str>, flex: bool) {
        match (text, flex) {
            (text, true) => self.length(text.map(str::len), true),
            (None, false) => self.i16(-1),
            (Some(text), false) => self.i16(text.len() as i16),
        }
        self.raw(text.unwrap_or("").as_bytes());
    }
}

/// Bytes that a number takes in groups of 7 bits.
#[inline]
pub fn uvarint_length(value: u32) -> usize {
    (38 - (value | 1).leading_zeros() as usize) / 7
}

/// Bytes that a signed number takes in groups of 7 bits.
#[inline]
pub fn varint_length(value: i32) -> usize {
    uvarint_length(((value << 1) ^ (value >> 31)) as u32)
}

/// Bytes that a signed number of 64 bits takes in groups of 7 bits.
#[inline]
pub fn varlong_length(value: i64) -> usize {
    let raw = ((value << 1) ^ (value >> 63)) as u64;
    (70 - (raw | 1).leading_zeros() as usize) / 7
}

/// Bytes that the length of bytes or the count of a list takes.
#[inline]
pub fn length_length(length: Option<usize>, flex: bool) -> usize {
    match flex {
        false => 4,
        true => uvarint_length(length.map_or(0, |n| n as u32 + 1)),
    }
}

/// Bytes that a tagged field takes with its tag and size.
#[inline]
pub fn tag_length(tag: u32, value: usize) -> usize {
    uvarint_length(tag) + uvarint_length(value as u32) + value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::read::Reader;

    #[test]
    fn numbers_read_back_and_take_the_length_foretold() {
        for shift in 0..64 {
            for near in [-1i64, 0, 1] {
                let value = (1i64 << shift).wrapping_add(near);
                for value in [value, value.wrapping_neg()] {
                    let mut bytes = Vec::new();
                    Writer::vec(&mut bytes).varlong(value);
                    assert_eq!(bytes.len(), varlong_length(value));
                    assert_eq!(Reader::new(&bytes).varlong(), Ok(value));

                    let small = value as i32;
                    let mut bytes = Vec::new();
                    Writer::vec(&mut bytes).varint(small);
                    assert_eq!(bytes.len(), varint_length(small));
                    assert_eq!(Reader::new(&bytes).varint(), Ok(small));

                    let mut bytes = Vec::new();
                    Writer::vec(&mut bytes).uvarint(small as u32);
                    assert_eq!(bytes.len(), uvarint_length(small as u32));
                    assert_eq!(Reader::new(&bytes).uvarint(), Ok(small as u32));
                }
            }
        }
    }

    #[test]
    fn a_buffer_too_small_is_seen_and_not_overrun() {
        let mut bytes = [0u8; 6];
        let mut writer = Writer::slice(&mut bytes);
        writer.i32(7);
        assert!(!writer.overflowed());
        writer.i32(7);
        assert!(writer.overflowed());
        assert_eq!(writer.len(), 8);
    }
}
