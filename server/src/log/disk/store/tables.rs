//! What one transaction changes.

use fanwire_protocol::{Cursor, Draft, Epoch, EventId, Seq};
use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::super::{
    classes,
    panics::{Held, hold},
    record,
};
use super::{
    Failure,
    schema::{
        BACKUP_AT, CLASSES, EVENTS, EVICTED_USE, IDS, KEY_ORDER, KEYS, META, NAMES, STATS, Stat, StoredKey, TOPICS,
        class_range, get,
    },
};
use crate::log::{
    Retention,
    idempotency::{IdempotencyKey, KeyUse},
};

/// The tables, to be written.
pub(super) struct Tables<'t> {
    pub(super) meta: Held<'t, &'static str, u64>,
    events: Held<'t, u64, &'static [u8]>,
    topics: Held<'t, (&'static str, u64), ()>,
    ids: Held<'t, (&'static str, u64), ()>,
    classes: Held<'t, (u32, u64), u64>,
    stats: Held<'t, u32, Stat>,
    names: Held<'t, u32, &'static str>,
    keys: Held<'t, &'static [u8; 16], StoredKey>,
    key_order: Held<'t, u64, (&'static [u8; 16], u64)>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, Failure> {
        Ok(Self {
            meta: hold(transaction, META)?,
            events: hold(transaction, EVENTS)?,
            topics: hold(transaction, TOPICS)?,
            ids: hold(transaction, IDS)?,
            classes: hold(transaction, CLASSES)?,
            stats: hold(transaction, STATS)?,
            names: hold(transaction, NAMES)?,
            keys: hold(transaction, KEYS)?,
            key_order: hold(transaction, KEY_ORDER)?,
        })
    }

    pub(super) fn set(&mut self, key: &'static str, value: u64) -> Result<(), Failure> {
        self.meta.insert(key, value)?;
        Ok(())
    }

    fn stat(&self, class: usize) -> Result<Stat, Failure> {
        Ok(self.stats.get(class as u32)?.map(|stat| stat.value()).unwrap_or_default())
    }

    fn change_stat(&mut self, class: usize, change: impl FnOnce(&mut Stat)) -> Result<(), Failure> {
        let mut stat = self.stat(class)?;
        change(&mut stat);
        self.stats.insert(class as u32, stat)?;
        Ok(())
    }

    /// Sorts the events anew where the classes aren't those of the last run. What was evicted before may have been of any class:
    /// each floor becomes the highest.
    pub(super) fn adopt(&mut self, retention: &Retention) -> Result<(), Failure> {
        let wanted: Vec<String> = retention.classes().iter().map(classes::encode).collect();
        let known: Result<Vec<String>, Failure> =
            self.names.iter()?.map(|entry| Ok(entry?.1.value().to_owned())).collect();
        let known = known?;
        if classes::take_the_same(&known, retention) {
            if known != wanted {
                for (class, text) in wanted.iter().enumerate() {
                    self.names.insert(class as u32, text.as_str())?;
                }
            }
            return Ok(());
        }
        let stats: Result<Vec<Stat>, Failure> = self.stats.iter()?.map(|entry| Ok(entry?.1.value())).collect();
        let floor = stats?.into_iter().map(|(_, _, floor)| floor).max().unwrap_or(0);
        self.names.retain(|_, _| false)?;
        self.stats.retain(|_, _| false)?;
        self.classes.retain(|_, _| false)?;
        let mut rotten: Vec<u64> = Vec::new();
        let mut stats = vec![(0, 0, floor); wanted.len()];
        let epoch = Epoch::from_bits(0);
        for entry in self.events.iter()? {
            let (seq, record) = entry?;
            let cursor = Cursor { epoch, seq: Seq(seq.value()) };
            let Some(event) = record::decode(cursor, record.value()) else {
                rotten.push(seq.value());
                continue;
            };
            let (class, cost) = (retention.class_of(event.draft.canonical()), event.draft.cost() as u64);
            self.classes.insert((class as u32, seq.value()), cost)?;
            stats[class].0 += 1;
            stats[class].1 += cost;
        }
        for (class, (name, stat)) in wanted.iter().zip(stats).enumerate() {
            self.names.insert(class as u32, name.as_str())?;
            self.stats.insert(class as u32, stat)?;
        }
        for seq in rotten {
            self.events.remove(seq)?;
            self.raise_floors(seq, retention)?;
        }
        Ok(())
    }

    /// The newest number that was shown to anyone. If the last run didn't end in order and hadn't synced everything, what was lost
    /// is a gap for every class.
    pub(super) fn recover(&mut self, retention: &Retention) -> Result<Seq, Failure> {
        let head = get(&*self.meta, "head")?.unwrap_or(0);
        let reserved = get(&*self.meta, "reserved")?.unwrap_or(0);
        if reserved <= head {
            return Ok(Seq(head));
        }
        for class in 0..retention.classes().len() {
            self.change_stat(class, |(_, _, floor)| *floor = reserved)?;
        }
        self.set("head", reserved)?;
        self.set("reserved", 0)?;
        Ok(Seq(reserved))
    }

    /// A backup's original may have gone on, and so may another log that the same backup was made to: the numbers go on far beyond theirs, at
    /// random, and the stretch between is a gap for every class.
    pub(super) fn leave_original(&mut self, head: Seq, retention: &Retention) -> Result<Seq, Failure> {
        if self.meta.remove(BACKUP_AT)?.is_none() {
            return Ok(head);
        }
        let entropy = getrandom::u64().map_err(|error| Failure::Io(std::io::Error::other(error.to_string())))?;
        let head = Seq(head.0 + BACKUP_JUMP + entropy % BACKUP_JUMP);
        for class in 0..retention.classes().len() {
            self.change_stat(class, |(_, _, floor)| *floor = head.0)?;
        }
        self.set("head", head.0)?;
        Ok(head)
    }

    pub(super) fn insert(&mut self, seq: Seq, class: usize, draft: &Draft, at_ms: u64) -> Result<(), Failure> {
        self.events.insert(seq.0, record::encode(seq, draft, at_ms).as_slice())?;
        for topic in draft.topics() {
            self.topics.insert((topic.as_str(), seq.0), ())?;
        }
        if let Some(id) = &draft.id {
            self.ids.insert((id.as_str(), seq.0), ())?;
        }
        let cost = draft.cost() as u64;
        self.classes.insert((class as u32, seq.0), cost)?;
        self.change_stat(class, |(events, bytes, _)| {
            *events += 1;
            *bytes += cost;
        })
    }

    pub(super) fn key(&self, key: &IdempotencyKey) -> Result<Option<KeyUse>, Failure> {
        let Some(known) = self.keys.get(&key.name)? else { return Ok(None) };
        let (event, seq, at_ms) = known.value();
        Ok(Some(KeyUse { event: *event, seq: Seq(seq), at_ms }))
    }

    pub(super) fn insert_key(
        &mut self,
        key: &IdempotencyKey,
        seq: Seq,
        at_ms: u64,
        keys_max: usize,
    ) -> Result<(), Failure> {
        self.keys.insert(&key.name, (&key.event, seq.0, at_ms))?;
        self.key_order.insert(seq.0, (&key.name, at_ms))?;
        // A limit that was lowered is reached over the next appends.
        for _ in 0..EVICT_MAX {
            if self.key_order.len()? <= keys_max as u64 {
                break;
            }
            self.forget_oldest_key()?;
        }
        Ok(())
    }

    /// Its event's number, and its time.
    pub(super) fn oldest_key(&self) -> Result<Option<(u64, u64)>, Failure> {
        Ok(self.key_order.first()?.map(|(seq, key)| (seq.value(), key.value().1)))
    }

    pub(super) fn forget_oldest_key(&mut self) -> Result<(), Failure> {
        if let Some((_, key)) = self.key_order.pop_first()? {
            self.keys.remove(key.value().0)?;
        }
        Ok(())
    }

    /// Evicts what is beyond the class's limits, but only so much at a time that no publisher waits for long: a class whose
    /// limits were lowered gets there over the next appends.
    pub(super) fn enforce(&mut self, class: usize, retention: &Retention, epoch: Epoch) -> Result<(), Failure> {
        let limits = &retention.classes()[class];
        for _ in 0..EVICT_MAX {
            let (events, bytes, _) = self.stat(class)?;
            if events <= limits.events_max as u64 && bytes <= limits.bytes_max as u64 {
                return Ok(());
            }
            self.evict_oldest(class, retention, epoch)?;
        }
        Ok(())
    }

    pub(super) fn oldest_at(&self, class: usize, epoch: Epoch) -> Result<Option<u64>, Failure> {
        let Some(seq) = self.oldest(class)? else { return Ok(None) };
        let cursor = Cursor { epoch, seq: Seq(seq) };
        let event = self.events.get(seq)?.and_then(|record| record::decode(cursor, record.value()));
        // What can't be read needn't be kept.
        Ok(Some(event.map_or(0, |event| event.at_ms)))
    }

    fn oldest(&self, class: usize) -> Result<Option<u64>, Failure> {
        let first = self.classes.range(class_range(class))?.next().transpose()?;
        Ok(first.map(|(key, _)| key.value().1))
    }

    pub(super) fn evict_oldest(&mut self, class: usize, retention: &Retention, epoch: Epoch) -> Result<(), Failure> {
        let Some(seq) = self.oldest(class)? else { return Ok(()) };
        let cursor = Cursor { epoch, seq: Seq(seq) };
        let event = self.events.remove(seq)?.and_then(|record| record::decode(cursor, record.value()));
        let cost = self.classes.remove((class as u32, seq))?.map_or(0, |cost| cost.value());
        self.change_stat(class, |(events, bytes, _)| {
            *events = events.saturating_sub(1);
            *bytes = bytes.saturating_sub(cost);
        })?;
        // Whose it was can't be said: its index entries stay, and lead to a gap.
        let Some(event) = event else { return self.raise_floors(seq, retention) };
        for topic in event.draft.topics() {
            self.topics.remove((topic.as_str(), seq))?;
            // An alternate topic may be of another class, whose feeds lose the event as well.
            self.change_stat(retention.class_of(topic), |(_, _, floor)| *floor = seq.max(*floor))?;
        }
        if let Some(id) = &event.draft.id {
            self.forget_id(id, seq)?;
        }
        Ok(())
    }

    /// An event of any class was evicted.
    fn raise_floors(&mut self, seq: u64, retention: &Retention) -> Result<(), Failure> {
        for class in 0..retention.classes().len() {
            self.change_stat(class, |(_, _, floor)| *floor = seq.max(*floor))?;
        }
        Ok(())
    }

    /// Takes a use of an id away. While later uses are kept, a mark says that an earlier one is gone.
    fn forget_id(&mut self, id: &EventId, seq: u64) -> Result<(), Failure> {
        self.ids.remove((id.as_str(), seq))?;
        let others = self.ids.range((id.as_str(), EVICTED_USE + 1)..=(id.as_str(), u64::MAX))?.next().is_some();
        if others {
            self.ids.insert((id.as_str(), EVICTED_USE), ())?;
        } else {
            self.ids.remove((id.as_str(), EVICTED_USE))?;
        }
        Ok(())
    }
}

/// More events than a log gets while its backups are kept; there is room for 4,096 times twice as many.
const BACKUP_JUMP: u64 = 1 << 40;
/// How many events an append evicts at the most for each event that it adds.
const EVICT_MAX: usize = 16;
