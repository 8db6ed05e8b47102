//! Whether the tables of a store agree with each other.

use fanwire_protocol::{Cursor, Epoch, Event, Seq, Topic};
use redb::{Key, ReadOnlyTable, ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, Value};

use super::{
    format::FORMAT,
    panics::guarded,
    record,
    store::{CLASSES, EVENTS, EVICTED_USE, Failure, IDS, KEY_ORDER, KEYS, META, NAMES, STATS, StoredKey, TOPICS, get},
};
use crate::log::Retention;

/// What a check found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Findings {
    /// How many events were read and are what was published.
    pub(super) events: u64,
    /// How much is wrong.
    pub(super) problems_count: u64,
    /// The first [`PROBLEMS_MAX`] of it, each with what it is about.
    pub(super) problems: Vec<String>,
}

impl Findings {
    /// Whether nothing is wrong.
    #[cfg(test)]
    pub(super) fn is_sound(&self) -> bool {
        self.problems_count == 0
    }

    fn add(&mut self, problem: impl FnOnce() -> String) {
        self.problems_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem());
        }
    }
}

/// Walks every table of one moment: every event is read, each index has an entry for each of them and no other, and the counts and
/// floors of the classes are right. Which class an event belongs to is judged only with the `retention` that the store was last
/// opened with.
///
/// Memory is bounded, whatever the size of the log. `progress` gets how many events are done, and how many there are; its error stops the check.
/// What is wrong is in the findings, and so is where the database can't go on; an error means that the disk can't be read.
pub(super) fn check_stoppably<E: From<Failure>>(
    transaction: &ReadTransaction,
    retention: Option<&Retention>,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<Findings, E> {
    let mut findings = Findings::default();
    let (mut head, mut expected) = (Seq::ZERO, Entries::default());
    let mut progress = |done, total| progress(done, total).map_err(Halt::Stopped);
    let walk = part("what it holds", &mut findings, |_| Ok(Walk::open(transaction, retention)?))?;
    let Some(walk) = walk else { return Ok(findings) };
    part("the events", &mut findings, |findings| {
        expected.classes = walk.class_counts()?;
        // Until all of them are read.
        expected.is_partial = true;
        let (newest, epoch) = walk.check_meta(findings)?;
        head = newest;
        expected.is_partial = walk.check_events(newest, epoch, &mut expected, findings, &mut progress)?;
        Ok(())
    })?;
    if expected.is_partial {
        findings.add(|| "the other way round, the indexes and counts can't be checked".to_owned());
    } else {
        part("the indexes", &mut findings, |findings| Ok(walk.check_indexes(&expected, findings)?))?;
        part("the counts", &mut findings, |findings| Ok(walk.check_stats(&expected, head, findings)?))?;
    }
    part("the idempotency keys", &mut findings, |findings| Ok(walk.check_keys(head, findings)?))?;
    Ok(findings)
}

/// Does a part of a check. If the database can't go on, that is one of the findings.
fn part<T, E: From<Failure>>(
    name: &str,
    findings: &mut Findings,
    work: impl FnOnce(&mut Findings) -> Result<T, Halt<E>>,
) -> Result<Option<T>, E> {
    match guarded(|| work(&mut *findings)) {
        Ok(done) => Ok(Some(done)),
        Err(Halt::Failed(Failure::Corrupted(why))) => {
            findings.add(|| format!("{name} can't be read to the end: {why}"));
            Ok(None)
        }
        Err(Halt::Failed(error)) => Err(error.into()),
        Err(Halt::Stopped(error)) => Err(error),
    }
}

/// Why a part of a check isn't complete.
enum Halt<E> {
    Failed(Failure),
    /// Nobody waits for it any more.
    Stopped(E),
}

impl<E> From<Failure> for Halt<E> {
    fn from(error: Failure) -> Self {
        Self::Failed(error)
    }
}

/// The same, to its end.
#[cfg(test)]
pub(super) fn check(
    transaction: &ReadTransaction,
    retention: Option<&Retention>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Findings, Failure> {
    check_stoppably(transaction, retention, |done, total| {
        progress(done, total);
        Ok(())
    })
}

struct Walk<'r> {
    retention: Option<&'r Retention>,
    meta: ReadOnlyTable<&'static str, u64>,
    events: ReadOnlyTable<u64, &'static [u8]>,
    topics: ReadOnlyTable<(&'static str, u64), ()>,
    ids: ReadOnlyTable<(&'static str, u64), ()>,
    classes: ReadOnlyTable<(u32, u64), u64>,
    stats: ReadOnlyTable<u32, super::store::Stat>,
    keys: ReadOnlyTable<&'static [u8; 16], StoredKey>,
    key_order: ReadOnlyTable<u64, (&'static [u8; 16], u64)>,
    names: ReadOnlyTable<u32, &'static str>,
}

/// What the events say that the other tables hold.
#[derive(Default)]
struct Entries {
    topics: u64,
    ids: u64,
    /// By class: events, bytes.
    classes: Vec<(u64, u64)>,
    unreadable: u64,
    /// Not of all events.
    is_partial: bool,
}

impl<'r> Walk<'r> {
    fn open(transaction: &ReadTransaction, retention: Option<&'r Retention>) -> Result<Self, Failure> {
        Ok(Self {
            retention,
            meta: transaction.open_table(META)?,
            events: transaction.open_table(EVENTS)?,
            topics: transaction.open_table(TOPICS)?,
            ids: transaction.open_table(IDS)?,
            classes: transaction.open_table(CLASSES)?,
            stats: transaction.open_table(STATS)?,
            keys: transaction.open_table(KEYS)?,
            key_order: transaction.open_table(KEY_ORDER)?,
            names: transaction.open_table(NAMES)?,
        })
    }

    fn check_meta(&self, findings: &mut Findings) -> Result<(Seq, Epoch), Failure> {
        match get(&self.meta, "format")? {
            Some(FORMAT) => {}
            Some(other) => findings.add(|| format!("its format is {other}, not {FORMAT}")),
            None => findings.add(|| "it has no format".to_owned()),
        }
        let epoch = get(&self.meta, "epoch")?;
        if epoch.is_none() {
            findings.add(|| "it has no epoch".to_owned());
        }
        let head = Seq(get(&self.meta, "head")?.unwrap_or(0));
        if head > Seq::MAX {
            findings.add(|| format!("its newest number, {head}, is beyond the last"));
        }
        Ok((head, Epoch::from_bits(epoch.unwrap_or(0))))
    }

    /// Above it, every number has its event.
    fn highest_floor(&self) -> Result<u64, Failure> {
        let mut highest = 0;
        for entry in self.stats.iter()? {
            highest = highest.max(entry?.1.value().2);
        }
        Ok(highest)
    }

    fn class_counts(&self) -> Result<Vec<(u64, u64)>, Failure> {
        let classes = self.names.last()?.map_or(0, |(class, _)| class.value() as usize + 1);
        Ok(vec![(0, 0); classes.min(CLASSES_MAX)])
    }

    /// Reads every event. True if some couldn't be looked up.
    fn check_events<E>(
        &self,
        head: Seq,
        epoch: Epoch,
        expected: &mut Entries,
        findings: &mut Findings,
        progress: &mut dyn FnMut(u64, u64) -> Result<(), Halt<E>>,
    ) -> Result<bool, Halt<E>> {
        let total = self.events.len().map_err(Failure::from)?;
        let mut next = self.highest_floor()? + 1;
        let (mut done, mut not_found) = (0, None::<(Seq, String, u64)>);
        for entry in self.events.iter().map_err(Failure::from)? {
            let (seq, record) = entry.map_err(Failure::from)?;
            let seq = Seq(seq.value());
            if seq > head || seq.0 == EVICTED_USE {
                findings.add(|| format!("event {seq}: its number isn't one up to the newest, {head}"));
            }
            if next < seq.0 {
                findings.add(|| format!("events {next} to {}: they aren't there, and weren't evicted", seq.0 - 1));
            }
            next = next.max(seq.0.saturating_add(1));
            match record::decode(Cursor { epoch, seq }, record.value()) {
                Some(event) => {
                    findings.events += 1;
                    match guarded(|| self.check_event(&event, expected, findings)) {
                        Err(Failure::Corrupted(why)) => not_found.get_or_insert((seq, why, 0)).2 += 1,
                        looked_up => looked_up?,
                    }
                }
                None => {
                    expected.unreadable += 1;
                    findings.add(|| format!("event {seq}: it isn't what was published"));
                }
            }
            done += 1;
            if done % PROGRESS_STEP == 0 {
                progress(done, total)?;
            }
        }
        if next <= head.0 {
            findings.add(|| format!("events {next} to {head}: they aren't there, and weren't evicted"));
        }
        if let Some((first, why, count)) = &not_found {
            findings.add(|| format!("from event {first} on, {count} can't be looked up in the indexes: {why}"));
        }
        progress(done, total)?;
        Ok(not_found.is_some())
    }

    /// Looks its entries up in every index.
    fn check_event(&self, event: &Event, expected: &mut Entries, findings: &mut Findings) -> Result<(), Failure> {
        let (seq, draft) = (event.cursor.seq, &event.draft);
        let mut topics: Vec<&Topic> = draft.topics().iter().collect();
        topics.sort_unstable();
        topics.dedup();
        expected.topics += topics.len() as u64;
        for topic in topics {
            if self.topics.get((topic.as_str(), seq.0))?.is_none() {
                findings.add(|| format!("event {seq}: it isn't found by its topic {topic}"));
            }
        }
        if let Some(id) = &draft.id {
            expected.ids += 1;
            if self.ids.get((id.as_str(), seq.0))?.is_none() {
                findings.add(|| format!("event {seq}: it isn't found by its id {}", id.as_str()));
            }
        }
        let mut classes = 0..expected.classes.len();
        if let Some(retention) = self.retention {
            let class = retention.class_of(draft.canonical());
            classes = class..class + 1;
        }
        for class in classes {
            let Some(cost) = self.classes.get((class as u32, seq.0))? else { continue };
            if cost.value() != draft.cost() as u64 {
                findings
                    .add(|| format!("event {seq}: {} bytes are counted for it, not {}", cost.value(), draft.cost()));
            }
            if let Some((events, bytes)) = expected.classes.get_mut(class) {
                (*events, *bytes) = (*events + 1, *bytes + cost.value());
            }
            return Ok(());
        }
        findings.add(|| format!("event {seq}: it isn't in its retention class"));
        Ok(())
    }

    /// Every entry that the events ask for is there. So there are others where there are more, and those are looked for.
    fn check_indexes(&self, expected: &Entries, findings: &mut Findings) -> Result<(), Failure> {
        let about = |(topic, seq): &(&str, u64)| (format!("the topic {topic}"), *seq);
        self.check_entries("topics", &self.topics, expected.topics, expected, about, findings)?;
        let mut evicted_uses = 0;
        for entry in self.ids.iter()? {
            let (key, _) = entry?;
            let (id, seq) = key.value();
            if seq != EVICTED_USE {
                continue;
            }
            evicted_uses += 1;
            if self.ids.range((id, EVICTED_USE + 1)..=(id, u64::MAX))?.next().is_none() {
                findings.add(|| format!("the id {id}: an evicted use of it is marked, and there is no other"));
            }
        }
        let about = |(id, seq): &(&str, u64)| (format!("the id {id}"), *seq);
        self.check_entries("ids", &self.ids, expected.ids + evicted_uses, expected, about, findings)?;
        let classes = expected.classes.iter().map(|(events, _)| events).sum();
        let about = |(class, seq): &(u32, u64)| (format!("the retention class {class}"), *seq);
        self.check_entries("retention classes", &self.classes, classes, expected, about, findings)
    }

    fn check_entries<K: Key + 'static, V: Value + 'static>(
        &self,
        index_name: &str,
        index: &ReadOnlyTable<K, V>,
        wanted: u64,
        expected: &Entries,
        about: impl for<'k> Fn(&K::SelfType<'k>) -> (String, u64),
        findings: &mut Findings,
    ) -> Result<(), Failure> {
        let (found, problems_before) = (index.len()?, findings.problems_count);
        if found == wanted {
            return Ok(());
        }
        for entry in index.iter()? {
            let (key, _) = entry?;
            let (name, seq) = about(&key.value());
            if seq != EVICTED_USE && self.events.get(seq)?.is_none() {
                findings.add(|| format!("{name}: it has an entry for event {seq}, which isn't kept"));
            }
        }
        // An event that can't be read has its entries still, and what is missing was told with its event.
        if findings.problems_count == problems_before && expected.unreadable == 0 && found > wanted {
            findings.add(|| format!("the index of {index_name} has {found} entries where the events ask for {wanted}"));
        }
        Ok(())
    }

    fn check_stats(&self, expected: &Entries, head: Seq, findings: &mut Findings) -> Result<(), Failure> {
        for (class, (events, bytes)) in expected.classes.iter().enumerate() {
            let (counted, counted_bytes, floor) =
                self.stats.get(class as u32)?.map(|stat| stat.value()).unwrap_or_default();
            // What can't be read was counted when it still could be.
            if (counted, counted_bytes) != (*events, *bytes) && expected.unreadable == 0 {
                findings.add(|| {
                    format!("the retention class {class}: {counted} events and {counted_bytes} bytes are counted, not {events} and {bytes}")
                });
            }
            if floor > head.0 {
                findings.add(|| format!("the retention class {class}: {floor} was evicted, beyond the newest, {head}"));
            }
        }
        let classes = expected.classes.len() as u32;
        if let Some((class, _)) = self.stats.last()?.filter(|(class, _)| class.value() >= classes) {
            findings.add(|| format!("the retention class {}: it is counted, and isn't one", class.value()));
        }
        Ok(())
    }
}

impl Walk<'_> {
    /// Idempotency keys outlive their events.
    fn check_keys(&self, head: Seq, findings: &mut Findings) -> Result<(), Failure> {
        for entry in self.key_order.iter()? {
            let (seq, key) = entry?;
            let (seq, (name, at_ms)) = (seq.value(), key.value());
            let known = self.keys.get(name)?;
            if known.is_none_or(|known| (known.value().1, known.value().2) != (seq, at_ms)) {
                findings.add(|| format!("the idempotency key of event {seq}: it isn't found by its name"));
            }
            if seq > head.0 {
                findings.add(|| format!("the idempotency key of event {seq}: the newest is {head}"));
            }
        }
        let (named, ordered) = (self.keys.len()?, self.key_order.len()?);
        if named != ordered {
            findings.add(|| format!("{named} idempotency keys are found by their names, and {ordered} by their order"));
        }
        Ok(())
    }
}

/// How many problems are told in words.
const PROBLEMS_MAX: usize = 100;
const PROGRESS_STEP: u64 = 1000;
/// More than any configuration has, to bound what a damaged file asks for.
const CLASSES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fanwire_protocol::{Data, Draft, EventId};
    use redb::{ReadableDatabase as _, Table, WriteTransaction};

    use super::*;
    use crate::log::{Class, Stamped, TopicRule, disk::store::Store, idempotency::IdempotencyKey};

    fn retention() -> Retention {
        let class = Class { topics: vec![TopicRule::parse("noisy").unwrap()], events_max: 3, ..Class::default() };
        Retention::new(vec![class], Class::default())
    }

    fn store(directory: &std::path::Path) -> Store {
        let path = directory.join("log.redb");
        let (store, mut head) = Store::open(&path, Epoch::from_bits(1), Arc::new(retention()), 1 << 20).unwrap();
        for number in 0..20 {
            let topics = [["noisy"].as_slice(), &["quiet", "other"], &["quiet", "noisy"]][number % 3];
            let topics = topics.iter().map(|topic| Topic::new(topic).unwrap()).collect();
            let mut draft = Draft::new(topics, Data::text(&number.to_string())).unwrap();
            draft.id = (number % 2 == 0).then(|| EventId::new(&format!("id{}", number % 4)).unwrap());
            let key = (number == 6).then_some(IdempotencyKey { name: KEY_NAME, event: [0; 16], given_ms: None });
            store.append(head, vec![Stamped { key, ..Stamped::new(draft, 1) }], false).unwrap();
            head = head.next();
        }
        store
    }

    const KEY_NAME: [u8; 16] = [7; 16];

    fn findings(store: &Store) -> Findings {
        check(&store.database().begin_read().unwrap(), Some(&retention()), |_, _| {}).unwrap()
    }

    fn damage<K: Key + 'static, V: Value + 'static>(
        store: &Store,
        definition: redb::TableDefinition<'static, K, V>,
        change: impl FnOnce(&mut Table<'_, K, V>),
    ) {
        let transaction: WriteTransaction = store.database().begin_write().unwrap();
        change(&mut transaction.open_table(definition).unwrap());
        transaction.commit().unwrap();
    }

    /// What is damaged, and a word of what is said of it.
    type Case = (fn(&Store), &'static str);

    const CASES: [Case; 15] = [
        (|store| damage(store, META, |table| drop(table.remove("epoch").unwrap())), "no epoch"),
        (|store| damage(store, META, |table| drop(table.insert("head", 19).unwrap())), "event 20"),
        (|store| damage(store, EVENTS, |table| drop(table.remove(20).unwrap())), "event 20, which isn't kept"),
        (|store| damage(store, EVENTS, |table| drop(table.remove(19).unwrap())), "events 19 to 19"),
        (
            |store| damage(store, EVENTS, |table| drop(table.insert(20, [9].as_slice()).unwrap())),
            "event 20: it isn't what",
        ),
        (|store| damage(store, TOPICS, |table| drop(table.remove(("quiet", 20)).unwrap())), "by its topic quiet"),
        (|store| damage(store, TOPICS, |table| drop(table.insert(("x", 20), ()).unwrap())), "the index of topics"),
        (
            |store| damage(store, TOPICS, |table| drop(table.insert(("x", 99), ()).unwrap())),
            "the topic x: it has an entry",
        ),
        (|store| damage(store, IDS, |table| drop(table.remove(("id2", 19)).unwrap())), "by its id id2"),
        (|store| damage(store, IDS, |table| drop(table.insert(("lone", EVICTED_USE), ()).unwrap())), "the id lone"),
        (|store| damage(store, CLASSES, |table| drop(table.remove((1, 20)).unwrap())), "isn't in its retention class"),
        (|store| damage(store, CLASSES, |table| drop(table.insert((1, 20), 7).unwrap())), "7 bytes are counted"),
        (|store| damage(store, STATS, |table| drop(table.insert(0, (3, 9, 99)).unwrap())), "99 was evicted"),
        (|store| damage(store, KEYS, |table| drop(table.remove(&KEY_NAME).unwrap())), "of event 7: it isn't found"),
        (
            |store| damage(store, KEY_ORDER, |table| drop(table.remove(7).unwrap())),
            "1 idempotency keys are found by their names",
        ),
    ];

    #[test]
    fn every_kind_of_disagreement_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let sound = findings(&store(directory.path()));
        assert_eq!(sound, Findings { events: 3 + 13, ..Findings::default() });
        for (damage, said) in CASES {
            let directory = tempfile::tempdir().unwrap();
            let store = store(directory.path());
            damage(&store);
            let findings = findings(&store);
            assert!(findings.problems.iter().any(|problem| problem.contains(said)), "{said}: {findings:?}");
        }
    }
}
