//! Events that go out together, as one piece for all who get the same.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use fanwire_protocol::Seq;

use crate::core::Item;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// As the text of an event stream.
    Text {
        /// With what `control=1` adds.
        control: bool,
        /// As a chunk of HTTP/1.1's chunked coding.
        chunked: bool,
    },
    /// As frames, the first of which says that it comes after this event. Each of the others comes after the one before it.
    Frames {
        /// Its number.
        after: Seq,
    },
}

/// The pieces that were made last. On a walk most connections get the same, and so do feeds that read history one behind the other.
#[derive(Debug)]
pub(super) struct Joined {
    pieces: HashMap<Key, Piece, ahash::RandomState>,
    /// In the order in which they were made.
    order: VecDeque<Key>,
    bytes: usize,
}

/// What is nearly always enough to tell pieces apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    form: Form,
    first: Seq,
    last: Seq,
    count: usize,
}

#[derive(Debug)]
struct Piece {
    seqs: Box<[Seq]>,
    bytes: Bytes,
    age: u32,
}

impl Default for Joined {
    fn default() -> Self {
        // There are few, whatever they are.
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        Self { pieces: HashMap::with_hasher(hasher), order: VecDeque::new(), bytes: 0 }
    }
}

impl Joined {
    /// The piece that these items are; `None` where they aren't all events, or `join`, which makes it, gives none.
    pub(super) fn piece(&mut self, form: Form, items: &[Item], join: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        let key = Key { form, first: seq(items.first()?)?, last: seq(items.last()?)?, count: items.len() };
        let known = self.pieces.get_mut(&key);
        if let Some(piece) = known
            && items.iter().map(seq).eq(piece.seqs.iter().copied().map(Some))
        {
            piece.age = 0;
            return Some(piece.bytes.clone());
        }
        let seqs = items.iter().map(seq).collect::<Option<_>>()?;
        let bytes = join()?;
        self.keep(key, Piece { seqs, bytes: bytes.clone(), age: 0 });
        Some(bytes)
    }

    fn keep(&mut self, key: Key, piece: Piece) {
        self.bytes += piece.bytes.len();
        match self.pieces.insert(key, piece) {
            Some(other) => self.bytes -= other.bytes.len(),
            None => self.order.push_back(key),
        }
        while self.order.len() > PIECES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front().and_then(|key| self.pieces.remove(&key)) else { return };
            self.bytes -= oldest.bytes.len();
        }
    }

    /// Time goes on: what nobody has got in a while is let go of.
    pub(super) fn age(&mut self) {
        if self.order.is_empty() {
            return;
        }
        self.pieces.retain(|_, piece| {
            piece.age += 1;
            piece.age < AGE_MAX
        });
        self.order.retain(|key| self.pieces.contains_key(key));
        self.bytes = self.pieces.values().map(|piece| piece.bytes.len()).sum();
        if self.pieces.is_empty() {
            *self = Self::default();
        }
    }
}

fn seq(item: &Item) -> Option<Seq> {
    if let Item::Event { event, .. } = item { Some(event.seq()) } else { None }
}

/// How much is kept, a shard. Who reads slowly holds what it was given.
const PIECES_MAX: usize = 128;
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// A piece that nobody has got for so many ticks is let go of.
const AGE_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use std::{rc::Rc, sync::Arc};

    use fanwire_protocol::{Cursor, Data, Draft, Epoch, Event, Topic, message::Changed};

    use super::*;
    use crate::core::Committed;

    fn events(seqs: &[u64]) -> Vec<Item> {
        let event = |&seq: &u64| {
            let cursor = Cursor { epoch: Epoch::from_bits(1), seq: Seq(seq) };
            let draft = Draft::new(vec![Topic::new("a").unwrap()], Data::text("x")).unwrap();
            let event = Rc::new(Arc::new(Committed::new(Event { cursor, at_ms: 0, draft })));
            Item::Event { prev: Seq(seq - 1), event, lossy: false }
        };
        seqs.iter().map(event).collect()
    }

    const TEXT: Form = Form::Text { control: false, chunked: true };

    fn get(joined: &mut Joined, form: Form, seqs: &[u64], made: &'static [u8]) -> Bytes {
        joined.piece(form, &events(seqs), || Some(Bytes::from_static(made))).unwrap()
    }

    #[test]
    fn who_gets_the_same_gets_the_same_piece() {
        let mut joined = Joined::default();
        assert_eq!(get(&mut joined, TEXT, &[1, 2, 4], b"first"), "first");
        assert_eq!(get(&mut joined, TEXT, &[1, 2, 4], b"not made"), "first");
        assert_eq!(get(&mut joined, Form::Frames { after: Seq(0) }, &[1, 2, 4], b"frames"), "frames");
        assert_eq!(get(&mut joined, Form::Frames { after: Seq(9) }, &[1, 2, 4], b"others"), "others");
        assert_eq!(get(&mut joined, TEXT, &[1, 2, 4], b"not made"), "first");
        // As long, with the same ends.
        assert_eq!(get(&mut joined, TEXT, &[1, 3, 4], b"second"), "second");
        assert_eq!(get(&mut joined, TEXT, &[1, 2, 4], b"again"), "again");
        assert_eq!((joined.pieces.len(), joined.order.len(), joined.bytes), (3, 3, 5 + 6 + 6));
    }

    #[test]
    fn what_is_not_all_events_is_no_piece() {
        let mut joined = Joined::default();
        for at in 0..3 {
            let mut items = events(&[1, 2]);
            items.insert(at, Item::Changed(Changed { request_id: 1, from_seq: 1 }));
            assert_eq!(joined.piece(TEXT, &items, || unreachable!("not all of them are events")), None);
        }
        assert_eq!(joined.piece(TEXT, &[], || unreachable!("there is nothing")), None);
        assert_eq!(joined.piece(TEXT, &events(&[1, 2]), || None), None);
        assert!(joined.pieces.is_empty() && joined.order.is_empty());
    }

    #[test]
    fn the_oldest_go_first_and_those_that_nobody_gets() {
        let mut joined = Joined::default();
        for seq in 1..=PIECES_MAX as u64 + 1 {
            get(&mut joined, TEXT, &[seq, seq + 1], b"piece");
        }
        assert_eq!((joined.pieces.len(), joined.bytes), (PIECES_MAX, PIECES_MAX * 5));
        assert_eq!(get(&mut joined, TEXT, &[1, 2], b"anew"), "anew");
        for _ in 0..AGE_MAX {
            joined.age();
            assert_eq!(get(&mut joined, TEXT, &[1, 2], b"not made"), "anew");
        }
        assert_eq!((joined.pieces.len(), joined.order.len(), joined.bytes), (1, 1, 4));
        for _ in 0..AGE_MAX {
            joined.age();
        }
        assert_eq!((joined.pieces.len(), joined.order.len(), joined.bytes), (0, 0, 0));
    }
}
