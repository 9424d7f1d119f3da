//! A walk over records that looks at their heads only, in memory or while they are inflated.

use std::io::{self, Read};

/// Bytes that are no records.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The record goes on after the bytes end.
    #[error("a record goes on after the end of its batch")]
    Truncated,
    /// A number that goes on after its last possible byte.
    #[error("a number in a record is too long")]
    Varint,
    /// A length below zero, where there is no null.
    #[error("{0} is no length in a record")]
    Length(i32),
    /// More or fewer bytes than its length says.
    #[error("a record says that it has {said} bytes, and has {found}")]
    Size {
        /// Its length field.
        said: i32,
        /// Bytes that its fields take.
        found: u64,
    },
    /// Bytes behind the last record.
    #[error("bytes follow the last record")]
    Trailing,
    /// The codec stopped.
    #[error("records can't be inflated: {0}")]
    Inflate(io::Error),
    /// More bytes than allowed.
    #[error("records inflate to more than {0} bytes")]
    TooLarge(u64),
}

/// Where records come from.
pub(super) trait Source {
    /// The next byte.
    fn byte(&mut self) -> Result<u8, RecordError>;
    /// Passes over bytes.
    fn skip(&mut self, n: u64) -> Result<(), RecordError>;
    /// Bytes passed so far.
    fn position(&self) -> u64;
    /// True if no byte is left.
    fn at_end(&mut self) -> Result<bool, RecordError>;
    /// Passes over one record, if that is quick and the record is good.
    #[inline(always)]
    fn quick(&mut self) -> Option<Head> {
        None
    }
}

/// Records in memory.
pub(super) struct Slice<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl Source for Slice<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, RecordError> {
        let byte = self.bytes.get(self.at).ok_or(RecordError::Truncated)?;
        self.at += 1;
        Ok(*byte)
    }

    #[inline]
    fn skip(&mut self, n: u64) -> Result<(), RecordError> {
        if n > (self.bytes.len() - self.at) as u64 {
            return Err(RecordError::Truncated);
        }
        self.at += n as usize;
        Ok(())
    }

    #[inline]
    fn position(&self) -> u64 {
        self.at as u64
    }

    fn at_end(&mut self) -> Result<bool, RecordError> {
        Ok(self.at == self.bytes.len())
    }

    /// The common record: whole, and without headers. What is wrong with another one is for the
    /// careful walk to say, so that nothing here carries an error.
    #[inline(always)]
    fn quick(&mut self) -> Option<Head> {
        let mut at = self.at;
        let said = quick_uvarint(self.bytes, &mut at)?;
        let end = at.checked_add(unzigzag(said)?)?;
        let record = self.bytes.get(..end)?;
        at += 1; // attributes
        let time = quick_uvarint(record, &mut at)?;
        let offset = quick_uvarint(record, &mut at)?;
        let key = quick_uvarint(record, &mut at)?;
        let has_key = key != 1;
        if has_key {
            at = at.checked_add(unzigzag(key)?)?;
        }
        let value = quick_uvarint(record, &mut at)?;
        if value != 1 {
            at = at.checked_add(unzigzag(value)?)?;
        }
        let no_headers = record.get(at) == Some(&0) && at + 1 == end;
        if !no_headers {
            return None;
        }
        self.at = end;
        Some(Head {
            timestamp_delta: (time >> 1) as i64 ^ -((time & 1) as i64),
            offset_delta: (offset >> 1) as i32 ^ -((offset & 1) as i32),
            has_key,
        })
    }
}

/// A number of at most four bytes.
#[inline(always)]
fn quick_uvarint(bytes: &[u8], at: &mut usize) -> Option<u32> {
    let mut value = 0;
    for i in 0..4 {
        let byte = u32::from(*bytes.get(*at)?);
        *at += 1;
        value |= (byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A length that is not below zero.
#[inline(always)]
fn unzigzag(raw: u32) -> Option<usize> {
    (raw & 1 == 0).then_some((raw >> 1) as usize)
}

/// Records that are inflated window by window: a batch that inflates to much takes time, not
/// memory.
pub(super) struct Stream<'a, R> {
    from: R,
    window: &'a mut [u8],
    at: usize,
    end: usize,
    /// Bytes of windows before this one.
    before: u64,
    max: u64,
}

impl<'a, R: Read> Stream<'a, R> {
    pub(super) fn new(from: R, window: &'a mut [u8], max: u64) -> Stream<'a, R> {
        Stream {
            from,
            window,
            at: 0,
            end: 0,
            before: 0,
            max,
        }
    }

    /// Fills the window; false at the end.
    fn fill(&mut self) -> Result<bool, RecordError> {
        self.before += self.end as u64;
        self.at = 0;
        self.end = 0;
        let read = self.from.read(self.window);
        self.end = read.map_err(RecordError::Inflate)?;
        if self.before + self.end as u64 > self.max {
            return Err(RecordError::TooLarge(self.max));
        }
        Ok(self.end > 0)
    }
}

impl<R: Read> Source for Stream<'_, R> {
    #[inline]
    fn byte(&mut self) -> Result<u8, RecordError> {
        if self.at == self.end && !self.fill()? {
            return Err(RecordError::Truncated);
        }
        let byte = self.window[self.at];
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, mut n: u64) -> Result<(), RecordError> {
        loop {
            let here = (self.end - self.at) as u64;
            if n <= here {
                self.at += n as usize;
                return Ok(());
            }
            n -= here;
            self.at = self.end;
            if !self.fill()? {
                return Err(RecordError::Truncated);
            }
        }
    }

    fn position(&self) -> u64 {
        self.before + self.at as u64
    }

    fn at_end(&mut self) -> Result<bool, RecordError> {
        Ok(self.at == self.end && !self.fill()?)
    }
}

#[inline]
fn uvarlong(s: &mut impl Source, max_bytes: u32) -> Result<u64, RecordError> {
    let mut value = 0;
    for i in 0..max_bytes {
        let byte = s.byte()?;
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(RecordError::Varint)
}

#[inline]
fn varint(s: &mut impl Source) -> Result<i32, RecordError> {
    let raw = uvarlong(s, 5)?;
    let raw = u32::try_from(raw).map_err(|_| RecordError::Varint)?;
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

#[inline]
fn varlong(s: &mut impl Source) -> Result<i64, RecordError> {
    let raw = uvarlong(s, 10)?;
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// What a record says before its key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
}

/// Passes over a field; false if it is null.
#[inline]
fn skip_field(s: &mut impl Source, null: bool) -> Result<bool, RecordError> {
    match varint(s)? {
        -1 if null => Ok(false),
        n if n < 0 => Err(RecordError::Length(n)),
        n => s.skip(n as u64).map(|()| true),
    }
}

/// Passes over one record that [`Source::quick`] left. Checks that its fields take the bytes that
/// it says.
pub(super) fn careful(s: &mut impl Source) -> Result<Head, RecordError> {
    let said = varint(s)?;
    if said < 0 {
        return Err(RecordError::Length(said));
    }
    let start = s.position();
    s.byte()?; // attributes of a record: none are defined
    let head = Head {
        timestamp_delta: varlong(s)?,
        offset_delta: varint(s)?,
        has_key: skip_field(s, true)?,
    };
    skip_field(s, true)?;
    let headers = varint(s)?;
    if headers < 0 {
        return Err(RecordError::Length(headers));
    }
    for _ in 0..headers {
        skip_field(s, false)?;
        skip_field(s, true)?;
        // a false count ends with the record, not with the batch
        if s.position() - start > said as u64 {
            break;
        }
    }
    let found = s.position() - start;
    match found == said as u64 {
        true => Ok(head),
        false => Err(RecordError::Size { said, found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;
    use crate::wire::batch::{BATCH_HEADER_BYTES, BatchBuilder};
    use crate::wire::compress::Codec;
    use crate::wire::random::Gen;

    /// What a walk says of the next record, and where it stands after it.
    fn seen(
        walk: impl FnOnce(&mut Slice<'_>) -> Option<Head>,
        bytes: &[u8],
    ) -> (Option<Head>, usize) {
        let mut slice = Slice { bytes, at: 0 };
        let head = walk(&mut slice);
        (head, slice.at)
    }

    #[test]
    fn the_quick_walk_sees_what_the_careful_one_sees() {
        let mut g = Gen(5);
        let (mut quick, mut left) = (0, 0);
        for _ in 0..20_000 {
            let mut builder = BatchBuilder::new(Codec::None);
            let value = vec![1; g.below(300)];
            let key = [2; 3];
            let time = Timestamp(g.next() as i64 >> g.below(64));
            let headers = [("h", None)];
            builder.append(time, None, None, &[]);
            builder.append(
                Timestamp(5),
                g.once_in(2).then_some(&key[..g.below(4)]),
                (!g.once_in(4)).then_some(&value),
                &headers[..usize::from(g.once_in(4))],
            );
            let mut bytes = builder.build().unwrap().split_off(BATCH_HEADER_BYTES);
            // the second record: the first gives it a delta of time
            let first = seen(|s| careful(s).ok(), &bytes).1;
            bytes.drain(..first);
            if g.once_in(2) {
                let at = g.below(bytes.len());
                bytes[at] ^= 1 << g.below(8);
            }
            let (expected, end) = seen(|s| careful(s).ok(), &bytes);
            match seen(|s| s.quick(), &bytes) {
                (None, at) => {
                    assert_eq!(at, 0, "it leaves the record where it is");
                    left += 1;
                }
                found => {
                    assert_eq!(found, (expected, end), "{bytes:?}");
                    quick += 1;
                }
            }
        }
        assert!(quick > 5000 && left > 1000, "{quick} quick, {left} left");
    }
}
