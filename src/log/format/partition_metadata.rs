//! `partition.metadata`: the id of the topic that a directory belongs to.

use crate::base::ids::TopicId;
use crate::log::format::FormatError;

/// Name of the file in the partition's directory.
pub const FILE_NAME: &str = "partition.metadata";

/// The file for that topic, as Kafka writes it: no newline at the end.
pub fn encode(topic: TopicId) -> Vec<u8> {
    format!("version: 0\ntopic_id: {topic}").into_bytes()
}

/// Reads a whole file.
///
/// # Errors
/// Another version, no id, or the id that means none.
pub fn decode(bytes: &[u8]) -> Result<TopicId, FormatError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| FormatError::at(e.valid_up_to(), "no text in UTF-8"))?;
    let mut lines = text.lines();
    let version: i64 = lines
        .next()
        .and_then(|line| line.strip_prefix("version:"))
        .and_then(|version| version.trim().parse().ok())
        .ok_or_else(|| FormatError::line(1, "\"version: \" and a number are expected"))?;
    if version != 0 {
        return Err(FormatError::Version {
            got: version,
            newest: 0,
        });
    }
    lines
        .next()
        .and_then(|line| line.strip_prefix("topic_id:"))
        .and_then(|id| id.trim().parse().ok())
        .filter(|id: &TopicId| !id.is_zero())
        .ok_or_else(|| FormatError::line(2, "\"topic_id: \" and an id are expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_kafkas() {
        let text = b"version: 0\ntopic_id: TiWAFcDuQkGRsS_3YF2R7w";
        let id = decode(text).unwrap();
        assert_eq!(encode(id), text);
    }

    #[test]
    fn what_names_no_topic_is_refused() {
        for (text, line) in [
            (&b""[..], 1),
            (b"version: x\n", 1),
            (b"version: 0\n", 2),
            (b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA", 2),
        ] {
            assert!(
                matches!(decode(text), Err(FormatError::Line { line: l, .. }) if l == line),
                "{text:?}"
            );
        }
        assert!(matches!(
            decode(b"version: 1\ntopic_id: TiWAFcDuQkGRsS_3YF2R7w"),
            Err(FormatError::Version { got: 1, .. })
        ));
    }
}
