//! The APIs of the protocol and the versions that this broker serves.

use std::fmt;
use std::ops::RangeInclusive;

macro_rules! apis {
    ($($code:literal $name:ident $serve:expr, $advertise:expr, $flexible:expr,)*) => {
        /// What a request asks for. Every key that Kafka 4.3 knows, also those not served here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        #[allow(missing_docs)]
        pub enum ApiKey {
            $($name = $code,)*
        }

        impl ApiKey {
            /// All keys, in order.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$name,)*];

            /// The API with that number.
            pub const fn from_code(code: i16) -> Option<ApiKey> {
                match code {
                    $($code => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// Its name as Kafka spells it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => stringify!($name),)*
                }
            }

            const fn facts(self) -> Facts {
                match self {
                    $(ApiKey::$name => Facts {
                        serve: $serve,
                        advertise: $advertise,
                        flexible: $flexible,
                    },)*
                }
            }
        }
    };
}

struct Facts {
    serve: Option<(i16, i16)>,
    advertise: Option<(i16, i16)>,
    flexible: i16,
}

include!(concat!(env!("OUT_DIR"), "/apis.rs"));

impl ApiKey {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The versions that this broker answers; `None` for an API that it does not serve.
    pub fn versions(self) -> Option<RangeInclusive<i16>> {
        self.facts().serve.map(|(low, high)| low..=high)
    }

    /// The versions that ApiVersions shows. Wider than what is served where clients read something
    /// else from the range (KAFKA-18659).
    pub fn advertised(self) -> Option<RangeInclusive<i16>> {
        self.facts().advertise.map(|(low, high)| low..=high)
    }

    /// True if this broker answers that version.
    pub fn serves(self, version: i16) -> bool {
        matches!(self.facts().serve, Some((low, high)) if low <= version && version <= high)
    }

    /// First version with compact lengths and tagged fields (KIP-482); `i16::MAX`: none.
    pub const fn flexible_from(self) -> i16 {
        self.facts().flexible
    }

    /// True if that version has compact lengths and tagged fields.
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.facts().flexible
    }

    /// The version of the header of a request: 2 carries tagged fields.
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header of an answer: 1 carries tagged fields. ApiVersions always has 0,
    /// because who asks can't know yet what the broker speaks.
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            ApiKey::ApiVersions => 0,
            _ if self.is_flexible(version) => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_their_numbers() {
        for (i, key) in ApiKey::ALL.iter().enumerate() {
            assert_eq!(key.code() as usize, i, "keys have no gaps");
            assert_eq!(ApiKey::from_code(key.code()), Some(*key));
        }
        assert_eq!(ApiKey::from_code(93), None);
        assert_eq!(ApiKey::from_code(-1), None);
    }

    #[test]
    fn produce_shows_versions_that_old_librdkafka_reads_features_from() {
        assert_eq!(ApiKey::Produce.advertised(), Some(0..=13));
        assert_eq!(ApiKey::Produce.versions(), Some(3..=13));
        assert!(!ApiKey::Produce.serves(2));
    }

    #[test]
    fn api_versions_answers_under_the_oldest_header() {
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(4), 0);
        assert_eq!(ApiKey::Fetch.response_header_version(12), 1);
        assert_eq!(ApiKey::Fetch.response_header_version(11), 0);
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
    }
}
