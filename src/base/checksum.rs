//! CRC-32C (Castagnoli), the one checksum of batches, journals and files.

/// The CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    ::crc32c::crc32c(bytes)
}

/// The CRC-32C of what gave `crc`, followed by `bytes`.
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    ::crc32c::crc32c_append(crc, bytes)
}

/// The CRC-32C of two runs of bytes laid end to end, from the sum of each and the length of the
/// second: no second pass over the bytes.
pub fn crc32c_combine(first: u32, second: u32, second_len: usize) -> u32 {
    ::crc32c::crc32c_combine(first, second, second_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_combine() {
        let (a, b) = (b"123456789".as_slice(), b"lane".as_slice());
        assert_eq!(crc32c(a), 0xe306_9283); // RFC 3720, appendix B.4
        let whole = [a, b].concat();
        assert_eq!(
            crc32c_combine(crc32c(a), crc32c(b), b.len()),
            crc32c(&whole)
        );
        assert_eq!(crc32c_append(crc32c(a), b), crc32c(&whole));
    }
}
