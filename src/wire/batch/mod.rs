//! Record batches of format 2: seen in place, built, stamped, checked.
//!
//! A batch is stored and sent as its producer wrote it; only the base offset and the leader epoch,
//! which lie outside of the checksum, are written over, and the timestamp where the topic says so.

mod builder;
mod header;
mod records;
mod stamp;
mod validate;
mod walk;

pub use builder::{BatchBuilder, Header};
pub use header::{
    BATCH_HEADER_BYTES, BATCH_LENGTH_END, BatchError, BatchHeader, BatchView, Batches, CRC_START,
    attributes, batches,
};
pub use records::{HeaderView, Headers, RecordIter, RecordView, records};
pub use stamp::{restamp, stamp};
pub use validate::{
    BatchFacts, InvalidBatch, InvalidRecord, Problem, RecordProblem, Scratch, TimestampRule,
    ValidateOptions, validate,
};
pub use walk::RecordError;
