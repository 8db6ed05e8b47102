//! What a log takes on the disk: no more than its retention, however long it runs and whoever reads.

use std::{sync::Arc, time::Duration};

use fanwire_protocol::{Data, Draft, Epoch, Matcher, Seq, Topic};

use redb::{Database, ReadableDatabase as _};

use super::{
    admin::Progress,
    check,
    medium::Medium as _,
    meter::{self, End, Watch},
    power_disk::Disk,
    store::{self, Store},
};
use crate::{
    core::{Page, PageItem, Read},
    log::{Class, Retention, Stamped},
};

const RETAINED: u64 = 400;
const EVENT_BYTES: usize = 1000;

#[test]
fn a_log_under_steady_load_stops_growing_and_a_slow_reader_pins_nothing() {
    for sync_every in [1, 20] {
        let disk = Disk::with(vec![], 1);
        let (store, mut head) = open(&disk, Duration::MAX);
        let mut grow = |turns: u64| {
            for batch in 0..turns * RETAINED / BATCH {
                append(&store, &mut head, batch % sync_every == 0);
            }
            head
        };
        let (middle, head) = (Seq(RETAINED / 2), grow(1));
        let began = read(&store, middle, head);
        assert!(matches!(&began.items[0], PageItem::Event(event) if event.seq() == middle.next()));
        grow(9);
        let bytes = disk.len();
        // The reader holds what it was given, and nothing else.
        let head = grow(40);
        eprintln!("a sync every {sync_every} commits: {bytes} bytes, then {}", disk.len());
        assert!(disk.len() <= bytes, "{} after {bytes}", disk.len());
        assert!(bytes < 8 * RETAINED * EVENT_BYTES as u64, "{bytes}");
        let went_on = read(&store, began.reached, head);
        let PageItem::Gap { from, to } = went_on.items[0] else { panic!("{:?}", went_on.items[0]) };
        assert_eq!((from, to), (began.reached.next(), Seq(head.0 - RETAINED)));
    }
}

#[test]
fn what_was_evicted_makes_room_for_what_comes_and_compaction_gives_it_back() {
    let disk = Disk::with(vec![], 1);
    let (store, mut head) = open(&disk, Duration::from_millis(10));
    let empty = disk.len();
    let fill = |head: &mut Seq, at_ms| (0..40 * RETAINED / BATCH).for_each(|_| append_at(&store, head, at_ms, true));
    fill(&mut head, 1);
    let full = disk.len();
    while store.expire(1000, true).unwrap() {}
    fill(&mut head, 2000);
    let full_again = disk.len();
    while store.expire(3000, true).unwrap() {}
    store.close().unwrap();
    drop(store);
    let closed = disk.len();
    let mut database = disk.open(Database::builder().set_cache_size(1 << 20)).unwrap();
    database.compact().unwrap();
    drop(database);
    eprintln!("empty {empty}, full {full}, then {full_again}, closed {closed}, compacted {}", disk.len());
    assert!(full > 40 * RETAINED * EVENT_BYTES as u64 && full_again <= full && closed <= full);
    assert!(disk.len() <= 2 * empty, "{} bytes for nothing", disk.len());
}

/// A bar that shows it is honest: it gets nearly to its end, and not beyond.
#[test]
fn compacting_takes_about_what_it_says_at_first_and_ends_when_little_is_left() {
    for evicted in [2, 5, 8] {
        let disk = Disk::with(vec![], 1);
        let (store, mut head) = open(&disk, Duration::ZERO);
        let batches = 40 * RETAINED / BATCH;
        (0..batches).for_each(|batch| append_at(&store, &mut head, batch, true));
        while store.expire(batches * evicted / 10, true).unwrap() {}
        let used_bytes = store::used_bytes(store.database()).unwrap();
        store.close().unwrap();
        drop(store);
        let mut database = disk.open(Database::builder().set_cache_size(1 << 20)).unwrap();
        let (progress, _heard) = Progress::channel();
        disk.meter().watch(Watch::new(progress, disk.len(), used_bytes));
        let compacted = database.compact();
        drop(database);
        let watch = disk.meter().leave().unwrap();
        let (end, (done, total)) = (watch.end(), watch.done_of());
        let bytes = disk.len();
        eprintln!("{evicted}0 % evicted: {used_bytes} of {bytes} bytes in use, after {done} of {total}: {compacted:?}");
        assert!(end == Some(End::Enough) && compacted.is_err() && bytes <= meter::enough(used_bytes));
        // It is looked through when it is opened again.
        let whole = done + 2 * used_bytes;
        assert!(whole <= total && whole > total / 3, "{whole} of {total}");
        let (store, _) = open(&disk, Duration::ZERO);
        let findings = check::check(&store.database().begin_read().unwrap(), None, |_, _| {}).unwrap();
        assert!(findings.is_sound() && findings.events == batches * BATCH * (10 - evicted) / 10, "{findings:?}");
    }
}

fn append(store: &Store, head: &mut Seq, durable: bool) {
    append_at(store, head, 1, durable);
}

fn append_at(store: &Store, head: &mut Seq, at_ms: u64, durable: bool) {
    let event = || {
        let topics = vec![Topic::new(&format!("topic/{}", fastrand::u8(..))).unwrap()];
        Stamped::new(Draft::new(topics, Data::text(&"x".repeat(EVENT_BYTES))).unwrap(), at_ms)
    };
    store.append(*head, (0..BATCH).map(|_| event()).collect(), durable).unwrap();
    *head = Seq(head.0 + BATCH);
}

fn read(store: &Store, after: Seq, upto: Seq) -> Page {
    let matchers = Arc::new([Matcher::Any].into_iter().collect());
    store.read(&Read { after, upto, matchers, told: None, only: None, events_max: 10, bytes_max: 1 << 20 }).unwrap()
}

fn open(disk: &Disk, age_max: Duration) -> (Store, Seq) {
    let is_aging = age_max != Duration::MAX;
    let class = Class {
        events_max: if is_aging { usize::MAX } else { RETAINED as usize },
        bytes_max: usize::MAX,
        age_max: is_aging.then_some(age_max),
        ..Class::default()
    };
    Store::open_on(disk, Epoch::from_bits(1), Arc::new(Retention::new(vec![], class)), 64 << 20).unwrap()
}

const BATCH: u64 = 20;
