//! What waits in a feed.

use std::collections::VecDeque;

use super::Item;

/// Items in order. One alone takes no memory of its own: most of the time that is what waits, in thousands of feeds at once.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// None only where nothing waits.
    first: Option<Item>,
    rest: VecDeque<Item>,
}

impl Queue {
    pub(super) fn push(&mut self, item: Item) {
        match self.first {
            None => self.first = Some(item),
            Some(_) => {
                if self.rest.len() == self.rest.capacity() {
                    self.rest.reserve(if self.rest.capacity() == 0 { AT_FIRST } else { THEN });
                }
                self.rest.push_back(item);
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let first = self.first.take();
        self.first = self.rest.pop_front();
        if self.rest.is_empty() && self.rest.capacity() > 0 {
            // An idle feed keeps no buffer: there may be tens of thousands.
            self.rest = VecDeque::new();
        }
        first
    }

    /// Takes all, in one go.
    pub(super) fn drain_into(&mut self, out: &mut Vec<Item>) {
        out.extend(self.first.take());
        out.extend(std::mem::take(&mut self.rest));
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

/// What is set aside when a second item waits: in a burst more follow, and growing from nothing costs as much as all of them.
const AT_FIRST: usize = 16;
/// And when these are full: as many as wait at the most, usually.
const THEN: usize = 112;

#[cfg(test)]
mod tests {
    use fanwire_protocol::message::Changed;

    use super::*;

    fn number(item: Item) -> u64 {
        let Item::Changed(changed) = item else { panic!("{item:?}") };
        changed.request_id
    }

    #[test]
    fn what_goes_in_comes_out_in_order_however_it_is_mixed() {
        let (mut queue, mut pushed, mut popped) = (Queue::default(), 0, 0);
        for step in [1, 3, 2, 0, 5, 1] {
            for _ in 0..step {
                queue.push(Item::Changed(Changed { request_id: pushed, from_seq: 0 }));
                pushed += 1;
            }
            for _ in 0..2 {
                let expected = (popped < pushed).then_some(popped);
                assert_eq!(queue.pop().map(number), expected);
                popped += u64::from(expected.is_some());
            }
            assert_eq!(queue.len() as u64, pushed - popped);
            assert_eq!(queue.is_empty(), pushed == popped);
        }
        let mut rest = Vec::new();
        queue.drain_into(&mut rest);
        assert_eq!(rest.into_iter().map(number).collect::<Vec<_>>(), (popped..pushed).collect::<Vec<_>>());
        assert!(queue.is_empty());
        assert_eq!(queue.rest.capacity(), 0);
    }
}
