//! Topic names as Kafka allows them: a directory must be able to carry them.

use crate::base::limits::TOPIC_NAME_BYTES;

/// A name that no topic can have (INVALID_TOPIC_EXCEPTION).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No name.
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    /// A name that directories have themselves.
    #[error("Topic name is invalid: '{0}' is not allowed")]
    Dots(String),
    /// Longer than a directory name can hold.
    #[error("Topic name is invalid: the length is {0}, which is more than {TOPIC_NAME_BYTES}")]
    Long(usize),
    /// Other characters than allowed.
    #[error(
        "Topic name is invalid: '{}' contains one or more characters other than ASCII \
         alphanumerics, '.', '_' and '-'",
        .0.escape_debug()
    )]
    Characters(String),
}

/// Checks a name.
///
/// # Errors
/// If no topic can have it.
pub fn validate_topic_name(name: &str) -> Result<(), InvalidName> {
    match name {
        "" => Err(InvalidName::Empty),
        "." | ".." => Err(InvalidName::Dots(name.to_owned())),
        _ if name.len() > TOPIC_NAME_BYTES => Err(InvalidName::Long(name.len())),
        _ => {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            if name.bytes().all(allowed) {
                Ok(())
            } else {
                Err(InvalidName::Characters(name.to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_a_directory_can_carry() {
        for good in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert_eq!(validate_topic_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "é", "a\0", &"x".repeat(250)] {
            assert!(validate_topic_name(bad).is_err(), "{bad}");
        }
    }
}
