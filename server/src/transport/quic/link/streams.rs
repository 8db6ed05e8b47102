//! The two halves of a stream.

use std::task::{Context, Poll};

use bytes::Bytes;
use quinn_proto::{self as proto, ClosedStream, FinishError, StreamId, VarInt};

use super::{
    ReadError, WriteError,
    connection::{Connection, Waiting},
    waits::On,
};

/// What this side sends on. Dropped before it was finished or reset, it is finished.
#[derive(Debug)]
pub struct SendStream {
    connection: Connection,
    id: StreamId,
}

impl SendStream {
    pub(super) fn new(connection: Connection, id: StreamId) -> Self {
        Self { connection, id }
    }

    /// Its id.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Reads a little of what writing to it looks at.
    pub fn touch(&self) -> usize {
        self.connection.link().touch()
    }

    /// Writes as much of some bytes as the peer and the connection's window take now.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, WriteError>> {
        self.poll_with(cx, |stream| stream.write(bytes))
    }

    /// Writes as much of `chunks` as is taken now, emptying what is written; returns how many chunks were written in full.
    pub fn poll_write_chunks(&mut self, cx: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<Result<usize, WriteError>> {
        self.poll_with(cx, |stream| stream.write_chunks(chunks).map(|written| written.chunks))
    }

    fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut proto::SendStream<'_>) -> Result<T, proto::WriteError>,
    ) -> Poll<Result<T, WriteError>> {
        let link = self.connection.link();
        if let Some(error) = link.error() {
            return Poll::Ready(Err(error.into()));
        }
        match write(&mut link.proto().send_stream(self.id)) {
            Ok(written) => {
                link.mark();
                Poll::Ready(Ok(written))
            }
            Err(proto::WriteError::Blocked) => {
                link.waits().set(On::Write(self.id), cx.waker());
                Poll::Pending
            }
            Err(proto::WriteError::Stopped(code)) => Poll::Ready(Err(WriteError::Stopped(code))),
            Err(proto::WriteError::ClosedStream) => Poll::Ready(Err(WriteError::ClosedStream)),
        }
    }

    /// Ends the stream; what was written is still delivered. Of one that the peer has stopped, nothing is.
    pub fn finish(&mut self) -> Result<(), ClosedStream> {
        let link = self.connection.link();
        if link.is_broken() {
            return Err(ClosedStream::default());
        }
        let finished = link.proto().send_stream(self.id).finish();
        match finished {
            Ok(()) => link.mark(),
            Err(FinishError::Stopped(_)) => {}
            Err(FinishError::ClosedStream) => return Err(ClosedStream::default()),
        }
        Ok(())
    }

    /// Ends the stream at once: what isn't delivered yet may be lost.
    pub fn reset(&mut self, code: VarInt) -> Result<(), ClosedStream> {
        let link = self.connection.link();
        if link.is_broken() {
            return Err(ClosedStream::default());
        }
        link.proto().send_stream(self.id).reset(code)?;
        link.mark();
        Ok(())
    }

    /// Resolves when the peer has stopped the stream, with its code, or has all that was written to a finished one; an error once the
    /// connection is gone.
    pub fn stopped(&self) -> impl Future<Output = Result<Option<VarInt>, proto::ConnectionError>> + 'static + use<> {
        let (mut waiting, id) = (Waiting::new(self.connection.clone(), On::End(self.id)), self.id);
        async move {
            waiting
                .until(|link| {
                    if link.is_broken() {
                        return link.error().map(Err);
                    }
                    let stopped = link.proto().send_stream(id).stopped();
                    match stopped {
                        Err(_) => Some(Ok(None)),
                        Ok(Some(code)) => Some(Ok(Some(code))),
                        Ok(None) => link.error().map(Err),
                    }
                })
                .await
        }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        let link = self.connection.link();
        // Dropped when nothing is borrowed, as that can be to drop who waited.
        let _waker = link.waits().remove_the_one(On::Write(self.id));
        if link.error().is_some() {
            return;
        }
        let mut proto = link.proto();
        let mut stream = proto.send_stream(self.id);
        let ended = match stream.finish() {
            Ok(()) => true,
            Err(FinishError::Stopped(code)) => stream.reset(code).is_ok(),
            Err(FinishError::ClosedStream) => false,
        };
        drop(proto);
        if ended {
            link.mark();
        }
    }
}

/// What the peer sends on. Dropped before its end, it is stopped.
#[derive(Debug)]
pub struct RecvStream {
    connection: Connection,
    id: StreamId,
    end: Option<End>,
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It was read to its end.
    Finished,
    /// The peer has reset it.
    Reset(VarInt),
    /// This side has stopped it.
    Stopped,
}

impl RecvStream {
    pub(super) fn new(connection: Connection, id: StreamId) -> Self {
        Self { connection, id, end: None }
    }

    /// Its id.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Reads what is next, at most so many bytes; none at the stream's end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<Result<Option<Bytes>, ReadError>> {
        let link = self.connection.link();
        if let Some(end) = self.end {
            return Poll::Ready(end.told());
        }
        if link.is_broken() {
            return Poll::Ready(link.error().map_or(Ok(None), |error| Err(error.into())));
        }
        let (read, opens_window) = {
            let mut proto = link.proto();
            let mut stream = proto.recv_stream(self.id);
            // Only one that has ended, and in order it is always read.
            let Ok(mut chunks) = stream.read(true) else { return Poll::Ready(Err(ReadError::ClosedStream)) };
            let read = chunks.next(bytes_max);
            (read, chunks.finalize().should_transmit())
        };
        if opens_window {
            link.mark();
        }
        match read {
            Ok(Some(chunk)) => Poll::Ready(Ok(Some(chunk.bytes))),
            Ok(None) => Poll::Ready(self.end.insert(End::Finished).told()),
            Err(proto::ReadError::Reset(code)) => Poll::Ready(self.end.insert(End::Reset(code)).told()),
            Err(proto::ReadError::Blocked) => {
                // What came before the end of the connection is read first.
                if let Some(error) = link.error() {
                    return Poll::Ready(Err(error.into()));
                }
                link.waits().set(On::Read(self.id), cx.waker());
                Poll::Pending
            }
        }
    }

    /// Tells the peer to send no more. Fails on a stream that has ended.
    pub fn stop(&mut self, code: VarInt) -> Result<(), ClosedStream> {
        let link = self.connection.link();
        if link.is_broken() || self.end.is_some() {
            return Err(ClosedStream::default());
        }
        link.proto().recv_stream(self.id).stop(code)?;
        self.end = Some(End::Stopped);
        link.mark();
        Ok(())
    }
}

impl End {
    fn told(self) -> Result<Option<Bytes>, ReadError> {
        match self {
            Self::Finished => Ok(None),
            Self::Reset(code) => Err(ReadError::Reset(code)),
            Self::Stopped => Err(ReadError::ClosedStream),
        }
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        let _waker = self.connection.link().waits().remove_the_one(On::Read(self.id));
        if self.end.is_none() && self.connection.link().error().is_none() {
            // Fails where it has ended by itself.
            let _ = self.stop(VarInt::from_u32(0));
        }
    }
}
