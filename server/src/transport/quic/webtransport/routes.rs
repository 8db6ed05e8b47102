//! Which session a stream that the peer opens belongs to.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use quinn_proto::VarInt;
use tokio::time::Instant;

use super::state::State;
use crate::transport::quic::{code, link};

/// The sessions of one connection, and the streams that came before theirs.
#[derive(Clone, Default)]
pub(in super::super) struct Routes(Rc<RefCell<Table>>);

#[derive(Default)]
struct Table {
    /// By their ids, in order. Bounded by the bidirectional streams that the transport allows, and most connections have one: a tree would
    /// set room aside for eleven.
    routes: Vec<(u64, Route)>,
    /// The highest id of a bidirectional stream that the peer has opened: a session above it is yet to come.
    opened_max: Option<u64>,
    early: VecDeque<Early>,
}

enum Route {
    /// It may become a session: its head isn't read, or not answered.
    Undecided,
    Open(Rc<State>),
}

struct Early {
    session: u64,
    stream: PeerStream,
    deadline: Instant,
}

/// A stream that the peer has opened.
pub(in super::super) enum PeerStream {
    Uni(link::RecvStream),
    Bi(link::SendStream, link::RecvStream),
}

impl PeerStream {
    pub(in super::super) fn recv(&mut self) -> &mut link::RecvStream {
        match self {
            Self::Uni(recv) | Self::Bi(_, recv) => recv,
        }
    }

    pub(in super::super) fn reject(self, code: VarInt) {
        // Either fails on a half that has ended by itself, which is as good.
        match self {
            Self::Uni(mut recv) => {
                let _ = recv.stop(code);
            }
            Self::Bi(mut send, mut recv) => {
                let _ = send.reset(code);
                let _ = recv.stop(code);
            }
        }
    }
}

impl Routes {
    /// The peer has opened a bidirectional stream. Called in the order of the ids.
    pub(in super::super) fn opened(&self, id: u64) {
        let mut table = self.0.borrow_mut();
        table.opened_max = table.opened_max.max(Some(id));
        table.set(id, Route::Undecided);
    }

    /// That stream became no session, or its session has ended.
    pub(in super::super) fn forget(&self, id: u64) {
        let orphans = {
            let mut table = self.0.borrow_mut();
            if let Ok(place) = table.place(id) {
                table.routes.remove(place);
            }
            table.take_early(id)
        };
        orphans.into_iter().for_each(|stream| stream.reject(code::SESSION_GONE));
    }

    /// [`forget`](Self::forget) when the claim is dropped.
    pub(in super::super) fn claim(&self, id: u64) -> Claim {
        Claim { routes: self.clone(), id }
    }

    /// Gives a stream to its session, or keeps it until `deadline` for one that may still come.
    pub(in super::super) fn deliver(&self, session: u64, stream: PeerStream, deadline: Instant) {
        let mut table = self.0.borrow_mut();
        let route = table.place(session).ok().map(|place| &table.routes[place].1);
        let refused = match route {
            Some(Route::Open(state)) => state.offer(stream).map_err(|stream| (stream, code::BUFFERED_STREAM_REJECTED)),
            None if table.opened_max.is_some_and(|max| session <= max) => Err((stream, code::SESSION_GONE)),
            _ if table.early.len() >= EARLY_STREAMS_MAX => Err((stream, code::BUFFERED_STREAM_REJECTED)),
            _ => {
                table.early.push_back(Early { session, stream, deadline });
                Ok(())
            }
        };
        drop(table);
        if let Err((stream, code)) = refused {
            stream.reject(code);
        }
    }

    pub(in super::super) fn next_deadline(&self) -> Option<Instant> {
        self.0.borrow().early.front().map(|early| early.deadline)
    }

    /// Refuses the streams whose session hasn't come by `now`.
    pub(in super::super) fn expire(&self, now: Instant) {
        loop {
            let expired = self.0.borrow_mut().early.pop_front_if(|early| early.deadline <= now);
            let Some(Early { stream, .. }) = expired else { break };
            stream.reject(code::BUFFERED_STREAM_REJECTED);
        }
    }

    /// From now on streams go to `state`, beginning with those that wait.
    fn open(&self, id: u64, state: Rc<State>) {
        let early = {
            let mut table = self.0.borrow_mut();
            table.set(id, Route::Open(state.clone()));
            table.take_early(id)
        };
        for stream in early {
            if let Err(stream) = state.offer(stream) {
                stream.reject(code::BUFFERED_STREAM_REJECTED);
            }
        }
    }
}

impl Table {
    /// Where a route is, or would be.
    fn place(&self, id: u64) -> Result<usize, usize> {
        self.routes.binary_search_by_key(&id, |(id, _)| *id)
    }

    fn set(&mut self, id: u64, route: Route) {
        match self.place(id) {
            Ok(place) => self.routes[place].1 = route,
            Err(place) => self.routes.insert(place, (id, route)),
        }
    }

    fn take_early(&mut self, id: u64) -> Vec<PeerStream> {
        let (taken, kept): (VecDeque<Early>, _) = self.early.drain(..).partition(|early| early.session == id);
        self.early = kept;
        taken.into_iter().map(|early| early.stream).collect()
    }
}

/// A request's place in the table. When it is dropped, streams find no session there any more.
pub(in super::super) struct Claim {
    routes: Routes,
    id: u64,
}

impl Claim {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn open(&self, state: Rc<State>) {
        self.routes.open(self.id, state);
    }

    /// Gives the place up before the claim is dropped.
    pub(super) fn release(&self) {
        self.routes.forget(self.id);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.routes.forget(self.id);
    }
}

/// Streams that may wait for their sessions, a connection. Each can take a stream's receive window; browsers send none,
/// as they wait for the answer to CONNECT.
pub(in super::super) const EARLY_STREAMS_MAX: usize = 8;
