//! The store of a log on disk: its database, opened, and what it is asked for in one transaction each.

mod reader;
mod schema;
mod tables;

use std::{
    borrow::Cow,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use fanwire_protocol::{Cursor, Epoch, EventId, Matcher, Matchers, Seq, Topic};
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction,
};

use reader::{PastOf, Reader};
use schema::class_range;
use tables::Tables;

pub(super) use schema::{
    BACKUP_AT, CLASSES, EVENTS, EVICTED_USE, IDS, KEY_ORDER, KEYS, META, NAMES, STATS, Stat, StoredKey, TOPICS, get,
};

use super::{
    classes,
    format::{self, FORMAT},
    medium::{Medium, StoreFile},
    meter::{End, Watch},
    overlay::Overlay,
    panics::{Contained, guarded},
};
use crate::{
    core::{Committed, Floors, Page, Read, Rights},
    log::{
        Appended, Retention, Stamped,
        page::{Finder, IdUse, Newest, latest_topics_max, untold_floors},
    },
};

/// An open store.
pub(super) struct Store {
    database: Contained<Database>,
    retention: Arc<Retention>,
    epoch: Epoch,
    /// Numbers up to this one are reserved durably.
    reserved: AtomicU64,
    /// There is what a loss of power takes away.
    unsynced: AtomicBool,
    /// It is too large to be looked through when it opens.
    is_large: AtomicBool,
}

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another hub has it.
    #[error("another hub is running on this directory, or `fanwire log` is at work on it")]
    InUse,
    /// A newer hub made it.
    #[error("it has format {found}, and this hub knows formats up to {FORMAT}: run a newer hub")]
    NewerFormat {
        /// Its format.
        found: u64,
    },
    /// The file isn't there any more, or is another log's.
    #[error("it isn't the log that was here before: is its disk mounted?")]
    Gone,
    /// An older hub made it, and none opened it since.
    #[error(
        "it has format {found}, older than this program's {FORMAT}: run a hub on it once, which brings it up to date"
    )]
    OlderFormat {
        /// Its format.
        found: u64,
    },
    /// It is something else.
    #[error("it isn't a log: move it away, or name another directory")]
    NoLog,
    /// The database can't be opened.
    #[error(transparent)]
    Database(redb::Error),
    /// It holds what no hub wrote, or not all of it.
    #[error("it is damaged: {0}. Restore a backup; `fanwire log verify` tells what of it can be read")]
    Damaged(Cow<'static, str>),
}

impl From<redb::Error> for OpenError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Corrupted(why) => Self::Damaged(why.into()),
            redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Damaged("it is shorter than it was".into())
            }
            // A database without its magic number.
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => Self::NoLog,
            redb::Error::Io(_) | redb::Error::PreviousIo => Self::Database(error),
            // Hubs never wrote the database's older format.
            redb::Error::UpgradeRequired(_) => Self::Damaged("its header is of no hub".into()),
            error => Self::Damaged(error.to_string().into()),
        }
    }
}

impl From<DatabaseError> for OpenError {
    fn from(error: DatabaseError) -> Self {
        redb::Error::from(error).into()
    }
}

/// Why a transaction failed. Nothing of it was stored.
pub(super) type Failure = redb::Error;

impl Store {
    /// Opens the store in a file, or makes one with the epoch given. Returns it with the newest event's number.
    pub(super) fn open(
        path: &Path,
        new_epoch: Epoch,
        retention: Arc<Retention>,
        cache_bytes: usize,
    ) -> Result<(Self, Seq), OpenError> {
        Self::open_on(&StoreFile::new(path), new_epoch, retention, cache_bytes)
    }

    /// The same on any medium.
    pub(super) fn open_on(
        medium: &dyn Medium,
        new_epoch: Epoch,
        retention: Arc<Retention>,
        cache_bytes: usize,
    ) -> Result<(Self, Seq), OpenError> {
        let bytes = medium.bytes().ok().flatten().unwrap_or(0);
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes).set_check_integrity_on_open(bytes <= CHECKED_BYTES_MAX);
        builder.set_repair_callback(move |repair| {
            if bytes > CHECKED_BYTES_MAX {
                let (mebibytes, percent) = (bytes >> 20, (repair.progress() * 100.0) as u64);
                tracing::info!(mebibytes, percent, "the log wasn't closed in order, and is looked through");
            }
        });
        let is_large = bytes > CHECKED_BYTES_MAX;
        guarded(|| Self::prepare(Contained::new(medium.open(&builder)?), new_epoch, retention, is_large))
    }

    /// Opens what a medium holds, to be read only: nothing is written to it, whatever is done to the store.
    pub(super) fn open_frozen(
        medium: &dyn Medium,
        retention: Arc<Retention>,
        cache_bytes: usize,
    ) -> Result<Self, OpenError> {
        guarded(|| {
            let database =
                medium.open_frozen(Database::builder().set_cache_size(cache_bytes)).map_err(OpenError::from)?;
            Ok(Self::prepare(Contained::new(database), Epoch::from_bits(0), retention, false)?.0)
        })
    }

    fn prepare(
        database: Contained<Database>,
        new_epoch: Epoch,
        retention: Arc<Retention>,
        is_large: bool,
    ) -> Result<(Self, Seq), OpenError> {
        format::migrate(&database)?;
        let fail = OpenError::from;
        let mut transaction = database.begin_write().map_err(|error| fail(error.into()))?;
        transaction.set_quick_repair(is_large);
        let (epoch, head) = {
            let mut tables = Tables::open(&transaction).map_err(fail)?;
            let format = get(&*tables.meta, "format").map_err(fail)?;
            let epoch = match get(&*tables.meta, "epoch").map_err(fail)? {
                Some(bits) => Epoch::from_bits(bits),
                None if format.is_some() => return Err(OpenError::Damaged("it has a format and no epoch".into())),
                None => new_epoch,
            };
            tables.set("format", FORMAT).map_err(fail)?;
            tables.set("epoch", epoch.bits()).map_err(fail)?;
            tables.adopt(&retention).map_err(fail)?;
            let head = tables.recover(&retention).map_err(fail)?;
            let head = tables.leave_original(head, &retention).map_err(fail)?;
            if head > Seq::MAX {
                return Err(OpenError::Damaged("its newest number is beyond the last".into()));
            }
            (epoch, head)
        };
        transaction.commit().map_err(|error| fail(error.into()))?;
        let (reserved, unsynced, is_large) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(is_large));
        Ok((Self { database, retention, epoch, reserved, unsynced, is_large }, head))
    }

    /// Opens what a hub left in a file, to be read only: nothing is written to it. The classes are those of the last run, without limits, and
    /// no other program can use the file meanwhile. Returns it with the newest number that was shown to anyone, which after a crash is
    /// higher than the newest event's.
    ///
    /// `check_file`: checks every page's checksum first, so that a damaged file is an error and no panic.
    pub(super) fn inspect(path: &Path, check_file: bool, cache_bytes: usize) -> Result<(Self, Seq), OpenError> {
        let fail = |error: std::io::Error| OpenError::from(redb::Error::from(error));
        let file = std::fs::File::open(path).map_err(fail)?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => OpenError::InUse,
            std::fs::TryLockError::Error(error) => fail(error),
        })?;
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .set_check_integrity_on_open(check_file)
            .create_with_backend(Overlay::new(file).map_err(fail)?)
            .map_err(|error| OpenError::from(redb::Error::from(error)))?;
        let database = Contained::new(database);
        let (epoch, head, retention) = {
            let fail = |error: redb::TableError| match error {
                redb::TableError::TableDoesNotExist(_) => {
                    OpenError::Damaged("it holds something else, or nothing".into())
                }
                error => OpenError::from(redb::Error::from(error)),
            };
            let transaction = database.begin_read().map_err(|error| OpenError::from(redb::Error::from(error)))?;
            let meta = transaction.open_table(META).map_err(fail)?;
            let get = |key| match meta.get(key) {
                Ok(value) => Ok(value.map(|value| value.value())),
                Err(error) => Err(OpenError::from(redb::Error::from(error))),
            };
            match get("format")? {
                None => return Err(OpenError::Damaged("it has no format".into())),
                Some(found) if found > FORMAT => return Err(OpenError::NewerFormat { found }),
                Some(found) if found < FORMAT => return Err(OpenError::OlderFormat { found }),
                Some(_) => {}
            }
            let epoch = get("epoch")?.ok_or(OpenError::Damaged("it has a format and no epoch".into()))?;
            let head = get("head")?.unwrap_or(0).max(get("reserved")?.unwrap_or(0));
            let retention = classes::stored(&transaction.open_table(NAMES).map_err(fail)?)?;
            (Epoch::from_bits(epoch), Seq(head), retention)
        };
        let fail = OpenError::from;
        let transaction = database.begin_write().map_err(|error| fail(Failure::from(error)))?;
        // A table that came later may be missing.
        drop(Tables::open(&transaction).map_err(fail)?);
        transaction.commit().map_err(|error| fail(error.into()))?;
        Ok((
            Self {
                database,
                retention: Arc::new(retention),
                epoch,
                reserved: AtomicU64::new(0),
                unsynced: AtomicBool::new(false),
                is_large: AtomicBool::new(false),
            },
            head,
        ))
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn retention(&self) -> &Arc<Retention> {
        &self.retention
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Stores events behind `head`, lets go of what their classes no longer hold, and syncs if `durable`. Says what became of each, and what
    /// is new.
    ///
    /// Where it isn't durable, the numbers that are shown to subscribers are reserved durably before, in blocks: after a crash the log
    /// goes on behind them, and none is given to another event.
    pub(super) fn append(
        &self,
        head: Seq,
        events: Vec<Stamped>,
        durable: bool,
    ) -> Result<(Vec<Appended>, Vec<Arc<Committed>>), Failure> {
        let last = Seq(head.0 + events.len() as u64);
        let reserve = !durable && self.reserved.load(Relaxed) < last.0;
        let transaction = self.begin(durable || reserve)?;
        let (mut appended, mut committed) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
        {
            let mut tables = Tables::open(&transaction)?;
            let mut seq = head;
            for Stamped { draft, at_ms, key } in events {
                if let Some(key) = &key
                    && let Some(known) = tables.key(key)?
                {
                    appended.push(known.answer(key, self.epoch));
                    continue;
                }
                seq = seq.next();
                let class = self.retention.class_of(draft.canonical());
                tables.insert(seq, class, &draft, at_ms)?;
                if let Some(key) = &key {
                    tables.insert_key(key, seq, key.given_ms.unwrap_or(at_ms), self.retention.keys().keys_max)?;
                }
                let cursor = Cursor { epoch: self.epoch, seq };
                appended.push(Appended::New(cursor));
                committed.push(Arc::new(Committed::new(fanwire_protocol::Event { cursor, at_ms, draft })));
                tables.enforce(class, &self.retention, self.epoch)?;
            }
            tables.set("head", seq.0)?;
            if reserve {
                tables.set("reserved", last.0 + RESERVED_BLOCK)?;
            }
        }
        if committed.is_empty() {
            transaction.abort()?;
            return Ok((appended, committed));
        }
        self.unsynced.store(!durable && !reserve, Relaxed);
        transaction.commit()?;
        if reserve {
            self.reserved.store(last.0 + RESERVED_BLOCK, Relaxed);
        }
        Ok((appended, committed))
    }

    /// Makes everything durable, and gives reserved numbers back: it may be opened anew now, and nothing is lost or skipped.
    pub(super) fn settle(&self) -> Result<(), Failure> {
        self.close()?;
        self.unsynced.store(false, Relaxed);
        self.reserved.store(0, Relaxed);
        Ok(())
    }

    /// Gives the free space in the file back. Needs the database alone.
    pub(super) fn compact(&mut self) -> Result<(), Failure> {
        self.database.compact()?;
        Ok(())
    }

    fn begin(&self, durable: bool) -> Result<WriteTransaction, Failure> {
        let mut transaction = self.database.begin_write()?;
        if durable {
            transaction.set_quick_repair(self.is_large.load(Relaxed));
        } else {
            transaction.set_durability(Durability::None)?;
        }
        Ok(transaction)
    }

    /// Tells it how large its file is by now. Behind the commits of a large one the database needn't look through the whole of it after
    /// a crash; each takes a second sync.
    pub(super) fn set_bytes(&self, bytes: u64) {
        self.is_large.store(bytes > CHECKED_BYTES_MAX, Relaxed);
    }

    /// Makes everything that was appended before durable.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        if self.unsynced.swap(false, Relaxed) {
            self.begin(true)?.commit()?;
        }
        Ok(())
    }

    /// Makes everything durable, and gives reserved numbers back: the next run goes on right behind the newest event.
    pub(super) fn close(&self) -> Result<(), Failure> {
        let transaction = self.begin(true)?;
        Tables::open(&transaction)?.set("reserved", 0)?;
        Ok(transaction.commit()?)
    }

    /// Lets go of a bounded number of events that are older than their classes allow, and syncs if `durable`. True if there may be
    /// more.
    pub(super) fn expire(&self, now_ms: u64, durable: bool) -> Result<bool, Failure> {
        if !self.has_expired(now_ms)? {
            return Ok(false);
        }
        let transaction = self.begin(durable)?;
        let mut left = EXPIRE_MAX;
        {
            let mut tables = Tables::open(&transaction)?;
            let oldest_key = self.oldest_key_at(now_ms);
            while left > 0 && tables.oldest_key()?.is_some_and(|(_, at_ms)| at_ms < oldest_key) {
                tables.forget_oldest_key()?;
                left -= 1;
            }
            for (class, limits) in self.retention.classes().iter().enumerate() {
                let Some(age_max) = limits.age_max else { continue };
                let oldest = now_ms.saturating_sub(age_max.as_millis() as u64);
                while left > 0 && tables.oldest_at(class, self.epoch)?.is_some_and(|at_ms| at_ms < oldest) {
                    tables.evict_oldest(class, &self.retention, self.epoch)?;
                    left -= 1;
                }
            }
        }
        self.unsynced.store(!durable, Relaxed);
        transaction.commit()?;
        Ok(left == 0)
    }

    fn has_expired(&self, now_ms: u64) -> Result<bool, Failure> {
        let reader = Reader::open(&self.database.begin_read()?)?;
        if reader.key_order.first()?.is_some_and(|(_, key)| key.value().1 < self.oldest_key_at(now_ms)) {
            return Ok(true);
        }
        for (class, limits) in self.retention.classes().iter().enumerate() {
            let Some(age_max) = limits.age_max else { continue };
            let oldest = now_ms.saturating_sub(age_max.as_millis() as u64);
            let first = reader.classes.range(class_range(class))?.next().transpose()?;
            let Some((key, _)) = first else { continue };
            let event = reader.event(Seq(key.value().1), self.epoch)?;
            if event.is_none_or(|event| event.at_ms < oldest) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Keys that are older go.
    fn oldest_key_at(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.retention.keys().age_max.as_millis() as u64)
    }

    /// The floors of the classes.
    pub(super) fn floors(&self) -> Result<Floors, Failure> {
        Reader::open(&self.database.begin_read()?)?.floors(&self.retention)
    }

    /// What is known of a publisher's id for whoever has these rights.
    pub(super) fn find_id(&self, id: &EventId, rights: &Rights) -> Result<Option<IdUse>, Failure> {
        let reader = Reader::open(&self.database.begin_read()?)?;
        let past = PastOf { reader: &reader, epoch: self.epoch };
        let uses = reader.ids.range((id.as_str(), 0)..=(id.as_str(), u64::MAX))?;
        let mut uses = uses.map(|entry| Ok::<_, Failure>(Seq(entry?.0.value().1))).peekable();
        let was_evicted = uses.next_if(|seq| matches!(seq, Ok(Seq(EVICTED_USE)))).is_some();
        IdUse::seen(uses, !was_evicted, &past, rights)
    }

    /// The newest event of each topic that the matchers take and that may be seen, up to `head`.
    pub(super) fn newest(&self, matchers: &Matchers, rights: &Rights, head: Seq) -> Result<Newest, Failure> {
        let reader = Reader::open(&self.database.begin_read()?)?;
        let past = PastOf { reader: &reader, epoch: self.epoch };
        let mut newest = Vec::new();
        let Some(topics_max) = latest_topics_max(matchers) else {
            for matcher in matchers.as_slice() {
                let Matcher::Exact(topic) = matcher else { continue };
                newest.extend(reader.newest_of(topic.as_str(), head)?);
            }
            return Newest::seen(newest, &past, matchers, rights);
        };
        let mut next = reader.topics.first()?.map(|(key, _)| key.value().0.to_owned());
        for _ in 0..topics_max {
            let Some(topic) = next else { return Newest::seen(newest, &past, matchers, rights) };
            if Topic::of_event(&topic).is_ok_and(|topic| matchers.matches(&[topic])) {
                newest.extend(reader.newest_of(&topic, head)?);
            }
            // No event has this number: the next entry is the next topic's.
            let mut others = reader.topics.range((topic.as_str(), u64::MAX)..)?;
            next = others.next().transpose()?.map(|(key, _)| key.value().0.to_owned());
        }
        if next.is_some() { Ok(Newest::too_many()) } else { Newest::seen(newest, &past, matchers, rights) }
    }

    /// The newest event of each topic that begins so: of those behind `after`, `count_max` at the most.
    pub(super) fn newest_under(
        &self,
        prefix: &str,
        after: Option<&Topic>,
        count_max: usize,
    ) -> Result<Vec<Arc<Committed>>, Failure> {
        let reader = Reader::open(&self.database.begin_read()?)?;
        let mut newest = Vec::new();
        // No event has these numbers: what is behind is another topic's, or any topic's.
        let mut from = after.map_or((prefix.to_owned(), 0), |after| (after.as_str().to_owned(), u64::MAX));
        while newest.len() < count_max {
            let Some((key, _)) = reader.topics.range((from.0.as_str(), from.1)..)?.next().transpose()? else { break };
            let topic = key.value().0;
            if !topic.starts_with(prefix) {
                break;
            }
            if let Some(seq) = reader.newest_of(topic, Seq::MAX)?
                && let Some(event) = reader.event(seq, self.epoch)?
            {
                newest.push(Arc::new(Committed::new(event)));
            }
            from = (topic.to_owned(), u64::MAX);
        }
        Ok(newest)
    }

    /// Reads a bounded piece of history. Everything is of one moment.
    pub(super) fn read(&self, read: &Read) -> Result<Page, Failure> {
        let reader = Reader::open(&self.database.begin_read()?)?;
        let floors = reader.floors(&self.retention)?;
        let highest_floor = floors.iter().copied().max().unwrap_or_default();
        let floors = untold_floors(read, &self.retention, |class| floors[class]);
        let mut finder = Finder::new(read);
        let complete = reader.find(read, self.epoch, highest_floor, &mut finder)?;
        let (page, rotten) = finder.page(floors, complete);
        for (from, to) in rotten {
            tracing::error!(%from, %to, "events on the disk can't be read, and are told as a gap");
        }
        Ok(page)
    }
}

/// Gives the free space in the file of a log back that nobody serves, and changes nothing that is in it. False if it was given up.
///
/// `check`: first checks every page's checksum, since one that is moved gets another, of what it is by now.
pub(super) fn compact_file(file: &StoreFile, check: bool, cache_bytes: usize, watch: Watch) -> Result<bool, OpenError> {
    let open = |check| {
        let mut builder = Database::builder();
        file.open(builder.set_cache_size(cache_bytes).set_check_integrity_on_open(check)).map_err(OpenError::from)
    };
    file.meter().watch(watch);
    let compacted = guarded(|| {
        let mut database = open(check)?;
        database.compact().map_err(Failure::from)?;
        Ok(database.close()?)
    });
    let watch = file.meter().leave();
    match (watch.as_ref().and_then(Watch::end), watch) {
        (Some(End::Enough), Some(watch)) => {
            file.meter().watch(watch.only_counting());
            // Whoever opens it next is to find it closed in order.
            guarded(|| Ok::<_, OpenError>(open(false)?.close()?))?;
            Ok(true)
        }
        // Who has given it up wants no more of it: whoever opens it next looks through it.
        (Some(_), _) => Ok(false),
        (None, _) => compacted.map(|()| true),
    }
}

/// What of a database's file is in use. Looks at every page.
pub(super) fn used_bytes(database: &Database) -> Result<u64, Failure> {
    let transaction = database.begin_read()?;
    let mut used = 0;
    for table in transaction.list_tables()? {
        let stats = transaction.open_untyped_table(table)?.stats()?;
        used += stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
    }
    Ok(used)
}

/// The largest file whose every page is looked at when it is opened, which takes half a second of a processor. Of a larger one only the events are
/// checked, when they are read, and its commits leave what it takes to open it at once.
const CHECKED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How many numbers are reserved at a time: one sync for so many events, and so large a gap after a crash.
const RESERVED_BLOCK: u64 = 10_000;
/// How many events an expiry evicts at a time.
const EXPIRE_MAX: usize = 1000;
