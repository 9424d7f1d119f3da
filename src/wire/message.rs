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

    /// Reads a whole body, and nothing may follow it. Strings, records and lists borrow from the
    /// frame; nothing is allocated.
    fn decode(r: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError> {
        let (low, high) = Self::VERSIONS;
        let body = if version < low || version > high {
            Err(r.error(Problem::Version(version)))
        } else {
            Self::parse(r, version, Self::API.is_flexible(version))
                .and_then(|body| r.finish().map(|()| body))
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
