//! A seeded simulation of feeds where the newest of a topic wins.
//!
//! Tails are delayed, split and outrun, history comes late, readers stall and change their matchers. Then what each reader has had is
//! compared with what was committed: nothing but what was let go of is missing, that is counted, and `prev` shows where.
//!
//! A failure prints its seed: `SIMULATION_SEED=… cargo test -p fanwire newest_simulation`. `SIMULATION_SEEDS=N` runs more.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use fanwire_protocol::{
    Cursor, Data, Draft, Epoch, LastEventId, Matcher, Matchers, Seq, Topic,
    message::{Bye, ByeCode},
};

use super::{
    Committed, Effect, FeedId, Item, Latest, Limits, ReadRequest, Rights, Scope, Shard, Subscription, Taken, Time,
};
use crate::log::{Class, History, Replay, Retention, Stamped};

const SEEDS: u64 = 400;
const STEPS: usize = 1_200;
const TOPICS: usize = 24;
const NOW: Time = Time(0);

struct Simulation {
    rng: fastrand::Rng,
    history: History,
    committed: Vec<Arc<Committed>>,
    shard: Shard,
    limits: Limits,
    /// How much of `committed` the tail has brought.
    tail: usize,
    reads: Vec<ReadRequest>,
    readers: Vec<Reader>,
    /// Nothing happens but events, their tail and readers: each loss is counted once.
    calm: bool,
    lost: usize,
}

struct Reader {
    feed: FeedId,
    scope: Arc<Scope>,
    /// These hold above a number.
    eras: Vec<(Seq, Matchers)>,
    asked: HashMap<u64, Matchers>,
    start: Seq,
    latest: Option<Latest>,
    /// History is through.
    pinged: bool,
    last: Seq,
    /// Each with what is said to come before it.
    got: Vec<(Seq, Seq)>,
    lossy: usize,
    said_bye: bool,
}

#[derive(Debug, Default)]
struct Totals {
    delivered: usize,
    lossy: usize,
    superseded: u64,
    overflowed: u64,
    changes: usize,
    skips: usize,
    latest: usize,
}

#[test]
fn newest_simulation() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let one = number("SIMULATION_SEED");
    let seeds = one.map_or(0..number("SIMULATION_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let mut totals = Totals::default();
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut run = Totals::default();
            Simulation::new(seed).run(&mut run);
            run
        });
        match outcome {
            Ok(run) => {
                totals.delivered += run.delivered;
                totals.lossy += run.lossy;
                totals.superseded += run.superseded;
                totals.overflowed += run.overflowed;
                totals.changes += run.changes;
                totals.skips += run.skips;
                totals.latest += run.latest;
            }
            Err(panic) => {
                eprintln!("the simulation failed with SIMULATION_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // A simulation that meets nothing proves nothing.
    eprintln!("{totals:?}");
    let Totals { delivered, lossy, superseded, overflowed, changes, skips, latest } = totals;
    let met = [delivered as u64, lossy as u64, superseded, overflowed, changes as u64, skips as u64, latest as u64];
    assert!(one.is_some() || !met.contains(&0));
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let epoch = Epoch::from_bits(rng.u64(..));
        // With room for every topic in half of the runs.
        let newest_topics_max = if seed.is_multiple_of(2) { TOPICS } else { rng.usize(1..6) };
        let limits = Limits {
            queue_items_max: 5,
            queue_bytes_max: if seed.is_multiple_of(2) { usize::MAX } else { rng.usize(400..6_000) },
            newest_topics_max,
            ..Limits::default()
        };
        Self {
            history: History::new(epoch, Retention::new(vec![], Class::default()), seed),
            committed: vec![],
            shard: Shard::new(epoch, Seq::ZERO, seed, limits),
            limits,
            tail: 0,
            reads: vec![],
            readers: vec![],
            calm: rng.u8(..) < 80,
            lost: 0,
            rng,
        }
    }

    fn run(mut self, totals: &mut Totals) {
        for _ in 0..STEPS {
            match self.rng.usize(0..100) {
                0..40 => self.publish(),
                40..60 => self.bring_tail(totals),
                60..70 => self.answer_read(),
                70..73 => self.subscribe(totals),
                73..96 => {
                    let count = self.rng.usize(1..8);
                    self.take(count);
                }
                96..98 if !self.calm => self.change(totals),
                98 if !self.calm && !self.readers.is_empty() => {
                    let reader = self.readers.swap_remove(self.rng.usize(0..self.readers.len()));
                    self.shard.close(reader.feed);
                    self.judge(&reader, false, totals);
                }
                _ => {}
            }
            self.collect_effects();
            let held = self.shard.events_held_max();
            let most = self.limits.newest_topics_max + 2 * self.limits.queue_items_max + self.limits.changes_max + 4;
            assert!(held <= most, "a feed holds {held} items");
        }
        self.settle();
        for reader in std::mem::take(&mut self.readers) {
            self.judge(&reader, true, totals);
        }
        let losses = self.shard.losses();
        let counted = losses.superseded + losses.overflowed;
        assert!(self.lost as u64 <= counted, "{} are lost, {losses:?}", self.lost);
        assert!(!self.calm || self.lost as u64 == counted, "{} are lost, {losses:?}", self.lost);
        totals.superseded += losses.superseded;
        totals.overflowed += losses.overflowed;
    }

    fn publish(&mut self) {
        for _ in 0..self.rng.usize(1..4) {
            let count = if self.rng.u8(..) < 20 { 2 } else { 1 };
            let topics = (0..count).map(|_| topic(self.rng.usize(0..TOPICS))).collect();
            let mut draft = Draft::new(topics, Data::text(&"x".repeat(self.rng.usize(0..300)))).unwrap();
            draft.private = self.rng.u8(..) < 40;
            self.committed.push(self.history.append(Stamped::new(draft, 0)).unwrap());
        }
    }

    fn bring_tail(&mut self, totals: &mut Totals) {
        let behind = self.committed.len() - self.tail;
        if behind == 0 {
            return;
        }
        if !self.calm && self.rng.u8(..) < 10 {
            self.tail = self.committed.len();
            self.shard.skip_to(self.committed[self.tail - 1].seq());
            totals.skips += 1;
            return;
        }
        let end = self.tail + self.rng.usize(1..=behind);
        self.shard.ingest(&self.committed[self.tail..end], self.committed[end - 1].seq());
        self.tail = end;
    }

    fn answer_read(&mut self) {
        if !self.reads.is_empty() {
            let request = self.reads.swap_remove(self.rng.usize(0..self.reads.len()));
            let page = self.history.read(&request.read);
            self.shard.page(request.feed, request.token, page);
        }
    }

    fn subscribe(&mut self, totals: &mut Totals) {
        if self.readers.len() >= 5 {
            return;
        }
        let matchers = self.some_matchers();
        let scope: Arc<Scope> = Arc::new((0..TOPICS / 2).map(|i| Matcher::Exact(topic(i))).collect());
        let rights = Rights::to(scope.clone());
        let (asked, replay) = match self.rng.u8(..) {
            0..80 => (None, Replay::Nothing),
            80..160 => (None, Replay::Latest),
            _ => {
                let seq = Seq(self.rng.u64(0..=self.history.head().seq.0));
                (Some(LastEventId::Cursor(Cursor { seq, ..self.history.head() })), Replay::Nothing)
            }
        };
        let start = self.history.resolve(asked.as_ref(), replay, &matchers, &rights);
        assert!(start.gap.is_none());
        totals.latest += usize::from(start.latest.is_some());
        let (after, latest) = (start.after, start.latest.clone());
        let subscription = Subscription {
            matchers: matchers.clone(),
            rights,
            start,
            heartbeat_ms: 1_000,
            lease: None,
            newest_above: Some(self.history.head().seq),
        };
        let feed = self.shard.open(subscription, NOW);
        self.readers.push(Reader {
            feed,
            scope,
            eras: vec![(after, matchers)],
            asked: HashMap::new(),
            start: after,
            latest,
            pinged: false,
            last: after,
            got: vec![],
            lossy: 0,
            said_bye: false,
        });
    }

    fn change(&mut self, totals: &mut Totals) {
        if self.readers.is_empty() {
            return;
        }
        let (at, wanted, request) = (self.rng.usize(0..self.readers.len()), self.some_matchers(), self.rng.u64(..));
        let reader = &mut self.readers[at];
        if self.shard.change(reader.feed, request, |matchers| *matchers = wanted.clone()).is_ok() {
            reader.asked.insert(request, wanted);
            totals.changes += 1;
        }
    }

    fn take(&mut self, count: usize) {
        if !self.readers.is_empty() {
            let at = self.rng.usize(0..self.readers.len());
            self.take_of(at, count);
        }
    }

    fn take_of(&mut self, at: usize, count: usize) -> Taken {
        let mut items = vec![];
        let taken = self.shard.take(self.readers[at].feed, count, NOW, &mut items);
        assert!(items.len() <= count.saturating_add(1));
        items.into_iter().for_each(|item| self.readers[at].on_item(item));
        taken
    }

    fn collect_effects(&mut self) {
        while let Some(effect) = self.shard.next_effect() {
            if let Effect::Read(request) = effect {
                self.reads.push(request);
            }
        }
    }

    /// Everything comes in, and then each feed is ended: what waits comes before its bye.
    fn settle(&mut self) {
        for rounds in 0.. {
            assert!(rounds < 10_000, "the readers never come to rest");
            self.ingest_all();
            self.collect_effects();
            let mut busy = !self.reads.is_empty();
            while !self.reads.is_empty() {
                self.answer_read();
            }
            for at in 0..self.readers.len() {
                busy |= self.take_of(at, 3) != Taken::All;
            }
            self.collect_effects();
            if !busy && self.reads.is_empty() {
                break;
            }
        }
        (0..20).for_each(|_| self.publish());
        self.ingest_all();
        for at in 0..self.readers.len() {
            self.shard.end(self.readers[at].feed, Bye::terminal(ByeCode::Closed, ""));
            while self.take_of(at, 3) != Taken::Ended {}
            assert!(self.readers[at].said_bye);
        }
    }

    fn ingest_all(&mut self) {
        if let Some(last) = self.committed.last() {
            self.shard.ingest(&self.committed[self.tail..], last.seq());
            self.tail = self.committed.len();
        }
    }

    fn some_matchers(&mut self) -> Matchers {
        let count = self.rng.usize(1..8);
        let any = self.rng.bool();
        (0..count).map(|_| if any { Matcher::Any } else { Matcher::Exact(topic(self.rng.usize(0..TOPICS))) }).collect()
    }

    fn judge(&mut self, reader: &Reader, to_the_end: bool, totals: &mut Totals) {
        totals.delivered += reader.got.len();
        totals.lossy += reader.lossy;
        let end = if to_the_end { Seq(u64::MAX) } else { reader.last };
        let mut got = reader.got.iter().peekable();
        // The newest of each topic that isn't there.
        let mut missing = BTreeMap::new();
        let mut before = reader.start;
        for event in self.committed.iter().filter(|event| event.seq() <= end && reader.wants(event)) {
            match got.next_if(|(_, seq)| *seq == event.seq()) {
                Some((prev, _)) => {
                    assert_eq!(*prev, before, "prev is the event before {} in the feed", event.seq());
                    missing.remove(event.draft.canonical());
                }
                None => {
                    self.lost += 1;
                    missing.insert(event.draft.canonical().clone(), event.seq());
                }
            }
            before = event.seq();
        }
        assert_eq!(got.next(), None, "not asked for, not granted, or not in order");
        if to_the_end && self.shard.losses().overflowed == 0 {
            assert_eq!(missing, BTreeMap::new(), "the newest of a topic isn't there");
        }
    }
}

impl Reader {
    fn wants(&self, event: &Committed) -> bool {
        let (seq, draft) = (event.seq(), &event.draft);
        let Some((_, matchers)) = self.eras.iter().rev().find(|(from, _)| *from < seq) else { return false };
        let thin = self.latest.as_ref().filter(|latest| seq <= latest.upto);
        thin.is_none_or(|latest| latest.seqs.contains(&seq))
            && matchers.matches(draft.topics())
            && (!draft.private || draft.topics().iter().any(|topic| self.scope.covers(topic)))
    }

    fn on_item(&mut self, item: Item) {
        assert!(!self.said_bye);
        match item {
            Item::Hello(hello) => assert_eq!(hello.cursor.seq, self.start),
            Item::Event { prev, event, lossy } => {
                assert!(self.pinged || !lossy, "what is live comes after history");
                assert!(event.seq() > self.last, "{} after {}", event.seq(), self.last);
                assert!(self.pinged || prev == self.last, "nothing of history is lost");
                self.last = event.seq();
                self.got.push((prev, event.seq()));
                self.lossy += usize::from(lossy);
            }
            Item::Changed(changed) => {
                let wanted = self.asked.remove(&changed.request_id).expect("a change that was asked for");
                self.eras.push((Seq(changed.from_seq), wanted));
            }
            Item::Ping(ping) => {
                assert!(ping.watermark.seq >= self.last);
                self.pinged = true;
            }
            Item::Bye(_) => self.said_bye = true,
            Item::Gap(gap) => panic!("{gap:?}"),
        }
    }
}

fn topic(number: usize) -> Topic {
    Topic::new(&format!("t/{number}")).unwrap()
}
