//! `meta.properties` of a log directory, version 1: which cluster, machine and directory it is.

use crate::base::ids::{NodeId, Uuid};
use crate::log::format::FormatError;

/// Name of the file in the log directory.
pub const FILE_NAME: &str = "meta.properties";

/// The ids of a log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// The cluster, usually 22 characters of base64, but any text.
    pub cluster_id: String,
    /// The machine.
    pub node_id: NodeId,
    /// The directory (KIP-858).
    pub directory_id: Uuid,
}

/// The file with these ids.
pub fn encode(meta: &MetaProperties) -> Vec<u8> {
    format!(
        "#\ncluster.id={}\ndirectory.id={}\nnode.id={}\nversion=1\n",
        meta.cluster_id, meta.directory_id, meta.node_id
    )
    .into_bytes()
}

/// Reads a whole file. Version 0 (`broker.id`, no directory id) was ZooKeeper's and is refused.
///
/// # Errors
/// At a line that is no property, or where a property is missing or cannot be true.
pub fn decode(bytes: &[u8]) -> Result<MetaProperties, FormatError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| FormatError::at(e.valid_up_to(), "no text in UTF-8"))?;
    let (mut version, mut cluster, mut node, mut directory) = (None, None, None, None);
    for (i, line) in text.lines().enumerate() {
        let line_number = i + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let (name, value) = line
            .split_once(['=', ':'])
            .ok_or_else(|| FormatError::line(line_number, "no name=value"))?;
        let value = (line_number, value.trim());
        match name.trim() {
            "version" => version = Some(value),
            "cluster.id" => cluster = Some(value),
            "node.id" => node = Some(value),
            "directory.id" => directory = Some(value),
            _ => {} // Java's reader keeps unknown ones too
        }
    }
    let missing = |name: &'static str| FormatError::line(1, format!("{name} is missing"));
    let bad = |line, name: &'static str| FormatError::line(line, format!("{name} makes no sense"));
    let (line, text) = version.ok_or_else(|| missing("version"))?;
    let number: i64 = text.parse().map_err(|_| bad(line, "version"))?;
    if number != 1 {
        return Err(FormatError::Version {
            got: number,
            newest: 1,
        });
    }
    let (line, text) = cluster.ok_or_else(|| missing("cluster.id"))?;
    if text.is_empty() {
        return Err(bad(line, "cluster.id"));
    }
    let cluster_id = text.to_owned();
    let (line, text) = node.ok_or_else(|| missing("node.id"))?;
    let node_id = text
        .parse()
        .ok()
        .filter(|id| *id >= 0)
        .map(NodeId)
        .ok_or_else(|| bad(line, "node.id"))?;
    let (line, text) = directory.ok_or_else(|| missing("directory.id"))?;
    let directory_id = text.parse().map_err(|_| bad(line, "directory.id"))?;
    Ok(MetaProperties {
        cluster_id,
        node_id,
        directory_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_kafkas_reads_and_ours_reads_back() {
        // as kafka-storage format writes it
        let text = b"#\n#Sat Nov 01 10:00:00 UTC 2025\ncluster.id=5L6g3nShT-eMCtK--X86sw\n\
            directory.id=TiWAFcDuQkGRsS_3YF2R7w\nnode.id=3\nversion=1\n";
        let meta = decode(text).unwrap();
        assert_eq!(meta.cluster_id, "5L6g3nShT-eMCtK--X86sw");
        assert_eq!(meta.node_id, NodeId(3));
        assert_eq!(meta.directory_id.to_string(), "TiWAFcDuQkGRsS_3YF2R7w");
        assert_eq!(decode(&encode(&meta)).unwrap(), meta);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let error = |text: &str| decode(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("cluster.id=x\n"), "line 1: version is missing");
        assert_eq!(
            error("version=1\ncluster.id=x\n"),
            "line 1: node.id is missing"
        );
        assert_eq!(
            error("version=1\ncluster.id=x\nnode.id=-4\n"),
            "line 3: node.id makes no sense"
        );
        assert_eq!(error("version=1\nnonsense\n"), "line 2: no name=value");
        assert!(matches!(
            decode(b"version=0\nbroker.id=1\n"),
            Err(FormatError::Version { got: 0, .. })
        ));
    }
}
