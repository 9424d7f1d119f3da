//! What all messages have in common.

use crate::wire::api::ApiKey;
use crate::wire::error::{DecodeError, Problem};
use crate::wire::field::Wire;
use crate::wire::read::Reader;
use crate::wire::write::Writer;

/// The body of a request or of an answer.
pub trait Message<'a>: Wire<'a> {
    /// The API that it belongs to.
    const API: ApiKey;
    /// True for an answer.
    const RESPONSE: bool;
    /// Lowest and highest version that can be decoded.
    const VERSIONS: (i16, i16);

    /// Reads a whole body. Nothing may follow an answer; what follows a request is left unread, as
    /// Kafka does: librdkafka leaves three bytes in every Metadata request for all topics. Strings,
    /// records and lists borrow from the frame; nothing is allocated.
    fn decode(r: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError> {
        let (low, high) = Self::VERSIONS;
        let body = if version < low || version > high {
            Err(r.error(Problem::Version(version)))
        } else {
            let parsed = Self::parse(r, version, Self::API.is_flexible(version));
            match parsed {
                Ok(body) if Self::RESPONSE => r.finish().map(|()| body),
                parsed => parsed,
            }
        };
        body.map_err(|error| error.message(Self::API, Self::RESPONSE, version))
    }

    /// Bytes that [`Message::encode`] writes, with those that belong into holes.
    fn size(&self, version: i16) -> usize {
        self.length(version, Self::API.is_flexible(version))
    }

    /// Writes the body in one pass. Fields that the version does not have are left out.
    fn encode(&self, w: &mut Writer<'_>, version: i16) {
        self.put(w, version, Self::API.is_flexible(version));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::{MetadataRequest, MetadataResponse};

    #[test]
    fn bytes_behind_a_request_are_left_and_behind_an_answer_refused() {
        // as librdkafka 2.12 asks for all topics: a count of four bytes, of which one is used, and
        // two booleans and the tags behind it
        let request = [0, 0, 0, 0, 0, 0, 0];
        let mut r = Reader::new(&request);
        let decoded = MetadataRequest::decode(&mut r, 13).expect("what Kafka takes");
        assert!(decoded.topics.is_null());

        // throttle time, no brokers, no cluster, no controller, no topics, no error, no tags
        let mut answer = vec![0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        MetadataResponse::decode(&mut Reader::new(&answer), 13).expect("whole");
        answer.push(0);
        let error = MetadataResponse::decode(&mut Reader::new(&answer), 13);
        assert_eq!(error.map_err(|e| e.problem()), Err(Problem::Trailing(1)));
    }
}
