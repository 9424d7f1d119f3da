//! Values of fields: how each type is read, sized and written.

use crate::base::ids::Uuid;
use crate::wire::error::{DecodeError, Problem};
use crate::wire::read::Reader;
use crate::wire::write::{Writer, length_length};

/// A value of a field: a number, text, a struct, a list.
///
/// `v` is the version of the message, `flex` whether that version has compact lengths and tagged
/// fields.
pub trait Wire<'a>: Clone + Sized {
    /// Reads it. Borrows from the frame; never allocates.
    fn parse(r: &mut Reader<'a>, v: i16, flex: bool) -> Result<Self, DecodeError>;
    /// Bytes that it takes, those of holes included.
    fn length(&self, v: i16, flex: bool) -> usize;
    /// Writes it: exactly as many bytes as foretold, less those of holes.
    fn put(&self, w: &mut Writer<'_>, v: i16, flex: bool);
}

/// A value that has a null, which not all versions of its field allow.
pub trait Nullable<'a>: Wire<'a> {
    /// True for null.
    fn is_null(&self) -> bool;
    /// What is written for null where null is not allowed.
    fn empty() -> Self;

    /// Reads it; null is an error unless allowed.
    #[inline]
    fn parse_as(r: &mut Reader<'a>, v: i16, flex: bool, null: bool) -> Result<Self, DecodeError> {
        let offset = r.offset();
        let value = Self::parse(r, v, flex)?;
        if !null && value.is_null() {
            return Err(DecodeError::new(Problem::Null, offset));
        }
        Ok(value)
    }

    /// Bytes that it takes.
    #[inline]
    fn length_as(&self, v: i16, flex: bool, null: bool) -> usize {
        match !null && self.is_null() {
            true => Self::empty().length(v, flex),
            false => self.length(v, flex),
        }
    }

    /// Writes it.
    #[inline]
    fn put_as(&self, w: &mut Writer<'_>, v: i16, flex: bool, null: bool) {
        match !null && self.is_null() {
            true => Self::empty().put(w, v, flex),
            false => self.put(w, v, flex),
        }
    }
}

macro_rules! plain {
    ($($kind:ty: $call:ident $length:literal,)*) => {
        $(impl<'a> Wire<'a> for $kind {
            #[inline]
            fn parse(r: &mut Reader<'a>, _: i16, _: bool) -> Result<Self, DecodeError> {
                r.$call()
            }
            #[inline]
            fn length(&self, _: i16, _: bool) -> usize {
                $length
            }
            #[inline]
            fn put(&self, w: &mut Writer<'_>, _: i16, _: bool) {
                w.$call(*self);
            }
        })*
    };
}

plain! {
    bool: bool 1,
    i8: i8 1,
    i16: i16 2,
    i32: i32 4,
    i64: i64 8,
    Uuid: uuid 16,
}

impl<'a> Wire<'a> for Option<&'a str> {
    #[inline]
    fn parse(r: &mut Reader<'a>, _: i16, flex: bool) -> Result<Self, DecodeError> {
        r.string(flex)
    }

    #[inline]
    fn length(&self, _: i16, flex: bool) -> usize {
        let head = match flex {
            false => 2,
            true => length_length(self.map(str::len), true),
        };
        head + self.map_or(0, str::len)
    }

    #[inline]
    fn put(&self, w: &mut Writer<'_>, _: i16, flex: bool) {
        w.string(*self, flex);
    }
}

impl<'a> Nullable<'a> for Option<&'a str> {
    #[inline]
    fn is_null(&self) -> bool {
        self.is_none()
    }
    #[inline]
    fn empty() -> Self {
        Some("")
    }
}

impl<'a> Wire<'a> for &'a str {
    #[inline]
    fn parse(r: &mut Reader<'a>, _: i16, flex: bool) -> Result<Self, DecodeError> {
        let offset = r.offset();
        match r.string(flex)? {
            Some(text) => Ok(text),
            None => Err(DecodeError::new(Problem::Null, offset)),
        }
    }

    #[inline]
    fn length(&self, v: i16, flex: bool) -> usize {
        Some(*self).length(v, flex)
    }

    #[inline]
    fn put(&self, w: &mut Writer<'_>, _: i16, flex: bool) {
        w.string(Some(self), flex);
    }
}

impl<'a> Wire<'a> for Option<&'a [u8]> {
    #[inline]
    fn parse(r: &mut Reader<'a>, _: i16, flex: bool) -> Result<Self, DecodeError> {
        r.bytes(flex)
    }

    #[inline]
    fn length(&self, _: i16, flex: bool) -> usize {
        length_length(self.map(<[u8]>::len), flex) + self.map_or(0, <[u8]>::len)
    }

    #[inline]
    fn put(&self, w: &mut Writer<'_>, _: i16, flex: bool) {
        w.length(self.map(<[u8]>::len), flex);
        w.raw(self.unwrap_or_default());
    }
}

impl<'a> Nullable<'a> for Option<&'a [u8]> {
    #[inline]
    fn is_null(&self) -> bool {
        self.is_none()
    }
    #[inline]
    fn empty() -> Self {
        Some(&[])
    }
}

impl<'a> Wire<'a> for &'a [u8] {
    #[inline]
    fn parse(r: &mut Reader<'a>, v: i16, flex: bool) -> Result<Self, DecodeError> {
        let bytes = Option::<&'a [u8]>::parse_as(r, v, flex, false)?;
        Ok(bytes.unwrap_or_default())
    }

    #[inline]
    fn length(&self, v: i16, flex: bool) -> usize {
        Some(*self).length(v, flex)
    }

    #[inline]
    fn put(&self, w: &mut Writer<'_>, v: i16, flex: bool) {
        Some(*self).put(w, v, flex);
    }
}
