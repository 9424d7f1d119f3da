//! Seeded choices: a seed gives the same plan of kills or cuts, sizes and core counts.

/// A small generator (xorshift64).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    /// A generator of its own for another thread.
    pub fn split(&mut self) -> Random {
        Random::new(self.below(1 << 53))
    }
}
