//! Events that rot on the disk: found when they are read, and told as gaps; the log goes on around them.

use std::{collections::BTreeSet, sync::Arc};

use fanwire_protocol::{Data, Draft, Epoch, Matcher, Matchers, Seq, Topic};
use redb::ReadableTable as _;

use super::store::{EVENTS, Store};
use crate::{
    core::{PageItem, Read},
    log::{Class, Retention, Stamped, TopicRule},
};

const TOPICS: [&str; 3] = ["a", "b", "c"];
const EVENTS_MAX: usize = 40;

#[test]
fn what_rots_is_a_gap_and_the_rest_is_delivered() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = open(directory.path(), "none");
        let mut rotten = BTreeSet::new();
        let (mut head, mut topics) = (0, vec![]);
        for round in 0..6 {
            let events: Vec<_> = (0..rng.usize(1..20)).map(|_| event(&mut rng)).collect();
            topics.extend(events.iter().map(|event| event.draft.topics().to_vec()));
            // An eviction meets what is rotten, and lets it go.
            store.append(Seq(head), events, false).unwrap();
            head = topics.len() as u64;
            if round % 2 == 0 {
                store.expire(1001, false).unwrap();
            }
            let kept = head.saturating_sub(EVENTS_MAX as u64) + 1..=head;
            let rots: Vec<_> = kept.clone().filter(|_| rng.u8(..) < 40).collect();
            rot(&store, rots.iter().copied().filter(|seq| rotten.insert(*seq)).collect(), &mut rng);
            for _ in 0..10 {
                let matcher = match rng.usize(0..=TOPICS.len()) {
                    topic if topic < TOPICS.len() => Matcher::exact(TOPICS[topic]).unwrap(),
                    _ => Matcher::Any,
                };
                let matchers: Matchers = [matcher].into_iter().collect();
                let after = rng.u64(0..=head);
                let (events, gaps) = read(&store, after, head, &matchers, &mut rng);
                let is_in_gap = |seq: u64| gaps.iter().any(|(from, to)| (*from..=*to).contains(&seq));
                for seq in after + 1..=head {
                    let wanted = matchers.matches(&topics[seq as usize - 1]);
                    let is_readable = kept.contains(&seq) && !rotten.contains(&seq);
                    assert_eq!(events.contains(&seq), wanted && is_readable, "seed {seed}: {seq}, {gaps:?}");
                    assert!(!wanted || events.contains(&seq) != is_in_gap(seq), "seed {seed}: {seq}, {gaps:?}");
                }
            }
        }
        // Other classes: every event is looked at anew.
        drop(store);
        let (store, _) = open(directory.path(), "b");
        let any = [Matcher::Any].into_iter().collect();
        let (events, _) = read(&store, 0, head, &any, &mut rng);
        let kept = head.saturating_sub(EVENTS_MAX as u64) + 1..=head;
        assert_eq!(events, kept.filter(|seq| !rotten.contains(seq)).collect::<Vec<_>>());
    }
}

fn open(directory: &std::path::Path, other_class: &str) -> (Store, Seq) {
    let class = |rule, events_max| Class {
        topics: vec![TopicRule::parse(rule).unwrap()],
        events_max,
        age_max: Some(std::time::Duration::from_secs(1)),
        ..Class::default()
    };
    let retention = Retention::new(vec![class(other_class, EVENTS_MAX)], class("*", EVENTS_MAX));
    Store::open(&directory.join("log.redb"), Epoch::from_bits(1), Arc::new(retention), 1 << 20).unwrap()
}

fn event(rng: &mut fastrand::Rng) -> Stamped {
    let topics = (0..rng.usize(1..3)).map(|_| Topic::new(TOPICS[rng.usize(0..TOPICS.len())]).unwrap());
    Stamped::new(Draft::new(topics.collect(), Data::text("x")).unwrap(), 1)
}

/// Flips a bit of each.
fn rot(store: &Store, events: Vec<u64>, rng: &mut fastrand::Rng) {
    let transaction = store.database().begin_write().unwrap();
    {
        let mut table = transaction.open_table(EVENTS).unwrap();
        for seq in events {
            let Some(mut record) = table.get(seq).unwrap().map(|record| record.value().to_vec()) else { continue };
            let bit = rng.usize(8..8 * record.len());
            record[bit / 8] ^= 1 << (bit % 8);
            table.insert(seq, record.as_slice()).unwrap();
        }
    }
    transaction.commit().unwrap();
}

fn read(
    store: &Store,
    mut after: u64,
    head: u64,
    matchers: &Matchers,
    rng: &mut fastrand::Rng,
) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut events, mut gaps) = (vec![], vec![]);
    while after < head {
        let read = Read {
            after: Seq(after),
            upto: Seq(head),
            matchers: Arc::new(matchers.clone()),
            told: None,
            only: None,
            events_max: rng.usize(1..8),
            bytes_max: rng.usize(1..2000),
        };
        let page = store.read(&read).unwrap();
        assert!(page.reached.0 > after, "it goes on");
        let mut last = after;
        for item in page.items {
            let (from, to) = match &item {
                PageItem::Event(event) => (event.seq().0, event.seq().0),
                PageItem::Gap { from, to } => (from.0, to.0),
            };
            assert!(last < from && from <= to && to <= page.reached.0, "in order");
            last = to;
            match item {
                PageItem::Event(_) => events.push(from),
                PageItem::Gap { .. } => gaps.push((from, to)),
            }
        }
        after = page.reached.0;
    }
    (events, gaps)
}
