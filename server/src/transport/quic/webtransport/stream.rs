//! The streams of a session.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use thiserror::Error;

use super::state::State;
use crate::transport::quic::{
    code::{self, from_http3, to_http3},
    link,
    outgoing::StreamEnd,
};

/// A stream that this side sends on. Dropped before it is finished, it is reset with SESSION_GONE.
pub struct SendStream {
    state: Rc<State>,
    key: usize,
}

/// Why nothing more can be written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    /// The peer stopped the stream.
    #[error("the peer stopped the stream with code {0:?}")]
    Stopped(Option<u32>),
    /// The session has ended, or the connection with it.
    #[error("the session has ended")]
    SessionEnded,
    /// The stream was finished before.
    #[error("the stream is finished")]
    Finished,
}

/// Why nothing more can be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    /// The peer reset the stream.
    #[error("the peer reset the stream with code {0:?}")]
    Reset(Option<u32>),
    /// The session has ended, or the connection with it.
    #[error("the session has ended")]
    SessionEnded,
}

impl SendStream {
    pub(super) fn new(state: Rc<State>, key: usize) -> Self {
        Self { state, key }
    }

    /// Writes all of `chunks`, without copying them and with as few packets as they need. Stays pending while the peer
    /// doesn't read. Chunks that are written are emptied: when the future is dropped early, what is left in the slice
    /// is what wasn't written, and calling again with it goes on from there.
    pub async fn write_all_chunks(&mut self, chunks: &mut [Bytes]) -> Result<(), WriteError> {
        let (state, key) = (&self.state, self.key);
        let mut from = 0;
        let write = |cx: &mut Context<'_>| {
            while let Some(rest) = chunks.get_mut(from..).filter(|rest| !rest.is_empty()) {
                match state.poll_write_chunks(key, cx, rest) {
                    Poll::Ready(Ok(written)) => from += written,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(()))
        };
        state.unless_over(write).await.unwrap_or(Err(WriteError::SessionEnded))
    }

    /// Writes as much of `chunks` as the peer takes now, and says how many of them were written in full; of the next one what is left
    /// stays. Pending for ever once the session has ended: the caller watches for that.
    pub fn poll_write_chunks(&mut self, cx: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<Result<usize, WriteError>> {
        self.state.poll_write_chunks(self.key, cx, chunks).map_err(WriteError::from)
    }

    /// Reads a little of what writing to it looks at.
    pub fn touch(&self) -> usize {
        self.state.touch(self.key)
    }

    /// Ends the stream; what was written is still delivered, even beyond the session's end.
    pub fn finish(&mut self) {
        self.state.finish(self.key);
    }

    /// Ends the stream at once with the application's code; what isn't delivered yet may be lost.
    pub fn reset(self, app_code: u32) {
        self.state.drop_sending(self.key, to_http3(app_code));
    }

    /// Resolves when the peer stops the stream, has all of a finished one, or is gone. [`from_http3`] tells the
    /// application's code of a stop.
    pub fn stopped(&self) -> impl Future<Output = StreamEnd> + 'static + use<> {
        let end = self.state.stream_end(self.key);
        async move {
            match end {
                Some(end) => end.await,
                None => StreamEnd::Lost,
            }
        }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        self.state.drop_sending(self.key, code::SESSION_GONE);
    }
}

/// A stream that the peer sends on. Dropped before its end, it is stopped with SESSION_GONE.
pub struct RecvStream {
    state: Rc<State>,
    key: usize,
}

impl RecvStream {
    pub(super) fn new(state: Rc<State>, key: usize) -> Self {
        Self { state, key }
    }

    /// The next bytes, at most `bytes_max` of them, or `None` at the stream's end. Nothing is lost when the future is
    /// dropped early.
    pub async fn read_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, ReadError> {
        match self.state.unless_over(|cx| self.state.poll_read(self.key, cx, bytes_max)).await {
            Some(Ok(chunk)) => Ok(chunk),
            Some(Err(link::ReadError::Reset(code))) => Err(ReadError::Reset(from_http3(code))),
            Some(Err(_)) | None => Err(ReadError::SessionEnded),
        }
    }

    /// Tells the peer to send no more, with the application's code.
    pub fn stop(self, app_code: u32) {
        self.state.drop_receiving(self.key, to_http3(app_code));
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.state.drop_receiving(self.key, code::SESSION_GONE);
    }
}

impl From<link::WriteError> for WriteError {
    fn from(error: link::WriteError) -> Self {
        match error {
            link::WriteError::Stopped(code) => Self::Stopped(from_http3(code)),
            link::WriteError::ClosedStream => Self::Finished,
            link::WriteError::ConnectionLost(_) => Self::SessionEnded,
        }
    }
}
