//! What a hub says to its operator when it can't start on a directory: which file, what is wrong, what to do.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use fanwire_client::{Connection, HttpVersion, Item, Publication, Publisher, Transport};
use fanwire_protocol::LastEventId;
use fanwire_tests::{HubProcess, Way, is_full, soon};

const EVENTS: usize = 1000;

/// A directory with a log of numbered events, that was closed in order or not.
async fn written(in_order: bool) -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let mut hub = HubProcess::start(data.path(), &[]);
    let mut publisher = Publisher::new(hub.options(Way::SseH1), HttpVersion::H1);
    for first in (0..EVENTS).step_by(200) {
        let events = (first..first + 200).map(|number| Publication::text("t", format!("{number:0>200}")));
        publisher.publish_batch(&events.collect::<Vec<_>>()).await.unwrap();
    }
    if in_order {
        hub.terminate();
        assert!(hub.ended().await.success());
    } else {
        hub.crash();
    }
    data
}

/// The hub doesn't start, says so in one line that names what it is about and what can be done, and leaves it as it is.
#[track_caller]
fn refuses(data: &Path, says: &[&str]) {
    let file = data.join("log.redb");
    let before = fs::read(&file).ok();
    let refused = HubProcess::try_start(data, &[]).expect_err("it must not start").to_string();
    assert_eq!(refused.lines().next(), Some("exit status: 1"), "{refused}");
    let said: Vec<&str> = refused.lines().filter(|line| line.starts_with("fanwire: ")).collect();
    assert_eq!(said.len(), 1, "{refused}");
    assert!(said[0].contains(data.to_str().unwrap()), "{refused}");
    for says in says {
        assert_eq!(said[0].matches(says).count(), 1, "{says:?} once: {refused}");
    }
    assert!(fs::read(&file).ok() == before, "what can't be read is left alone");
}

#[tokio::test]
async fn a_truncated_file() {
    for in_order in [true, false] {
        let data = written(in_order).await;
        let file = fs::OpenOptions::new().write(true).open(data.path().join("log.redb")).unwrap();
        let len = file.metadata().unwrap().len();
        for kept in [len - 1, len / 2, 5000, 100] {
            file.set_len(kept).unwrap();
            refuses(data.path(), &["log.redb", "damaged", "backup"]);
        }
    }
}

#[tokio::test]
async fn a_file_that_is_no_log() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("log.redb");
    fs::write(&file, "a shopping list, which is longer than what a database begins with".repeat(100)).unwrap();
    refuses(data.path(), &["log.redb", "isn't a log"]);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    refuses(data.path(), &["log.redb"]);
    fs::remove_dir(&file).unwrap();
    let file = data.path().join("file");
    fs::write(&file, "").unwrap();
    refuses(&file, &["can't be used"]);
}

/// Wherever a bit is wrong that counts: the hub says so at its start, since it looks through a file of this size.
#[tokio::test]
async fn a_file_with_a_flipped_bit() {
    let whole = written(true).await;
    let whole = fs::read(whole.path().join("log.redb")).unwrap();
    let seed = std::env::var("TESTS_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("TESTS_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    // What is zero is seldom used.
    let used: Vec<usize> = (0..whole.len()).filter(|&at| whole[at] != 0).collect();
    let (mut refused, mut harmless) = (0, 0);
    for round in 0..if is_full() { 400 } else { 18 } {
        // The first bytes say what the file is, and where everything begins.
        let at = if round % 3 == 0 { rng.usize(0..192) } else { *rng.choice(&used).unwrap() };
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("log.redb");
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << rng.u8(0..8);
        fs::write(&file, &bytes).unwrap();
        match HubProcess::try_start(data.path(), &[]) {
            Err(_) => {
                fs::write(&file, &bytes).unwrap();
                refuses(data.path(), &["log.redb"]);
                refused += 1;
            }
            Ok(hub) => {
                read_all(&hub).await;
                harmless += 1;
            }
        }
    }
    eprintln!("{refused} refused, {harmless} harmless");
    // Most are, but which bits are tried is left to chance.
    assert!(refused * 4 > refused + harmless);
}

/// Everything is there, in order.
async fn read_all(hub: &HubProcess) {
    let options = hub.options(Way::SseH1).topic("t").unwrap().last_event_id(LastEventId::Earliest);
    let mut connection = soon(Connection::connect(Transport::SseH1, &options)).await.unwrap();
    let mut next = 0;
    while next < EVENTS {
        match soon(connection.next()).await.unwrap() {
            Item::Event(event) => {
                assert_eq!(event.event.draft.data.bytes(), format!("{next:0>200}").as_bytes());
                next += 1;
            }
            Item::Gap(gap) => panic!("{gap:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_file_of_a_newer_format() {
    let data = written(true).await;
    let database = redb::Database::open(data.path().join("log.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    transaction.open_table(meta).unwrap().insert("format", 99).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refused = HubProcess::try_start(data.path(), &[]).unwrap_err().to_string();
    assert!(
        refused.contains("log.redb") && refused.contains("format 99") && refused.contains("newer hub"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_hub_that_ends_in_order_leaves_nothing_to_repair() {
    // A repair reads everything, so that a start would take the longer the more is kept.
    for (in_order, is_repaired) in [(true, false), (false, true)] {
        let data = written(in_order).await;
        let repaired = Arc::new(AtomicBool::new(false));
        let seen = repaired.clone();
        let mut builder = redb::Database::builder();
        builder.set_repair_callback(move |_| seen.store(true, Relaxed));
        builder.open(data.path().join("log.redb")).unwrap();
        assert_eq!(repaired.load(Relaxed), is_repaired, "in order: {in_order}");
    }
}

#[tokio::test]
async fn two_hubs_on_one_directory() {
    let data = tempfile::tempdir().unwrap();
    let first = HubProcess::start(data.path(), &[]);
    refuses(data.path(), &["log.redb", "another hub"]);
    let mut publisher = Publisher::new(first.options(Way::SseH1), HttpVersion::H1);
    publisher.publish(&Publication::text("t", "still here")).await.expect("the first isn't disturbed");
}
