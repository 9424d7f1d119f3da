//! A reader over the bytes of a frame.

use crate::base::ids::Uuid;
use crate::wire::error::{DecodeError, Problem};

/// Walks over bytes and hands out slices of them. Never allocates, never reads past the end.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    left: &'a [u8],
    /// Offset in the frame of the byte behind the last of `left`, from which positions follow.
    end: usize,
}

impl<'a> Reader<'a> {
    /// Over bytes that begin a frame (behind its length).
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader::at(bytes, 0)
    }

    /// Over bytes that stand at `offset` of their frame.
    pub fn at(bytes: &'a [u8], offset: usize) -> Reader<'a> {
        Reader {
            left: bytes,
            end: offset + bytes.len(),
        }
    }

    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.left
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.left.len()
    }

    /// True at the end.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Where the next byte stands in the frame.
    pub fn offset(&self) -> usize {
        self.end - self.left.len()
    }

    /// An error at the next byte.
    #[cold]
    pub fn error(&self, problem: Problem) -> DecodeError {
        DecodeError::new(problem, self.offset())
    }

    /// The next `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        match self.left.split_at_checked(n) {
            Some((taken, left)) => {
                self.left = left;
                Ok(taken)
            }
            None => Err(self.error(Problem::Truncated {
                needed: n,
                left: self.left.len(),
            })),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.left.split_first_chunk::<N>() {
            Some((taken, left)) => {
                self.left = left;
                Ok(*taken)
            }
            None => Err(self.error(Problem::Truncated {
                needed: N,
                left: self.left.len(),
            })),
        }
    }

    /// A byte that is a number.
    #[inline]
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    /// Two bytes, big-endian.
    #[inline]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// Four bytes, big-endian.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Eight bytes, big-endian.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A byte that is a truth value: anything but 0 is true.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// Sixteen bytes.
    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid(self.array()?))
    }

    /// An unsigned number in groups of 7 bits, lowest first, of at most 32 bits.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for (i, byte) in self.left.iter().take(5).enumerate() {
            if i == 4 && *byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.left = &self.left[i + 1..];
                return Ok(value);
            }
        }
        Err(self.varint_error(5))
    }

    /// A signed (zigzag) number in groups of 7 bits, of at most 32 bits: lengths inside records.
    #[inline]
    pub fn varint(&mut self) -> Result<i32, DecodeError> {
        let raw = self.uvarint()?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// A signed (zigzag) number in groups of 7 bits, of at most 64 bits.
    #[inline]
    pub fn varlong(&mut self) -> Result<i64, DecodeError> {
        let mut raw = 0u64;
        for (i, byte) in self.left.iter().take(10).enumerate() {
            if i == 9 && *byte > 1 {
                break;
            }
            raw |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.left = &self.left[i + 1..];
                return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
            }
        }
        Err(self.varint_error(10))
    }

    #[cold]
    fn varint_error(&self, max: usize) -> DecodeError {
        let left = self.left.len();
        self.error(match left < max {
            true => Problem::Truncated {
                needed: left + 1,
                left,
            },
            false => Problem::Varint,
        })
    }

    /// The length of bytes or the count of a list: 4 bytes, or a compact one more than it; `None`
    /// is null.
    #[inline]
    pub fn length(&mut self, flex: bool) -> Result<Option<usize>, DecodeError> {
        if flex {
            return Ok((self.uvarint()? as usize).checked_sub(1));
        }
        match self.i32()? {
            -1 => Ok(None),
            n => self.checked(i64::from(n)).map(Some),
        }
    }

    fn checked(&self, length: i64) -> Result<usize, DecodeError> {
        usize::try_from(length).map_err(|_| self.error(Problem::NegativeLength(length)))
    }

    /// The count of a list, checked against the bytes that are left: an element takes at least one.
    #[inline]
    pub fn count(&mut self, flex: bool) -> Result<Option<usize>, DecodeError> {
        match self.length(flex)? {
            Some(count) if count > self.left.len() => Err(self.error(Problem::Count {
                count,
                left: self.left.len(),
            })),
            count => Ok(count),
        }
    }

    /// Bytes or null.
    #[inline]
    pub fn bytes(&mut self, flex: bool) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.length(flex)? {
            Some(n) => self.take(n).map(Some),
            None => Ok(None),
        }
    }

    /// Text or null.
    #[inline]
    pub fn string(&mut self, flex: bool) -> Result<Option<&'a str>, DecodeError> {
        let length = if flex {
            self.length(true)?
        } else {
            match self.i16()? {
                -1 => None,
                n => Some(self.checked(i64::from(n))?),
            }
        };
        let Some(length) = length else {
            return Ok(None);
        };
        let offset = self.offset();
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(Some(text)),
            Err(e) => Err(DecodeError::new(Problem::Utf8, offset + e.valid_up_to())),
        }
    }

    /// Tagged fields (KIP-482): `field` reads a value that it knows and says whether it did.
    /// Others are skipped.
    pub fn tags(
        &mut self,
        mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.uvarint()?;
        let mut before = None;
        for _ in 0..count {
            let tag = self.uvarint()?;
            if let Some(before) = before
                && tag <= before
            {
                return Err(self.error(Problem::TagOrder { tag, before }));
            }
            before = Some(tag);
            let size = self.uvarint()? as usize;
            let offset = self.offset();
            let mut value = Reader::at(self.take(size)?, 0);
            value.end += offset;
            if field(tag, &mut value)? && !value.is_empty() {
                let extra = value.len();
                return Err(value.error(Problem::TagSize { tag, extra }));
            }
        }
        Ok(())
    }

    /// An error if bytes are left.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.left.len() {
            0 => Ok(()),
            n => Err(self.error(Problem::Trailing(n))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_variable_length_end_at_their_last_byte() {
        let read = |bytes: &[u8]| Reader::new(bytes).uvarint().map_err(|e| e.problem());
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(Problem::Varint));
        assert_eq!(
            read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]),
            Err(Problem::Varint)
        );
        assert_eq!(
            read(&[0x80]),
            Err(Problem::Truncated { needed: 2, left: 1 })
        );
        let long = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(Reader::new(&long).varlong(), Ok(i64::MIN));
        let longer = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert!(Reader::new(&longer).varlong().is_err());
    }

    #[test]
    fn a_count_beyond_the_frame_is_refused_before_anything_is_reserved() {
        let mut reader = Reader::new(&[0x7f, 0xff, 0xff, 0xff, 0]);
        let problem = reader.count(false).unwrap_err().problem();
        let expected = Problem::Count {
            count: 0x7fff_ffff,
            left: 1,
        };
        assert_eq!(problem, expected);
    }

    #[test]
    fn unknown_tagged_fields_are_skipped_and_order_is_kept() {
        let mut reader = Reader::new(&[2, 3, 1, 0xaa, 9, 0]);
        reader.tags(|_, _| Ok(false)).unwrap();
        assert!(reader.is_empty());
        let mut twice = Reader::new(&[2, 3, 0, 3, 0]);
        let problem = twice.tags(|_, _| Ok(false)).unwrap_err().problem();
        assert_eq!(problem, Problem::TagOrder { tag: 3, before: 3 });
    }
}
