//! The table of properties, by theme.

mod later;
mod log;
mod lookup;
mod network;
mod ours;
mod producers;
mod topics;

pub(super) use lookup::{alias_of, is_known_elsewhere};
pub use lookup::{find, find_topic, properties, topic_properties};
