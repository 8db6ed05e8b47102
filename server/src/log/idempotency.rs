//! Idempotency keys: a publisher that tries again after a lost answer makes no second event.
//!
//! A log keeps a key as long as [`KeyWindow`] says, and with the event: both are stored, or neither.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use fanwire_protocol::{Cursor, Draft, Epoch, Seq};
use sha2::{Digest as _, Sha256};

use super::Appended;

/// A publisher's key for one event, and what it published under it. Digests: a key of any length costs the same, and who reads the log can't
/// use one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Whose key it is, and which.
    pub(super) name: KeyDigest,
    /// The event, without the time.
    pub(super) event: KeyDigest,
    /// When it was given, in milliseconds since the Unix epoch, if not when the hub took the event.
    pub(super) given_ms: Option<u64>,
}

/// Half of a SHA-256: nobody finds a second key or event with the same one.
pub(super) type KeyDigest = [u8; 16];

/// How long keys are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyWindow {
    /// No key longer than this.
    pub age_max: Duration,
    /// At most so many keys; the oldest go first. A key costs some 100 bytes.
    pub keys_max: usize,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyUse {
    pub(super) event: KeyDigest,
    pub(super) seq: Seq,
    pub(super) at_ms: u64,
}

impl KeyUse {
    /// What a publisher is told that gives the key again.
    pub(super) fn answer(self, key: &IdempotencyKey, epoch: Epoch) -> Appended {
        if self.event == key.event { Appended::Repeated(Cursor { epoch, seq: self.seq }) } else { Appended::KeyReused }
    }
}

/// The keys that a memory log keeps.
#[derive(Debug)]
pub(super) struct RecentKeys {
    window: KeyWindow,
    keys: HashMap<KeyDigest, KeyUse, ahash::RandomState>,
    order: VecDeque<KeyDigest>,
}

impl IdempotencyKey {
    /// The key that `scope`, a publisher, gives to an event. `line`: which event of a batch that has one key for all.
    pub fn new(scope: &str, key: &str, line: Option<u64>, draft: &Draft) -> Self {
        let mut name = Fields::default();
        name.put(scope.as_bytes());
        name.put(key.as_bytes());
        name.put(&line.map(u64::to_be_bytes).unwrap_or_default());
        name.put(&[u8::from(line.is_some())]);
        let mut event = Fields::default();
        event.put(&(draft.topics().len() as u64).to_be_bytes());
        draft.topics().iter().for_each(|topic| event.put(topic.as_str().as_bytes()));
        for name in [draft.id.as_ref().map(|id| id.as_str()), draft.kind.as_ref().map(|kind| kind.as_str())] {
            event.put(&[u8::from(name.is_some())]);
            event.put(name.unwrap_or_default().as_bytes());
        }
        event.put(&draft.retry.map_or(u64::MAX, |retry| retry.as_millis() as u64).to_be_bytes());
        event.put(&[u8::from(draft.private), u8::from(draft.data.is_binary())]);
        event.put(draft.data.bytes());
        Self { name: name.digest(), event: event.digest(), given_ms: None }
    }

    /// The same, given at this time, and not when the hub took the event: of an event that was another log's before.
    pub fn given_at(self, given_ms: u64) -> Self {
        Self { given_ms: Some(given_ms), ..self }
    }
}

impl Default for KeyWindow {
    /// A day, 250,000 keys.
    fn default() -> Self {
        Self { age_max: Duration::from_secs(24 * 60 * 60), keys_max: 250_000 }
    }
}

impl RecentKeys {
    /// None yet. `seed` keys the hash map.
    pub(super) fn new(window: KeyWindow, seed: u64) -> Self {
        let hasher = ahash::RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 3);
        Self { window, keys: HashMap::with_hasher(hasher), order: VecDeque::new() }
    }

    pub(super) fn get(&self, key: &IdempotencyKey) -> Option<KeyUse> {
        self.keys.get(&key.name).copied()
    }

    pub(super) fn insert(&mut self, key: &IdempotencyKey, seq: Seq, at_ms: u64) {
        self.keys.insert(key.name, KeyUse { event: key.event, seq, at_ms });
        self.order.push_back(key.name);
        while self.order.len() > self.window.keys_max {
            self.forget_oldest();
        }
    }

    /// Lets go of a bounded number of keys that are too old. True if there may be more.
    pub(super) fn expire(&mut self, now_ms: u64) -> bool {
        let oldest = now_ms.saturating_sub(self.window.age_max.as_millis() as u64);
        for _ in 0..EXPIRE_MAX {
            match self.order.front().and_then(|name| self.keys.get(name)) {
                Some(known) if known.at_ms < oldest => self.forget_oldest(),
                _ => return false,
            }
        }
        true
    }

    fn forget_oldest(&mut self) {
        if let Some(name) = self.order.pop_front() {
            self.keys.remove(&name);
        }
    }
}

/// Fields, each behind its length, so that no two lists of fields give the same bytes.
#[derive(Default)]
struct Fields(Sha256);

impl Fields {
    fn put(&mut self, field: &[u8]) {
        self.0.update((field.len() as u64).to_be_bytes());
        self.0.update(field);
    }

    fn digest(self) -> KeyDigest {
        let digest: [u8; 32] = self.0.finalize().into();
        let (half, _) = digest.split_first_chunk().expect("32 bytes have 16");
        *half
    }
}

/// How many keys are forgotten at a time, while publishers wait.
pub(super) const EXPIRE_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use fanwire_protocol::{Data, EventId, EventType, Topic};

    use super::*;

    fn draft(topics: &[&str], text: &str) -> Draft {
        Draft::new(topics.iter().map(|topic| Topic::new(topic).unwrap()).collect(), Data::text(text)).unwrap()
    }

    #[test]
    fn keys_differ_by_scope_key_and_line_and_events_by_everything_that_is_published() {
        let event = draft(&["a"], "x");
        let name = |scope, key, line| IdempotencyKey::new(scope, key, line, &event).name;
        let names = [
            name("", "k", None),
            name("k", "", None),
            name("", "k", Some(0)),
            name("", "k", Some(1)),
            name("s", "k", None),
            name("", "sk", None),
        ];
        for (i, one) in names.iter().enumerate() {
            assert!(!names[..i].contains(one), "{i}");
        }
        let digest = |draft: &Draft| IdempotencyKey::new("", "k", None, draft).event;
        let mut others = vec![draft(&["a"], "y"), draft(&["a", "x"], ""), draft(&["b"], "x")];
        let mut add = |change: fn(&mut Draft)| {
            let mut other = event.clone();
            change(&mut other);
            others.push(other);
        };
        add(|draft| draft.private = true);
        add(|draft| draft.id = Some(EventId::new("x").unwrap()));
        add(|draft| draft.kind = Some(EventType::new("x").unwrap()));
        add(|draft| draft.retry = Some(Duration::from_millis(1)));
        add(|draft| draft.data = Data::Binary("x".into()));
        for other in others {
            assert_ne!(digest(&other), digest(&event), "{other:?}");
        }
        assert_eq!(digest(&event.clone()), digest(&event));
    }

    #[test]
    fn keys_go_by_number_and_by_age() {
        let window = KeyWindow { age_max: Duration::from_millis(100), keys_max: 2 };
        let mut keys = RecentKeys::new(window, 1);
        let key = |name: &str| IdempotencyKey::new("", name, None, &draft(&["a"], "x"));
        for (seq, name) in ["a", "b", "c"].into_iter().enumerate() {
            keys.insert(&key(name), Seq(seq as u64 + 1), seq as u64 * 100);
        }
        let known = |keys: &RecentKeys, name| keys.get(&key(name)).map(|known| known.seq.0);
        assert_eq!((known(&keys, "a"), known(&keys, "b"), known(&keys, "c")), (None, Some(2), Some(3)));
        assert!(!keys.expire(200));
        assert_eq!(known(&keys, "b"), Some(2));
        keys.expire(201);
        assert_eq!((known(&keys, "b"), known(&keys, "c")), (None, Some(3)));
    }
}
