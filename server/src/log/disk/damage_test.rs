//! Logs whose files are damaged: torn, cut, overwritten, rotten in any place. They are refused with a clear error, or what they still
//! give is what was published; the process goes on either way.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fanwire_protocol::{Cursor, Data, Draft, Epoch, Event, EventId, LastEventId, Matcher, Matchers, Seq, Topic};
use futures_util::FutureExt as _;
use tokio::sync::mpsc;

use super::{
    DiskLog, Fsync, OpenError, Shared,
    power_disk::Disk,
    store::Store,
    writer::{Job, Writer},
};
use crate::{
    core::{PageItem, Read, Rights},
    log::{Class, Log as _, Replay, Retention, Stamped},
};

/// What became of damaged logs.
#[derive(Debug, Default)]
struct Told {
    refused: u64,
    /// Nothing of the damage shows.
    whole: u64,
    /// Lost events were told, as gaps or as an error.
    told: u64,
    /// An index led to fewer events than there were.
    silent: u64,
    written: u64,
    not_written: u64,
}

#[test]
fn a_damaged_log_is_refused() {
    let told = damage_and_judge(false);
    assert!(told.refused > told.whole && told.whole > 0 && told.told + told.silent == 0, "{told:?}");
}

#[test]
fn a_damaged_log_that_is_too_large_to_be_checked_gives_only_what_was_published() {
    let told = damage_and_judge(true);
    assert!(told.refused > 0 && told.whole > 0 && told.told > told.silent, "{told:?}");
}

fn damage_and_judge(looks_large: bool) -> Told {
    let number = |name| std::env::var(name).ok().map(|number| number.parse::<u64>().unwrap());
    let (one, count) = (number("SIMULATION_SEED"), number("DAMAGED_LOGS").unwrap_or(SEEDS));
    let (bytes, published) = log();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut told = Told::default();
    for seed in one.map_or(0..count, |seed| seed..seed + 1) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = bytes.clone();
        damage(&mut bytes, &mut rng);
        let judged = judge(Disk::with(bytes, seed).looking_large(looks_large), &published, &runtime, &mut told);
        judged.unwrap_or_else(|wrong| panic!("SIMULATION_SEED={seed}: {wrong}"));
    }
    eprintln!("{told:?}");
    told
}

fn damage(bytes: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    match rng.u8(0..10) {
        0 => bytes.truncate(rng.usize(0..bytes.len())),
        1 => {
            let (from, len) = (rng.usize(0..bytes.len()), rng.usize(1..70_000));
            let to = bytes.len().min(from + len);
            bytes[from..to].fill(0);
        }
        // A page of another time, or in another's place.
        2 => {
            let pages = bytes.len() / 4096;
            let (from, to) = (4096 * rng.usize(0..pages), 4096 * rng.usize(0..pages));
            bytes.copy_within(from..from + 4096, to);
        }
        _ => {
            for _ in 0..1 << rng.u32(0..10) {
                // Where there is something: most of a young file is zeros.
                let at = std::iter::repeat_with(|| rng.usize(0..bytes.len())).take(100).find(|&at| bytes[at] != 0);
                bytes[at.unwrap_or(0)] ^= 1 << rng.u8(0..8);
            }
        }
    }
}

fn judge(
    disk: Disk,
    published: &BTreeMap<u64, Event>,
    runtime: &tokio::runtime::Runtime,
    told: &mut Told,
) -> Result<(), String> {
    let (shared, mut writer, mut inbox, log) = match Shared::open(Box::new(disk), Epoch::from_bits(2), retention()) {
        Ok(shared) => {
            let (log, writer, inbox) = DiskLog::new(shared.clone(), Fsync::Always);
            (shared, writer, inbox, log)
        }
        Err(error) => {
            told.refused += 1;
            let is_clear = matches!(error, OpenError::Damaged(_) | OpenError::NoLog | OpenError::NewerFormat { .. });
            return if is_clear { Ok(()) } else { Err(format!("{error}: {error:?}")) };
        }
    };
    writer.retry = (Duration::ZERO, 0);
    // A header that was cut off is a new log's.
    let is_new = shared.epoch != epoch_of(published);
    let mut tail = log.tail();
    let mut outcome = if is_new { 0 } else { 1 };
    if !is_new {
        for topic in ["*", "a", "b/c"] {
            let matcher = if topic == "*" { Matcher::Any } else { Matcher::exact(topic).unwrap() };
            let matchers: Matchers = [matcher].into_iter().collect();
            let head = log.head().seq;
            outcome = outcome.max(match runtime.block_on(read(&log, &matchers, head)) {
                Ok((events, gaps)) => compare(published, &matchers, head, &events, &gaps)?,
                Err(_) => 2,
            });
        }
    }
    match outcome {
        0 | 2 => told.told += 1,
        1 => told.whole += 1,
        _ => told.silent += 1,
    }
    for number in 0..3 {
        let draft = Draft::new(vec![Topic::new("new").unwrap()], Data::text(&number.to_string())).unwrap();
        let mut answer = log.append(vec![Stamped::new(draft, 5)]);
        assert!(answer.as_mut().now_or_never().is_none());
        work(&mut writer, &mut inbox);
        let is_written = answer.now_or_never().ok_or("no answer")?.is_ok();
        *(if is_written { &mut told.written } else { &mut told.not_written }) += 1;
        // Live feeds are fed by the tail alone.
        if is_written && tail.next(&mut vec![]).now_or_never().is_none() {
            return Err("what is written isn't shown".to_owned());
        }
    }
    log.expire(u64::MAX);
    work(&mut writer, &mut inbox);
    writer.close();
    Ok(())
}

fn work(writer: &mut Writer, inbox: &mut mpsc::Receiver<Job>) {
    let jobs: Vec<_> = std::iter::from_fn(|| inbox.try_recv().ok()).collect();
    writer.work(jobs.into_iter());
}

/// 1: all is there; 2: what is missing is told; 3: it isn't.
fn compare(
    published: &BTreeMap<u64, Event>,
    matchers: &Matchers,
    head: Seq,
    events: &[Event],
    gaps: &[(u64, u64)],
) -> Result<u8, String> {
    let mut last = 0;
    for event in events {
        let seq = event.cursor.seq.0;
        if published.get(&seq) != Some(event) || seq <= last {
            return Err(format!("{event:?} after {last} isn't what was published"));
        }
        last = seq;
    }
    let is_there = |seq: u64| events.iter().any(|event| event.cursor.seq.0 == seq);
    let missing = published.values().filter(|event| matchers.matches(event.draft.topics()));
    let missing: Vec<_> = missing.map(|event| event.cursor.seq.0).filter(|seq| !is_there(*seq)).collect();
    let is_told = |seq: &u64| gaps.iter().any(|(from, to)| (from..=to).contains(&seq));
    Ok(match () {
        () if missing.is_empty() => 1,
        () if missing.iter().all(is_told) && head.0 >= published.len() as u64 => 2,
        () => 3,
    })
}

async fn read(log: &DiskLog, matchers: &Matchers, upto: Seq) -> Result<(Vec<Event>, Vec<(u64, u64)>), String> {
    let (mut events, mut gaps) = (vec![], vec![]);
    let from = Cursor { epoch: log.epoch(), seq: Seq(0) };
    let start = log.resolve(Some(&LastEventId::Cursor(from)), Replay::Nothing, matchers, &Rights::default()).await;
    let mut after = start.map_err(|error| error.to_string())?.after;
    while after < upto {
        let matchers = Arc::new(matchers.clone());
        let read = Read { after, upto, matchers, told: None, only: None, events_max: 100, bytes_max: 100_000 };
        let page = log.read(read).await.map_err(|error| error.to_string())?;
        for item in page.items {
            match item {
                PageItem::Event(event) => events.push((**event).clone()),
                PageItem::Gap { from, to } => gaps.push((from.0, to.0)),
            }
        }
        if page.reached <= after {
            return Err("it is stuck".to_owned());
        }
        after = page.reached;
    }
    Ok((events, gaps))
}

/// A log that was closed in order, and what is in it.
fn log() -> (Vec<u8>, BTreeMap<u64, Event>) {
    let disk = Disk::with(vec![], 1);
    let (store, mut head) = Store::open_on(&disk, epoch(), Arc::new(retention()), 1 << 20).unwrap();
    let mut published = BTreeMap::new();
    for batch in 0..15 {
        let events: Vec<_> = (0..100)
            .map(|number| {
                let topics = [["a"].as_slice(), &["b/c", "a"], &["d"]][number % 3];
                let topics = topics.iter().map(|topic| Topic::new(topic).unwrap()).collect();
                let mut draft =
                    Draft::new(topics, Data::text(&format!("{batch} {number} {}", "x".repeat(number)))).unwrap();
                draft.id = (number % 2 == 0).then(|| EventId::new(&format!("id{number}")).unwrap());
                Stamped::new(draft, 1)
            })
            .collect();
        for Stamped { draft, at_ms, .. } in events.clone() {
            head = head.next();
            let cursor = Cursor { epoch: epoch(), seq: head };
            published.insert(head.0, Event { cursor, at_ms, draft });
        }
        store.append(Seq(head.0 - 100), events, true).unwrap();
    }
    store.close().unwrap();
    drop(store);
    (disk.bytes(), published)
}

fn epoch() -> Epoch {
    Epoch::from_bits(1)
}

fn epoch_of(published: &BTreeMap<u64, Event>) -> Epoch {
    published[&1].cursor.epoch
}

fn retention() -> Retention {
    Retention::new(vec![], Class { age_max: Some(Duration::from_secs(1)), ..Class::default() })
}

const SEEDS: u64 = 60;
