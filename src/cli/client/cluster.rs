//! The brokers of a cluster, and who leads what.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::ids::Uuid;
use crate::cli::client::connection::Connection;
use crate::cli::client::error::ClientError;
use crate::wire::array::Array;
use crate::wire::messages::{MetadataRequest, MetadataRequestTopic, MetadataResponse};

/// A topic as Metadata shows it.
#[derive(Clone, Debug)]
pub struct TopicInfo {
    pub name: String,
    pub id: Uuid,
    pub error_code: i16,
    pub is_internal: bool,
    /// By number.
    pub partitions: Vec<PartitionInfo>,
}

/// A partition as Metadata shows it.
#[derive(Clone, Debug)]
pub struct PartitionInfo {
    pub index: i32,
    pub leader: i32,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

/// A connection to each broker that was needed so far.
pub struct Cluster {
    bootstrap: Connection,
    timeout: Duration,
    nodes: BTreeMap<i32, String>,
    controller: i32,
    connections: BTreeMap<i32, Connection>,
}

impl Cluster {
    /// Connects to the first address that answers.
    pub fn open(addresses: &[String], timeout: Duration) -> Result<Cluster, ClientError> {
        let mut last = None;
        for address in addresses {
            match Connection::open(&with_port(address), timeout) {
                Ok(bootstrap) => {
                    return Ok(Cluster {
                        bootstrap,
                        timeout,
                        nodes: BTreeMap::new(),
                        controller: -1,
                        connections: BTreeMap::new(),
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::Address {
            address: String::new(),
            source: std::io::ErrorKind::InvalidInput.into(),
        }))
    }

    /// Topics by name, or all; brokers are learnt on the way. `create` lets the broker make a
    /// topic that is missing, if its configuration does.
    pub fn topics(
        &mut self,
        names: Option<&[&str]>,
        create: bool,
    ) -> Result<Vec<TopicInfo>, ClientError> {
        let version = self.bootstrap.version::<MetadataRequest<'_>>(i16::MAX)?;
        let mut topics = Vec::new();
        for name in names.unwrap_or_default() {
            topics.push(MetadataRequestTopic {
                name: Some(name),
                ..Default::default()
            });
        }
        let request = MetadataRequest {
            topics: match names {
                None => Array::Null,
                Some(_) => Array::Owned(topics),
            },
            allow_auto_topic_creation: create,
            ..Default::default()
        };
        let answer: MetadataResponse<'_> = self.bootstrap.call(&request, version)?;
        ClientError::check(answer.error_code, None, || "metadata".into())?;
        self.nodes = answer
            .brokers
            .iter()
            .map(|b| (b.node_id, format!("{}:{}", bracketed(b.host), b.port)))
            .collect();
        self.controller = answer.controller_id;
        let topic = |t: crate::wire::messages::MetadataResponseTopic<'_>| {
            let partition =
                |p: crate::wire::messages::MetadataResponsePartition<'_>| PartitionInfo {
                    index: p.partition_index,
                    leader: p.leader_id,
                    leader_epoch: p.leader_epoch,
                    replicas: p.replica_nodes.iter().collect(),
                    in_sync: p.isr_nodes.iter().collect(),
                };
            let mut partitions: Vec<_> = t.partitions.iter().map(partition).collect();
            partitions.sort_by_key(|p| p.index);
            TopicInfo {
                name: t.name.unwrap_or_default().to_owned(),
                id: t.topic_id,
                error_code: t.error_code,
                is_internal: t.is_internal,
                partitions,
            }
        };
        let mut topics: Vec<_> = answer.topics.iter().map(topic).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// A topic that must be there.
    pub fn topic(&mut self, name: &str, create: bool) -> Result<TopicInfo, ClientError> {
        let found = self.topics(Some(&[name]), create)?.pop();
        let refused = |code| ClientError::Refused {
            what: format!("topic {name}"),
            code: crate::cli::client::error::Code(code),
            message: None,
        };
        let found = found.ok_or_else(|| refused(3))?;
        match found.error_code {
            0 => Ok(found),
            code => Err(refused(code)),
        }
    }

    /// The connection to a broker.
    pub fn node(&mut self, id: i32) -> Result<&mut Connection, ClientError> {
        if !self.connections.contains_key(&id) {
            let Some(address) = self.nodes.get(&id) else {
                return Ok(&mut self.bootstrap);
            };
            let connection = Connection::open(address, self.timeout)?;
            self.connections.insert(id, connection);
        }
        Ok(self
            .connections
            .get_mut(&id)
            .expect("it is there or was made"))
    }

    /// The connection to the address that answered first.
    pub fn bootstrap(&mut self) -> &mut Connection {
        &mut self.bootstrap
    }

    /// The connection to the broker that makes and deletes topics.
    pub fn controller(&mut self) -> Result<&mut Connection, ClientError> {
        if self.nodes.is_empty() {
            self.topics(Some(&[]), false)?;
        }
        self.node(self.controller)
    }

    /// Forgets a connection that broke.
    pub fn forget(&mut self, id: i32) {
        self.connections.remove(&id);
    }
}

fn bracketed(host: &str) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

/// Kafka's port where none is given.
fn with_port(address: &str) -> String {
    let has_port = match address.rsplit_once(':') {
        Some((host, port)) => {
            port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
        }
        None => false,
    };
    match has_port {
        true => address.to_owned(),
        false => format!("{}:9092", bracketed(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_a_port() {
        for (given, expected) in [
            ("h", "h:9092"),
            ("h:1", "h:1"),
            ("::1", "[::1]:9092"),
            ("[::1]:7", "[::1]:7"),
            ("[::1]", "[::1]:9092"),
        ] {
            assert_eq!(with_port(given), expected);
        }
    }
}
