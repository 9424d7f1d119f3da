//! Maps and sets with a fixed hash function.
//!
//! The standard library seeds its hasher per process, which would make two runs of one simulator
//! seed differ. Keys that clients choose (topic names, client ids) belong into a `BTreeMap`, whose
//! cost an attacker cannot raise by choosing colliding keys.

/// A hash map for keys that we hand out ourselves.
#[allow(clippy::disallowed_types)]
pub type Map<K, V> = std::collections::HashMap<K, V, rustc_hash::FxBuildHasher>;

/// A hash set for keys that we hand out ourselves.
#[allow(clippy::disallowed_types)]
pub type Set<K> = std::collections::HashSet<K, rustc_hash::FxBuildHasher>;
