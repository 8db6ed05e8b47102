//! The log on a disk whose power fails: what was acknowledged is there, once, in order, and no number comes twice.
//!
//! A log is run, loses its power at any step of its disk, even while it recovers from the last time, and goes on with what is left,
//! several times over; in between its disk fails, and it is compacted. A failure prints its seed:
//! `SIMULATION_SEED=… cargo test -p fanwire power`. `SIMULATION_SEEDS=N` runs more.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use fanwire_protocol::{Cursor, Data, Draft, Epoch, Event, EventId, LastEventId, Matcher, Matchers, Seq, Topic};
use futures_util::{FutureExt as _, future::BoxFuture};
use redb::{Database, ReadableDatabase as _, ReadableTable as _};
use tokio::sync::{mpsc, oneshot};

use super::{
    DiskLog, Fsync, Shared,
    admin::Progress,
    check,
    medium::Medium as _,
    meter::Watch,
    power_disk::{Disk, Honesty},
    record,
    store::EVENTS,
    writer::{CompactError, Job, Writer},
};
use crate::{
    core::{PageItem, Read, Rights},
    log::{AppendError, Appended, Class, IdempotencyKey, KeyWindow, Log as _, Replay, Retention, Stamped, TopicRule},
};

#[test]
fn what_was_acknowledged_survives_every_loss_of_power() {
    let one = std::env::var("SIMULATION_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let count = std::env::var("SIMULATION_SEEDS").ok().map_or(SEEDS, |count| count.parse::<u64>().unwrap());
    let mut total = Told::default();
    for seed in one.map_or(0..count, |seed| seed..seed + 1) {
        let told = Run::new(seed, Honesty::Honest).run();
        total.add(&told.unwrap_or_else(|loss| panic!("SIMULATION_SEED={seed}: {loss}")));
    }
    eprintln!("{total:#?}");
    assert!(count < SEEDS || one.is_some() || total.given_up > 0 && total.compactions > 0, "nothing was compacted");
}

#[test]
fn the_judge_finds_what_a_disk_that_ignores_syncs_loses() {
    assert!(share_judged_lossy(Honesty::IgnoresSyncs) > 0.5);
}

#[test]
fn the_judge_finds_what_a_cache_that_outlives_a_failed_sync_hides() {
    assert!(share_judged_lossy(Honesty::KeepsCache) > 0.0);
}

#[tokio::test]
async fn publishers_who_come_while_the_disk_syncs_share_the_next_sync() {
    let disk = Disk::new(1, Honesty::Honest);
    let Hub { mut log, writer, inbox, .. } = hub(&disk, Fsync::Always);
    log.writer = Some(std::thread::spawn(move || writer.run(inbox)));
    let mut tail = log.tail();
    let syncs = disk.syncs();
    disk.hold_syncs(true);
    let mut publishers: Vec<_> = (0..PUBLISHERS).map(|number| log.append(vec![numbered(number)])).collect();
    assert!(publishers.iter_mut().next().is_some_and(is_waiting));
    while !disk.is_syncing() {
        tokio::task::yield_now().await;
    }
    assert!(publishers.iter_mut().all(is_waiting), "nobody has an answer before the sync");
    assert!(tail.next(&mut vec![]).now_or_never().is_none(), "and nobody an event");
    disk.hold_syncs(false);
    for publisher in publishers {
        publisher.await.unwrap();
    }
    assert_eq!(disk.syncs() - syncs, 2 * SYNCS_PER_COMMIT, "the first, and all others together");
}

#[test]
fn nothing_is_synced_between_two_intervals() {
    let disk = Disk::new(1, Honesty::Honest);
    let mut hub = hub(&disk, Fsync::Interval(Duration::from_secs(3600)));
    // Numbers are reserved.
    hub.append(vec![vec![numbered(0)]])[0].as_ref().unwrap();
    let syncs = disk.syncs();
    for number in 1..200 {
        hub.append(vec![vec![numbered(number)]])[0].as_ref().unwrap();
    }
    hub.log.expire(100 * DAY_MS);
    hub.work();
    assert_eq!(disk.syncs(), syncs);
    hub.writer.sync();
    assert_eq!(disk.syncs(), syncs + SYNCS_PER_COMMIT);
    hub.writer.sync();
    assert_eq!(disk.syncs(), syncs + SYNCS_PER_COMMIT, "there is nothing to sync");
}

#[test]
fn what_is_due_is_synced_while_publishers_keep_coming() {
    let disk = Disk::new(1, Honesty::Honest);
    let mut hub = hub(&disk, Fsync::Interval(Duration::ZERO));
    hub.append(vec![vec![numbered(0)]])[0].as_ref().unwrap();
    for number in 1..5 {
        let syncs = disk.syncs();
        hub.append(vec![vec![numbered(number)]])[0].as_ref().unwrap();
        assert_eq!(disk.syncs(), syncs + SYNCS_PER_COMMIT);
    }
}

#[test]
fn a_large_log_opens_after_a_crash_without_being_looked_through() {
    for fsync in [Fsync::Always, Fsync::Interval(Duration::from_secs(3600))] {
        for looks_large in [false, true] {
            let disk = Disk::new(1, Honesty::Honest);
            let mut writing = hub(&disk, fsync);
            for batch in 0..20 {
                // It grows beyond the limit as it runs.
                if batch == 10 {
                    disk.clone().looking_large(looks_large);
                    writing.log.expire(0);
                }
                let events = (0..100).map(|number| numbered(100 * batch + number)).collect();
                writing.append(vec![events]).remove(0).unwrap();
            }
            writing.writer.sync();
            disk.cycle_power();
            // Nothing of this is on the disk.
            let mut builder = Database::builder();
            builder.set_repair_callback(|repair| repair.abort());
            assert_eq!(disk.open(&builder).is_ok(), looks_large, "{fsync:?}");
            assert_eq!(kept(&hub(&disk, fsync)), 2000);
        }
    }
}

#[test]
fn a_full_disk_takes_nothing_keeps_everything_and_goes_on_when_it_has_room() {
    let disk = Disk::new(1, Honesty::Honest);
    let mut hub = hub(&disk, Fsync::Always);
    disk.set_bytes_max(disk.len());
    let large = |number| {
        let event = numbered(number);
        let data = Data::text(&"x".repeat(100_000));
        Stamped::new(Draft::new(event.draft.topics().to_vec(), data).unwrap(), event.at_ms)
    };
    let mut stored = 0;
    let refused = loop {
        match hub.append(vec![vec![large(stored)]]).remove(0) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "the disk is full");
    };
    assert!(matches!(refused, AppendError::Unavailable(_)), "{refused}");
    assert!(hub.append(vec![vec![large(0)]]).remove(0).is_err());
    assert_eq!(kept(&hub), stored);
    disk.set_bytes_max(u64::MAX);
    hub.append(vec![vec![large(0)]]).remove(0).unwrap();
    assert_eq!(kept(&hub), stored + 1);
}

fn hub(disk: &Disk, fsync: Fsync) -> Hub {
    let shared = Shared::open(Box::new(disk.clone()), Epoch::from_bits(1), Retention::default()).unwrap();
    let (log, mut writer, inbox) = DiskLog::new(shared, fsync);
    writer.retry = (Duration::ZERO, 0);
    Hub { log, writer, inbox, fsync }
}

/// Polls it.
fn is_waiting<T>(future: &mut BoxFuture<'_, T>) -> bool {
    future.now_or_never().is_none()
}

fn numbered(number: u64) -> Stamped {
    let draft = Draft::new(vec![Topic::new("numbers").unwrap()], Data::text(&number.to_string())).unwrap();
    Stamped::new(draft, 1)
}

fn kept(hub: &Hub) -> u64 {
    let transaction = hub.log.shared.store().unwrap().database().begin_read().unwrap();
    let findings = check::check(&transaction, None, |_, _| {}).unwrap();
    assert!(findings.is_sound(), "{findings:?}");
    findings.events
}

/// In which share of some runs the judge finds a loss.
fn share_judged_lossy(honesty: Honesty) -> f64 {
    let is_lossy = |seed| {
        // The database's own assertions may notice first.
        let told = catch_unwind(AssertUnwindSafe(|| Run::new(seed, honesty).run()));
        told.map_or(true, |told| told.is_err())
    };
    let lossy = (0..LOSSY_SEEDS).filter(|&seed| is_lossy(seed)).count();
    eprintln!("{honesty:?}: {lossy} of {LOSSY_SEEDS}");
    lossy as f64 / LOSSY_SEEDS as f64
}

/// What somebody found lost.
type Loss = String;

/// What happened, so that one sees what the runs cover.
#[derive(Debug, Default)]
struct Told {
    acknowledged: u64,
    refused: u64,
    /// Answered with the event of an earlier try.
    repeated: u64,
    /// Shown, lost between two syncs, and told as a gap.
    gone: u64,
    crashes: u64,
    crashes_while_opening: u64,
    faults: u64,
    compactions: u64,
    /// Compactions that somebody gave up.
    given_up: u64,
    largest_bytes: u64,
}

impl Told {
    fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.repeated += other.repeated;
        self.gone += other.gone;
        self.crashes += other.crashes;
        self.crashes_while_opening += other.crashes_while_opening;
        self.faults += other.faults;
        self.compactions += other.compactions;
        self.given_up += other.given_up;
        self.largest_bytes = self.largest_bytes.max(other.largest_bytes);
    }
}

/// One log through several losses of power.
struct Run {
    rng: fastrand::Rng,
    disk: Disk,
    retention: Retention,
    epoch: Epoch,
    runtime: tokio::runtime::Runtime,
    now_ms: u64,
    /// Events are large now and then, so that the file grows and shrinks.
    large: bool,
    /// How often the disk fails: of 256 steps.
    failures: u8,
    book: Book,
    told: Told,
}

/// A log that is open, and its writer, which does something only when it is told to.
struct Hub {
    log: DiskLog,
    writer: Writer,
    inbox: mpsc::Receiver<Job>,
    fsync: Fsync,
}

/// What is known of every event.
#[derive(Default)]
struct Book {
    /// By its text: every event that somebody tried to publish.
    tried: BTreeMap<String, Stamped>,
    /// By its text: when it was tried.
    times: BTreeMap<String, Vec<u64>>,
    /// What somebody was shown under a number: a publisher by its answer, or a reader.
    shown: BTreeMap<u64, String>,
    /// Which of these must be there, come what may.
    durable: BTreeSet<u64>,
    /// Which were shown between two syncs, and went with the power.
    gone: BTreeSet<u64>,
}

impl Run {
    fn new(seed: u64, honesty: Honesty) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut class = |rule: &str, events_max| Class {
            topics: vec![TopicRule::parse(rule).unwrap()],
            events_max,
            age_max: rng.bool().then_some(AGE_MAX),
            ..Class::default()
        };
        let (noisy, other) = (class("noisy/*", 0), class("*", 0));
        let noisy = Class { events_max: rng.usize(0..8), ..noisy };
        let other = Class { events_max: rng.usize(1..60), ..other };
        Self {
            disk: Disk::new(rng.u64(..), honesty).looking_large(rng.bool()),
            retention: Retention::new(vec![noisy], other).with_keys(KEYS),
            epoch: Epoch::from_bits(seed + 1),
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            now_ms: 1_000_000,
            large: rng.u8(..) < 60,
            failures: if honesty == Honesty::KeepsCache { 100 } else { [0, 0, 60][rng.usize(0..3)] },
            book: Book::default(),
            told: Told::default(),
            rng,
        }
    }

    fn run(mut self) -> Result<Told, Loss> {
        for _ in 0..self.rng.usize(3..8) {
            self.live()?;
            self.disk.cycle_power();
            self.told.crashes += 1;
        }
        let hub = self.open()?.ok_or("it can't be opened")?;
        self.judge_readers(&hub)?;
        self.told.gone = self.book.gone.len() as u64;
        Ok(self.told)
    }

    /// From a start to the next loss of power.
    fn live(&mut self) -> Result<(), Loss> {
        if self.rng.u8(..) < 200 {
            // Soon, or later: powers of two, so that opening is hit as well as what comes long after.
            let scale = self.rng.u32(0..9);
            self.disk.light_fuse(self.rng.u64(0..1 << scale));
        }
        if self.rng.u8(..) < 20 {
            self.compact()?;
        }
        let Some(mut hub) = self.open()? else {
            self.told.crashes_while_opening += 1;
            return Ok(());
        };
        for _ in 0..self.rng.usize(1..40) {
            // Failures, more often where they are what is looked for.
            let step = if self.rng.u8(..) < self.failures { 1 } else { self.rng.u8(0..40) };
            self.tell(&hub, step);
            match step {
                0 => {
                    hub.writer.close();
                    drop(hub.log);
                    let Some(anew) = self.open()? else { return Ok(()) };
                    hub = anew;
                }
                1..3 => self.fail(&mut hub)?,
                3..5 => {
                    self.now_ms += self.rng.u64(0..300);
                    hub.log.expire(self.now_ms);
                    hub.work();
                }
                5..10 => {
                    hub.writer.sync();
                    if self.is_open(&hub) {
                        self.book.all_is_durable();
                    }
                }
                10..14 => self.judge_readers(&hub)?,
                14 => self.compact_online(&mut hub)?,
                _ => self.publish(&mut hub)?,
            }
            if self.disk.is_dark() {
                break;
            }
        }
        self.told.largest_bytes = self.told.largest_bytes.max(self.disk.len());
        Ok(())
    }

    fn tell(&self, hub: &Hub, step: u8) {
        if std::env::var_os("SIMULATION_TRACE").is_some() {
            let stat = hub.log.shared.store().map(|store| store.floors());
            eprintln!("step {step} head {} {stat:?} {:?} syncs {}", hub.log.head().seq, hub.fsync, self.disk.syncs());
        }
    }

    /// Whether what was done before went well: nothing was given up.
    fn is_open(&self, hub: &Hub) -> bool {
        !self.disk.is_dark() && !hub.writer.is_in_trouble()
    }

    /// Opens the log, and judges it. None if power goes meanwhile.
    fn open(&mut self) -> Result<Option<Hub>, Loss> {
        let fsync = if self.rng.bool() { Fsync::Always } else { Fsync::Interval(Duration::from_secs(3600)) };
        let shared = match Shared::open(Box::new(self.disk.clone()), self.epoch, self.retention.clone()) {
            Ok(shared) => shared,
            Err(_) if self.disk.is_dark() => return Ok(None),
            Err(error) => return Err(format!("it can't be opened: {error}")),
        };
        let (log, mut writer, inbox) = DiskLog::new(shared, fsync);
        writer.retry = (Duration::ZERO, 0);
        let hub = Hub { log, writer, inbox, fsync };
        self.judge_store(&hub)?;
        Ok(Some(hub))
    }

    fn compact(&mut self) -> Result<(), Loss> {
        let compacted =
            self.disk.open(Database::builder().set_cache_size(1 << 20)).map(|mut database| database.compact());
        match compacted {
            Ok(Ok(_)) => self.told.compactions += 1,
            _ if self.disk.is_dark() => self.told.crashes_while_opening += 1,
            other => return Err(format!("it can't be compacted: {other:?}")),
        }
        Ok(())
    }

    /// To its end, until it is enough, or until it is given up.
    fn compact_online(&mut self, hub: &mut Hub) -> Result<(), Loss> {
        let ((progress, _heard), (answer, mut answered)) = (Progress::channel(), oneshot::channel());
        let (bytes, head) = (self.disk.len(), hub.log.head());
        let watch = Watch::new(progress, bytes, self.rng.u64(0..=bytes));
        // Sooner or later.
        let scale = self.rng.u32(0..8);
        let given_up_at = self.rng.u64(0..=bytes >> scale);
        let watch = if self.rng.bool() { watch.given_up_at(given_up_at) } else { watch };
        hub.writer.work(std::iter::once(Job::Compact { watch, answer }));
        if !self.is_open(hub) {
            return Ok(());
        }
        self.book.all_is_durable();
        if hub.log.head() != head {
            return Err(format!("compacting skipped numbers: {head}, then {}", hub.log.head()));
        }
        match answered.try_recv() {
            Ok(Ok(_)) => self.told.compactions += 1,
            Ok(Err(CompactError::GivenUp)) => self.told.given_up += 1,
            other => return Err(format!("it can't be compacted: {other:?}")),
        }
        self.judge_store(hub)
    }

    /// The disk fails for a while.
    fn fail(&mut self, hub: &mut Hub) -> Result<(), Loss> {
        match self.rng.bool() {
            true => self.disk.fail_sync(),
            false => self.disk.fail(self.rng.u64(0..16), self.rng.u64(1..20)),
        }
        let openings = self.disk.openings();
        for _ in 0..self.rng.usize(1..4) {
            self.publish(hub)?;
            if hub.fsync != Fsync::Always {
                hub.writer.sync();
            }
            if self.disk.openings() > openings {
                break;
            }
        }
        self.disk.mend();
        if self.disk.is_dark() {
            return Ok(());
        }
        self.told.faults += 1;
        if self.disk.openings() > openings && self.is_open(hub) && self.rng.bool() {
            // It is open again, and power goes before anything that was wrong is written over.
            self.judge_store(hub)?;
            self.disk.light_fuse(self.rng.u64(0..20));
            return Ok(());
        }
        // What failed before may be noticed only now.
        self.publish(hub)?;
        let refused = self.told.refused;
        self.publish(hub)?;
        hub.writer.sync();
        match () {
            () if self.disk.is_dark() => Ok(()),
            () if self.told.refused > refused || !self.is_open(hub) => {
                Err("it can't be written, though the disk works again".to_owned())
            }
            () => self.judge_store(hub),
        }
    }

    fn publish(&mut self, hub: &mut Hub) -> Result<(), Loss> {
        let batches: Vec<Vec<Stamped>> =
            (0..self.rng.usize(1..4)).map(|_| (0..self.rng.usize(1..5)).map(|_| self.event()).collect()).collect();
        let before = hub.log.head().seq.0;
        let answers = hub.append(batches.clone());
        for (events, answer) in batches.into_iter().zip(answers) {
            let Ok(appended) = answer else {
                self.told.refused += 1;
                continue;
            };
            self.told.acknowledged += 1;
            if appended.len() != events.len() {
                return Err(format!("{} answers for {} events", appended.len(), events.len()));
            }
            for (event, appended) in events.iter().zip(appended) {
                let seq = self.book.answered(event, appended, before)?;
                self.told.repeated += u64::from(matches!(appended, Appended::Repeated(_)));
                if hub.fsync == Fsync::Always {
                    self.book.durable.insert(seq);
                }
            }
        }
        Ok(())
    }

    /// A new event, or one whose publisher tries again.
    fn event(&mut self) -> Stamped {
        if self.rng.u8(..) < 40
            && let Some((_, event)) = self.book.tried.iter().nth(self.rng.usize(0..=self.book.tried.len()))
            && event.key.is_some()
        {
            let event = Stamped { at_ms: self.now_ms, ..event.clone() };
            self.book.times.entry(text(&event.draft)).or_default().push(self.now_ms);
            return event;
        }
        let mut topic = || Topic::new(TOPICS[self.rng.usize(0..TOPICS.len())]).unwrap();
        let (first, second) = (topic(), topic());
        let topics = if self.rng.u8(..) < 60 { vec![first, second] } else { vec![first] };
        let padding = match self.rng.u8(..) {
            0..20 if self.large => self.rng.usize(10_000..200_000),
            _ => self.rng.usize(0..300),
        };
        let text = format!("{} {}", self.book.tried.len(), "x".repeat(padding));
        let mut draft = Draft::new(topics, Data::text(&text)).unwrap();
        draft.id = (self.rng.u8(..) < 80).then(|| EventId::new(&format!("id{}", self.rng.u8(0..6))).unwrap());
        draft.private = self.rng.bool();
        self.now_ms += self.rng.u64(0..20);
        let key = self.rng.bool().then(|| IdempotencyKey::new("", &text, None, &draft));
        let event = Stamped { key, ..Stamped::new(draft, self.now_ms) };
        self.book.times.insert(text.clone(), vec![self.now_ms]);
        self.book.tried.insert(text, event.clone());
        event
    }

    /// After a start or a sync: whether the store agrees with itself and with what everybody was told.
    fn judge_store(&mut self, hub: &Hub) -> Result<(), Loss> {
        let store = hub.log.shared.store().ok_or("it is closed")?;
        let broken = |error: redb::Error| format!("it can't be read: {error}");
        let transaction = store.database().begin_read().map_err(|error| broken(error.into()))?;
        let findings = check::check(&transaction, Some(&self.retention), |_, _| {}).map_err(broken)?;
        if !findings.is_sound() {
            return Err(format!("{findings:?}"));
        }
        let events = transaction.open_table(EVENTS).map_err(|error| broken(error.into()))?;
        let mut kept = BTreeMap::new();
        for entry in events.iter().map_err(|error| broken(error.into()))? {
            let (seq, record) = entry.map_err(|error| broken(error.into()))?;
            let cursor = Cursor { epoch: store.epoch(), seq: Seq(seq.value()) };
            let event = record::decode(cursor, record.value()).ok_or("an event can't be read")?;
            self.book.see(&event)?;
            // Nothing is unsynced at this moment.
            self.book.durable.insert(cursor.seq.0);
            kept.insert(cursor.seq.0, event);
        }
        for &seq in &self.book.durable {
            if !kept.contains_key(&seq) && !self.is_evicted(seq, &kept) {
                let event = &self.book.tried[&self.book.shown[&seq]];
                let (topics, at_ms, now_ms) = (event.draft.topics(), event.at_ms, self.now_ms);
                let kept: Vec<_> = kept.keys().collect();
                return Err(format!("{seq} {topics:?} of {at_ms} was durable, and is gone at {now_ms}: {kept:?}"));
            }
        }
        self.book.gone = self.book.shown.keys().filter(|seq| !self.book.durable.contains(seq)).copied().collect();
        let head = hub.log.head().seq.0;
        match self.book.shown.last_key_value() {
            Some((&last, _)) if last > head => Err(format!("{last} was shown, and it goes on after {head}")),
            _ => Ok(()),
        }
    }

    /// Whether its class has no room for it beside what is kept.
    fn is_evicted(&self, seq: u64, kept: &BTreeMap<u64, Event>) -> bool {
        let event = &self.book.tried[&self.book.shown[&seq]];
        let class = self.retention.class_of(event.draft.canonical());
        let limits = &self.retention.classes()[class];
        let others = kept.values().filter(|other| self.retention.class_of(other.draft.canonical()) == class);
        let (newer, older) = others.map(|other| other.cursor.seq.0).partition::<Vec<_>, _>(|&other| other > seq);
        let has_aged = limits.age_max.is_some_and(|max| event.at_ms + (max.as_millis() as u64) < self.now_ms);
        older.is_empty() && (newer.len() >= limits.events_max || has_aged)
    }

    /// Whether readers who come back get everything, once, and every loss in a gap.
    fn judge_readers(&mut self, hub: &Hub) -> Result<(), Loss> {
        if hub.log.shared.store().is_none() {
            return Ok(());
        }
        for _ in 0..3 {
            let head = hub.log.head();
            let topic = self.rng.usize(0..=TOPICS.len());
            let matcher = TOPICS.get(topic).map_or(Matcher::Any, |topic| Matcher::exact(topic).unwrap());
            let matchers: Matchers = [matcher].into_iter().collect();
            let cursor = Cursor { epoch: self.epoch, seq: Seq(self.rng.u64(0..=head.seq.0)) };
            let Some((events, gaps)) = self.read(hub, cursor, &matchers, head.seq)? else { return Ok(()) };
            let is_in_gap = |seq: u64| gaps.iter().any(|&(from, to)| (from..=to).contains(&seq));
            let mut last = cursor.seq.0;
            for event in &events {
                let seq = event.cursor.seq.0;
                self.book.see(event)?;
                if seq <= last || is_in_gap(seq) {
                    return Err(format!("{seq} after {last}, with the gaps {gaps:?}"));
                }
                last = seq;
            }
            let delivered: BTreeSet<_> = events.iter().map(|event| event.cursor.seq.0).collect();
            for (&seq, text) in self.book.shown.range(cursor.seq.0 + 1..) {
                let wanted = matchers.matches(self.book.tried[text].draft.topics());
                if wanted != (delivered.contains(&seq) || wanted && is_in_gap(seq)) {
                    return Err(format!("{seq} after {cursor}: wanted {wanted}, with the gaps {gaps:?}"));
                }
            }
        }
        Ok(())
    }

    /// Reads like a feed. None if power went, or the disk failed.
    fn read(&mut self, hub: &Hub, from: Cursor, matchers: &Matchers, upto: Seq) -> Result<Option<History>, Loss> {
        let (mut events, mut gaps) = (vec![], vec![]);
        let start = self.runtime.block_on(hub.log.resolve(
            Some(&LastEventId::Cursor(from)),
            Replay::Nothing,
            matchers,
            &Rights::default(),
        ));
        let Ok(start) = start else { return Ok(None) };
        if start.after != from.seq || start.gap.is_some() {
            return Err(format!("a reader at {from} is told {start:?}"));
        }
        let mut after = start.after;
        while after < upto {
            let read = Read {
                after,
                upto,
                matchers: std::sync::Arc::new(matchers.clone()),
                told: None,
                only: None,
                events_max: self.rng.usize(1..8),
                bytes_max: self.rng.usize(1..4000),
            };
            let Ok(page) = self.runtime.block_on(hub.log.read(read)) else { return Ok(None) };
            for item in page.items {
                match item {
                    PageItem::Event(event) => events.push((**event).clone()),
                    PageItem::Gap { from, to } => gaps.push((from.0, to.0)),
                }
            }
            if page.reached <= after {
                return Err(format!("a reader is stuck at {after}"));
            }
            after = page.reached;
        }
        Ok(Some((events, gaps)))
    }
}

/// Events, and gaps.
type History = (Vec<Event>, Vec<(u64, u64)>);

impl Hub {
    /// Appends in one go, as publishers do who come at the same time.
    fn append(&mut self, batches: Vec<Vec<Stamped>>) -> Vec<Result<Vec<Appended>, AppendError>> {
        let log = &self.log;
        let mut answers: Vec<BoxFuture<'_, _>> = batches.into_iter().map(|events| log.append(events)).collect();
        for answer in &mut answers {
            assert!(answer.now_or_never().is_none(), "nothing was written yet");
        }
        let jobs: Vec<_> = std::iter::from_fn(|| self.inbox.try_recv().ok()).collect();
        self.writer.work(jobs.into_iter());
        answers.into_iter().map(|answer| answer.now_or_never().expect("it was written")).collect()
    }

    /// Does what the log was asked for.
    fn work(&mut self) {
        let jobs: Vec<_> = std::iter::from_fn(|| self.inbox.try_recv().ok()).collect();
        self.writer.work(jobs.into_iter());
    }
}

impl Book {
    /// What became of an event that was published when `before` was the newest number.
    fn answered(&mut self, event: &Stamped, appended: Appended, before: u64) -> Result<u64, Loss> {
        let text = text(&event.draft);
        let there = self.shown.iter().find(|(seq, shown)| **shown == text && !self.gone.contains(seq));
        let there = there.map(|(&seq, _)| seq);
        match appended {
            Appended::New(cursor) if cursor.seq.0 <= before => {
                Err(format!("{} was given out after {before}", cursor.seq))
            }
            Appended::New(cursor) => {
                self.show(cursor.seq.0, event)?;
                match there {
                    // It went when the disk failed.
                    Some(there) if !self.durable.contains(&there) => {
                        self.gone.insert(there);
                        Ok(cursor.seq.0)
                    }
                    Some(there) => Err(format!("{text:.20} was made twice: {there} and {}", cursor.seq)),
                    None => Ok(cursor.seq.0),
                }
            }
            Appended::Repeated(cursor) if there.is_none_or(|there| there == cursor.seq.0) => {
                self.show(cursor.seq.0, event)?;
                Ok(cursor.seq.0)
            }
            other => Err(format!("{text:.20} was answered with {other:?}, and is {there:?}")),
        }
    }

    fn show(&mut self, seq: u64, event: &Stamped) -> Result<(), Loss> {
        let text = text(&event.draft);
        match self.shown.insert(seq, text.clone()) {
            Some(before) if before != text => {
                Err(format!("{seq} was given to two events: {before:.20} and {text:.20}"))
            }
            _ => Ok(()),
        }
    }

    fn see(&mut self, event: &Event) -> Result<(), Loss> {
        let seq = event.cursor.seq.0;
        let text = text(&event.draft);
        let tried = self.tried.get(&text).ok_or_else(|| format!("{seq} was never published: {text:.20}"))?;
        if tried.draft != event.draft || !self.times[&text].contains(&event.at_ms) {
            return Err(format!("{seq} isn't what was published: {text:.20}"));
        }
        let is_other = |other: &u64| *other != seq && !self.gone.contains(other);
        if let Some((other, _)) = self.shown.iter().find(|(other, shown)| is_other(other) && **shown == text) {
            return Err(format!("{text:.20} is there twice: {other} and {seq}"));
        }
        let tried = tried.clone();
        self.show(seq, &tried)
    }

    fn all_is_durable(&mut self) {
        self.durable.extend(self.shown.keys().filter(|seq| !self.gone.contains(seq)));
    }
}

fn text(draft: &Draft) -> String {
    String::from_utf8(draft.data.bytes().to_vec()).unwrap()
}

const TOPICS: [&str; 4] = ["noisy/1", "noisy/2", "quiet", "ü"];
const AGE_MAX: Duration = Duration::from_millis(500);
/// Longer than any run.
const KEYS: KeyWindow = KeyWindow { age_max: Duration::from_secs(3600), keys_max: 1_000_000 };
const SEEDS: u64 = 300;
const LOSSY_SEEDS: u64 = 30;
const PUBLISHERS: u64 = 100;
/// The database writes its pages and its header, and syncs them at once: a header whose pages aren't all there is passed over.
const SYNCS_PER_COMMIT: u64 = 1;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
