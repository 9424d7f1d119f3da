//! Lists inside of messages.

use std::fmt;

use crate::wire::error::DecodeError;
use crate::wire::field::{Nullable, Wire};
use crate::wire::read::Reader;
use crate::wire::write::{Writer, length_length};

/// A list in a message: decoded as it is walked, or held for encoding.
///
/// Decoding a message walks over each list once to check it and keeps only where it stands, so
/// that a hostile count reserves nothing.
#[derive(Clone)]
pub enum Array<'a, T> {
    /// No list, which for some fields means everything.
    Null,
    /// Elements of a frame, checked.
    Encoded(Encoded<'a>),
    /// Elements that someone else holds.
    Slice(&'a [T]),
    /// Elements of its own.
    Owned(Vec<T>),
}

/// Elements as they stand in a frame.
#[derive(Clone, Debug)]
pub struct Encoded<'a> {
    elements: Reader<'a>,
    count: usize,
    version: i16,
    flex: bool,
}

impl<'a, T> Array<'a, T> {
    /// A list without elements.
    pub const EMPTY: Array<'a, T> = Array::Slice(&[]);

    /// How many elements there are; 0 for null.
    pub fn len(&self) -> usize {
        match self {
            Array::Null => 0,
            Array::Encoded(encoded) => encoded.count,
            Array::Slice(elements) => elements.len(),
            Array::Owned(elements) => elements.len(),
        }
    }

    /// True if there are none, or no list.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if there is no list.
    pub fn is_null(&self) -> bool {
        matches!(self, Array::Null)
    }
}

impl<'a, T: Wire<'a>> Array<'a, T> {
    /// The elements by value. Those of a frame are decoded anew by each walk, without allocation;
    /// those that are held are cloned.
    pub fn iter(&self) -> Iter<'_, 'a, T> {
        match self {
            Array::Null => Iter::Held([].iter()),
            Array::Encoded(encoded) => Iter::Encoded(encoded.clone()),
            Array::Slice(elements) => Iter::Held(elements.iter()),
            Array::Owned(elements) => Iter::Held(elements.iter()),
        }
    }

    fn each(&self, mut run: impl FnMut(&T)) {
        match self {
            Array::Null => {}
            Array::Encoded(_) => self.iter().for_each(|element| run(&element)),
            Array::Slice(elements) => elements.iter().for_each(run),
            Array::Owned(elements) => elements.iter().for_each(run),
        }
    }
}

/// A walk over the elements of an [`Array`].
#[derive(Clone)]
pub enum Iter<'s, 'a, T> {
    /// Elements of a frame.
    Encoded(Encoded<'a>),
    /// Elements that are held.
    Held(std::slice::Iter<'s, T>),
}

impl<'a, T: Wire<'a>> Iterator for Iter<'_, 'a, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        match self {
            Iter::Held(elements) => elements.next().cloned(),
            Iter::Encoded(encoded) => {
                encoded.count = encoded.count.checked_sub(1)?;
                // it was read once already when the message was decoded
                let element = T::parse(&mut encoded.elements, encoded.version, encoded.flex);
                debug_assert!(element.is_ok(), "checked elements can't fail");
                element.ok()
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self {
            Iter::Encoded(encoded) => encoded.count,
            Iter::Held(elements) => elements.len(),
        };
        (left, Some(left))
    }
}

impl<'a, T: Wire<'a>> ExactSizeIterator for Iter<'_, 'a, T> {}

impl<'s, 'a, T: Wire<'a>> IntoIterator for &'s Array<'a, T> {
    type Item = T;
    type IntoIter = Iter<'s, 'a, T>;

    fn into_iter(self) -> Iter<'s, 'a, T> {
        self.iter()
    }
}

impl<T> From<Vec<T>> for Array<'_, T> {
    fn from(elements: Vec<T>) -> Self {
        Array::Owned(elements)
    }
}

impl<'a, T> From<&'a [T]> for Array<'a, T> {
    fn from(elements: &'a [T]) -> Self {
        Array::Slice(elements)
    }
}

impl<T> FromIterator<T> for Array<'_, T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        Array::Owned(elements.into_iter().collect())
    }
}

impl<T> Default for Array<'_, T> {
    fn default() -> Self {
        Array::EMPTY
    }
}

impl<'a, T: Wire<'a> + PartialEq> PartialEq for Array<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.is_null() == other.is_null()
            && self.len() == other.len()
            && self.iter().eq(other.iter())
    }
}

impl<'a, T: Wire<'a> + fmt::Debug> fmt::Debug for Array<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Array::Null => f.write_str("null"),
            _ => f.debug_list().entries(self.iter()).finish(),
        }
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Array<'a, T> {
    #[inline]
    fn parse(r: &mut Reader<'a>, version: i16, flex: bool) -> Result<Self, DecodeError> {
        let Some(count) = r.count(flex)? else {
            return Ok(Array::Null);
        };
        let elements = r.clone();
        for index in 0..count {
            if let Err(error) = T::parse(r, version, flex) {
                return Err(error.element(index));
            }
        }
        Ok(Array::Encoded(Encoded {
            elements,
            count,
            version,
            flex,
        }))
    }

    fn length(&self, version: i16, flex: bool) -> usize {
        let mut n = length_length((!self.is_null()).then(|| self.len()), flex);
        self.each(|element| n += element.length(version, flex));
        n
    }

    fn put(&self, w: &mut Writer<'_>, version: i16, flex: bool) {
        w.length((!self.is_null()).then(|| self.len()), flex);
        self.each(|element| element.put(w, version, flex));
    }
}

impl<'a, T: Wire<'a>> Nullable<'a> for Array<'a, T> {
    #[inline]
    fn is_null(&self) -> bool {
        Array::is_null(self)
    }
    #[inline]
    fn empty() -> Self {
        Array::EMPTY
    }
}
