//! Listeners: names, addresses, protocols, and what clients are told of them.

use std::fmt;
use std::net::IpAddr;

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// Kafka's protocol on a plain socket.
    Plaintext,
    /// Inside TLS.
    Ssl,
    /// After SASL authentication.
    SaslPlaintext,
    /// Inside TLS, after SASL authentication.
    SaslSsl,
}

impl SecurityProtocol {
    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }

    /// The protocol of that name, in any case.
    pub fn from_name(name: &str) -> Option<SecurityProtocol> {
        [
            SecurityProtocol::Plaintext,
            SecurityProtocol::Ssl,
            SecurityProtocol::SaslPlaintext,
            SecurityProtocol::SaslSsl,
        ]
        .into_iter()
        .find(|p| p.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An address that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, in capitals.
    pub name: String,
    /// Host to bind: a name, an address, or empty for every address.
    pub host: String,
    /// Port to bind; 0 takes a free one.
    pub port: u16,
    /// What is spoken there.
    pub protocol: SecurityProtocol,
    /// Host that clients are told.
    pub advertised_host: String,
    /// Port that clients are told; `None` is the one that was bound.
    pub advertised_port: Option<u16>,
}

/// `NAME://host:port`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub name: String,
    pub host: String,
    pub port: u16,
}

/// Reads `NAME://host:port`; an IPv6 address stands in brackets, or bare as Kafka allows it too.
pub(super) fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    const WANT: &str = "expected NAME://host:port";
    let (name, address) = text.split_once("://").ok_or(WANT)?;
    let (host, port) = address.rsplit_once(':').ok_or(WANT)?;
    let name_ok = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if !name_ok {
        return Err(format!("{name:?} is not a listener name; {WANT}"));
    }
    let port: i32 = port.parse().map_err(|_| WANT)?;
    let port = u16::try_from(port).map_err(|_| format!("port {port} is not from 0 to 65535"))?;
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    let host_ok = host.parse::<IpAddr>().is_ok()
        || host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if !host_ok {
        return Err(format!("{host:?} is not a host; {WANT}"));
    }
    Ok(Endpoint {
        name: name.to_ascii_uppercase(),
        host: host.to_owned(),
        port,
    })
}

/// Reads `NAME:PROTOCOL`.
pub(super) fn parse_protocol(text: &str) -> Result<(String, SecurityProtocol), String> {
    text.split_once(':')
        .and_then(|(name, protocol)| {
            let protocol = SecurityProtocol::from_name(protocol.trim())?;
            Some((name.trim().to_ascii_uppercase(), protocol))
        })
        .ok_or_else(|| {
            format!("{text:?} is not NAME:PROTOCOL with PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
        })
}

/// True for addresses that mean every address and that no client can connect to.
pub(super) fn is_wildcard(host: &str) -> bool {
    host.is_empty() || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_every_form() {
        let e = parse_endpoint("plaintext://127.0.0.1:9092").unwrap();
        assert_eq!(
            (e.name.as_str(), e.host.as_str(), e.port),
            ("PLAINTEXT", "127.0.0.1", 9092)
        );
        assert_eq!(parse_endpoint("A_B://:1").unwrap().host, "");
        assert_eq!(parse_endpoint("A://[::1]:1").unwrap().host, "::1");
        assert_eq!(parse_endpoint("A://host-1.example:0").unwrap().port, 0);
        for bad in [
            "127.0.0.1:9092",
            "A://h",
            "A://h:",
            "A://h:99999",
            "://h:1",
            "A://h h:1",
            "A B://h:1",
            "A://h:-1",
        ] {
            assert!(parse_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn protocols_by_listener_name() {
        let (name, protocol) = parse_protocol("client: sasl_ssl").unwrap();
        assert_eq!(
            (name.as_str(), protocol),
            ("CLIENT", SecurityProtocol::SaslSsl)
        );
        assert!(parse_protocol("CLIENT").is_err());
        assert!(parse_protocol("CLIENT:TLS").is_err());
    }
}
