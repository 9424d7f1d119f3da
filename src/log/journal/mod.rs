//! The journal's format: entries of a ring file, its superblock, its table. Pure: no IO here.

pub mod entry;
pub mod properties;
pub mod scan;
pub mod superblock;
pub mod table;

#[cfg(test)]
mod scan_tests;
