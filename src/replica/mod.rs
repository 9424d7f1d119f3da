//! A partition as its leader sees it: epochs, high watermark, in-sync replicas. Plain values; no
//! IO, no clock.

mod leader;

pub use leader::{EpochError, Leader, MinIsrError};
