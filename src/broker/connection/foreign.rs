//! What comes to the wrong port, told by its first bytes: an operator who reads that TLS came to a
//! plain listener knows what to set right.

use std::fmt;

/// A protocol that is not Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// A TLS handshake: a client with `security.protocol=SSL`.
    Tls,
    /// A browser, a health check, a scraper; also HTTP/2 without TLS.
    Http,
    /// The PROXY protocol of a load balancer, version 1 or 2.
    Proxy,
    /// An SSH client.
    Ssh,
}

/// How HTTP requests begin. As the length of a frame each is over 1 GiB.
const METHODS: [&[u8; 4]; 10] = [
    b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"CONN", b"OPTI", b"TRAC", b"PATC", b"PRI ",
];

impl Foreign {
    /// Looks at what a connection sent first. Four bytes are enough; with fewer nothing is said.
    pub fn of(bytes: &[u8]) -> Option<Foreign> {
        let first: &[u8; 4] = bytes.first_chunk()?;
        match first {
            // record type handshake, then the version of the record layer (RFC 8446, 5.1)
            [0x16, 0x03, 0..=4, _] => Some(Foreign::Tls),
            b"PROX" | b"\r\n\r\n" => Some(Foreign::Proxy),
            b"SSH-" => Some(Foreign::Ssh),
            _ if METHODS.contains(&first) => Some(Foreign::Http),
            _ => None,
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Foreign::Tls => "TLS",
            Foreign::Http => "HTTP",
            Foreign::Proxy => "the PROXY protocol",
            Foreign::Ssh => "SSH",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_known_by_their_first_bytes() {
        let of = |bytes: &[u8]| Foreign::of(bytes);
        assert_eq!(of(&[0x16, 3, 1, 2, 0, 1, 0]), Some(Foreign::Tls));
        assert_eq!(of(b"GET /metrics HTTP/1.1\r\n"), Some(Foreign::Http));
        assert_eq!(of(b"PRI * HTTP/2.0\r\n\r\nSM"), Some(Foreign::Http));
        assert_eq!(of(b"PROXY TCP4 10.0.0.1"), Some(Foreign::Proxy));
        assert_eq!(of(b"\r\n\r\n\0\r\nQUIT\n"), Some(Foreign::Proxy));
        assert_eq!(of(b"SSH-2.0-OpenSSH"), Some(Foreign::Ssh));
    }

    #[test]
    fn what_may_become_a_request_is_left_alone() {
        assert_eq!(Foreign::of(b"GET"), None, "too short to tell");
        // ApiVersions in a frame of 30 bytes
        assert_eq!(Foreign::of(&[0, 0, 0, 30, 0, 18, 0, 3]), None);
        for method in METHODS {
            assert!(i32::from_be_bytes(*method) > 1 << 30, "no usual frame");
        }
    }
}
