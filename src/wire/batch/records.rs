//! The records of a batch, borrowed from its (inflated) bytes.

use crate::wire::batch::walk::RecordError;
use crate::wire::error::{DecodeError, Problem};
use crate::wire::read::Reader;

/// A record in place.
#[derive(Clone, Debug)]
pub struct RecordView<'a> {
    /// Its time, counted from the batch's base timestamp, in milliseconds.
    pub timestamp_delta: i64,
    /// Its offset, counted from the batch's base offset.
    pub offset_delta: i32,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> RecordView<'a> {
    /// Its headers, in order; a key may be there more than once.
    pub fn headers(&self) -> Headers<'a> {
        self.headers.clone()
    }
}

/// A header of a record in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderView<'a> {
    /// Its name: UTF-8, as far as the producer kept to it.
    pub key: &'a [u8],
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// A walk over the headers of a record.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    bytes: Reader<'a>,
    count: usize,
}

impl<'a> Iterator for Headers<'a> {
    type Item = HeaderView<'a>;

    fn next(&mut self) -> Option<HeaderView<'a>> {
        self.count = self.count.checked_sub(1)?;
        // checked when the record was read
        header(&mut self.bytes).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// The records in `bytes`, which are those of a batch as they are or inflated. Ends after the
/// first error.
pub fn records(bytes: &[u8], count: i32) -> RecordIter<'_> {
    RecordIter {
        bytes: Reader::new(bytes),
        left: count,
    }
}

/// A walk over records.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    bytes: Reader<'a>,
    left: i32,
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<RecordView<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let record = record(&mut self.bytes);
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

fn broken(error: DecodeError) -> RecordError {
    match error.problem() {
        Problem::Varint => RecordError::Varint,
        Problem::NegativeLength(n) => RecordError::Length(n as i32),
        _ => RecordError::Truncated,
    }
}

fn field<'a>(r: &mut Reader<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
    match r.varint()? {
        -1 => Ok(None),
        n if n < 0 => Err(r.error(Problem::NegativeLength(n.into()))),
        n => r.take(n as usize).map(Some),
    }
}

fn header<'a>(r: &mut Reader<'a>) -> Result<HeaderView<'a>, DecodeError> {
    let Some(key) = field(r)? else {
        return Err(r.error(Problem::NegativeLength(-1)));
    };
    let value = field(r)?;
    Ok(HeaderView { key, value })
}

fn record<'a>(from: &mut Reader<'a>) -> Result<RecordView<'a>, RecordError> {
    let said = from.varint().map_err(broken)?;
    let size = usize::try_from(said).map_err(|_| RecordError::Length(said))?;
    let mut r = Reader::new(from.take(size).map_err(broken)?);
    let mut fields = || -> Result<RecordView<'a>, DecodeError> {
        r.i8()?;
        let timestamp_delta = r.varlong()?;
        let offset_delta = r.varint()?;
        let key = field(&mut r)?;
        let value = field(&mut r)?;
        let count = r.varint()?;
        let Ok(count) = usize::try_from(count) else {
            return Err(r.error(Problem::NegativeLength(count.into())));
        };
        let bytes = r.clone();
        for _ in 0..count {
            header(&mut r)?;
        }
        Ok(RecordView {
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers: Headers { bytes, count },
        })
    };
    let record = fields().map_err(broken)?;
    match r.is_empty() {
        true => Ok(record),
        false => Err(RecordError::Size {
            said,
            found: (size - r.len()) as u64,
        }),
    }
}
