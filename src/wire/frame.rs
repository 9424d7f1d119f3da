//! Frames: a length of four bytes, a header, a body.

use std::ops::Range;

use crate::wire::api::ApiKey;
use crate::wire::error::{DecodeError, Problem, at};
use crate::wire::message::Message;
use crate::wire::read::Reader;
use crate::wire::write::Writer;

/// Bytes of the length that begins a frame.
pub const LENGTH_BYTES: usize = 4;

/// What the bytes at hand hold of the next frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// A part. In all, so many bytes are needed (4 until the length is known).
    Incomplete(usize),
    /// A whole frame: where its content stands, behind the length. The next one begins at the
    /// range's end.
    Frame(Range<usize>),
    /// A length that is negative or above the maximum: the connection can't go on.
    TooLarge(i32),
}

/// Looks for the frame that begins `bytes`; `max` bounds its content.
pub fn split(bytes: &[u8], max: usize) -> Split {
    let Some((length, _)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Split::Incomplete(LENGTH_BYTES);
    };
    let length = i32::from_be_bytes(*length);
    match usize::try_from(length) {
        Ok(n) if n <= max && n + LENGTH_BYTES <= bytes.len() => {
            Split::Frame(LENGTH_BYTES..LENGTH_BYTES + n)
        }
        Ok(n) if n <= max => Split::Incomplete(LENGTH_BYTES + n),
        _ => Split::TooLarge(length),
    }
}

/// What stands before the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The API.
    pub api_key: ApiKey,
    /// Its version as sent: not checked against what is served, since ApiVersions answers that.
    pub api_version: i16,
    /// Goes back with the answer.
    pub correlation_id: i32,
    /// How the client calls itself.
    pub client_id: Option<&'a str>,
}

/// Reads the header of a request from a frame's content; the reader stands at the body then.
pub fn request_header(frame: &[u8]) -> Result<(RequestHeader<'_>, Reader<'_>), DecodeError> {
    let mut r = Reader::new(frame);
    let key = at("api_key", r.i16())?;
    let Some(api_key) = ApiKey::from_code(key) else {
        return Err(DecodeError::new(Problem::UnknownApi(key), 0));
    };
    let api_version = at("api_version", r.i16())?;
    let rest = move || -> Result<_, DecodeError> {
        let mut r = r;
        let correlation_id = at("correlation_id", r.i32())?;
        // has a length of two bytes in all versions of the header
        let client_id = at("client_id", r.string(false))?;
        if api_key.request_header_version(api_version) >= 2 {
            r.tags(|_, _| Ok(false))?;
        }
        let header = RequestHeader {
            api_key,
            api_version,
            correlation_id,
            client_id,
        };
        Ok((header, r))
    };
    rest().map_err(|error| error.message(api_key, false, api_version))
}

/// Writes a whole request: length, header, body. For clients.
pub fn request<'a, M: Message<'a>>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    body: &M,
    w: &mut Writer<'_>,
) {
    let start = begin(w);
    w.i16(M::API.code());
    w.i16(version);
    w.i32(correlation_id);
    w.string(client_id, false);
    if M::API.request_header_version(version) >= 2 {
        w.uvarint(0);
    }
    body.encode(w, version);
    end(w, start);
}

/// Writes a whole answer: length (with the bytes that belong into holes), header, body.
pub fn response<'a, M: Message<'a>>(
    version: i16,
    correlation_id: i32,
    body: &M,
    w: &mut Writer<'_>,
) {
    let start = begin(w);
    response_header(M::API, version, correlation_id, w);
    body.encode(w, version);
    end(w, start);
}

/// Bytes that [`response`] writes, with those that belong into holes.
pub fn response_size<'a, M: Message<'a>>(version: i16, body: &M) -> usize {
    let header = 4 + M::API.response_header_version(version) as usize;
    LENGTH_BYTES + header + body.size(version)
}

/// Writes the header of an answer.
pub fn response_header(api: ApiKey, version: i16, correlation_id: i32, w: &mut Writer<'_>) {
    w.i32(correlation_id);
    if api.response_header_version(version) >= 1 {
        w.uvarint(0);
    }
}

/// Reads the header of an answer from a frame's content: the correlation id, and a reader that
/// stands at the body. For clients.
pub fn read_response_header(
    frame: &[u8],
    api: ApiKey,
    version: i16,
) -> Result<(i32, Reader<'_>), DecodeError> {
    let mut r = Reader::new(frame);
    let mut rest = || -> Result<_, DecodeError> {
        let correlation_id = at("correlation_id", r.i32())?;
        if api.response_header_version(version) >= 1 {
            r.tags(|_, _| Ok(false))?;
        }
        Ok(correlation_id)
    };
    match rest() {
        Ok(correlation_id) => Ok((correlation_id, r)),
        Err(error) => Err(error.message(api, true, version)),
    }
}

/// Where a frame began, for its length.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    at: usize,
    hole_bytes: usize,
}

/// Leaves room for the length of a frame.
pub fn begin(w: &mut Writer<'_>) -> Start {
    let start = Start {
        at: w.len(),
        hole_bytes: w.hole_bytes(),
    };
    w.i32(0);
    start
}

/// Fills in the length of a frame, which counts the bytes that belong into its holes.
pub fn end(w: &mut Writer<'_>, start: Start) {
    let written = w.len() - start.at - LENGTH_BYTES;
    let length = written + w.hole_bytes() - start.hole_bytes;
    // answers are bounded by the limits of fetches, far below 2^31
    w.patch_i32(start.at, length as i32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

    #[test]
    fn a_frame_is_found_only_whole_and_within_bounds() {
        assert_eq!(split(&[0, 0], 100), Split::Incomplete(4));
        assert_eq!(split(&[0, 0, 0, 3, 1], 100), Split::Incomplete(7));
        assert_eq!(split(&[0, 0, 0, 1, 7, 9], 100), Split::Frame(4..5));
        assert_eq!(split(&[0, 0, 0, 101], 100), Split::TooLarge(101));
        assert_eq!(split(&[0xff; 4], 100), Split::TooLarge(-1));
    }

    #[test]
    fn a_request_reads_back_with_its_header() {
        let body = ApiVersionsRequest {
            client_software_name: "kgo",
            client_software_version: "v1.22.2",
            node_id: 7,
            ..Default::default()
        };
        for version in 0..=5 {
            let mut bytes = Vec::new();
            request(version, 42, Some("c"), &body, &mut Writer::vec(&mut bytes));
            let Split::Frame(range) = split(&bytes, 1000) else {
                panic!("no frame")
            };
            assert_eq!(range.end, bytes.len());
            let (header, mut r) = request_header(&bytes[range]).unwrap();
            assert_eq!(
                (header.api_key, header.api_version),
                (ApiKey::ApiVersions, version)
            );
            assert_eq!((header.correlation_id, header.client_id), (42, Some("c")));
            let back = ApiVersionsRequest::decode(&mut r, version).unwrap();
            assert_eq!(back.node_id, if version < 5 { -1 } else { 7 });
            assert_eq!(
                back.client_software_name,
                if version < 3 { "" } else { "kgo" }
            );
        }
    }

    #[test]
    fn an_unknown_key_and_a_cut_header_are_errors() {
        let unknown = request_header(&[0x7f, 0, 0, 0]).unwrap_err();
        assert_eq!(unknown.problem(), Problem::UnknownApi(0x7f00));
        let cut = request_header(&[0, 18, 0, 3, 0, 0]).unwrap_err();
        assert_eq!(
            cut.to_string(),
            "ApiVersions request version 3, correlation_id, byte 4: \
             4 bytes were expected, 2 are left"
        );
    }

    #[test]
    fn an_answer_takes_the_size_foretold() {
        for version in 0..=4 {
            let body = ApiVersionsResponse::default();
            let mut bytes = Vec::new();
            response(version, 3, &body, &mut Writer::vec(&mut bytes));
            assert_eq!(bytes.len(), response_size(version, &body));
            let (id, mut r) =
                read_response_header(&bytes[4..], ApiKey::ApiVersions, version).unwrap();
            assert_eq!(id, 3);
            assert_eq!(ApiVersionsResponse::decode(&mut r, version), Ok(body));
        }
    }
}
