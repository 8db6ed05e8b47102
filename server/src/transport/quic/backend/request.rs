//! The streams of requests.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h3::quic::{self, StreamErrorIncoming, StreamId, WriteBuf};
use quinn_proto::VarInt;

use super::connection_error;
use crate::transport::quic::{
    code,
    frames::{Frames, Kind, TooLong},
    link,
    outgoing::Outgoing,
};

/// A request's stream.
pub(in super::super) struct BidiStream {
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
}

impl quic::BidiStream<Bytes> for BidiStream {
    type SendStream = SendStream;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream, RecvStream) {
        (self.send, self.recv)
    }
}

impl quic::SendStream<Bytes> for BidiStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl quic::RecvStream for BidiStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.recv.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

/// The half of a request's stream on which h3 writes the response's head.
pub(in super::super) struct SendStream {
    pub(super) outgoing: Rc<Outgoing>,
    pub(super) unwritten: Bytes,
}

impl quic::SendStream<Bytes> for SendStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        poll_write_all(&mut self.unwritten, |chunks| self.outgoing.poll_write_chunks(cx, chunks))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.unwritten = into_bytes(data);
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.outgoing.finish();
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, code: u64) {
        self.outgoing.reset(VarInt::from_u64(code).unwrap_or(code::H3_INTERNAL_ERROR));
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.outgoing.id())
    }
}

/// What the peer sends on a stream of HTTP/3, cut so that h3 can take it.
pub(in super::super) struct RecvStream {
    stream: link::RecvStream,
    /// `None` on a stream without frames.
    kind: Option<Kind>,
    /// Only while there is something: every connection has four such streams, of which nothing comes any more.
    unread: Option<Box<Unread>>,
}

/// What was read, and isn't h3's yet.
struct Unread {
    /// Comes before anything else.
    head: Bytes,
    /// What isn't cut yet.
    input: Bytes,
    frames: Option<Frames>,
}

impl RecvStream {
    pub(super) fn new(stream: link::RecvStream, head: Bytes, input: Bytes, frames: Option<Frames>) -> Self {
        let kind = frames.as_ref().map(Frames::kind);
        Self { stream, kind, unread: Some(Box::new(Unread { head, input, frames })) }
    }

    fn stop(&mut self, code: VarInt) {
        // Fails when it has ended by itself, which is as good.
        let _ = self.stream.stop(code);
        self.unread = None;
    }

    /// The next piece of what was read.
    fn next_piece(&mut self) -> Result<Option<Bytes>, TooLong> {
        let Some(unread) = &mut self.unread else { return Ok(None) };
        let piece = unread.next();
        if unread.is_over() {
            self.unread = None;
        }
        piece
    }
}

impl Unread {
    fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        if !self.head.is_empty() {
            return Ok(Some(std::mem::take(&mut self.head)));
        }
        match &mut self.frames {
            Some(frames) => frames.next(&mut self.input),
            None => Ok(Some(std::mem::take(&mut self.input)).filter(|input| !input.is_empty())),
        }
    }

    /// Nothing is left, and nothing was begun.
    fn is_over(&self) -> bool {
        let is_between_frames = self.frames.as_ref().is_none_or(Frames::is_between_frames);
        self.head.is_empty() && self.input.is_empty() && is_between_frames
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        loop {
            match self.next_piece() {
                Ok(Some(piece)) => return Poll::Ready(Ok(Some(piece))),
                Ok(None) => {}
                Err(TooLong) => {
                    self.stop(code::H3_EXCESSIVE_LOAD);
                    let error_code = code::H3_EXCESSIVE_LOAD.into_inner();
                    return Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code }));
                }
            }
            match ready!(self.stream.poll_read(cx, usize::MAX)).map_err(read_error)? {
                Some(chunk) => {
                    let kind = self.kind;
                    let unread = self.unread.get_or_insert_with(|| {
                        Box::new(Unread { head: Bytes::new(), input: Bytes::new(), frames: kind.map(Frames::new) })
                    });
                    unread.input = chunk;
                }
                // In the midst of a frame.
                None if self.unread.is_some() => {
                    let error_code = code::H3_FRAME_ERROR.into_inner();
                    return Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code }));
                }
                None => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn stop_sending(&mut self, code: u64) {
        self.stop(VarInt::from_u64(code).unwrap_or(code::H3_INTERNAL_ERROR));
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        // A response may be whole before its request is [RFC 9114 §4.1].
        self.stop(code::H3_NO_ERROR);
    }
}

/// What h3 wants to be written, which is never more than the head of something: its own buffer would stay with each stream, ten times as long.
pub(super) fn into_bytes(data: impl Into<WriteBuf<Bytes>>) -> Bytes {
    let mut data = data.into();
    data.copy_to_bytes(data.remaining())
}

/// Writes all of some data, of which what is written is taken away.
pub(super) fn poll_write_all(
    data: &mut Bytes,
    mut poll_write: impl FnMut(&mut [Bytes]) -> Poll<Result<usize, link::WriteError>>,
) -> Poll<Result<(), StreamErrorIncoming>> {
    while !data.is_empty() {
        ready!(poll_write(std::slice::from_mut(data))).map_err(write_error)?;
    }
    Poll::Ready(Ok(()))
}

pub(super) fn stream_id(id: quinn_proto::StreamId) -> StreamId {
    StreamId::try_from(u64::from(id)).expect("both sides hold the 62 bits of a varint")
}

fn read_error(error: link::ReadError) -> StreamErrorIncoming {
    match error {
        link::ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        link::ReadError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection_error(error) }
        }
        error => StreamErrorIncoming::Unknown(Box::new(error)),
    }
}

fn write_error(error: link::WriteError) -> StreamErrorIncoming {
    match error {
        link::WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        link::WriteError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection_error(error) }
        }
        error => StreamErrorIncoming::Unknown(Box::new(error)),
    }
}
