//! The log of a shard in the simulator: whole directories, crashes at any step.

mod basics;
mod crashes;
mod damage;
mod growth;
mod harness;
mod model;
mod room;
mod shards;
mod space;
