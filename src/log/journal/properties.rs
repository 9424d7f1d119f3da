//! `corelane.properties` of a log directory: names its journals before their first entry, so that
//! a missing one is noticed. A directory without this file is not ours.
//!
//! Text, so that an operator can read it: `name=value` lines, the last one the CRC-32C of all
//! bytes before it, in hex.

use std::fmt::Write;

use crate::base::checksum::crc32c;
use crate::base::ids::Uuid;

/// Name of the file in the log directory.
pub const FILE_NAME: &str = "corelane.properties";
/// The newest version that this broker reads and the one it writes.
pub const VERSION: u32 = 1;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectoryProperties {
    /// The directory's own id, as in `meta.properties`.
    pub directory: Uuid,
    /// Its journals.
    pub journals: Vec<Uuid>,
}

/// Why the file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    /// Cut short or changed.
    #[error("{FILE_NAME} is damaged: {0}")]
    Damaged(&'static str),
    /// Written by a newer broker.
    #[error("{FILE_NAME} has version {0}, newer than this broker knows ({VERSION})")]
    Newer(u32),
}

impl DirectoryProperties {
    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!(
            "# Corelane's journals in this directory. Do not edit.\nversion={VERSION}\ndirectory.id={}\n",
            self.directory
        );
        for journal in &self.journals {
            let _ = writeln!(text, "journal={journal}");
        }
        let crc = crc32c(text.as_bytes());
        let _ = writeln!(text, "crc={crc:08x}");
        text.into_bytes()
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// If its CRC does not agree, or it is newer.
    pub fn decode(bytes: &[u8]) -> Result<DirectoryProperties, PropertiesError> {
        use PropertiesError::Damaged;
        let text = std::str::from_utf8(bytes).map_err(|_| Damaged("no text"))?;
        let at = text.rfind("crc=").ok_or(Damaged("it has no crc line"))?;
        let crc = u32::from_str_radix(text[at + 4..].trim_end_matches(['\r', '\n']), 16)
            .map_err(|_| Damaged("its crc line is no number"))?;
        if crc != crc32c(&bytes[..at]) {
            return Err(Damaged("its checksum does not agree"));
        }
        let mut found = DirectoryProperties::default();
        for line in text[..at].lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.split_once('=').ok_or(Damaged("a line is no pair"))?;
            let id = || value.parse().map_err(|_| Damaged("an id is none"));
            match name {
                "version" => {
                    let version = value.parse().map_err(|_| Damaged("its version"))?;
                    if version > VERSION {
                        return Err(PropertiesError::Newer(version));
                    }
                }
                "directory.id" => found.directory = id()?,
                "journal" => found.journals.push(id()?),
                _ => return Err(Damaged("a name is unknown")),
            }
        }
        Ok(found)
    }
}

/// Name of a journal's ring file.
pub fn ring_file(journal: Uuid) -> String {
    format!("corelane-{journal}.journal")
}

/// Name of one of a journal's two tables.
pub fn table_file(journal: Uuid, which: u32) -> String {
    format!("corelane-{journal}.table{which}")
}

/// Name of a directory's base.
pub const BASE_FILE: &str = "corelane.base";

/// What `meta.properties` is called while a journal holds something: Kafka then refuses the
/// directory instead of cutting the tails that are not in its files yet.
pub const META_ASIDE: &str = "meta.properties.corelane";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_back_and_notices_a_change() {
        let wanted = DirectoryProperties {
            directory: Uuid([1; 16]),
            journals: vec![Uuid([2; 16]), Uuid([3; 16])],
        };
        let bytes = wanted.encode();
        assert_eq!(DirectoryProperties::decode(&bytes), Ok(wanted));
        // the last byte is the line's end
        for at in 0..bytes.len() - 1 {
            let mut changed = bytes.clone();
            changed[at] = changed[at].wrapping_add(1);
            assert!(DirectoryProperties::decode(&changed).is_err(), "byte {at}");
        }
        assert!(DirectoryProperties::decode(b"").is_err());
    }

    #[test]
    fn a_newer_version_is_refused() {
        let text = format!("version={}\n", VERSION + 1);
        let bytes = format!("{text}crc={:08x}\n", crc32c(text.as_bytes()));
        assert_eq!(
            DirectoryProperties::decode(bytes.as_bytes()),
            Err(PropertiesError::Newer(VERSION + 1))
        );
    }
}
