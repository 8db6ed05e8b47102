//! The streams that this side opens: HTTP/3's own.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn_proto::VarInt;

use super::{
    STREAM_CONTROL, connection_error,
    request::{BidiStream, into_bytes, poll_write_all, stream_id},
};
use crate::transport::quic::{
    code, link,
    varint::{self, Prefix},
};

/// Opens HTTP/3's own streams.
pub(in super::super) struct Opener {
    connection: link::Connection,
    /// While the peer allows none.
    opening: Option<LocalBoxFuture<'static, Result<link::SendStream, quinn_proto::ConnectionError>>>,
}

impl Opener {
    pub(super) fn new(connection: link::Connection) -> Self {
        Self { connection, opening: None }
    }
}

impl Clone for Opener {
    fn clone(&self) -> Self {
        Self::new(self.connection.clone())
    }
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = BidiStream;
    type SendStream = OwnStream;

    /// A server of HTTP/3 opens no bidirectional stream [RFC 9114 §6.1], and h3's doesn't.
    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        let connection_error = ConnectionErrorIncoming::InternalError("a server opens no request".to_owned());
        Poll::Ready(Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error }))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<OwnStream, StreamErrorIncoming>> {
        let opening = self.opening.get_or_insert_with(|| {
            let connection = self.connection.clone();
            Box::pin(async move { connection.open_uni().await })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.opening = None;
        let stream = opened.map_err(|error| StreamErrorIncoming::ConnectionErrorIncoming {
            connection_error: connection_error(error),
        })?;
        Poll::Ready(Ok(OwnStream { stream, settings: Vec::new(), unwritten: Bytes::new() }))
    }

    fn close(&mut self, code: h3::error::Code, reason: &[u8]) {
        self.connection.close(VarInt::from_u64(code.value()).unwrap_or(code::H3_INTERNAL_ERROR), reason);
    }
}

/// A unidirectional stream of HTTP/3's own: control or QPACK.
pub(in super::super) struct OwnStream {
    stream: link::SendStream,
    /// To be added to the SETTINGS that are sent first.
    pub(super) settings: Vec<(VarInt, VarInt)>,
    unwritten: Bytes,
}

impl quic::SendStream<Bytes> for OwnStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        poll_write_all(&mut self.unwritten, |chunks| self.stream.poll_write_chunks(cx, chunks))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.unwritten = into_bytes(data);
        if self.settings.is_empty() {
            return Ok(());
        }
        self.unwritten = amend_settings(&self.unwritten, &std::mem::take(&mut self.settings)).ok_or_else(|| {
            let message = "the control stream doesn't begin with SETTINGS".to_owned();
            let connection_error = ConnectionErrorIncoming::InternalError(message);
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
        })?;
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        // Fails only on a stream that has ended.
        let _ = self.stream.finish();
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, code: u64) {
        let _ = self.stream.reset(VarInt::from_u64(code).unwrap_or(code::H3_INTERNAL_ERROR));
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

/// A stream type, the type and the length of SETTINGS, and its pairs [RFC 9114 §6.2.1, §7.2.4], with more pairs.
fn amend_settings(head: &[u8], settings: &[(VarInt, VarInt)]) -> Option<Bytes> {
    let mut opening = Prefix::default();
    opening.extend(head.get(..2)?);
    if opening.values() != (Some(STREAM_CONTROL.into()), Some(FRAME_SETTINGS)) {
        return None;
    }
    let mut len = Prefix::default();
    let mut pairs = &head[2..];
    while len.values().0.is_none() {
        let (taken, rest) = pairs.split_at_checked(len.missing())?;
        len.extend(taken);
        pairs = rest;
    }
    let mut body = BytesMut::from(pairs);
    for &(id, value) in settings {
        varint::encode(id, &mut body);
        varint::encode(value, &mut body);
    }
    let mut amended = BytesMut::from(&head[..2]);
    varint::encode(VarInt::try_from(body.len() as u64).ok()?, &mut amended);
    amended.extend_from_slice(&body);
    Some(amended.freeze())
}

/// [RFC 9114 §7.2.4]
const FRAME_SETTINGS: u64 = 0x04;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_amended_and_their_length_with_them() {
        let head = [0x00, 0x04, 0x02, 0x08, 0x01];
        let amended = amend_settings(&head, &[(VarInt::from_u32(0x33), VarInt::from_u32(64))]).unwrap();
        assert_eq!(&amended[..], [0x00, 0x04, 0x05, 0x08, 0x01, 0x33, 0x40, 0x40]);
        assert!(amend_settings(&[0x02], &[]).is_none());
        assert!(amend_settings(&[0x00, 0x07, 0x01, 0x00], &[]).is_none());
    }
}
