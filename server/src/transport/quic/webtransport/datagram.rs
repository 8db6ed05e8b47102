//! The datagrams of a session.

use std::{
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use fanwire_protocol::frame::{put_varint, varint_bytes};
use thiserror::Error;

use super::state::State;
use crate::transport::quic::link::SendDatagramError;

/// Sends a session's datagrams, one after the other.
pub struct DatagramSender {
    state: Rc<State>,
    /// The one that waits for room.
    waiting: Option<Waiting>,
}

type Waiting = Pin<Box<dyn Future<Output = Result<(), SendDatagramError>>>>;

/// Why a datagram wasn't sent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DatagramError {
    /// The path has become narrower, or the peer takes no datagrams. This was in it.
    #[error("the datagram is too long for the path")]
    TooLong(Bytes),
    /// The session has ended, or the connection with it.
    #[error("the session has ended")]
    SessionEnded,
}

impl DatagramSender {
    pub(super) fn new(state: Rc<State>) -> Self {
        Self { state, waiting: None }
    }

    /// The most bytes that a datagram takes now, between what [`DatagramSender::begin`] puts into it and its end; 0 where the peer takes
    /// none. It changes with the path.
    pub fn bytes_max(&self) -> usize {
        let whole = self.state.connection.max_datagram_size().unwrap_or(0);
        whole.saturating_sub(varint_bytes(self.quarter_id()))
    }

    /// A datagram with nothing in it but the session that it is for. [RFC 9297 §2.1]
    pub fn begin(&self, bytes: usize) -> BytesMut {
        let mut datagram = BytesMut::with_capacity(varint_bytes(self.quarter_id()) + bytes);
        put_varint(&mut datagram, self.quarter_id());
        datagram
    }

    /// Sends a datagram, once those before it leave room: what is kept of them is some kilobytes. While it is pending it is to be called again
    /// with the same one. A datagram that has no place in a packet any more comes back, without the session that it was for.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, datagram: &Bytes) -> Poll<Result<(), DatagramError>> {
        if self.state.is_over() {
            return Poll::Ready(Err(DatagramError::SessionEnded));
        }
        let sent = match &mut self.waiting {
            Some(waiting) => waiting.as_mut().poll(cx),
            None => self.poll_begin(cx, datagram),
        };
        sent.map(|sent| {
            self.waiting = None;
            match sent {
                Ok(()) => Ok(()),
                Err(SendDatagramError::ConnectionLost(_)) => Err(DatagramError::SessionEnded),
                Err(_) => Err(DatagramError::TooLong(datagram.slice(varint_bytes(self.quarter_id())..))),
            }
        })
    }

    /// Most find room at once, and nothing is allocated for their wait.
    fn poll_begin(&mut self, cx: &mut Context<'_>, datagram: &Bytes) -> Poll<Result<(), SendDatagramError>> {
        let connection = &self.state.connection;
        let at_once =
            pin!(connection.send_datagram_wait(datagram.clone())).poll(&mut Context::from_waker(Waker::noop()));
        if at_once.is_ready() {
            return at_once;
        }
        let (connection, datagram) = (connection.clone(), datagram.clone());
        let waiting = self.waiting.insert(Box::pin(async move { connection.send_datagram_wait(datagram).await }));
        waiting.as_mut().poll(cx)
    }

    fn quarter_id(&self) -> u64 {
        self.state.id.into_inner() / 4
    }
}
