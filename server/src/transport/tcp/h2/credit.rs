//! What a feed may send past h2.

use std::cell::{Cell, RefCell};

use smallvec::SmallVec;

/// How much a feed may send that h2 has counted as sent already. h2 alone knows what the client takes, on a stream and in all, so it is given
/// bytes that stand for what comes later: they are counted, and never written. What isn't used of them is given back, as if the client had
/// said that it takes so much more.
///
/// So h2 never thinks that it may send more than is the case, and what a feed sends past it costs none of its work.
#[derive(Debug, Default)]
pub(super) struct Credit {
    /// Whose it is.
    stream: Cell<u32>,
    /// What h2 was given and hasn't sent yet.
    coming: Cell<usize>,
    unspent: Cell<usize>,
    /// What h2 is to be given back, by stream.
    returned: RefCell<SmallVec<[(u32, usize); 1]>>,
}

impl Credit {
    /// h2 is given so much for a stream. False if it has yet to send what it was given before.
    pub(super) fn ask(&self, stream: u32, bytes: usize) -> bool {
        if self.is_coming() || self.unspent.get() > 0 && self.stream.get() != stream {
            return false;
        }
        self.stream.set(stream);
        self.coming.set(bytes);
        true
    }

    pub(super) fn is_coming(&self) -> bool {
        self.coming.get() > 0
    }

    /// Whether a frame of data is one that h2 was given to count.
    pub(super) fn is_asked_by(&self, stream: u32) -> bool {
        self.is_coming() && self.stream.get() == stream
    }

    /// h2 has counted so much.
    pub(super) fn counted(&self, bytes: usize) {
        self.coming.set(self.coming.get().saturating_sub(bytes));
        self.unspent.set(self.unspent.get() + bytes);
    }

    /// h2 never will.
    pub(super) fn withdrawn(&self, bytes: usize) {
        self.coming.set(self.coming.get().saturating_sub(bytes));
    }

    /// What a stream may send past h2.
    pub(super) fn of(&self, stream: u32) -> usize {
        if self.stream.get() == stream { self.unspent.get() } else { 0 }
    }

    pub(super) fn spend(&self, bytes: usize) {
        self.unspent.set(self.unspent.get() - bytes);
    }

    /// Gives back what wasn't spent. True if there was something.
    pub(super) fn give_back(&self) -> bool {
        let (stream, unspent) = (self.stream.get(), self.unspent.take());
        if unspent == 0 {
            return false;
        }
        let mut returned = self.returned.borrow_mut();
        match returned.iter_mut().find(|(of, _)| *of == stream) {
            Some((_, bytes)) => *bytes += unspent,
            None => returned.push((stream, unspent)),
        }
        true
    }

    /// What is given back.
    pub(super) fn take_returned(&self) -> Option<(u32, usize)> {
        self.returned.borrow_mut().pop()
    }
}
