//! An accepted session.

use std::{future::poll_fn, pin::pin, rc::Rc};

use bytes::{Bytes, BytesMut};
use quinn_proto::VarInt;
use thiserror::Error;

use super::{
    Close, Ended,
    datagram::DatagramSender,
    state::State,
    stream::{RecvStream, SendStream},
};
use crate::transport::quic::{code, link, varint};

/// A WebTransport session. Dropped, it is closed with code 0; by a panic, reset.
pub struct Session {
    state: Rc<State>,
}

/// Why no stream could be opened.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// The session has ended, or the connection with it.
    #[error("the session has ended")]
    SessionEnded,
}

impl Session {
    pub(super) fn new(state: Rc<State>) -> Self {
        Self { state }
    }

    /// The id of its CONNECT stream, unique in its connection.
    pub fn id(&self) -> u64 {
        self.state.id.into_inner()
    }

    /// Opens a stream to send on. Waits while the peer allows no more of them.
    pub async fn open_uni(&self) -> Result<SendStream, OpenError> {
        let mut opening = pin!(self.state.connection.open_uni());
        let opened = self.state.unless_over(|cx| opening.as_mut().poll(cx)).await;
        let Some(Ok(stream)) = opened else { return Err(OpenError::SessionEnded) };
        let (mut stream, header) = self.adopt_uni(stream).ok_or(OpenError::SessionEnded)?;
        stream.write_all_chunks(&mut [header]).await.map_err(|_| OpenError::SessionEnded)?;
        Ok(stream)
    }

    /// Opens a stream to send on, if the peer allows another one now. The bytes are its header: whoever writes to it begins with them.
    pub fn try_open_uni(&self) -> Option<(SendStream, Bytes)> {
        self.adopt_uni(self.state.connection.try_open_uni()?.ok()?)
    }

    /// What sends the session's datagrams, for as long as the session lasts.
    pub fn datagrams(&self) -> DatagramSender {
        DatagramSender::new(self.state.clone())
    }

    /// Makes a stream one of the session's, unless that is over.
    fn adopt_uni(&self, mut stream: link::SendStream) -> Option<(SendStream, Bytes)> {
        if self.state.is_over() {
            let _ = stream.reset(code::SESSION_GONE);
            return None;
        }
        let mut header = BytesMut::with_capacity(STREAM_HEADER_BYTES_MAX);
        varint::encode(STREAM_WEBTRANSPORT, &mut header);
        varint::encode(self.state.id, &mut header);
        let key = self.state.insert_sending(stream);
        Some((SendStream::new(self.state.clone(), key), header.freeze()))
    }

    /// The next bidirectional stream that the peer opens, or `None` when the session has ended. Up to 16 wait; the peer
    /// is refused more.
    pub async fn accept_bi(&self) -> Option<(SendStream, RecvStream)> {
        let (send, recv) = self.state.accept_bi().await?;
        Some((SendStream::new(self.state.clone(), send), RecvStream::new(self.state.clone(), recv)))
    }

    /// The next unidirectional stream that the peer opens, or `None` when the session has ended. Up to 16 wait; the
    /// peer is refused more.
    pub async fn accept_uni(&self) -> Option<RecvStream> {
        let recv = self.state.accept_uni().await?;
        Some(RecvStream::new(self.state.clone(), recv))
    }

    /// Resolves when the session has ended, whoever ended it. Independent of the session's borrow, and any number may
    /// wait.
    pub fn closed(&self) -> impl Future<Output = Ended> + 'static + use<> {
        let state = self.state.clone();
        async move {
            poll_fn(|cx| state.poll_over(cx)).await;
            state.ended().unwrap_or(Ended::Lost)
        }
    }

    /// Closes the session: ends its streams, tells the peer, and waits for the peer to have it, a few seconds at most.
    /// The peer learns of it even if the future is dropped. A stream that was finished is still delivered; but a
    /// browser throws away what it hasn't read by then, so wait for [`SendStream::stopped`] before, with a bound.
    pub async fn close(&self, close: Close) {
        self.state.order(|orders| orders.close = Some(close));
        poll_fn(|cx| self.state.poll_finished(cx)).await;
    }

    /// Asks the peer to wind the session up. Browsers of today don't show it to the page.
    pub fn drain(&self) {
        self.state.order(|orders| orders.drain = true);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        self.state.order(|orders| {
            orders.abort = panicking;
            orders.close.get_or_insert_default();
        });
    }
}

/// The type of a unidirectional stream of a session [draft-ietf-webtrans-http3-02 §4.1].
const STREAM_WEBTRANSPORT: VarInt = VarInt::from_u32(0x54);

/// A type of two bytes, and an id.
const STREAM_HEADER_BYTES_MAX: usize = 10;
