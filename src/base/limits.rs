//! Every bound of a queue, buffer, cache or client-keyed map, with its reason.

/// Memory page and the unit of direct IO. Devices with 512 byte sectors accept it too.
pub const PAGE_BYTES: usize = 4096;

/// A frame may be as large as Kafka's `socket.request.max.bytes` allows by default.
pub const REQUEST_BYTES_DEFAULT: usize = 100 * 1024 * 1024;

/// Longest topic name, as Kafka limits it: a directory name must hold `<topic>-<partition>`.
pub const TOPIC_NAME_BYTES: usize = 249;
