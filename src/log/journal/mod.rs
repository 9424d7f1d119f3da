//! The journal's format: entries of a ring file, its superblock, its table. Pure: no IO here.

pub mod entry;
