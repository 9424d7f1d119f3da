//! `leader-epoch-checkpoint`: where each leader epoch of a partition begins (KIP-101). Text:
//! version 0, count, then lines "epoch start-offset".

use std::fmt::Write as _;

use crate::base::ids::{LeaderEpoch, Offset};
use crate::log::format::{FormatError, lines};

/// Name of the file in the partition's directory.
pub const FILE_NAME: &str = "leader-epoch-checkpoint";

/// Where an epoch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its first offset.
    pub start: Offset,
}

/// The file with these epochs.
pub fn encode(epochs: &[EpochStart]) -> Vec<u8> {
    let mut text = lines::head(epochs.len());
    for entry in epochs {
        let _ = writeln!(text, "{} {}", entry.epoch, entry.start); // a String takes all
    }
    text.into_bytes()
}

/// Reads a whole file; epochs must rise, offsets must not fall.
///
/// # Errors
/// At the first line that cannot be true.
pub fn decode(bytes: &[u8]) -> Result<Vec<EpochStart>, FormatError> {
    let mut epochs: Vec<EpochStart> = Vec::new();
    for (line, text) in lines::counted(bytes)? {
        let mut words = text.split_whitespace();
        let entry = (|| {
            let entry = EpochStart {
                epoch: LeaderEpoch(words.next()?.parse().ok()?),
                start: Offset(words.next()?.parse().ok()?),
            };
            words.next().is_none().then_some(entry)
        })()
        .filter(|entry| entry.epoch.0 >= 0 && entry.start.0 >= 0)
        .ok_or_else(|| FormatError::line(line, "not of the form \"epoch start-offset\""))?;
        if epochs
            .last()
            .is_some_and(|last| last.epoch >= entry.epoch || last.start > entry.start)
        {
            return Err(FormatError::line(line, "epochs do not rise"));
        }
        epochs.push(entry);
    }
    Ok(epochs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(epoch: i32, start: i64) -> EpochStart {
        EpochStart {
            epoch: LeaderEpoch(epoch),
            start: Offset(start),
        }
    }

    #[test]
    fn the_text_is_kafkas() {
        let epochs = [start(0, 0), start(3, 120)];
        assert_eq!(encode(&epochs), b"0\n2\n0 0\n3 120\n");
        assert_eq!(decode(b"0\n2\n0 0\n3 120\n").unwrap(), epochs);
        assert_eq!(decode(b"0\n0\n").unwrap(), []);
    }

    #[test]
    fn a_line_that_cannot_be_true_is_named() {
        let line = |text: &[u8]| match decode(text).unwrap_err() {
            FormatError::Line { line, .. } => line,
            other => panic!("{other}"),
        };
        assert_eq!(line(b"0\n2\n0 0\n"), 2, "fewer lines than announced");
        assert_eq!(line(b"0\n1\n0 zero\n"), 3);
        assert_eq!(line(b"0\n1\n0 0 0\n"), 3);
        assert_eq!(line(b"0\n2\n1 0\n1 5\n"), 4);
        assert_eq!(line(b"0\n1\n-1 0\n"), 3);
        assert_eq!(line(b""), 1);
        assert!(matches!(
            decode(b"7\n0\n"),
            Err(FormatError::Version { got: 7, .. })
        ));
        assert!(matches!(
            decode(b"0\n\xff\n"),
            Err(FormatError::Bytes { at: 2, .. })
        ));
    }
}
