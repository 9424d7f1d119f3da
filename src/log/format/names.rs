//! Names of files and directories, as Kafka spells them.

use std::path::{Path, PathBuf};

use crate::base::ids::{Offset, PartitionId, Uuid};

/// The kinds of files that a base offset names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Records.
    Log,
    /// Offset index.
    Index,
    /// Time index.
    TimeIndex,
    /// Aborted transactions.
    TxnIndex,
    /// Producer state at the offset.
    Snapshot,
}

impl Kind {
    /// What follows the number, dot included.
    pub fn suffix(self) -> &'static str {
        match self {
            Kind::Log => ".log",
            Kind::Index => ".index",
            Kind::TimeIndex => ".timeindex",
            Kind::TxnIndex => ".txnindex",
            Kind::Snapshot => ".snapshot",
        }
    }
}

/// `dir/00000000000000000042.log`
pub fn file(dir: &Path, base: Offset, kind: Kind) -> PathBuf {
    dir.join(format!("{:020}{}", base.0, kind.suffix()))
}

/// Base offset and kind from a file's name; `None` for every other file.
pub fn parse_file(name: &str) -> Option<(Offset, Kind)> {
    let (digits, suffix) = name.split_at_checked(20)?;
    let kind = match suffix {
        ".log" => Kind::Log,
        ".index" => Kind::Index,
        ".timeindex" => Kind::TimeIndex,
        ".txnindex" => Kind::TxnIndex,
        ".snapshot" => Kind::Snapshot,
        _ => return None,
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((Offset(digits.parse().ok()?), kind))
}

/// `orders-3`
pub fn partition_dir(topic: &str, partition: PartitionId) -> String {
    format!("{topic}-{partition}")
}

/// Topic and partition from a directory's name; `None` for every other directory, among them
/// those that are set aside for deletion.
pub fn parse_partition_dir(name: &str) -> Option<(&str, PartitionId)> {
    let (topic, number) = name.rsplit_once('-')?;
    if topic.is_empty() || number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if number.len() > 1 && number.starts_with('0') {
        return None;
    }
    Some((topic, PartitionId(number.parse().ok()?)))
}

/// Kafka cuts the topic in a set-aside directory's name so that the whole is a legal file name.
const MAX_FILE_NAME: usize = 255;

/// `orders-3.<32 hex digits>-delete`: a deleted partition that waits to be unlinked.
pub fn deleted_dir(topic: &str, partition: PartitionId, unique: Uuid) -> String {
    set_aside(topic, partition, unique, "-delete")
}

/// `orders-3.<32 hex digits>-stray`: a partition that no topic owns.
pub fn stray_dir(topic: &str, partition: PartitionId, unique: Uuid) -> String {
    set_aside(topic, partition, unique, "-stray")
}

fn set_aside(topic: &str, partition: PartitionId, unique: Uuid, suffix: &str) -> String {
    let tail = format!(
        "-{partition}.{:032x}{suffix}",
        u128::from_be_bytes(unique.0)
    );
    let room = MAX_FILE_NAME.saturating_sub(tail.len());
    let mut end = topic.len().min(room);
    while !topic.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{tail}", &topic[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_twenty_digits() {
        let path = file(Path::new("d"), Offset(42), Kind::TimeIndex);
        assert_eq!(path, Path::new("d/00000000000000000042.timeindex"));
        assert_eq!(
            parse_file("00000000000000000042.log"),
            Some((Offset(42), Kind::Log))
        );
        for other in [
            "42.log",
            "00000000000000000042.log.deleted",
            "0000000000000000004x.log",
            "99999999999999999999.log",
            "leader-epoch-checkpoint",
        ] {
            assert_eq!(parse_file(other), None, "{other}");
        }
    }

    #[test]
    fn directories_split_at_the_last_dash() {
        assert_eq!(partition_dir("a-b", PartitionId(3)), "a-b-3");
        assert_eq!(parse_partition_dir("a-b-3"), Some(("a-b", PartitionId(3))));
        for other in ["a", "-3", "a-", "a-03", "a-3.0123-delete", "a-99999999999"] {
            assert_eq!(parse_partition_dir(other), None, "{other}");
        }
    }

    #[test]
    fn a_set_aside_directory_has_a_legal_name_of_its_own() {
        let id = Uuid([0xab; 16]);
        assert_eq!(
            deleted_dir("t", PartitionId(0), id),
            "t-0.abababababababababababababababab-delete"
        );
        let long = stray_dir(&"x".repeat(249), PartitionId(7), id);
        assert_eq!(long.len(), 255);
        assert!(long.ends_with("-7.abababababababababababababababab-stray"));
    }
}
