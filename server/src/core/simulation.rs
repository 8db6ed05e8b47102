//! A seeded simulation: shards, a log and readers, driven step by step in a random order.
//!
//! Appends are delayed and fail, tails are delayed and split, reads are delayed, fail and come in another order; readers stall, take a
//! little, reconnect with their cursor; retention evicts. Then each reader's story is compared with what was committed.
//!
//! A failure prints its seed: `SIMULATION_SEED=… cargo test -p fanwire simulation`. `SIMULATION_SEEDS=N` runs more.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use fanwire_protocol::{
    Cursor, Data, Draft, Epoch, EventId, HubUrl, LastEventId, Matcher, Matchers, Pattern, Seq, Topic,
    message::{ByeCode, Gap, Verdict},
};

use super::{
    Committed, Effect, FeedId, Item, Lease, LeaseOf, Limits, Pages, PagesLimits, ReadRequest, Rights, Scope, Shard,
    Subscription, Taken, Time,
};
use crate::log::{Class, History, Replay, Retention, Stamped, TopicRule};

const SEEDS: u64 = 300;
const STEPS: usize = 1_500;
const LIMITS: Limits = Limits {
    queue_items_max: 6,
    queue_bytes_max: 4_000,
    newest_topics_max: 0,
    stalled_ms_max: 5_000,
    changes_max: 3,
    retry_ms: 100,
};
const PAGES: PagesLimits = PagesLimits { count_max: 8, cost_max: 8_000, age_max: 3 };
const TOPICS: [&str; 6] = ["quiet/1", "quiet/2", "noisy/1", "noisy/2", "plain/1", "plain/2"];
const PATTERNS: [&str; 4] = ["quiet/:id", "noisy/:id", "plain/(1|3)", "*/1"];
const QUIET_KEPT: usize = 400;

struct Simulation {
    rng: fastrand::Rng,
    now: Time,
    history: History,
    /// Everything that was ever committed.
    committed: Vec<Arc<Committed>>,
    /// What a publisher has sent and the log has not committed.
    appending: Vec<Draft>,
    shards: Vec<SimShard>,
    readers: Vec<Reader>,
    /// Compiled once, as a hub does.
    patterns: Vec<Pattern>,
    quiet_published: usize,
    /// Events of quiet topics have no other topic, so nothing ever evicts them.
    quiet_alone: bool,
}

struct SimShard {
    shard: Shard,
    /// How much of `committed` its tail has brought.
    tail: usize,
    reads: Vec<ReadRequest>,
    pages: Pages,
}

/// A subscriber over all its connections.
struct Reader {
    wants: Wants,
    /// These hold from here on; before it the older ones, and so on.
    eras: Vec<(Seq, Wants)>,
    began: Seq,
    feed: Option<(usize, FeedId)>,
    cursor: Option<Cursor>,
    got: Vec<Seq>,
    gaps: Vec<Gap>,
    prev: Seq,
    stalled: bool,
    requests: u64,
    asked: HashMap<u64, Wants>,
    expect_hello: bool,
    /// Asks for the newest of each topic to begin with.
    replay: Replay,
    /// What it began with, and up to where that holds.
    thin: Option<Thin>,
}

/// A stretch of which only some events are wanted.
#[derive(Debug)]
struct Thin {
    from: Seq,
    upto: Seq,
    seqs: Arc<[Seq]>,
}

/// What a reader asks for, and what it may see of it.
#[derive(Clone)]
struct Wants {
    matchers: Matchers,
    scope: Arc<Scope>,
}

impl Wants {
    fn take(&self, draft: &Draft) -> bool {
        let visible = !draft.private || draft.topics().iter().any(|topic| self.scope.covers(topic));
        visible && self.matchers.matches(draft.topics())
    }
}

#[test]
fn simulation() {
    let seeds = match (number("SIMULATION_SEED"), number("SIMULATION_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(SEEDS),
    };
    let mut totals = Totals::default();
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| Simulation::new(seed).run());
        match outcome {
            Ok(run) => totals.add(&run),
            Err(panic) => {
                eprintln!("the simulation failed with SIMULATION_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // A simulation that meets nothing proves nothing.
    eprintln!("{totals:?}");
    let Totals {
        delivered,
        latest,
        private,
        gaps,
        resumes,
        pages,
        shared_pages,
        changes,
        renewals,
        expired,
        stalls,
        failed_reads,
        skips,
    } = totals;
    for (what, count) in [
        ("delivered", delivered),
        ("events of latest", latest),
        ("private events", private),
        ("gaps", gaps),
        ("resumes", resumes),
        ("pages", pages),
        ("shared pages", shared_pages),
        ("changes", changes),
        ("renewals", renewals),
        ("expired", expired),
        ("stalls", stalls),
        ("failed reads", failed_reads),
        ("skips", skips),
    ] {
        assert!(count > 0 || number("SIMULATION_SEED").is_some(), "no {what} in any run");
    }
}

#[derive(Debug, Default)]
struct Totals {
    delivered: usize,
    latest: usize,
    private: usize,
    gaps: usize,
    resumes: usize,
    pages: usize,
    shared_pages: usize,
    changes: usize,
    renewals: usize,
    expired: usize,
    stalls: usize,
    failed_reads: usize,
    skips: usize,
}

impl SimShard {
    /// As a shard's driver does it.
    fn answer(&mut self, ReadRequest { feed, token, read }: ReadRequest, history: &History, totals: &mut Totals) {
        if let Some(page) = self.pages.find(&read) {
            self.shard.shared_page(feed, token, &page);
            totals.shared_pages += 1;
            return;
        }
        match self.pages.keep(&read, history.read(&read)) {
            Ok(page) => self.shard.shared_page(feed, token, &page),
            Err(page) => self.shard.page(feed, token, page),
        }
        totals.pages += 1;
    }
}

impl Totals {
    fn add(&mut self, run: &Totals) {
        self.delivered += run.delivered;
        self.latest += run.latest;
        self.private += run.private;
        self.gaps += run.gaps;
        self.resumes += run.resumes;
        self.pages += run.pages;
        self.shared_pages += run.shared_pages;
        self.changes += run.changes;
        self.renewals += run.renewals;
        self.expired += run.expired;
        self.stalls += run.stalls;
        self.failed_reads += run.failed_reads;
        self.skips += run.skips;
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let epoch = Epoch::from_bits(rng.u64(..));
        let class = |name: &str, rule: &str, events_max, age_max: Option<u64>| Class {
            name: name.into(),
            topics: vec![TopicRule::parse(rule).unwrap()],
            events_max,
            bytes_max: usize::MAX,
            age_max: age_max.map(std::time::Duration::from_millis),
        };
        let noisy = rng.usize(0..20);
        let age = rng.bool().then(|| rng.u64(1_000..20_000));
        let retention = Retention::new(
            vec![class("quiet", "quiet/*", QUIET_KEPT, None), class("noisy", "noisy/*", noisy, None)],
            class("default", "*", rng.usize(5..200), age),
        );
        let shards = (0..2).map(|i| SimShard {
            shard: Shard::new(epoch, Seq::ZERO, seed + i, LIMITS),
            tail: 0,
            reads: vec![],
            pages: Pages::new(PAGES),
        });
        Self {
            now: Time(0),
            history: History::new(epoch, retention, seed),
            committed: vec![],
            appending: vec![],
            shards: shards.collect(),
            readers: vec![],
            patterns: PATTERNS.iter().map(|text| Pattern::new(text, &HubUrl::default()).unwrap()).collect(),
            quiet_published: 0,
            quiet_alone: seed.is_multiple_of(2),
            rng,
        }
    }

    fn run(mut self) -> Totals {
        let mut totals = Totals::default();
        for _ in 0..STEPS {
            self.step(&mut totals);
            self.check_memory();
        }
        self.settle(&mut totals);
        self.judge(&mut totals);
        totals
    }

    fn step(&mut self, totals: &mut Totals) {
        match self.rng.usize(0..100) {
            0..30 => self.send_publish(),
            30..45 => self.commit(),
            45..60 => self.bring_tail(totals),
            60..72 => self.answer_read(totals),
            72..74 => self.subscribe(),
            74..93 => self.read_some(totals),
            93..94 => self.renew(totals),
            94..95 => self.change_matchers(totals),
            95..97 => self.disconnect(),
            97..98 => self.stall(),
            _ => {
                self.now.0 += self.rng.u64(1..400);
                self.history.expire(self.now.0);
                let shard = self.rng.usize(0..self.shards.len());
                self.shards[shard].shard.tick(self.now);
            }
        }
        self.collect_effects();
    }

    fn send_publish(&mut self) {
        // The noisy topics are published on most.
        let topic = |rng: &mut fastrand::Rng| TOPICS[if rng.u8(..) < 150 { rng.usize(2..4) } else { rng.usize(0..6) }];
        let (first, second) = (topic(&mut self.rng), topic(&mut self.rng));
        let apart = self.quiet_alone && (first.starts_with("quiet") || second.starts_with("quiet"));
        let count = if self.rng.u8(..) < 20 && !apart { 2 } else { 1 };
        let topics = [first, second][..count].iter().map(|topic| Topic::new(topic).unwrap()).collect();
        let mut draft = Draft::new(topics, Data::text(&"x".repeat(self.rng.usize(0..900)))).unwrap();
        draft.private = self.rng.u8(..) < 60;
        draft.id = (self.rng.u8(..) < 40).then(|| EventId::new(&format!("id{}", self.rng.u8(0..5))).unwrap());
        self.appending.push(draft);
    }

    /// Appends are reordered, delayed, and some fail.
    fn commit(&mut self) {
        for _ in 0..self.rng.usize(1..8) {
            if self.appending.is_empty() {
                return;
            }
            let draft = self.appending.swap_remove(self.rng.usize(0..self.appending.len()));
            if self.rng.u8(..) < 10 {
                continue;
            }
            self.quiet_published += usize::from(draft.canonical().as_str().starts_with("quiet"));
            assert!(self.quiet_published <= QUIET_KEPT, "more than the quiet class keeps: the simulation is too long");
            let event = self.history.append(Stamped::new(draft, self.now.0)).unwrap();
            self.committed.push(event);
        }
    }

    /// A tail brings a part of what was committed, or was outrun.
    fn bring_tail(&mut self, totals: &mut Totals) {
        let at = self.rng.usize(0..self.shards.len());
        let behind = self.committed.len() - self.shards[at].tail;
        if behind == 0 {
            return;
        }
        let sim = &mut self.shards[at];
        if behind > 1 && self.rng.u8(..) < 20 {
            sim.tail = self.committed.len();
            sim.shard.skip_to(self.committed[sim.tail - 1].seq());
            totals.skips += 1;
            return;
        }
        let end = sim.tail + self.rng.usize(1..=behind);
        let head = self.committed[end - 1].seq();
        sim.shard.ingest(&self.committed[sim.tail..end], head);
        sim.tail = end;
    }

    /// Reads come back in any order; some fail.
    fn answer_read(&mut self, totals: &mut Totals) {
        let at = self.rng.usize(0..self.shards.len());
        let sim = &mut self.shards[at];
        if sim.reads.is_empty() {
            return;
        }
        let request = sim.reads.swap_remove(self.rng.usize(0..sim.reads.len()));
        if self.rng.u8(..) < 8 {
            sim.shard.read_failed(request.feed, request.token, "simulated");
            totals.failed_reads += 1;
        } else {
            sim.answer(request, &self.history, totals);
        }
        if self.rng.u8(..) < 64 {
            sim.pages.age();
        }
    }

    fn subscribe(&mut self) {
        if self.readers.len() < 12 {
            let wants = Wants { matchers: self.some_matchers(), scope: self.some_scope() };
            let began = self.history.head().seq;
            self.readers.push(Reader {
                eras: vec![],
                wants,
                began,
                feed: None,
                cursor: None,
                got: vec![],
                gaps: vec![],
                prev: Seq::ZERO,
                stalled: false,
                requests: 0,
                asked: HashMap::new(),
                expect_hello: false,
                replay: if self.rng.u8(..) < 80 { Replay::Latest } else { Replay::Nothing },
                thin: None,
            });
        }
        let at = self.rng.usize(0..self.readers.len());
        self.connect(at);
    }

    fn connect(&mut self, at: usize) {
        let shard = self.rng.usize(0..self.shards.len());
        let reader = &mut self.readers[at];
        if reader.feed.is_some() {
            return;
        }
        let asked = reader.cursor.map(LastEventId::Cursor);
        let rights = Rights::to(reader.wants.scope.clone());
        let start = self.history.resolve(asked.as_ref(), reader.replay, &reader.wants.matchers, &rights);
        let fresh = if reader.replay == Replay::Latest { Verdict::Latest } else { Verdict::Live };
        assert_eq!(start.verdict, if asked.is_some() { Verdict::Resumed } else { fresh });
        if asked.is_none() {
            reader.began = start.after;
            reader.thin = start.latest.as_ref().map(|latest| Thin {
                from: start.after,
                upto: latest.upto,
                seqs: latest.seqs.clone(),
            });
        } else if let (Some(thin), Some(cursor)) = (&mut reader.thin, reader.cursor) {
            // A cursor wins: from here on it gets everything.
            thin.upto = thin.upto.min(cursor.seq);
        }
        // Changes that this connection's successor never saw were lost with it: it asks for what it wants now.
        let since = reader.cursor.map_or(reader.began, |cursor| cursor.seq);
        reader.eras.push((since, reader.wants.clone()));
        reader.asked.clear();
        reader.expect_hello = true;
        let subscription = Subscription {
            matchers: reader.wants.matchers.clone(),
            rights: Rights::to(reader.wants.scope.clone()),
            start,
            heartbeat_ms: self.rng.u64(500..3_000),
            lease: some_lease(&mut self.rng),
            newest_above: None,
        };
        let feed = self.shards[shard].shard.open(subscription, self.now);
        reader.feed = Some((shard, feed));
    }

    fn read_some(&mut self, totals: &mut Totals) {
        if self.readers.is_empty() {
            return;
        }
        let at = self.rng.usize(0..self.readers.len());
        if self.readers[at].stalled && self.rng.u8(..) < 250 {
            return;
        }
        self.readers[at].stalled = false;
        let count = self.rng.usize(1..10);
        self.take(at, count, totals);
    }

    fn take(&mut self, at: usize, count: usize, totals: &mut Totals) -> Option<Taken> {
        let (shard, feed) = self.readers[at].feed?;
        let mut items = vec![];
        let taken = self.shards[shard].shard.take(feed, count, self.now, &mut items);
        for item in items {
            self.readers[at].on_item(item, totals);
        }
        if taken == Taken::Ended {
            self.shards[shard].shard.close(feed);
            self.readers[at].feed = None;
            totals.resumes += 1;
        }
        Some(taken)
    }

    fn change_matchers(&mut self, totals: &mut Totals) {
        if self.readers.is_empty() {
            return;
        }
        let at = self.rng.usize(0..self.readers.len());
        let wanted = self.some_matchers();
        let reader = &mut self.readers[at];
        let Some((shard, feed)) = reader.feed else { return };
        reader.requests += 1;
        let wanted = Wants { matchers: wanted, ..reader.newest() };
        let change =
            self.shards[shard].shard.change(feed, reader.requests, |matchers| *matchers = wanted.matchers.clone());
        if change.is_ok() {
            reader.asked.insert(reader.requests, wanted);
            totals.changes += 1;
        }
    }

    fn renew(&mut self, totals: &mut Totals) {
        if self.readers.is_empty() {
            return;
        }
        let at = self.rng.usize(0..self.readers.len());
        let (scope, lease) = (self.some_scope(), some_lease(&mut self.rng));
        let reader = &mut self.readers[at];
        let Some((shard, feed)) = reader.feed else { return };
        reader.requests += 1;
        let wanted = Wants { scope: scope.clone(), ..reader.newest() };
        let shard = &mut self.shards[shard].shard;
        if shard.authorize(feed, reader.requests, (Rights::to(scope), lease), self.now).is_ok() {
            reader.asked.insert(reader.requests, wanted);
            totals.renewals += 1;
        }
    }

    fn disconnect(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let at = self.rng.usize(0..self.readers.len());
        if let Some((shard, feed)) = self.readers[at].feed.take() {
            self.shards[shard].shard.close(feed);
        }
    }

    fn stall(&mut self) {
        if !self.readers.is_empty() {
            let at = self.rng.usize(0..self.readers.len());
            self.readers[at].stalled = true;
        }
    }

    fn some_matchers(&mut self) -> Matchers {
        let count = self.rng.usize(1..4);
        let any = self.rng.u8(..) < 50;
        let mut pick = || match self.rng.u8(..) {
            _ if any => Matcher::Any,
            0..64 => Matcher::Pattern(self.patterns[self.rng.usize(0..self.patterns.len())].clone()),
            _ => Matcher::exact(TOPICS[self.rng.usize(0..6)]).unwrap(),
        };
        (0..count).map(|_| pick()).collect()
    }

    fn some_scope(&mut self) -> Arc<Scope> {
        let count = self.rng.usize(0..4);
        let matchers = (0..count).map(|_| match self.rng.u8(..) {
            0..20 => Matcher::Any,
            _ => Matcher::exact(TOPICS[self.rng.usize(0..6)]).unwrap(),
        });
        Arc::new(matchers.collect())
    }

    fn collect_effects(&mut self) {
        for sim in &mut self.shards {
            while let Some(effect) = sim.shard.next_effect() {
                if let Effect::Read(request) = effect {
                    sim.reads.push(request);
                }
            }
        }
    }

    /// Everything that can happen does, in the best order: every reader ends up to date.
    fn settle(&mut self, totals: &mut Totals) {
        self.appending.clear();
        for at in 0..self.readers.len() {
            self.connect(at);
        }
        for _ in 0..10_000 {
            let mut busy = false;
            for sim in &mut self.shards {
                if let Some(last) = self.committed.last() {
                    sim.shard.ingest(&self.committed[sim.tail..], last.seq());
                    sim.tail = self.committed.len();
                }
                for request in std::mem::take(&mut sim.reads) {
                    busy = true;
                    sim.answer(request, &self.history, totals);
                }
            }
            for at in 0..self.readers.len() {
                let before = self.readers[at].got.len();
                let taken = self.take(at, usize::MAX, totals);
                self.connect(at);
                busy |= taken != Some(Taken::All) || self.readers[at].got.len() > before;
            }
            self.collect_effects();
            if !busy && self.shards.iter().all(|sim| sim.reads.is_empty()) {
                return;
            }
        }
        panic!("the readers never come to rest");
    }

    fn check_memory(&self) {
        for sim in &self.shards {
            // A page and what was committed while it was read.
            let held = sim.shard.events_held_max();
            assert!(held <= 2 * LIMITS.queue_items_max + LIMITS.changes_max + 4, "a feed holds {held} items");
        }
    }

    fn judge(&self, totals: &mut Totals) {
        for reader in &self.readers {
            let mut got: VecDeque<_> = reader.got.iter().copied().collect();
            totals.delivered += got.len();
            totals.gaps += reader.gaps.len();
            for gap in &reader.gaps {
                assert!(!reader.got.iter().any(|&seq| gap.contains(seq)), "delivered inside a gap: {gap:?}");
            }
            for event in self.committed.iter().filter(|event| event.seq() > reader.began) {
                let era = reader.eras.iter().rev().find(|(from, _)| *from < event.seq());
                let thin = reader.thin.as_ref().filter(|thin| thin.from < event.seq() && event.seq() <= thin.upto);
                let is_latest = thin.map(|thin| thin.seqs.contains(&event.seq()));
                let wanted = era.is_some_and(|(_, wants)| wants.take(&event.draft)) && is_latest.unwrap_or(true);
                // What a feed begins with is what is kept when it gets there.
                let evicted = is_latest.is_some() && !self.history.holds(event.seq());
                let lost = evicted || reader.gaps.iter().any(|gap| gap.contains(event.seq()));
                if got.front() == Some(&event.seq()) {
                    got.pop_front();
                    totals.latest += usize::from(is_latest.is_some());
                    assert!(wanted, "{} was not asked for, or not granted", event.seq());
                    totals.private += usize::from(event.draft.private);
                } else if wanted {
                    assert!(lost, "{} is missing and no gap says so", event.seq());
                }
            }
            assert_eq!(got, [], "delivered though never committed, or out of order");
            // What the quiet class keeps, nobody else can take away.
            let quiet = reader.eras.iter().all(|(_, wants)| {
                // Which classes a pattern touches nobody knows.
                let quiet =
                    |matcher: &Matcher| matches!(matcher, Matcher::Exact(topic) if topic.as_str().starts_with("quiet"));
                wants.matchers.as_slice().iter().all(quiet)
            });
            if quiet && self.quiet_alone {
                assert_eq!(reader.gaps, [], "a quiet feed has a gap");
            }
        }
    }
}

fn some_lease(rng: &mut fastrand::Rng) -> Option<Lease> {
    let of = if rng.bool() { LeaseOf::Token } else { LeaseOf::Feed };
    (rng.u8(..) < 60).then(|| Lease { left_ms: rng.u64(500..4_000), of })
}

impl Reader {
    /// What it has asked for last.
    fn newest(&self) -> Wants {
        let newest = self.asked.iter().max_by_key(|(request, _)| **request);
        newest.map_or(&self.wants, |(_, wants)| wants).clone()
    }

    fn on_item(&mut self, item: Item, totals: &mut Totals) {
        let first = std::mem::take(&mut self.expect_hello);
        assert!(first == matches!(item, Item::Hello(_)) || first && matches!(item, Item::Bye(_)), "{item:?}");
        let before = self.cursor.map_or(self.began, |cursor| cursor.seq);
        match item {
            Item::Hello(hello) => {
                if let Some(cursor) = self.cursor {
                    assert_eq!(hello.cursor, cursor, "a feed resumes where it was asked to");
                }
                self.cursor = Some(hello.cursor);
                self.prev = hello.cursor.seq;
            }
            Item::Event { prev, event, .. } => {
                assert_eq!(prev, self.prev, "prev_seq is an unbroken chain");
                assert!(event.seq() > before, "{} again, or out of order, after {before}", event.seq());
                self.prev = event.seq();
                self.got.push(event.seq());
                self.cursor = Some(event.cursor);
            }
            Item::Gap(gap) => {
                assert!(gap.from.is_some_and(|from| from > before.0 && from <= gap.to), "{gap:?} after {before}");
                self.prev = gap.cursor.seq;
                self.cursor = Some(gap.cursor);
                self.gaps.push(*gap);
            }
            Item::Changed(changed) => {
                let wants = self.asked.remove(&changed.request_id).expect("a change that was asked for");
                assert!(changed.from_seq >= self.prev.0);
                self.wants = wants.clone();
                self.eras.push((Seq(changed.from_seq), wants));
            }
            Item::Ping(ping) => {
                assert!(ping.watermark.seq >= before, "a watermark that goes back");
                self.cursor = Some(ping.watermark);
            }
            Item::Bye(bye) => {
                assert!(bye.retry_ms.is_some());
                totals.expired += usize::from(bye.code == ByeCode::Expired as u32);
                totals.stalls += usize::from(bye.code == ByeCode::Stalled as u32);
            }
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}
