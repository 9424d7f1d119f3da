//! The journal's format: entries of a ring file, its superblock, its table. Pure: no IO here.

pub mod entry;
pub mod scan;

#[cfg(test)]
mod scan_tests;
