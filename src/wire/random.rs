//! Random messages from a seed, for tests.

use crate::base::ids::Uuid;
use crate::wire::array::Array;
use crate::wire::field::Wire;
use crate::wire::records::Records;

/// A small generator of numbers (SplitMix64): the same seed gives the same messages.
pub(crate) struct Gen(pub u64);

impl Gen {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// One time in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn number(&mut self) -> i64 {
        match self.below(4) {
            0 => self.below(3) as i64 - 1,
            1 => self.next() as i64,
            2 => i64::MAX >> self.below(63),
            _ => i64::MIN >> self.below(63),
        }
    }
}

pub(crate) trait Random {
    fn random(g: &mut Gen, v: i16) -> Self;
}

pub(crate) trait RandomNull: Sized {
    fn random_as(g: &mut Gen, v: i16, null: bool) -> Self;
}

macro_rules! numbers {
    ($($kind:ty)*) => {
        $(impl Random for $kind {
            fn random(g: &mut Gen, _: i16) -> $kind {
                g.number() as $kind
            }
        })*
    };
}
numbers!(i8 i16 i32 i64);

impl Random for bool {
    fn random(g: &mut Gen, _: i16) -> bool {
        g.once_in(2)
    }
}

impl Random for Uuid {
    fn random(g: &mut Gen, _: i16) -> Uuid {
        match g.once_in(4) {
            true => Uuid::ZERO,
            false => Uuid::from_random(g.next(), g.next()),
        }
    }
}

impl Random for &'static str {
    fn random(g: &mut Gen, _: i16) -> &'static str {
        const TEXTS: [&str; 7] = [
            "",
            "a",
            "topic",
            "ключ-☃-🦀",
            "10.0.0.1",
            "a name of more than sixty-three bytes, whose compact length needs more",
            "\u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}",
        ];
        TEXTS[g.below(TEXTS.len())]
    }
}

impl Random for &'static [u8] {
    fn random(g: &mut Gen, v: i16) -> &'static [u8] {
        <&str>::random(g, v).as_bytes()
    }
}

impl<T: Random> RandomNull for Option<T> {
    fn random_as(g: &mut Gen, v: i16, null: bool) -> Option<T> {
        (!null || !g.once_in(3)).then(|| T::random(g, v))
    }
}

impl RandomNull for Records<'static> {
    fn random_as(g: &mut Gen, v: i16, null: bool) -> Records<'static> {
        match null && g.once_in(3) {
            true => Records::Null,
            false => Records::Bytes(Random::random(g, v)),
        }
    }
}

impl<T: Random + Wire<'static>> RandomNull for Array<'static, T> {
    fn random_as(g: &mut Gen, v: i16, null: bool) -> Array<'static, T> {
        if null && g.once_in(3) {
            return Array::Null;
        }
        let count = g.below(4);
        (0..count).map(|_| T::random(g, v)).collect()
    }
}
