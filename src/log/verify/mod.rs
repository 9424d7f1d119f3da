//! Looks through a log directory as a start would, and further: every file, every batch. Writes
//! nothing. What base, tables and journals say is read with recovery's own code, so that what is
//! found here is what a start would find.

mod finding;
pub(crate) mod partition;
mod sides;
pub(crate) mod survey;

pub use finding::{Finding, Severity};
pub use survey::{Known, Survey, SurveyError, survey, total_bytes};
