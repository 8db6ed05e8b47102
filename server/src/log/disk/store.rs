//! The tables of a log on disk, and what one transaction does to them.

use std::{
    borrow::Cow,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use fanwire_protocol::{Cursor, Draft, Epoch, EventId, Matcher, Matchers, Seq, Topic};
use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, WriteTransaction,
};

use super::{
    classes,
    format::{self, FORMAT},
    medium::{Medium, StoreFile},
    meter::{End, Watch},
    overlay::Overlay,
    panics::{Contained, Held, guarded, hold},
    record,
};
use crate::{
    core::{Committed, Floors, Page, Read, Rights},
    log::{
        Appended, Retention, Stamped,
        idempotency::{IdempotencyKey, KeyUse},
        page::{Finder, IdUse, Newest, Past, latest_topics_max, untold_floors, wanted_only},
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

    /// What is known of a publisher's id.
    pub(super) fn find_id(&self, id: &EventId) -> Result<Option<IdUse>, Failure> {
        let reader = Reader::open(&self.database.begin_read()?)?;
        let mut uses = reader.ids.range((id.as_str(), 0)..=(id.as_str(), u64::MAX))?;
        let Some(first) = uses.next().transpose()? else { return Ok(None) };
        match first.0.value().1 {
            EVICTED_USE => {
                let next = uses.next().transpose()?;
                Ok(next.map(|(key, _)| IdUse { first: Seq(key.value().1), is_certain: false }))
            }
            seq => Ok(Some(IdUse { first: Seq(seq), is_certain: true })),
        }
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

/// The tables, to be written.
struct Tables<'t> {
    meta: Held<'t, &'static str, u64>,
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
    fn open(transaction: &'t WriteTransaction) -> Result<Self, Failure> {
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

    fn set(&mut self, key: &'static str, value: u64) -> Result<(), Failure> {
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
    fn adopt(&mut self, retention: &Retention) -> Result<(), Failure> {
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
    fn recover(&mut self, retention: &Retention) -> Result<Seq, Failure> {
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
    fn leave_original(&mut self, head: Seq, retention: &Retention) -> Result<Seq, Failure> {
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

    fn insert(&mut self, seq: Seq, class: usize, draft: &Draft, at_ms: u64) -> Result<(), Failure> {
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

    fn key(&self, key: &IdempotencyKey) -> Result<Option<KeyUse>, Failure> {
        let Some(known) = self.keys.get(&key.name)? else { return Ok(None) };
        let (event, seq, at_ms) = known.value();
        Ok(Some(KeyUse { event: *event, seq: Seq(seq), at_ms }))
    }

    fn insert_key(&mut self, key: &IdempotencyKey, seq: Seq, at_ms: u64, keys_max: usize) -> Result<(), Failure> {
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
    fn oldest_key(&self) -> Result<Option<(u64, u64)>, Failure> {
        Ok(self.key_order.first()?.map(|(seq, key)| (seq.value(), key.value().1)))
    }

    fn forget_oldest_key(&mut self) -> Result<(), Failure> {
        if let Some((_, key)) = self.key_order.pop_first()? {
            self.keys.remove(key.value().0)?;
        }
        Ok(())
    }

    /// Evicts what is beyond the class's limits, but only so much at a time that no publisher waits for long: a class whose
    /// limits were lowered gets there over the next appends.
    fn enforce(&mut self, class: usize, retention: &Retention, epoch: Epoch) -> Result<(), Failure> {
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

    fn oldest_at(&self, class: usize, epoch: Epoch) -> Result<Option<u64>, Failure> {
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

    fn evict_oldest(&mut self, class: usize, retention: &Retention, epoch: Epoch) -> Result<(), Failure> {
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

/// The tables, of one moment.
struct Reader {
    events: redb::ReadOnlyTable<u64, &'static [u8]>,
    topics: redb::ReadOnlyTable<(&'static str, u64), ()>,
    ids: redb::ReadOnlyTable<(&'static str, u64), ()>,
    classes: redb::ReadOnlyTable<(u32, u64), u64>,
    stats: redb::ReadOnlyTable<u32, Stat>,
    key_order: redb::ReadOnlyTable<u64, (&'static [u8; 16], u64)>,
}

impl Reader {
    fn open(transaction: &ReadTransaction) -> Result<Self, Failure> {
        Ok(Self {
            events: transaction.open_table(EVENTS)?,
            topics: transaction.open_table(TOPICS)?,
            ids: transaction.open_table(IDS)?,
            classes: transaction.open_table(CLASSES)?,
            stats: transaction.open_table(STATS)?,
            key_order: transaction.open_table(KEY_ORDER)?,
        })
    }

    fn floors(&self, retention: &Retention) -> Result<Floors, Failure> {
        let floor = |class: usize| {
            let stat = self.stats.get(class as u32)?.map(|stat| stat.value()).unwrap_or_default();
            Ok(Seq(stat.2))
        };
        (0..retention.classes().len()).map(floor).collect()
    }

    /// None if it isn't there, or isn't what was published.
    fn event(&self, seq: Seq, epoch: Epoch) -> Result<Option<fanwire_protocol::Event>, Failure> {
        Ok(self.events.get(seq.0)?.and_then(|record| record::decode(Cursor { epoch, seq }, record.value())))
    }

    fn newest_of(&self, topic: &str, head: Seq) -> Result<Option<Seq>, Failure> {
        let last = self.topics.range((topic, 0)..=(topic, head.0))?.next_back().transpose()?;
        Ok(last.map(|(key, _)| Seq(key.value().1)))
    }

    /// Shows a finder what a read is to look at. False if it had enough before the end.
    fn find(&self, read: &Read, epoch: Epoch, highest_floor: Seq, finder: &mut Finder<'_>) -> Result<bool, Failure> {
        if read.after >= read.upto {
            return Ok(true);
        }
        let (first, last) = (read.after.next().0, read.upto.0);
        if Finder::must_scan(read) {
            let (mut expected, mut next) = (first, first.max(highest_floor.0 + 1));
            for entry in self.events.range(first..=last)? {
                let (seq, record) = entry?;
                let seq = seq.value();
                are_ordered(&[seq], expected, last)?;
                if next < seq {
                    finder.miss(Seq(next), Seq(seq - 1));
                }
                (expected, next) = (seq + 1, next.max(seq + 1));
                let cursor = Cursor { epoch, seq: Seq(seq) };
                let wanted_more = match record::decode(cursor, record.value()) {
                    Some(event) => finder.look(Arc::new(Committed::new(event))),
                    None => finder.pass_rotten(cursor.seq),
                };
                if !wanted_more {
                    return Ok(false);
                }
            }
            if next <= last {
                finder.miss(Seq(next), Seq(last));
            }
            return Ok(true);
        }
        let mut seqs = Vec::new();
        if let Some(only) = wanted_only(read) {
            for seq in only {
                // Some may have been evicted since.
                if self.events.get(seq.0)?.is_some() {
                    seqs.push(seq.0);
                }
            }
        } else if read.matchers.as_slice().contains(&Matcher::Any) {
            for entry in self.events.range(first..=last)?.take(read.events_max + 1) {
                seqs.push(entry?.0.value());
            }
            are_ordered(&seqs, first, last)?;
            // Above all that was evicted, every number has its event.
            let mut next = first.max(highest_floor.0 + 1);
            let end = (seqs.len() <= read.events_max).then_some(last + 1);
            for seq in seqs.iter().copied().chain(end) {
                if next < seq {
                    finder.miss(Seq(next), Seq(seq - 1));
                }
                next = next.max(seq + 1);
            }
        } else {
            for matcher in read.matchers.as_slice() {
                let Matcher::Exact(topic) = matcher else { continue };
                let range = (topic.as_str(), first)..=(topic.as_str(), last);
                let from = seqs.len();
                for entry in self.topics.range(range)?.take(read.events_max + 1) {
                    seqs.push(entry?.0.value().1);
                }
                are_ordered(&seqs[from..], first, last)?;
            }
            seqs.sort_unstable();
            seqs.dedup();
        }
        for seq in seqs.into_iter().map(Seq) {
            // An index that rots may lead to what nobody here has asked for.
            let event = self.event(seq, epoch)?.filter(|event| read.matchers.matches(event.draft.topics()));
            let wanted_more = match event {
                Some(event) => finder.take(Arc::new(Committed::new(event))),
                None => finder.pass_rotten(seq),
            };
            if !wanted_more {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What a log holds at one moment.
struct PastOf<'r> {
    reader: &'r Reader,
    epoch: Epoch,
}

impl Past for PastOf<'_> {
    type Error = Failure;

    fn event(&self, seq: Seq) -> Result<Option<Arc<Committed>>, Failure> {
        Ok(self.reader.event(seq, self.epoch)?.map(|event| Arc::new(Committed::new(event))))
    }

    fn newest_before(&self, topic: &Topic, seq: Seq) -> Result<Option<Seq>, Failure> {
        self.reader.newest_of(topic.as_str(), Seq(seq.0.saturating_sub(1)))
    }
}

/// Whether an index gave what it was asked for: a damaged one may give anything.
fn are_ordered(seqs: &[u64], first: u64, last: u64) -> Result<(), Failure> {
    let are_within = seqs.iter().all(|seq| (first..=last).contains(seq));
    if are_within && seqs.is_sorted_by(|one, other| one < other) {
        return Ok(());
    }
    Err(redb::Error::Corrupted("an index isn't in order".to_owned()))
}

pub(super) fn get(table: &impl ReadableTable<&'static str, u64>, key: &str) -> Result<Option<u64>, Failure> {
    Ok(table.get(key)?.map(|value| value.value()))
}

fn class_range(class: usize) -> std::ops::RangeInclusive<(u32, u64)> {
    (class as u32, 0)..=(class as u32, u64::MAX)
}

/// Events, bytes, floor of a class.
pub(super) type Stat = (u64, u64, u64);

pub(super) const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");
/// By number: a record.
pub(super) const EVENTS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("events");
pub(super) const TOPICS: TableDefinition<'static, (&'static str, u64), ()> = TableDefinition::new("topics");
/// By publisher's id and number. The number [`EVICTED_USE`] marks that an earlier use was evicted.
pub(super) const IDS: TableDefinition<'static, (&'static str, u64), ()> = TableDefinition::new("ids");
/// By class and number: what the event costs.
pub(super) const CLASSES: TableDefinition<'static, (u32, u64), u64> = TableDefinition::new("classes");
pub(super) const STATS: TableDefinition<'static, u32, Stat> = TableDefinition::new("stats");
/// What each class was, as [`classes`] writes it: whether the configuration has changed, and for who opens the log without one.
pub(super) const NAMES: TableDefinition<'static, u32, &'static str> = TableDefinition::new("class_names");

/// By an idempotency key's digest: its event's digest, number and time.
pub(super) const KEYS: TableDefinition<'static, &'static [u8; 16], StoredKey> =
    TableDefinition::new("idempotency_keys");
/// By an event's number: its idempotency key's digest, and its time.
pub(super) const KEY_ORDER: TableDefinition<'static, u64, (&'static [u8; 16], u64)> =
    TableDefinition::new("idempotency_key_order");
pub(super) type StoredKey = (&'static [u8; 16], u64, u64);

/// The largest file whose every page is looked at when it is opened, which takes half a second of a processor. Of a larger one only the events are
/// checked, when they are read, and its commits leave what it takes to open it at once.
const CHECKED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How many numbers are reserved at a time: one sync for so many events, and so large a gap after a crash.
const RESERVED_BLOCK: u64 = 10_000;
/// A number of [`META`] that only a backup has which no hub has opened: when it was made, in milliseconds since the Unix epoch.
pub(super) const BACKUP_AT: &str = "backup_at";
/// More events than a log gets while its backups are kept; there is room for 4,096 times twice as many.
const BACKUP_JUMP: u64 = 1 << 40;
/// No event has this number.
pub(super) const EVICTED_USE: u64 = 0;
/// How many events an append evicts at the most for each event that it adds.
const EVICT_MAX: usize = 16;
/// How many events an expiry evicts at a time.
const EXPIRE_MAX: usize = 1000;
