//! What is wrong with bytes that should have been a message.

use std::fmt;

use smallvec::SmallVec;

use crate::wire::api::ApiKey;

/// Bytes that are no message: what is wrong, where, and in which message of which version.
///
/// One allocation, made only when decoding fails; the connection is closed then.
#[derive(Clone, PartialEq)]
pub struct DecodeError(Box<Details>);

#[derive(Clone, PartialEq)]
struct Details {
    problem: Problem,
    offset: usize,
    /// Innermost first.
    path: SmallVec<[Step; 6]>,
    message: Option<(ApiKey, bool, i16)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Step {
    Field(&'static str),
    Element(usize),
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// The message ends in the middle of a value.
    #[error("{needed} bytes were expected, {left} are left")]
    Truncated {
        /// Bytes that the value takes.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// A length or count below -1.
    #[error("{0} is no length")]
    NegativeLength(i64),
    /// More elements than there are bytes.
    #[error("{count} elements can't be in the {left} bytes that are left")]
    Count {
        /// What the count says.
        count: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// Null where the version of the message allows none.
    #[error("null is not allowed here")]
    Null,
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// A variable-length number that goes on after its last possible byte.
    #[error("a variable-length number is too long")]
    Varint,
    /// Tagged fields out of order, or one of them twice.
    #[error("tagged field {tag} follows {before}")]
    TagOrder {
        /// The tag.
        tag: u32,
        /// The tag before it.
        before: u32,
    },
    /// A tagged field that is longer than its value.
    #[error("tagged field {tag} has {extra} bytes too many")]
    TagSize {
        /// The tag.
        tag: u32,
        /// Bytes behind its value.
        extra: usize,
    },
    /// Bytes behind the message.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    /// No API has this key.
    #[error("no API has the key {0}")]
    UnknownApi(i16),
    /// A version that the message does not have.
    #[error("version {0} does not exist")]
    Version(i16),
}

impl DecodeError {
    /// A problem at a byte of the frame.
    #[cold]
    pub fn new(problem: Problem, offset: usize) -> DecodeError {
        DecodeError(Box::new(Details {
            problem,
            offset,
            path: SmallVec::new(),
            message: None,
        }))
    }

    /// The same, in this field.
    #[cold]
    pub fn within(mut self, field: &'static str) -> DecodeError {
        self.0.path.push(Step::Field(field));
        self
    }

    /// The same, in this element of a list.
    #[cold]
    pub fn element(mut self, index: usize) -> DecodeError {
        self.0.path.push(Step::Element(index));
        self
    }

    /// The same, in this message.
    #[cold]
    pub fn message(mut self, api: ApiKey, response: bool, version: i16) -> DecodeError {
        self.0.message.get_or_insert((api, response, version));
        self
    }

    /// What is wrong.
    pub fn problem(&self) -> Problem {
        self.0.problem
    }

    /// The byte, counted from the first one behind the frame's length.
    pub fn offset(&self) -> usize {
        self.0.offset
    }

    /// The API and the version, once they are known.
    pub fn api(&self) -> Option<(ApiKey, i16)> {
        self.0.message.map(|(api, _, version)| (api, version))
    }

    /// The field, as in `topics[2].partitions[0].records`; empty for the message itself.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for step in self.0.path.iter().rev() {
            match step {
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => path.push_str(&format!(".{name}")),
                Step::Element(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((api, response, version)) = self.0.message {
            let side = if response { "response" } else { "request" };
            write!(f, "{api} {side} version {version}, ")?;
        }
        let path = self.path();
        if !path.is_empty() {
            write!(f, "{path}, ")?;
        }
        write!(f, "byte {}: {}", self.0.offset, self.0.problem)
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for DecodeError {}

/// Names the field in which decoding failed.
#[inline]
pub fn at<T>(field: &'static str, result: Result<T, DecodeError>) -> Result<T, DecodeError> {
    match result {
        Ok(value) => Ok(value),
        Err(error) => Err(error.within(field)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_message_field_and_byte() {
        let error = DecodeError::new(Problem::Null, 17)
            .within("records")
            .element(0)
            .within("partition_data")
            .message(ApiKey::Produce, false, 9);
        assert_eq!(
            error.to_string(),
            "Produce request version 9, partition_data[0].records, byte 17: null is not allowed here"
        );
    }
}
