//! Reading and writing the fields of our records: big-endian numbers, length-prefixed text.

/// Bytes that are no record of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {reason}")]
pub struct BadBytes {
    /// Where, counted from the beginning of what is read.
    pub at: usize,
    /// What is wrong.
    pub reason: &'static str,
}

/// Takes fields off the front of a slice; never reads beyond it.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    /// Reads from the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { bytes, at: 0 }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// How many bytes were read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// An error at the place reached.
    pub fn error(&self, reason: &'static str) -> BadBytes {
        BadBytes {
            at: self.at,
            reason,
        }
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], BadBytes> {
        if len > self.remaining() {
            return Err(self.error("fewer bytes than announced"));
        }
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadBytes> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// A number of 16 bits.
    pub fn u16(&mut self) -> Result<u16, BadBytes> {
        self.array().map(u16::from_be_bytes)
    }

    /// A number of 32 bits.
    pub fn u32(&mut self) -> Result<u32, BadBytes> {
        self.array().map(u32::from_be_bytes)
    }

    /// A signed number of 32 bits.
    pub fn i32(&mut self) -> Result<i32, BadBytes> {
        self.array().map(i32::from_be_bytes)
    }

    /// A number of 64 bits.
    pub fn u64(&mut self) -> Result<u64, BadBytes> {
        self.array().map(u64::from_be_bytes)
    }

    /// A signed number of 64 bits.
    pub fn i64(&mut self) -> Result<i64, BadBytes> {
        self.array().map(i64::from_be_bytes)
    }

    /// 16 bytes of an id.
    pub fn id(&mut self) -> Result<[u8; 16], BadBytes> {
        self.array()
    }

    /// A count, of things that take at least `bytes_each`: never more than the rest can hold.
    pub fn count(&mut self, bytes_each: usize) -> Result<usize, BadBytes> {
        let count = self.u32()? as usize;
        if count.saturating_mul(bytes_each.max(1)) > self.remaining() {
            return Err(self.error("a count that the rest cannot hold"));
        }
        Ok(count)
    }

    /// UTF-8 text behind its length.
    pub fn text(&mut self) -> Result<&'a str, BadBytes> {
        let len = self.count(1)?;
        let start = self.at;
        std::str::from_utf8(self.take(len)?).map_err(|_| BadBytes {
            at: start,
            reason: "text that is not UTF-8",
        })
    }
}

/// Writes text behind its length.
///
/// # Panics
/// If the text is 4 GiB or longer, which no record's bounds allow.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Writes a count.
///
/// # Panics
/// If it does not fit 32 bits, which no record's bounds allow.
pub fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("records are bounded far below 4 GiB");
    out.extend_from_slice(&count.to_be_bytes());
}
