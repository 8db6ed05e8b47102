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
    let began = Instant::now();
    let (store, _) = open(&path);
    for first in (0..count).step_by(BATCH) {
        let events = (first..first + BATCH as u64).map(event).collect();
        store.append(Seq(first), events, first % 200_000 == 0).unwrap();
    }
    store.close().unwrap();
    eprintln!("{count} events, {} MiB, made in {:?}", mebibytes(&path), began.elapsed());

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
        let began = Instant::now();
        let (opened, _) = open(&killed);
        eprintln!("opened after a kill behind a commit with quick repair {quick}: {:?}", began.elapsed());
        drop(opened);
    }
    let began = Instant::now();
    drop(store);
    eprintln!("closed in {:?}", began.elapsed());
    let began = Instant::now();
    let (store, _) = open(&path);
    eprintln!("opened in order: {:?}", began.elapsed());
    drop(store);
    let began = Instant::now();
    let database = Database::builder().set_cache_size(64 << 20).set_check_integrity_on_open(true).open(&path).unwrap();
    eprintln!("opened in order, with every checksum looked at: {:?}", began.elapsed());
    drop(database);
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

fn open(path: &Path) -> (Store, Seq) {
    let class = Class { events_max: usize::MAX, bytes_max: usize::MAX, age_max: None, ..Class::default() };
    Store::open(path, Epoch::from_bits(1), Arc::new(Retention::new(vec![], class)), 64 << 20).unwrap()
}

fn event(number: u64) -> Stamped {
    let topic = Topic::new(&format!("topic/{}", number % 1000)).unwrap();
    Stamped::new(Draft::new(vec![topic], Data::text(&format!("{number:0100}"))).unwrap(), number)
}

fn mebibytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len() >> 20
}

const BATCH: usize = 1000;
