//! Marks what callgrind counts.

/// Runs what is counted. Callgrind counts between the entry and the end of this function, which it
/// knows by name, so it must be a function in the machine code, too.
#[inline(never)]
pub fn counted(what: &mut dyn FnMut()) {
    what();
}
