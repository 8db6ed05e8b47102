//! The ground that h3 stands on: its `quic` traits over `link`.
//!
//! What it does that h3 doesn't ask for:
//! - a stream is sorted by its first bytes, and a WebTransport stream never reaches h3;
//! - a request reaches h3 when the head of it is whole: h3 keeps a note for ever of one whose head never comes;
//! - what h3 reads goes through [`Frames`], so that it holds one bounded frame at a time;
//! - a read in flight owns nothing, so that a stream can be stopped at any time;
//! - the sending half is shared with [`Outgoing`], which writes bodies without copying them and sees the peer leave;
//! - a half that is dropped early is reset or stopped with a code of HTTP/3, so that nothing pretends a regular end.

mod own;
mod request;

use std::{
    cell::RefCell,
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming};
use quinn_proto::VarInt;
use tokio::time::{Instant, Sleep};

use own::{Opener, OwnStream};
pub(super) use request::{BidiStream, RecvStream, SendStream};

use super::{
    code,
    connection::Limit,
    frames::{Frames, Kind},
    link,
    outgoing::Outgoing,
    varint::Prefix,
    webtransport::{Claim, PeerStream, Routes},
};

/// A connection as h3 sees it.
pub(super) struct Backend {
    connection: link::Connection,
    opener: Opener,
    settings: Vec<(VarInt, VarInt)>,
    unsorted_bi: VecDeque<Unsorted>,
    unsorted_uni: VecDeque<Unsorted>,
    head_timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    routes: Routes,
    handed: Handed,
    /// Told when a stream comes to a limit.
    reached: Rc<dyn Fn(Limit)>,
}

/// The request stream that h3 was given last, for whom h3 gives the request to: its accept hands out one at a time.
pub(super) type Handed = Rc<RefCell<Option<RequestStream>>>;

/// What h3 has no words for in a request's stream.
pub(super) struct RequestStream {
    pub(super) outgoing: Rc<Outgoing>,
    pub(super) claim: Claim,
}

/// A stream whose first bytes haven't all come yet.
struct Unsorted {
    stream: PeerStream,
    prefix: Prefix,
    /// The first frame of a request.
    frames: Frames,
    input: Bytes,
    deadline: Instant,
}

/// What the first bytes of a stream say.
enum Sort {
    /// It is HTTP/3's, and begins with these.
    Http(Bytes),
    /// It belongs to the session with this id.
    Session(u64),
    /// It is nothing to go on with.
    Refused(VarInt),
}

impl Backend {
    /// `settings` are sent beside those that h3 knows. A stream has `head_timeout` for its first bytes.
    pub(super) fn new(
        connection: link::Connection,
        settings: Vec<(VarInt, VarInt)>,
        head_timeout: Duration,
        routes: Routes,
    ) -> Self {
        Self {
            opener: Opener::new(connection.clone()),
            connection,
            settings,
            unsorted_bi: VecDeque::new(),
            unsorted_uni: VecDeque::new(),
            head_timeout,
            timer: None,
            routes,
            handed: Handed::default(),
            reached: Rc::new(|_| ()),
        }
    }

    /// The same, which tells when a stream comes to a limit.
    pub(super) fn telling(self, reached: impl Fn(Limit) + 'static) -> Self {
        Self { reached: Rc::new(reached), ..self }
    }

    pub(super) fn handed(&self) -> Handed {
        self.handed.clone()
    }

    /// Takes in every stream that the peer has opened: the transport's limit on them is the bound.
    fn take_in(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionErrorIncoming> {
        while let Poll::Ready(opened) = self.connection.poll_accept_bi(cx) {
            let (send, recv) = opened.map_err(connection_error)?;
            // Noted in the order of the ids, before the first bytes tell what it is: a stream that names this one as
            // its session is early, not late.
            self.routes.opened(send.id().into());
            self.unsorted_bi.push_back(Unsorted::new(PeerStream::Bi(send, recv), self.head_timeout));
        }
        while let Poll::Ready(opened) = self.connection.poll_accept_uni(cx) {
            let recv = opened.map_err(connection_error)?;
            self.unsorted_uni.push_back(Unsorted::new(PeerStream::Uni(recv), self.head_timeout));
        }
        Ok(())
    }

    /// Ends what has waited too long for its first bytes or for its session. Ready if there was any.
    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let unsorted = [&self.unsorted_bi, &self.unsorted_uni];
        let heads = unsorted.into_iter().filter_map(|waiting| waiting.front()).map(|waiting| waiting.deadline);
        let Some(next) = heads.chain(self.routes.next_deadline()).min() else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
        if timer.deadline() != next {
            timer.as_mut().reset(next);
        }
        ready!(timer.as_mut().poll(cx));
        let now = Instant::now();
        for waiting in [&mut self.unsorted_bi, &mut self.unsorted_uni] {
            while waiting.front().is_some_and(|waiting| waiting.deadline <= now) {
                let Some(Unsorted { stream, .. }) = waiting.pop_front() else { break };
                if let PeerStream::Bi(send, _) = &stream {
                    self.routes.forget(send.id().into());
                }
                stream.reject(code::H3_REQUEST_INCOMPLETE);
                (self.reached)(Limit::HeadTime);
            }
        }
        self.routes.expire(now);
        Poll::Ready(())
    }

    /// The next stream of that direction that is HTTP/3's, and what it begins with.
    fn poll_sorted(&mut self, cx: &mut Context<'_>, bidirectional: bool) -> Poll<(Unsorted, Bytes)> {
        let waiting = if bidirectional { &mut self.unsorted_bi } else { &mut self.unsorted_uni };
        let mut index = 0;
        while let Some(unsorted) = waiting.get_mut(index) {
            let Poll::Ready(sort) = unsorted.poll_sort(cx) else {
                index += 1;
                continue;
            };
            let Some(sorted) = waiting.remove(index) else { break };
            if waiting.is_empty() {
                // Most connections open what they need as they begin, and nothing more.
                *waiting = VecDeque::new();
            }
            if let Sort::Http(head) = sort {
                return Poll::Ready((sorted, head));
            }
            if let PeerStream::Bi(send, _) = &sorted.stream {
                self.routes.forget(send.id().into());
            }
            match sort {
                Sort::Session(session) if is_session_id(session) => {
                    self.routes.deliver(session, sorted.stream, Instant::now() + self.head_timeout);
                }
                Sort::Refused(code) => {
                    if code == code::H3_EXCESSIVE_LOAD {
                        (self.reached)(Limit::HeadBytes);
                    }
                    sorted.stream.reject(code);
                }
                Sort::Session(_) | Sort::Http(_) => {
                    self.connection.close(code::H3_ID_ERROR, b"a session that can't be")
                }
            }
        }
        Poll::Pending
    }
}

impl quic::Connection<Bytes> for Backend {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        self.take_in(cx)?;
        loop {
            let (Unsorted { stream, frames, .. }, head) = ready!(self.poll_sorted(cx, false));
            let PeerStream::Uni(recv) = stream else { continue };
            let frames = (head[..] == [STREAM_CONTROL]).then_some(frames);
            return Poll::Ready(Ok(RecvStream::new(recv, head, Bytes::new(), frames)));
        }
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream, ConnectionErrorIncoming>> {
        loop {
            self.take_in(cx)?;
            if let Poll::Ready((Unsorted { stream, frames, input, .. }, head)) = self.poll_sorted(cx, true) {
                let PeerStream::Bi(send, recv) = stream else { continue };
                let claim = self.routes.claim(send.id().into());
                let outgoing = Rc::new(Outgoing::new(send));
                self.handed.replace(Some(RequestStream { outgoing: outgoing.clone(), claim }));
                let recv = RecvStream::new(recv, head, input, Some(frames));
                return Poll::Ready(Ok(BidiStream { send: SendStream { outgoing, unwritten: Bytes::new() }, recv }));
            }
            ready!(self.poll_deadlines(cx));
        }
    }

    fn opener(&self) -> Opener {
        self.opener.clone()
    }
}

impl quic::OpenStreams<Bytes> for Backend {
    type BidiStream = BidiStream;
    type SendStream = OwnStream;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<OwnStream, StreamErrorIncoming>> {
        let mut stream = ready!(self.opener.poll_open_send(cx))?;
        // The first stream that h3 opens is the control stream, and it begins with SETTINGS.
        stream.settings = std::mem::take(&mut self.settings);
        Poll::Ready(Ok(stream))
    }

    fn close(&mut self, code: h3::error::Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

impl Unsorted {
    fn new(stream: PeerStream, timeout: Duration) -> Self {
        let kind = match stream {
            PeerStream::Uni(_) => Kind::Control,
            PeerStream::Bi(..) => Kind::Request,
        };
        let deadline = Instant::now() + timeout;
        Self { stream, prefix: Prefix::default(), frames: Frames::new(kind), input: Bytes::new(), deadline }
    }

    fn poll_sort(&mut self, cx: &mut Context<'_>) -> Poll<Sort> {
        let is_request = matches!(self.stream, PeerStream::Bi(..));
        let session_type = if is_request { FRAME_WEBTRANSPORT } else { STREAM_WEBTRANSPORT };
        // No byte more is read than is needed to know whose stream it is: the rest is left for its owner.
        let first = loop {
            match self.prefix.values() {
                (Some(first), _) if first != session_type => break first,
                (Some(_), Some(session)) => return Poll::Ready(Sort::Session(session)),
                _ => {}
            }
            match ready!(self.stream.recv().poll_read(cx, self.prefix.missing())) {
                Ok(Some(bytes)) => self.prefix.extend(&bytes),
                Ok(None) | Err(_) => return Poll::Ready(Sort::Refused(code::H3_REQUEST_INCOMPLETE)),
            }
            self.input = Bytes::copy_from_slice(self.prefix.as_slice());
        };
        if is_request { self.poll_request(cx) } else { Poll::Ready(sort_uni(first)) }
    }

    /// Gathers the head of a request.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Sort> {
        loop {
            match self.frames.next(&mut self.input) {
                Ok(Some(head)) => return Poll::Ready(Sort::Http(head)),
                Ok(None) => {}
                Err(_) => return Poll::Ready(Sort::Refused(code::H3_EXCESSIVE_LOAD)),
            }
            match ready!(self.stream.recv().poll_read(cx, usize::MAX)) {
                Ok(Some(bytes)) => self.input = bytes,
                Ok(None) | Err(_) => return Poll::Ready(Sort::Refused(code::H3_REQUEST_INCOMPLETE)),
            }
        }
    }
}

/// Pushes are not for clients, and what else there may be isn't known [RFC 9114 §6.2].
fn sort_uni(stream_type: u64) -> Sort {
    match u8::try_from(stream_type) {
        Ok(known @ (STREAM_CONTROL | STREAM_QPACK_ENCODER | STREAM_QPACK_DECODER)) => {
            Sort::Http(Bytes::copy_from_slice(&[known]))
        }
        _ => Sort::Refused(code::H3_STREAM_CREATION_ERROR),
    }
}

/// Whether a stream id is that of a request, as a session's is [RFC 9000 §2.1].
fn is_session_id(id: u64) -> bool {
    id.is_multiple_of(4)
}

pub(super) fn connection_error(error: quinn_proto::ConnectionError) -> ConnectionErrorIncoming {
    match error {
        quinn_proto::ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        quinn_proto::ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

/// Types of unidirectional streams [RFC 9114 §6.2.1, RFC 9204 §4.2, draft-ietf-webtrans-http3-02 §4.1].
const STREAM_CONTROL: u8 = 0x00;
const STREAM_QPACK_ENCODER: u8 = 0x02;
const STREAM_QPACK_DECODER: u8 = 0x03;
const STREAM_WEBTRANSPORT: u64 = 0x54;

/// The type of the frame that begins a session's bidirectional stream [draft-ietf-webtrans-http3-02 §4.2].
const FRAME_WEBTRANSPORT: u64 = 0x41;
