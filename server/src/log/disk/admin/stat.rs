//! How a log is and what is in it.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use fanwire_protocol::{Cursor, Seq};
use redb::{ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};

use super::super::store::{self, Failure, Store};
use crate::log::{Class, TopicRule};

/// How a log is and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// The log's random name.
    pub epoch: String,
    /// The format of its file.
    pub format: u64,
    /// The newest position that was shown to anyone.
    pub head: Cursor,
    /// The oldest event that is kept.
    pub first: Option<Cursor>,
    /// How many events are kept.
    pub events: u64,
    /// What they cost, as retention counts.
    pub bytes: u64,
    /// How many different topics they have.
    pub topics: u64,
    /// How many of them have a publisher's id.
    pub publisher_ids: u64,
    /// The retention classes, in order.
    pub classes: Vec<ClassStat>,
    /// The file.
    pub file: FileStat,
    /// A hub serves it.
    pub is_served: bool,
    /// It is a backup that no hub has opened yet, made at this time: milliseconds since the Unix epoch.
    pub backup_at: Option<u64>,
}

/// A retention class and what it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassStat {
    /// Its name.
    pub name: String,
    /// Which topics are in it.
    pub topics: Vec<String>,
    /// How many events it keeps.
    pub events: u64,
    /// What they cost.
    pub bytes: u64,
    /// The highest number that was evicted from it; 0 for none.
    pub floor: u64,
    /// How much it may keep; the configuration's, and unknown where no hub serves the log.
    pub limits: Option<LimitsStat>,
}

/// How much a class may keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsStat {
    /// At most so many events.
    pub events_max: u64,
    /// At most so many bytes.
    pub bytes_max: u64,
    /// No event older than so many milliseconds.
    pub age_ms_max: Option<u64>,
}

/// The file that a log is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// Where it is.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// What it occupies on the disk.
    pub disk_bytes: u64,
    /// What of its length is in use.
    pub used_bytes: u64,
    /// What is free in it: new events are stored there before the file grows, and `compact` gives it back.
    pub free_bytes: u64,
}

impl Stat {
    /// Reads a store. Everything but the file's length is of one moment.
    pub(super) fn of(store: &Store, path: &Path, head: Seq, is_served: bool) -> Result<Self, Failure> {
        let transaction = store.database().begin_read()?;
        let meta = transaction.open_table(store::META)?;
        let meta = |key: &str| Ok::<_, Failure>(meta.get(key)?.map(|value| value.value()));
        let events = transaction.open_table(store::EVENTS)?;
        let stats = transaction.open_table(store::STATS)?;
        let cursor = |seq| Cursor { epoch: store.epoch(), seq };
        let mut classes = Vec::new();
        for (index, class) in store.retention().classes().iter().enumerate() {
            let stat = stats.get(index as u32)?.map(|stat| stat.value()).unwrap_or_default();
            classes.push(ClassStat::of(class, stat, is_served));
        }
        Ok(Self {
            epoch: store.epoch().to_string(),
            format: meta("format")?.unwrap_or_default(),
            head: cursor(head.max(Seq(meta("head")?.unwrap_or_default()))),
            first: events.first()?.map(|(seq, _)| cursor(Seq(seq.value()))),
            events: events.len()?,
            bytes: classes.iter().map(|class| class.bytes).sum(),
            topics: count_topics(&transaction)?,
            publisher_ids: count_ids(&transaction)?,
            classes,
            file: FileStat::of(store::used_bytes(store.database())?, path)?,
            is_served,
            backup_at: meta(store::BACKUP_AT)?,
        })
    }
}

impl ClassStat {
    fn of(class: &Class, (events, bytes, floor): store::Stat, is_served: bool) -> Self {
        let limits = is_served.then(|| LimitsStat {
            events_max: class.events_max as u64,
            bytes_max: class.bytes_max as u64,
            age_ms_max: class.age_max.map(|age| age.as_millis() as u64),
        });
        let topics = class.topics.iter().map(TopicRule::to_string).collect();
        Self { name: class.name.clone(), topics, events, bytes, floor, limits }
    }
}

impl FileStat {
    fn of(used_bytes: u64, path: &Path) -> Result<Self, Failure> {
        let file = fs::metadata(path)?;
        let used = used_bytes.min(file.len());
        Ok(Self {
            path: path.display().to_string(),
            bytes: file.len(),
            disk_bytes: file.blocks() * 512,
            used_bytes: used,
            free_bytes: file.len() - used,
        })
    }
}

fn count_ids(transaction: &ReadTransaction) -> Result<u64, Failure> {
    let mut count = 0;
    for entry in transaction.open_table(store::IDS)?.iter()? {
        // Some say only that there was an event.
        count += u64::from(entry?.0.value().1 != store::EVICTED_USE);
    }
    Ok(count)
}

/// Goes from topic to topic, not from event to event.
fn count_topics(transaction: &ReadTransaction) -> Result<u64, Failure> {
    let topics = transaction.open_table(store::TOPICS)?;
    let (mut count, mut last) = (0, None::<String>);
    loop {
        let next = match &last {
            None => topics.first()?,
            Some(last) => {
                let behind = std::ops::Bound::Excluded((last.as_str(), u64::MAX));
                topics.range::<(&str, u64)>((behind, std::ops::Bound::Unbounded))?.next().transpose()?
            }
        };
        let Some((key, _)) = next else { return Ok(count) };
        last = Some(key.value().0.to_owned());
        count += 1;
    }
}
