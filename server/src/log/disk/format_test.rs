//! Logs of older formats, as hubs of then left them (`fixtures/`): nothing of them is lost.

use std::{io::Read as _, sync::Arc, time::Duration};

use fanwire_protocol::{Cursor, Data, Draft, Epoch, Event, EventId, EventType, Matcher, Seq, Topic};
use redb::ReadableDatabase as _;

use super::{
    check,
    format::FORMAT,
    medium::Medium,
    power_disk::Disk,
    store::{META, Store, get},
};
use crate::{
    core::{PageItem, Read, Rights},
    log::{Class, Retention, Stamped, TopicRule, page::IdUse},
};

/// The log that was closed in order.
const CLOSED: &[u8] = include_bytes!("fixtures/format-1-closed.redb.gz");
/// The log of a hub that was killed between two syncs, after its 40th event.
const KILLED: &[u8] = include_bytes!("fixtures/format-1-killed.redb.gz");

#[test]
fn a_log_of_format_1_is_brought_up_to_date_with_everything_in_it() {
    let store = judge(&Disk::with(unpacked(CLOSED), 1), &closed());
    // Both kinds of record are beside each other from now on.
    let draft = Draft::new(vec![Topic::new("quiet").unwrap()], Data::text("new")).unwrap();
    store.append(Seq(40), vec![Stamped::new(draft, 1)], true).unwrap();
    assert_eq!(events(&store, Seq(41)).len(), 26);
}

#[test]
fn a_log_of_format_1_whose_hub_was_killed_is_recovered_too() {
    judge(&Disk::with(unpacked(KILLED), 1), &killed());
}

#[test]
fn a_loss_of_power_at_any_step_of_it_undoes_a_migration_or_leaves_it_done() {
    for steps in 0.. {
        let disk = Disk::with(unpacked(KILLED), steps);
        disk.light_fuse(steps);
        let opened = open(&disk);
        let was_dark = disk.is_dark();
        drop(opened);
        disk.cycle_power();
        judge(&disk, &killed());
        if !was_dark {
            assert!(steps > 10, "there are steps: {steps}");
            return;
        }
    }
}

struct Expected {
    head: Seq,
    floors: [Seq; 2],
    /// Which of the events are kept: as they were counted from 0.
    kept: Vec<u64>,
    ids: [(&'static str, Option<IdUse>); 4],
}

fn closed() -> Expected {
    let noisy = [30, 32, 34, 36, 38];
    Expected {
        head: Seq(40),
        floors: [Seq(29), Seq(27)],
        kept: (0..40).filter(|number| number % 2 == 1 || noisy.contains(number)).collect(),
        ids: [
            ("id-0", Some(IdUse { first: Seq(37), is_certain: true })),
            ("id-3", Some(IdUse { first: Seq(4), is_certain: true })),
            ("id-6", Some(IdUse { first: Seq(31), is_certain: true })),
            ("id-9", Some(IdUse { first: Seq(10), is_certain: true })),
        ],
    }
}

fn killed() -> Expected {
    let noisy = [26, 28, 30, 32, 34];
    Expected {
        // The five after the last sync are gone, and numbers up to here were reserved.
        head: Seq(10_001),
        floors: [Seq(10_001), Seq(10_001)],
        kept: (0..35).filter(|number| number % 2 == 1 || noisy.contains(number)).collect(),
        ids: [
            ("id-0", None),
            ("id-3", Some(IdUse { first: Seq(4), is_certain: true })),
            ("id-6", Some(IdUse { first: Seq(31), is_certain: true })),
            ("id-9", Some(IdUse { first: Seq(10), is_certain: true })),
        ],
    }
}

fn judge(disk: &Disk, expected: &Expected) -> Store {
    let (store, head) = open(disk).unwrap();
    assert_eq!((store.epoch(), head), (epoch(), expected.head));
    let transaction = store.database().begin_read().unwrap();
    assert_eq!(get(&transaction.open_table(META).unwrap(), "format").unwrap(), Some(FORMAT));
    let findings = check::check(&transaction, Some(&retention()), |_, _| {}).unwrap();
    assert!(findings.is_sound(), "{findings:?}");
    assert_eq!(store.floors().unwrap().to_vec(), expected.floors);
    assert_eq!(events(&store, head), expected.kept.iter().map(|&number| event(number)).collect::<Vec<_>>());
    let rights = Rights::to(Arc::new([Matcher::Any].into_iter().collect()));
    for (id, expected) in &expected.ids {
        assert_eq!(store.find_id(&EventId::new(id).unwrap(), &rights).unwrap(), *expected, "{id}");
    }
    store
}

fn open(medium: &dyn Medium) -> Result<(Store, Seq), super::OpenError> {
    Store::open_on(medium, Epoch::from_bits(0), Arc::new(retention()), 1 << 20)
}

fn events(store: &Store, head: Seq) -> Vec<Event> {
    let read = Read {
        after: Seq(0),
        upto: head,
        matchers: Arc::new([fanwire_protocol::Matcher::Any].into_iter().collect()),
        told: None,
        only: None,
        events_max: 1000,
        bytes_max: usize::MAX,
    };
    let items = store.read(&read).unwrap().items.into_iter();
    items
        .filter_map(|item| match item {
            PageItem::Event(event) => Some((**event).clone()),
            PageItem::Gap { .. } => None,
        })
        .collect()
}

fn unpacked(fixture: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(fixture).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The retention of the fixtures' hubs.
fn retention() -> Retention {
    let class = |rule: &str, events_max| Class {
        topics: vec![TopicRule::parse(rule).unwrap()],
        events_max,
        age_max: None,
        ..Class::default()
    };
    Retention::new(vec![class("noisy/*", 5)], class("*", 100))
}

/// What the fixtures' hubs were given.
fn event(number: u64) -> Event {
    let topics: &[&str] = match number % 4 {
        0 => &["noisy/1"],
        1 => &["quiet"],
        2 => &["noisy/2", "quiet"],
        _ => &["ü/ö", "noisy/1"],
    };
    let topics = topics.iter().map(|topic| Topic::new(topic).unwrap()).collect();
    let data = match number % 5 {
        0 => Data::Binary(vec![0, 255, number as u8].into()),
        _ => Data::text(&format!("event\n{number}")),
    };
    let mut draft = Draft::new(topics, data).unwrap();
    draft.id = number.is_multiple_of(3).then(|| EventId::new(&format!("id-{}", number % 12)).unwrap());
    draft.kind = number.is_multiple_of(7).then(|| EventType::new("update").unwrap());
    draft.retry = number.is_multiple_of(11).then(|| Duration::from_millis(1500 + number));
    draft.private = number.is_multiple_of(13);
    let cursor = Cursor { epoch: epoch(), seq: Seq(number + 1) };
    Event { cursor, at_ms: 1_790_000_000_000 + number, draft }
}

fn epoch() -> Epoch {
    Epoch::from_bits(0xfeed_f00d)
}
