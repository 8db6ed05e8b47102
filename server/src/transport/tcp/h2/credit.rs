//! What a feed may send past h2.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

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
    /// That is given back as soon as it is counted.
    is_unwanted: Cell<bool>,
    unspent: Cell<usize>,
    /// What h2 is to be given back, by stream.
    returned: RefCell<SmallVec<[(u32, usize); 1]>>,
    /// How much else the connection has to send, which may need what the client takes.
    others: Cell<usize>,
}

/// Something that is sent besides a feed: while it is there, nothing is sent past h2, which shares out what the client takes.
#[derive(Debug)]
pub(super) struct Besides(Rc<Credit>);

impl Credit {
    /// Whether h2 may be given something for a stream: not if it has yet to send what it was given before.
    pub(super) fn may_ask(&self, stream: u32) -> bool {
        self.others.get() == 0 && !self.is_coming() && (self.unspent.get() == 0 || self.stream.get() == stream)
    }

    /// h2 is given so much for a stream.
    pub(super) fn ask(&self, stream: u32, bytes: usize) {
        self.stream.set(stream);
        self.coming.set(bytes);
        self.is_unwanted.set(false);
    }

    pub(super) fn is_coming(&self) -> bool {
        self.coming.get() > 0
    }

    /// Whether a frame of data is one that h2 was given to count.
    pub(super) fn is_asked_by(&self, stream: u32) -> bool {
        self.is_coming() && self.stream.get() == stream
    }

    /// h2 has counted so much. True if that is given back.
    pub(super) fn counted(&self, bytes: usize) -> bool {
        self.coming.set(self.coming.get().saturating_sub(bytes));
        self.unspent.set(self.unspent.get() + bytes);
        self.is_unwanted.get() && self.give_back()
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

    /// Gives back what wasn't spent, and what is coming once it has. True if there was something.
    pub(super) fn give_back(&self) -> bool {
        self.is_unwanted.set(true);
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

impl Besides {
    /// What credit there is has been given back.
    pub(super) fn new(credit: Rc<Credit>) -> Self {
        credit.others.set(credit.others.get() + 1);
        Self(credit)
    }
}

impl Drop for Besides {
    fn drop(&mut self) {
        self.0.others.set(self.0.others.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_credit_was_given_back_is_given_back_too() {
        let credit = Credit::default();
        credit.ask(1, 100);
        assert!(!credit.counted(60) && credit.of(1) == 60 && !credit.may_ask(1));
        assert!(credit.give_back());
        assert!(credit.counted(40) && credit.of(1) == 0);
        assert_eq!((credit.take_returned(), credit.take_returned()), (Some((1, 100)), None));
        credit.ask(3, 100);
        assert!(!credit.counted(100) && credit.of(3) == 100 && !credit.may_ask(5));
    }

    #[test]
    fn nothing_is_asked_for_while_something_else_is_sent() {
        let credit = Rc::new(Credit::default());
        let others = [Besides::new(credit.clone()), Besides::new(credit.clone())];
        for other in others {
            assert!(!credit.may_ask(1));
            drop(other);
        }
        assert!(credit.may_ask(1));
    }
}
