//! The store against its model: whatever is done to both, they tell the same.
//!
//! A failure prints its seed: `SIMULATION_SEED=… cargo test -p fanwire disk`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fanwire_protocol::{Data, Draft, Epoch, EventId, HubUrl, LastEventId, Matcher, Matchers, Seq, Topic};

use super::store::Store;
use crate::{
    core::{Committed, Page, PageItem, Read, Rights},
    log::{
        Appended, Class, History, IdempotencyKey, KeyWindow, Replay, Retention, Stamped, TopicRule,
        idempotency::RecentKeys, page::Place,
    },
};

const TOPICS: [&str; 4] = ["noisy/1", "noisy/2", "quiet", "ü"];

fn retention(rng: &mut fastrand::Rng) -> Retention {
    let class = |rule: &str, events_max| Class {
        topics: vec![TopicRule::parse(rule).unwrap()],
        events_max,
        age_max: Some(std::time::Duration::from_millis(500)),
        ..Class::default()
    };
    let keys = KeyWindow { age_max: std::time::Duration::from_millis(400), keys_max: rng.usize(1..6) };
    Retention::new(vec![class("noisy/*", rng.usize(0..8))], class("*", rng.usize(1..20))).with_keys(keys)
}

fn stamped(rng: &mut fastrand::Rng, at_ms: u64) -> Stamped {
    let mut topic = || Topic::new(TOPICS[rng.usize(0..4)]).unwrap();
    let (first, second) = (topic(), topic());
    let topics = if rng.u8(..) < 60 { vec![first, second] } else { vec![first] };
    let keyed = rng.u8(..) < 80;
    let data = if rng.bool() { Data::text("x\r\ny") } else { Data::Binary(vec![0, 255].into()) };
    let mut draft = Draft::new(topics, data).unwrap();
    draft.id = (rng.u8(..) < 80).then(|| EventId::new(&format!("id{}", rng.u8(0..4))).unwrap());
    draft.private = rng.bool();
    // The same event comes under the same key often enough.
    if keyed {
        draft = Draft::new(draft.topics()[..1].to_vec(), Data::text("keyed")).unwrap();
    }
    let key = keyed.then(|| IdempotencyKey::new("", &format!("key{}", rng.u8(0..6)), None, &draft));
    Stamped { draft, at_ms, key }
}

fn told(page: &Page) -> Vec<String> {
    let items = page.items.iter().map(|item| match item {
        PageItem::Event(event) => format!("{:?}", **event),
        PageItem::Gap { from, to } => format!("{from}-{to}"),
    });
    items.chain([page.reached.to_string()]).collect()
}

fn rights(rng: &mut fastrand::Rng) -> Rights {
    match rng.u8(0..3) {
        0 => Rights::default(),
        1 => Rights::to(Arc::new([Matcher::exact(TOPICS[rng.usize(0..4)]).unwrap()].into_iter().collect())),
        _ => Rights::to(Arc::new([Matcher::Any].into_iter().collect())),
    }
}

/// All that is kept and may be seen, in order.
fn seen(model: &History, rights: &Rights) -> Vec<Arc<Committed>> {
    let read = Read {
        after: Seq::ZERO,
        upto: model.head().seq,
        matchers: Arc::new([Matcher::Any].into_iter().collect()),
        told: None,
        only: None,
        events_max: usize::MAX - 1,
        bytes_max: usize::MAX,
    };
    let events = model.read(&read).items.into_iter().filter_map(|item| match item {
        PageItem::Event(event) => Some(event),
        PageItem::Gap { .. } => None,
    });
    events.filter(|event| rights.allow(event)).collect()
}

/// For each topic that the matchers take, the newest event that may be seen.
fn newest(model: &History, matchers: &Matchers, rights: &Rights) -> BTreeSet<Seq> {
    let mut newest = BTreeMap::new();
    for event in seen(model, rights) {
        let topics = event.draft.topics().iter().filter(|topic| matchers.matches(std::slice::from_ref(topic)));
        newest.extend(topics.map(|topic| (topic.clone(), event.seq())));
    }
    newest.into_values().collect()
}

/// The first event with an id that may be seen.
fn first_use(model: &History, id: &EventId, rights: &Rights) -> Option<Seq> {
    seen(model, rights).iter().find(|event| event.draft.id.as_ref() == Some(id)).map(|event| event.seq())
}

#[test]
fn the_store_tells_what_its_model_tells() {
    let one = std::env::var("SIMULATION_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    for seed in one.map_or(0..12, |seed| seed..seed + 1) {
        eprintln!("SIMULATION_SEED={seed}");
        run(seed);
    }
}

fn run(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.redb");
    let retention = Arc::new(retention(&mut rng));
    let epoch = Epoch::from_bits(seed);
    let open = || Store::open(&path, epoch, retention.clone(), 1 << 20).unwrap();
    let mut model = History::new(epoch, (*retention).clone(), seed);
    let mut keys = RecentKeys::new(retention.keys(), seed);
    let (mut store, mut head) = open();
    let mut now_ms = 1000;
    for _ in 0..120 {
        match rng.usize(0..10) {
            0..4 => {
                let events: Vec<_> = (0..rng.usize(1..6)).map(|_| stamped(&mut rng, now_ms)).collect();
                let (appended, committed) = store.append(head, events.clone(), rng.u8(..) < 20).unwrap();
                let mut expected = vec![];
                for (event, appended) in events.into_iter().zip(appended) {
                    let known = event.key.and_then(|key| keys.get(&key).map(|known| known.answer(&key, epoch)));
                    if let Some(known) = known {
                        assert_eq!(appended, known);
                        continue;
                    }
                    let key = event.key;
                    let event = model.append(event).unwrap();
                    assert_eq!(appended, Appended::New(event.cursor));
                    if let Some(key) = key {
                        keys.insert(&key, event.seq(), now_ms);
                    }
                    expected.push(event);
                }
                let plain = |events: &[Arc<crate::core::Committed>]| -> Vec<_> {
                    events.iter().map(|event| (***event).clone()).collect()
                };
                assert_eq!(plain(&committed), plain(&expected));
                head = model.head().seq;
            }
            4 => {
                now_ms += rng.u64(0..300);
                while model.expire(now_ms) {}
                while keys.expire(now_ms) {}
                while store.expire(now_ms, rng.bool()).unwrap() {}
            }
            5 => {
                // A new run on the same directory.
                store.close().unwrap();
                drop(store);
                (store, head) = open();
                assert_eq!((head, store.epoch()), (model.head().seq, epoch));
            }
            6 => {
                let id = EventId::new(&format!("id{}", rng.u8(0..4))).unwrap();
                let asked = LastEventId::Publisher(id.clone());
                let matchers: Matchers = [Matcher::exact(TOPICS[rng.usize(0..4)]).unwrap()].into_iter().collect();
                let place = Place { epoch, head, floors: store.floors().unwrap() };
                let rights = rights(&mut rng);
                let known = store.find_id(&id, &rights).unwrap();
                let start = place.resolve(Some(&asked), retention.touched(&matchers), |_| known);
                let expected = model.resolve(Some(&asked), Replay::Nothing, &matchers, &rights);
                assert_eq!((start.after, start.verdict), (expected.after, expected.verdict), "{rights:?}");
                assert_eq!(known.map(|known| known.first), first_use(&model, &id, &rights), "{rights:?}");
                // Ids whose every use is gone are remembered by the model alone, for as long as it lives.
                if known.is_none_or(|known| !known.is_certain) {
                    assert_eq!(start.gap, expected.gap);
                }
            }
            _ => {
                let count = rng.usize(1..4);
                let matcher = |pick| match pick {
                    0..4 => Matcher::exact(TOPICS[pick]).unwrap(),
                    4..6 => Matcher::pattern(["noisy/:id", "*/*"][pick - 4], &HubUrl::default()).unwrap(),
                    _ => Matcher::Any,
                };
                let matchers: Matchers = (0..count).map(|_| matcher(rng.usize(0..7))).collect();
                let rights = rights(&mut rng);
                let latest = model.resolve(None, Replay::Latest, &matchers, &rights);
                let expected = newest(&model, &matchers, &rights);
                let found = latest.latest.as_ref().map_or(vec![], |latest| latest.seqs.to_vec());
                assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{matchers:?}, {rights:?}");
                let place = Place { epoch, head, floors: store.floors().unwrap() };
                let start = place.latest(store.newest(&matchers, &rights, head).unwrap());
                assert_eq!((start.after, &start.latest, start.gap), (latest.after, &latest.latest, latest.gap));
                let only = latest.latest.filter(|_| rng.bool()).map(|latest| latest.seqs);
                let read = Read {
                    after: Seq(rng.u64(0..=head.0)),
                    upto: head,
                    matchers: Arc::new(matchers),
                    told: None,
                    only,
                    events_max: rng.usize(1..8),
                    bytes_max: rng.usize(1..4000),
                };
                assert_eq!(told(&store.read(&read).unwrap()), told(&model.read(&read)));
            }
        }
    }
}
