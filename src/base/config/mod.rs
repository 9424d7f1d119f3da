//! Configuration as Kafka names it.
//!
//! One [table](properties) says of every property its name, type, default, bounds and meaning; it
//! feeds the parser, the listing of `corelane config list` and DescribeConfigs. [`load`] reads a
//! `server.properties`, the environment and overrides into a [`BrokerConfig`]; a topic's own
//! settings are resolved by [`resolve_topic`]. Reads no file and no environment itself.

mod broker;
mod check;
mod error;
mod listener;
mod listing;
mod load;
mod property;
#[cfg(test)]
mod readme;
mod spec;
mod syntax;
mod table;
mod topic;
mod topic_resolve;

pub use broker::{
    BrokerConfig, FetchConfig, FlushPolicy, LogConfig, NetworkConfig, ProducerConfig, TopicDefaults,
};
pub use error::{ConfigError, ConfigErrors, Warning};
pub use listener::{Listener, SecurityProtocol};
pub use listing::{Entry, Source, Synonym, broker_entries, topic_entries};
pub use load::{Inputs, Loaded, Origin, Settings, environment_name, load};
pub use property::{Change, Kind, Property, Scope, Status};
pub use spec::{Cores, LaneMode, Lanes, PortRange, Size, parse_size};
pub use syntax::{Line, SyntaxError, parse_properties};
pub use table::{find, find_topic, properties, topic_properties};
pub use topic::{CleanupPolicy, CompressionType, TimestampType, TopicConfig};
pub use topic_resolve::{InvalidTopicConfig, resolve_topic};
