//! Seeded numbers, and the ways in which good input is broken.

use corelane::ring::sim::Rng;

/// The same seed gives the same inputs.
#[derive(Clone)]
pub struct Gen(Rng);

impl Gen {
    pub fn new(seed: u64) -> Gen {
        Gen(Rng::new(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.index(n)
    }

    /// One time in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Any of them.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// As many bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// Bytes that end lists, begin long numbers or are no text.
const ODD: [&[u8]; 9] = [
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0x80, 0x80, 0x80, 0x80, 0x80],
    &[0],
    &[0xc3],
    b"\n",
    b"=",
    b" ",
    b"\\u",
];

/// Numbers in text that are too large, negative, or none.
const WORDS: [&str; 9] = [
    "-1",
    "0",
    "2147483647",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "1e9",
    "",
];

/// Breaks `bytes` in one to four places; `other` is a good input to take parts from.
pub fn mutate(g: &mut Gen, bytes: &mut Vec<u8>, other: &[u8], max_bytes: usize) {
    for _ in 0..=g.below(4) {
        let at = g.below(bytes.len() + 1);
        match g.below(14) {
            0 if at < bytes.len() => bytes[at] ^= 1 << g.below(8),
            1 if at < bytes.len() => bytes[at] = g.next() as u8,
            2 => bytes.truncate(at),
            3 => insert(bytes, at, &[g.next() as u8]),
            4 => {
                let end = at + g.below((bytes.len() - at).min(64) + 1);
                bytes.drain(at..end);
            }
            5 => {
                let odd = g.pick(&ODD);
                overwrite(bytes, at, odd);
            }
            6..9 => lie(g, bytes, at),
            9 => {
                // the same block twice
                let end = at + g.below((bytes.len() - at).min(4096) + 1);
                let block = bytes[at..end].to_vec();
                insert(bytes, end, &block);
            }
            10 => {
                // a block in the place of another
                let from = g.below(bytes.len() + 1);
                let end = from + g.below((bytes.len() - from).min(4096) + 1);
                let block = bytes[from..end].to_vec();
                overwrite(bytes, at, &block);
            }
            11 if !other.is_empty() => {
                let from = g.below(other.len());
                let end = from + g.below((other.len() - from).min(4096) + 1);
                match g.once_in(2) {
                    true => overwrite(bytes, at, &other[from..end]),
                    false => {
                        bytes.truncate(at);
                        bytes.extend_from_slice(&other[from..]);
                    }
                }
            }
            12 => {
                let n = g.below(300);
                let more = match g.below(3) {
                    0 => vec![0; n],
                    1 => g.bytes(n),
                    _ => other[..n.min(other.len())].to_vec(),
                };
                bytes.extend_from_slice(&more);
            }
            _ => reword(g, bytes, at),
        }
        bytes.truncate(max_bytes);
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, block: &[u8]) {
    bytes.splice(at..at, block.iter().copied());
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    let n = with.len().min(bytes.len() - at);
    bytes[at..at + n].copy_from_slice(&with[..n]);
}

/// Makes a number of 2, 4 or 8 bytes say what is not so: lengths, counts and offsets among them.
fn lie(g: &mut Gen, bytes: &mut [u8], at: usize) {
    let width = g.pick(&[2, 4, 4, 8]);
    // mostly where fields of that width are
    let at = if g.once_in(3) { at } else { at / width * width };
    let big_endian = g.once_in(2);
    let Some(field) = bytes.get(at..at + width) else {
        return;
    };
    let mut raw = [0; 8];
    let was = match big_endian {
        true => {
            raw[8 - width..].copy_from_slice(field);
            u64::from_be_bytes(raw)
        }
        false => {
            raw[..width].copy_from_slice(field);
            u64::from_le_bytes(raw)
        }
    };
    let all = u64::MAX >> (64 - 8 * width);
    let now = match g.below(11) {
        0 => 0,
        1 => all,
        2 => all >> 1,
        3 => (all >> 1) + 1,
        4 => was.wrapping_add(1),
        5 => was.wrapping_sub(1),
        6 => was << 1,
        7 => was >> 1,
        8 => bytes.len() as u64,
        9 => (bytes.len() - at) as u64,
        _ => was.wrapping_neg(),
    } & all;
    match big_endian {
        true => bytes[at..at + width].copy_from_slice(&now.to_be_bytes()[8 - width..]),
        false => bytes[at..at + width].copy_from_slice(&now.to_le_bytes()[..width]),
    }
}

/// Puts another number in the place of the next one in a text.
fn reword(g: &mut Gen, bytes: &mut Vec<u8>, at: usize) {
    let digit = |b: &u8| b.is_ascii_digit();
    let Some(start) = bytes[at..].iter().take(200).position(digit) else {
        return;
    };
    let start = at + start;
    let len = bytes[start..].iter().take_while(|b| digit(b)).count();
    let word = g.pick(&WORDS);
    bytes.splice(start..start + len, word.bytes());
}
