//! Every bound of a queue, buffer, cache or client-keyed map, with its reason.

/// Memory page and the unit of direct IO. Devices with 512 byte sectors accept it too.
pub const PAGE_BYTES: usize = 4096;

/// A frame may be as large as Kafka's `socket.request.max.bytes` allows by default.
pub const REQUEST_BYTES_DEFAULT: usize = 100 * 1024 * 1024;

/// Longest topic name, as Kafka limits it: a directory name must hold `<topic>-<partition>`.
pub const TOPIC_NAME_BYTES: usize = 249;

/// Partitions that one request may make, as Kafka limits it: a batch of records is one write.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// Partitions of a cluster: what clients make must not grow without end. A partition costs about
/// 50 bytes in every image and a directory on disk.
pub const PARTITIONS_MAX: usize = 1_000_000;

/// Producer ids that a shard takes from the metadata log at once, as Kafka's brokers do: one
/// durable write for a thousand producers, and at most so many lost by a restart.
pub const PRODUCER_IDS_PER_BLOCK: i64 = 1000;

/// Segment files that a shard keeps open where the process may open enough: opening one again costs
/// a fetch some 20 us.
pub const OPEN_SEGMENTS: usize = 8192;

/// Memory through which a compressed batch is inflated while its records are checked.
pub const INFLATE_WINDOW_BYTES: usize = 64 * 1024;

/// A batch that inflates to more is refused: checking it would hold its core for too long, and
/// consumers must hold it in memory whole.
pub const INFLATED_BATCH_BYTES: u64 = 256 * 1024 * 1024;

/// Records that an answer names as refused; a batch of bad ones must not make a large answer.
pub const RECORD_ERRORS: usize = 64;

/// Records that the batches of one request, or of its part for one shard, are blamed for in all: a
/// request may bring very many small batches, and its answer must not be many times as large.
pub const RECORD_ERRORS_PER_REQUEST: usize = 1000;

/// Bytes of the words that go with them and with the batches' errors; afterwards the code alone tells.
pub const ERROR_WORDS_PER_REQUEST: usize = 256 * 1024;

/// Size of the metadata log at which a snapshot replaces it, at least: small enough that replaying
/// it takes milliseconds.
pub const METADATA_LOG_BYTES_MIN: u64 = 4 << 20;

/// Topics that a request may name beyond those that exist, and settings or replicas that one that
/// makes topics may carry: an answer takes many times the memory of the question, and no client has
/// a use for more.
pub const NAMED_PER_REQUEST_MAX: usize = 10_000;

/// Partitions in one answer to DescribeTopicPartitions, as Kafka's
/// `max.request.partition.size.limit` has it by default: clients ask again for the rest.
pub const DESCRIBED_PARTITIONS_MAX: usize = 2000;

/// Text of a refusal. It quotes what was wrong, which may be as long as the longest string of the
/// older versions' answers (32767 bytes), so that both together would not fit into one.
pub const REFUSAL_MESSAGE_BYTES: usize = 1024;

/// Offsets, places in files, sequences of entries: no broker gets as far as this, and sums of such
/// numbers do not overflow below it. What is read with a larger one, checksum or not, is damage.
pub const STORED_NUMBER_MAX: u64 = 1 << 62;

/// Runs of a broker on one directory. Leader epochs derive from it, which are 31 bits.
pub const INCARNATION_MAX: u64 = 1 << 30;
