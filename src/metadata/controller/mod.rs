//! Requests that change what the cluster knows: every check, and the records that follow. No IO.

mod create;
mod delete;
mod draft;

pub use create::{Created, NewTopic, TopicCreation};
pub use delete::{Deleted, TopicDeletion, TopicRef};
pub use draft::{Draft, Refusal};

#[cfg(test)]
mod scenarios;
