//! Who waits for what of a connection.

use std::task::Waker;

use quinn_proto::{Dir, StreamId};

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// The end of the handshake.
    Connected,
    /// The end of the connection.
    Closed,
    /// A stream that the peer opens.
    Accept(Dir),
    /// That the peer allows another stream.
    Open(Dir),
    /// Something to read on a stream.
    Read(StreamId),
    /// Room to write on a stream.
    Write(StreamId),
    /// That the peer has all of a finished stream, or stops it.
    End(StreamId),
    /// Room for datagrams.
    DatagramRoom,
}

/// A list: an idle connection has a handful, and one that has many is as busy with each of them.
#[derive(Debug, Default)]
pub(super) struct Waits {
    all: Vec<Wait>,
    tickets: u32,
}

#[derive(Debug)]
struct Wait {
    on: On,
    /// Whose it is, where several may wait for the same.
    ticket: u32,
    waker: Waker,
}

impl Waits {
    /// Tells the one who waits for this; there is only one at a time.
    pub(super) fn set(&mut self, on: On, waker: &Waker) {
        self.put(on, THE_ONE, waker);
    }

    /// Tells one more who waits for this, with the same ticket as the last time, if there was one. Whoever waits no more is to be
    /// [removed](Self::remove).
    pub(super) fn add(&mut self, on: On, ticket: &mut Option<u32>, waker: &Waker) {
        let ticket = *ticket.get_or_insert_with(|| {
            // As many are never there at a time.
            self.tickets = self.tickets.wrapping_add(1).max(THE_ONE + 1);
            self.tickets
        });
        self.put(on, ticket, waker);
    }

    fn put(&mut self, on: On, ticket: u32, waker: &Waker) {
        match self.all.iter_mut().find(|wait| wait.on == on && wait.ticket == ticket) {
            Some(wait) => wait.waker.clone_from(waker),
            None => self.all.push(Wait { on, ticket, waker: waker.clone() }),
        }
    }

    pub(super) fn remove(&mut self, on: On, ticket: u32) -> Option<Waker> {
        self.take_out(|wait| wait.on == on && wait.ticket == ticket)
    }

    /// Nobody reads or writes a stream any more.
    pub(super) fn remove_the_one(&mut self, on: On) -> Option<Waker> {
        self.remove(on, THE_ONE)
    }

    /// One who waits for this and is to be told.
    pub(super) fn take(&mut self, on: On) -> Option<Waker> {
        self.take_out(|wait| wait.on == on)
    }

    /// One who waits for anything.
    pub(super) fn take_any(&mut self) -> Option<Waker> {
        self.take_out(|_| true)
    }

    fn take_out(&mut self, is_it: impl Fn(&Wait) -> bool) -> Option<Waker> {
        let index = self.all.iter().position(is_it)?;
        Some(self.all.swap_remove(index).waker)
    }
}

/// The ticket of those who need none.
const THE_ONE: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::quic::link::counted::counted;

    #[test]
    fn the_last_who_reads_is_told() {
        let (mut waits, id) = (Waits::default(), StreamId::new(quinn_proto::Side::Client, Dir::Bi, 1));
        let ((first, told_first), (second, told_second)) = (counted(), counted());
        waits.set(On::Read(id), &first);
        waits.set(On::Write(id), &first);
        waits.set(On::Read(id), &second);
        assert!(waits.take(On::End(id)).is_none());
        waits.take(On::Read(id)).unwrap().wake();
        assert!(waits.take(On::Read(id)).is_none());
        assert_eq!((told_first.get(), told_second.get()), (0, 1));
        assert!(waits.take_any().is_some() && waits.take_any().is_none());
    }

    #[test]
    fn all_who_wait_for_the_same_are_told_once_each() {
        let mut waits = Waits::default();
        let (one, told) = counted();
        let mut tickets = [None; 3];
        for _ in 0..2 {
            tickets.iter_mut().for_each(|ticket| waits.add(On::Closed, ticket, &one));
        }
        // One of a task's waits is over, and the others aren't.
        assert!(waits.remove(On::Closed, tickets[1].unwrap()).is_some());
        assert!(waits.remove(On::Closed, tickets[1].unwrap()).is_none());
        while let Some(waker) = waits.take(On::Closed) {
            waker.wake();
        }
        assert_eq!(told.get(), 2);
        assert!(waits.take_any().is_none());
    }
}
