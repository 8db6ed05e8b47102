//! What a log on disk promises over runs.

use std::time::Duration;

use fanwire_protocol::{Cursor, Data, Draft, Epoch, LastEventId, Matcher, Matchers, Topic, message::Verdict};

use super::{DiskLog, DiskLogError, Fsync, OpenError};
use crate::{
    core::{Page, PageItem, Read, Rights},
    log::{Appended, IdempotencyKey, Log, Replay, Retention, Stamped},
};

fn open(directory: &std::path::Path, bits: u64, fsync: Fsync) -> Result<DiskLog, DiskLogError> {
    DiskLog::open(directory, Epoch::from_bits(bits), Retention::default(), fsync)
}

async fn publish(log: &DiskLog, numbers: std::ops::Range<usize>) -> Vec<Cursor> {
    let events = numbers.map(|number| {
        let draft = Draft::new(vec![Topic::new("numbers").unwrap()], Data::text(&number.to_string())).unwrap();
        Stamped::new(draft, crate::hub::now_ms())
    });
    let appended = log.append(events.collect()).await.unwrap();
    appended.into_iter().map(new).collect()
}

fn new(appended: Appended) -> Cursor {
    match appended {
        Appended::New(cursor) => cursor,
        other => panic!("{other:?}"),
    }
}

async fn read_all(log: &DiskLog) -> Page {
    let matchers: Matchers = [Matcher::Any].into_iter().collect();
    let start =
        log.resolve(Some(&LastEventId::Earliest), Replay::Nothing, &matchers, &Rights::default()).await.unwrap();
    let read = Read {
        after: start.after,
        upto: log.head().seq,
        matchers: std::sync::Arc::new(matchers),
        told: None,
        only: None,
        events_max: 1000,
        bytes_max: usize::MAX,
    };
    log.read(read).await.unwrap()
}

fn texts(page: &Page) -> Vec<String> {
    let items = page.items.iter().map(|item| match item {
        PageItem::Event(event) => String::from_utf8(event.draft.data.bytes().to_vec()).unwrap(),
        PageItem::Gap { .. } => "gap".to_owned(),
    });
    items.collect()
}

#[tokio::test]
async fn a_new_run_goes_on_where_the_last_ended() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path(), 1, Fsync::Always).unwrap();
    let cursors = publish(&log, 0..3).await;
    drop(log);
    let log = open(directory.path(), 2, Fsync::Always).unwrap();
    assert_eq!((log.epoch(), log.head()), (Epoch::from_bits(1), cursors[2]), "the epoch is the log's, not the run's");
    assert_eq!(publish(&log, 3..4).await[0].seq.0, 4);
    assert_eq!(texts(&read_all(&log).await), ["0", "1", "2", "3"]);
    let resumed = log
        .resolve(Some(&LastEventId::Cursor(cursors[1])), Replay::Nothing, &Matchers::default(), &Rights::default())
        .await
        .unwrap();
    assert_eq!((resumed.verdict, resumed.after.0), (Verdict::Resumed, 2));
}

#[tokio::test]
async fn a_key_outlives_the_run_that_took_it() {
    let directory = tempfile::tempdir().unwrap();
    let draft = Draft::new(vec![Topic::new("numbers").unwrap()], Data::text("0")).unwrap();
    let keyed = Stamped {
        key: Some(IdempotencyKey::new("me", "k", None, &draft)),
        ..Stamped::new(draft, crate::hub::now_ms())
    };
    let log = open(directory.path(), 1, Fsync::Always).unwrap();
    let first = new(log.append(vec![keyed.clone()]).await.unwrap()[0]);
    drop(log);
    let log = open(directory.path(), 2, Fsync::Always).unwrap();
    assert_eq!(log.append(vec![keyed]).await.unwrap(), [Appended::Repeated(first)]);
    assert_eq!(log.head(), first);
}

#[tokio::test]
async fn two_hubs_on_one_directory_are_one_too_many() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path(), 1, Fsync::Always).unwrap();
    let second = open(directory.path(), 2, Fsync::Always).unwrap_err();
    assert!(matches!(second, DiskLogError::Store { source: OpenError::InUse, .. }), "{second}");
    publish(&first, 0..1).await;
}

#[tokio::test]
async fn what_a_crash_took_between_two_syncs_is_a_gap_and_no_number_comes_twice() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path(), 1, Fsync::Interval(Duration::from_secs(3600))).unwrap();
    // The first reserves numbers, and so is synced; the second isn't.
    publish(&log, 0..2).await;
    let shown = publish(&log, 2..5).await;
    let crashed = tempfile::tempdir().unwrap();
    std::fs::copy(directory.path().join("log.redb"), crashed.path().join("log.redb")).unwrap();
    let after = open(crashed.path(), 2, Fsync::Always).unwrap();
    let next = publish(&after, 9..10).await;
    assert!(next[0].seq > shown[2].seq, "{next:?} after {shown:?}");
    let page = read_all(&after).await;
    assert_eq!(texts(&page), ["0", "1", "gap", "9"]);
    let PageItem::Gap { from, to } = page.items[2] else { panic!("no gap") };
    assert!(from <= shown[0].seq && to >= shown[2].seq, "{from}-{to} holds {shown:?}");
}

#[tokio::test]
async fn a_run_that_ends_in_order_leaves_no_gap_at_any_interval() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path(), 1, Fsync::Interval(Duration::from_secs(3600))).unwrap();
    publish(&log, 0..2).await;
    publish(&log, 2..4).await;
    drop(log);
    let log = open(directory.path(), 1, Fsync::Always).unwrap();
    publish(&log, 4..5).await;
    assert_eq!(texts(&read_all(&log).await), ["0", "1", "2", "3", "4"]);
}

#[test]
fn what_is_no_log_is_refused_with_its_name_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("log.redb");
    let refused = |directory: &std::path::Path| {
        let error = open(directory, 1, Fsync::Always).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(directory.to_str().unwrap()), "{said}");
        error
    };
    let source = |error| match error {
        DiskLogError::Store { source, .. } => source,
        error => panic!("{error}"),
    };
    for content in [b"no database".as_slice(), &[7; 100_000]] {
        std::fs::write(&file, content).unwrap();
        let error = source(refused(directory.path()));
        assert!(matches!(error, OpenError::NoLog), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), content);
    }
    std::fs::remove_file(&file).unwrap();
    let database = redb::Database::create(&file).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = source(refused(directory.path()));
    assert!(matches!(error, OpenError::NoLog), "{error}");
    // A file where a directory should be; a directory that nobody can make; a file that nobody can write, not even root.
    assert!(matches!(refused(&file), DiskLogError::Directory { .. }));
    assert!(matches!(refused(std::path::Path::new("/proc/no/such")), DiskLogError::Directory { .. }));
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/sys/kernel/uevent_seqnum", &file).unwrap();
    refused(directory.path());
}

#[tokio::test]
async fn an_empty_file_is_a_new_log() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("log.redb"), "").unwrap();
    let log = open(directory.path(), 1, Fsync::Always).unwrap();
    assert_eq!(publish(&log, 0..1).await[0].seq.0, 1);
}

#[tokio::test]
async fn a_log_that_was_cut_off_is_refused_at_every_length_and_told_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path(), 1, Fsync::Always).unwrap();
    publish(&log, 0..100).await;
    drop(log);
    let file = directory.path().join("log.redb");
    let whole = std::fs::read(&file).unwrap();
    for len in [320, 4096, 10_000, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        std::fs::write(&file, &whole[..len]).unwrap();
        let error = open(directory.path(), 1, Fsync::Always).unwrap_err();
        let said = format!("{:#}", anyhow::Error::from(error));
        assert!(said.contains("log.redb") && said.contains("it is damaged"), "{len}: {said}");
        assert!(said.contains("backup") && said.contains("fanwire log verify"), "{len}: {said}");
    }
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(read_all(&open(directory.path(), 1, Fsync::Always).unwrap()).await.items.len(), 100);
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path(), 1, Fsync::Always).unwrap());
    let database = redb::Database::open(directory.path().join("log.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    transaction.open_table(meta).unwrap().insert("format", 99).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = open(directory.path(), 1, Fsync::Always).unwrap_err();
    assert!(matches!(error, DiskLogError::Store { source: OpenError::NewerFormat { found: 99 }, .. }), "{error}");
}
