//! What of HTTP/3 and WebTransport goes over the wire before events do.

use bytes::{Bytes, BytesMut};
use quinn_proto::StreamId;
use web_transport_quinn::proto::{ConnectError, ConnectRequest, ConnectResponse, Settings, StreamUni, VarInt};

/// The beginning of the control stream.
pub(super) fn settings() -> Bytes {
    let mut settings = Settings::default();
    settings.enable_webtransport(1);
    let mut wire = BytesMut::new();
    settings.encode(&mut wire);
    wire.freeze()
}

/// Whether the head of a request is whole.
pub(super) fn is_whole(head: &[u8]) -> bool {
    !matches!(ConnectRequest::decode(&mut &*head), Err(ConnectError::UnexpectedEnd))
}

/// Whether it asks for a session.
pub(super) fn is_session(head: &[u8]) -> bool {
    ConnectRequest::decode(&mut &*head).is_ok()
}

/// The answer to one that does.
pub(super) fn accepted() -> Bytes {
    let mut wire = BytesMut::new();
    // Fails for names of protocols only.
    let _ = ConnectResponse::OK.encode(&mut wire);
    wire.freeze()
}

/// The beginning of the stream with the events, which its client looks at only once something comes on it.
pub(super) fn stream(session: StreamId) -> Bytes {
    let mut wire = BytesMut::new();
    StreamUni::WEBTRANSPORT.encode(&mut wire);
    VarInt::from_u64(session.into()).unwrap_or_default().encode(&mut wire);
    wire.extend_from_slice(b"hello");
    wire.freeze()
}

/// A datagram for each event: the session, which is on the first stream of every connection, and the event.
pub(super) fn datagrams(body: &[u8]) -> Vec<Bytes> {
    body.split(|byte| *byte == b'\n').map(|event| [&[0], event].concat().into()).collect()
}
