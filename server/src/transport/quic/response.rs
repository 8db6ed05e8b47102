//! The answer to a request.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use h3::error::StreamError;
use http::Response;
use quinn_proto::VarInt;
use thiserror::Error;

use super::{
    backend, link,
    outgoing::{Outgoing, StreamEnd},
    varint,
};

/// To be given the head of the response. Dropped without, the request is reset with H3_INTERNAL_ERROR.
pub struct ResponseSender {
    stream: h3::server::RequestStream<backend::SendStream, Bytes>,
    outgoing: Rc<Outgoing>,
}

/// To be given the body. Dropped before it is finished, the response is reset with H3_INTERNAL_ERROR: it must not look
/// whole.
pub struct ResponseStream {
    /// h3 counts a request as running until this is dropped.
    _stream: h3::server::RequestStream<backend::SendStream, Bytes>,
    writer: BodyWriter,
}

/// Why a response's head can't be sent.
#[derive(Debug, Error)]
#[error("the response's head can't be sent")]
pub struct HeadError(#[from] StreamError);

/// Why a response's body can't be sent.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// The client wants no more of it; for a feed that is how it ends.
    #[error("the client stopped the response with code {0}")]
    Stopped(VarInt),
    /// The connection is gone.
    #[error("the connection is gone")]
    Lost,
}

impl ResponseSender {
    pub(super) fn new(stream: h3::server::RequestStream<backend::SendStream, Bytes>, outgoing: Rc<Outgoing>) -> Self {
        Self { stream, outgoing }
    }

    /// Sends the head. No `Connection` header: it is malformed here [RFC 9114 §4.2], and browsers drop the response for
    /// it.
    pub async fn send_response(mut self, head: Response<()>) -> Result<ResponseStream, HeadError> {
        self.stream.send_response(head).await?;
        Ok(ResponseStream { _stream: self.stream, writer: BodyWriter::new(self.outgoing) })
    }

    /// Resolves when the client cancels the request or is gone.
    pub fn closed(&self) -> impl Future<Output = StreamEnd> + 'static + use<> {
        self.outgoing.closed()
    }
}

impl ResponseStream {
    /// Sends one piece of the body, without copying it. Stays pending while the client doesn't read. Dropped early,
    /// what remains of the piece is sent before the next.
    pub async fn send_data(&mut self, data: Bytes) -> Result<(), BodyError> {
        self.send_chunks(&mut [data]).await
    }

    /// Sends all of `chunks` as one DATA frame, with as few packets as they need. Leaves the chunks empty.
    pub async fn send_chunks(&mut self, chunks: &mut [Bytes]) -> Result<(), BodyError> {
        self.writer.flush().await?;
        self.writer.push(chunks);
        self.writer.flush().await
    }

    /// Ends the body. The connection sees to it that all of it is delivered.
    pub async fn finish(mut self) -> Result<(), BodyError> {
        self.writer.flush().await?;
        self.writer.outgoing.finish();
        Ok(())
    }

    /// Resolves as soon as the client cancels the request or is gone, without anything being written.
    pub fn closed(&self) -> impl Future<Output = StreamEnd> + 'static + use<> {
        self.writer.outgoing.closed()
    }
}

/// Writes DATA frames [RFC 9114 §7.2.1] past h3, which would copy them.
pub(super) struct BodyWriter {
    outgoing: Rc<Outgoing>,
    /// Frames that were begun: what is in front of `written` is empty.
    pending: Vec<Bytes>,
    written: usize,
    /// Frame headers are cut off from this.
    headers: BytesMut,
}

impl BodyWriter {
    pub(super) fn new(outgoing: Rc<Outgoing>) -> Self {
        Self { outgoing, pending: Vec::new(), written: 0, headers: BytesMut::new() }
    }

    pub(super) fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    pub(super) fn has_pending(&self) -> bool {
        self.written < self.pending.len()
    }

    /// Takes `chunks` as one frame, to be written by [`flush`](Self::flush).
    pub(super) fn push(&mut self, chunks: &mut [Bytes]) {
        let len: usize = chunks.iter().map(Bytes::len).sum();
        // An empty frame says nothing, and some take it for the end.
        let Some(len) = VarInt::try_from(len as u64).ok().filter(|_| len > 0) else { return };
        varint::encode(FRAME_DATA, &mut self.headers);
        varint::encode(len, &mut self.headers);
        self.pending.push(self.headers.split().freeze());
        self.pending.extend(chunks.iter_mut().map(std::mem::take));
    }

    /// Writes what was pushed. Dropped early, the next call goes on from there.
    pub(super) async fn flush(&mut self) -> Result<(), BodyError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while let Some(rest) = self.pending.get_mut(self.written..).filter(|rest| !rest.is_empty()) {
            match self.outgoing.poll_write_chunks(cx, rest) {
                Poll::Ready(Ok(written)) => self.written += written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.pending.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl From<link::WriteError> for BodyError {
    fn from(error: link::WriteError) -> Self {
        match error {
            link::WriteError::Stopped(code) => Self::Stopped(code),
            _ => Self::Lost,
        }
    }
}

/// [RFC 9114 §7.2.1]
const FRAME_DATA: VarInt = VarInt::from_u32(0x00);
