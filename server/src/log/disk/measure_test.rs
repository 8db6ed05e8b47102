//! How long a large log takes to open, and what it costs to make that quick.
//!
//! `MEASURE_EVENTS=1000000 cargo test --release -p fanwire --lib how_long -- --ignored --nocapture`

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use fanwire_protocol::{Data, Draft, Epoch, Seq, Topic};
use redb::Database;

use super::store::{EVENTS, Store};
use crate::log::{Class, Retention, Stamped};

#[test]
#[ignore = "a measurement"]
fn how_long_opening_takes() {
    let count = std::env::var("MEASURE_EVENTS").map_or(1_000_000, |count| count.parse::<u64>().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.redb");
    let began = Watch::start();
    let (store, _) = open(&path, 1 << 30);
    for first in (0..count).step_by(BATCH) {
        let events = (first..first + BATCH as u64).map(event).collect();
        store.append(Seq(first), events, first % 200_000 == 0).unwrap();
    }
    store.close().unwrap();
    drop(store);
    eprintln!("{count} events, {} MiB, made in {began}", mebibytes(&path));
    let (store, _) = open(&path, CACHE);

    for quick in [false, true, false, true] {
        let took = commits(&store, quick);
        eprintln!(
            "commits with quick repair {quick}: median {:?}, 99th {:?}, worst {:?}",
            took[50], took[98], took[99]
        );
    }
    let killed = directory.path().join("killed.redb");
    for quick in [false, true] {
        commits(&store, quick);
        std::fs::copy(&path, &killed).unwrap();
        let began = Watch::start();
        let (opened, _) = open(&killed, CACHE);
        eprintln!("opened after a kill behind a commit with quick repair {quick}: {began}");
        drop(opened);
    }
    let began = Watch::start();
    drop(store);
    eprintln!("closed in {began}");
    let began = Watch::start();
    let (store, _) = open(&path, CACHE);
    eprintln!("opened in order: {began}");
    drop(store);
    let began = Watch::start();
    let database = Database::builder().set_cache_size(CACHE).set_check_integrity_on_open(true).open(&path).unwrap();
    eprintln!("opened in order, with every checksum looked at: {began}");
    drop(database);
}

/// What something took, by the clock and of the processor: the latter is what a machine with nothing else to do takes.
struct Watch(Instant, Duration);

impl Watch {
    fn start() -> Self {
        Self(Instant::now(), Self::processor())
    }

    fn processor() -> Duration {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // In the kernel's ticks of 10 ms: user and system.
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(10 * ticks)
    }
}

impl std::fmt::Display for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, {:?} of the processor", self.0.elapsed(), Self::processor() - self.1)
    }
}

/// How long commits of ten events take, sorted.
fn commits(store: &Store, quick: bool) -> Vec<Duration> {
    let commit = |number: u64| {
        let began = Instant::now();
        let mut transaction = store.database().begin_write().unwrap();
        transaction.set_quick_repair(quick);
        let mut table = transaction.open_table(EVENTS).unwrap();
        for event in 0..10 {
            table.insert((1 << 40) + 10 * number + event, [0; 100].as_slice()).unwrap();
        }
        drop(table);
        transaction.commit().unwrap();
        began.elapsed()
    };
    let mut took: Vec<_> = (0..100).map(commit).collect();
    took.sort_unstable();
    took
}

fn open(path: &Path, cache_bytes: usize) -> (Store, Seq) {
    let class = Class { events_max: usize::MAX, bytes_max: usize::MAX, age_max: None, ..Class::default() };
    Store::open(path, Epoch::from_bits(1), Arc::new(Retention::new(vec![], class)), cache_bytes).unwrap()
}

fn event(number: u64) -> Stamped {
    let topic = Topic::new(&format!("topic/{}", number % 1000)).unwrap();
    Stamped::new(Draft::new(vec![topic], Data::text(&format!("{number:0100}"))).unwrap(), number)
}

fn mebibytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len() >> 20
}

const CACHE: usize = 64 << 20;
const BATCH: usize = 10_000;
