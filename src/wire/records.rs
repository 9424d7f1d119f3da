//! Record batches inside of messages, as opaque bytes.

use crate::wire::error::DecodeError;
use crate::wire::field::{Nullable, Wire};
use crate::wire::read::Reader;
use crate::wire::write::{Writer, length_length};

/// The records of one partition in a request or an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Records<'a> {
    /// No field.
    #[default]
    Null,
    /// Batches laid end to end.
    Bytes(&'a [u8]),
    /// So many bytes that are sent from elsewhere; only for encoding.
    Hole(usize),
}

impl<'a> Records<'a> {
    /// The bytes; empty for null and for a hole.
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Records::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        match self {
            Records::Null => 0,
            Records::Bytes(bytes) => bytes.len(),
            Records::Hole(len) => *len,
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> Wire<'a> for Records<'a> {
    #[inline]
    fn parse(r: &mut Reader<'a>, _: i16, flex: bool) -> Result<Self, DecodeError> {
        Ok(r.bytes(flex)?.map_or(Records::Null, Records::Bytes))
    }

    #[inline]
    fn length(&self, _: i16, flex: bool) -> usize {
        let length = (!self.is_null()).then(|| self.len());
        length_length(length, flex) + self.len()
    }

    #[inline]
    fn put(&self, w: &mut Writer<'_>, _: i16, flex: bool) {
        w.length((!self.is_null()).then(|| self.len()), flex);
        match self {
            Records::Null => {}
            Records::Bytes(bytes) => w.raw(bytes),
            Records::Hole(len) => w.hole(*len),
        }
    }
}

impl<'a> Nullable<'a> for Records<'a> {
    #[inline]
    fn is_null(&self) -> bool {
        *self == Records::Null
    }
    #[inline]
    fn empty() -> Self {
        Records::Bytes(&[])
    }
}
