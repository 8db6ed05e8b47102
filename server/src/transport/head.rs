//! The heads of responses.

use http::{HeaderMap, HeaderName, header};

/// Takes out what is of connections of HTTP/1: elsewhere it is malformed, and browsers drop the whole response for it.
/// [RFC 9113 §8.2.2; RFC 9114 §4.2]
pub(super) fn strip_connection_fields(headers: &mut HeaderMap) {
    for name in OF_CONNECTIONS {
        headers.remove(name);
    }
}

const OF_CONNECTIONS: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
