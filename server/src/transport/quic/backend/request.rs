//! The streams of requests.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h3::quic::{self, StreamErrorIncoming, StreamId, WriteBuf};
use quinn_proto::VarInt;

use super::connection_error;
use crate::transport::quic::{code, frames::Frames, link, outgoing::Outgoing};

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
    pub(super) writing: Option<WriteBuf<Bytes>>,
}

impl quic::SendStream<Bytes> for SendStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(data) = &mut self.writing {
            ready!(poll_write_all(data, |bytes| self.outgoing.poll_write(cx, bytes)))?;
            self.writing = None;
        }
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.writing = Some(data.into());
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
    /// Comes before anything else.
    head: Bytes,
    /// What was read and not cut yet.
    input: Bytes,
    /// `None` on a stream without frames.
    frames: Option<Frames>,
}

impl RecvStream {
    pub(super) fn new(stream: link::RecvStream, head: Bytes, input: Bytes, frames: Option<Frames>) -> Self {
        Self { stream, head, input, frames }
    }

    fn stop(&mut self, code: VarInt) {
        // Fails when it has ended by itself, which is as good.
        let _ = self.stream.stop(code);
        (self.head, self.input) = (Bytes::new(), Bytes::new());
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        if !self.head.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.head))));
        }
        loop {
            match &mut self.frames {
                None if !self.input.is_empty() => return Poll::Ready(Ok(Some(std::mem::take(&mut self.input)))),
                None => {}
                Some(frames) => match frames.next(&mut self.input) {
                    Ok(Some(piece)) => return Poll::Ready(Ok(Some(piece))),
                    Ok(None) => {}
                    Err(_) => {
                        self.stop(code::H3_EXCESSIVE_LOAD);
                        let error_code = code::H3_EXCESSIVE_LOAD.into_inner();
                        return Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code }));
                    }
                },
            }
            match ready!(self.stream.poll_read(cx, usize::MAX)).map_err(read_error)? {
                Some(chunk) => self.input = chunk,
                None if self.frames.as_ref().is_some_and(|frames| !frames.is_between_frames()) => {
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

/// Writes all of some data, of which what is written is taken away.
pub(super) fn poll_write_all(
    data: &mut impl Buf,
    mut poll_write: impl FnMut(&[u8]) -> Poll<Result<usize, link::WriteError>>,
) -> Poll<Result<(), StreamErrorIncoming>> {
    while data.has_remaining() {
        let written = ready!(poll_write(data.chunk())).map_err(write_error)?;
        data.advance(written);
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
