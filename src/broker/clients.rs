//! Which clients are shown lanes, and why.
//!
//! A client may be shown lanes on one port only if it keeps one leader a connection: some rebind a
//! connection to whichever node id they last saw at an address, and then loop or lose records. So
//! this is a list of clients seen to cope, with the lowest version seen; a client without name, with
//! an unknown one, or that never sent ApiVersions sees the machine as one node, which is always
//! right. Every client was tried against a broker whose Metadata listed three nodes on one host and
//! port, strict and lenient, with connections cut.

/// Major, minor, patch.
type Version = (u32, u32, u32);

/// A client seen to keep one leader a connection.
struct Known {
    /// As it names itself in ApiVersions (KIP-511).
    name: &'static str,
    /// Whose version counts.
    counts: Counts,
    /// The lowest that is shown lanes.
    from: Version,
}

enum Counts {
    /// The client's own.
    Own,
    /// That of the librdkafka inside: behind `-rdkafka-` where it is there, else the client's own.
    Librdkafka,
}

const KNOWN: &[Known] = &[
    // 2.8.2, 3.4.1 and 4.3.1 were tried: connections are kept by node id
    Known {
        name: "apache-kafka-java",
        counts: Counts::Own,
        from: (2, 8, 2),
    },
    // 2.0.2 hangs after 77 Metadata requests for 8, 2.8.2 reads 200 to 400 of 600 records: both
    // rebind node ids of one address. 2.10.0 to 2.16.1 do not. 2.9 was not tried.
    Known {
        name: "librdkafka",
        counts: Counts::Librdkafka,
        from: (2, 10, 0),
    },
    Known {
        name: "confluent-kafka-python",
        counts: Counts::Librdkafka,
        from: (2, 10, 0),
    },
    // carries librdkafka's version as its own: 2.8.0 asks for Metadata 12 times a second, 2.11.1
    // is well
    Known {
        name: "confluent-kafka-go",
        counts: Counts::Librdkafka,
        from: (2, 10, 0),
    },
    // 1.22.2 was tried: says in version 5 which node it means
    Known {
        name: "kgo",
        counts: Counts::Own,
        from: (1, 22, 2),
    },
    // 1.61.1 was tried; 1.43.0 is well too, but sends no name
    Known {
        name: "sarama",
        counts: Counts::Own,
        from: (1, 61, 1),
    },
    // 3.0.12 was tried; 2.0.2 sends no name
    Known {
        name: "kafka-python",
        counts: Counts::Own,
        from: (3, 0, 12),
    },
    // 0.6.0 was tried
    Known {
        name: "rskafka",
        counts: Counts::Own,
        from: (0, 6, 0),
    },
];

/// Whether a client of that name and version keeps one leader a connection.
///
/// Not among them: kafkajs, which has no name and silently lost 400 of 600 records when nodes
/// shared an address; `platformatic-kafka` 1.35.0, which does the same; other bindings of librdkafka
/// until they are tried.
pub fn shows_lanes(name: &str, version: &str) -> bool {
    let Some(known) = KNOWN.iter().find(|k| k.name == name) else {
        return false;
    };
    let counted = match known.counts {
        Counts::Own => version,
        Counts::Librdkafka => version
            .split_once("-rdkafka-")
            .map_or(version, |(_, inner)| inner),
    };
    // Confluent's builds of the Java client count on their own (5.5.0-ccs is Kafka 2.5)
    if known.name == "apache-kafka-java" && (counted.contains("-ccs") || counted.contains("-ce")) {
        return false;
    }
    parse(counted).is_some_and(|v| v >= known.from)
}

/// `4.3.1`, `v1.22.2`, `4.1.0-rc2`; a missing patch is 0.
fn parse(version: &str) -> Option<Version> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let end = version
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .unwrap_or(version.len());
    let mut parts = version[..end].split('.').map(str::parse::<u32>);
    let major = parts.next()?.ok()?;
    let minor = parts.next()?.ok()?;
    let patch = parts.next().and_then(Result::ok).unwrap_or(0);
    Some((major, minor, patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_were_seen_to_cope_are_shown_lanes() {
        for (name, version) in [
            ("apache-kafka-java", "2.8.2"),
            ("apache-kafka-java", "4.3.1"),
            ("apache-kafka-java", "4.4.0-rc4"),
            ("librdkafka", "2.10.0"),
            ("librdkafka", "2.16.1"),
            ("confluent-kafka-python", "2.16.1-rdkafka-2.16.0"),
            ("confluent-kafka-go", "2.11.1"),
            ("confluent-kafka-go", "v2.11.1-rdkafka-2.11.1"),
            ("kgo", "v1.22.2"),
            ("sarama", "v1.61.1"),
            ("kafka-python", "3.0.12"),
            ("rskafka", "0.6.0"),
        ] {
            assert!(shows_lanes(name, version), "{name} {version}");
        }
    }

    #[test]
    fn everybody_else_sees_one_node() {
        for (name, version) in [
            ("", ""),
            ("unknown", "1.0.0"),
            ("kafkajs", "2.2.4"),
            ("platformatic-kafka", "1.35.0"),
            ("apache-kafka-java", "2.8.1"),
            ("apache-kafka-java", "7.5.0-ccs"),
            ("apache-kafka-java", "unknown"),
            ("librdkafka", "2.0.2"),
            ("librdkafka", "2.9.9"),
            ("librdkafka", "v2"),
            // the version of the librdkafka inside counts, not the binding's
            ("confluent-kafka-python", "2.10.0-rdkafka-2.8.0"),
            ("confluent-kafka-dotnet", "2.12.0-rdkafka-2.12.0"),
            ("confluent-kafka-go", "2.8.0"),
            ("kgo", "v1.21.0"),
            ("sarama", "v1.43.0"),
            ("LIBRDKAFKA", "2.16.0"),
            ("librdkafka", "99999999999.0.0"),
        ] {
            assert!(!shows_lanes(name, version), "{name} {version}");
        }
    }
}
