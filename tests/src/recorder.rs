//! Publishers and subscribers that write down what they are told, for the [checker](crate::checker).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use fanwire_client::{
    Choice, Feed, FeedError, HttpVersion, Item, Options, Publication as Draft, PublishError, Published, Publisher,
    ReceiveError, Update,
};
use fanwire_protocol::{Cursor, message::Refusal};
use tokio::{sync::Notify, task::JoinHandle};

use crate::checker::{History, Keeps, Outcome, Publication, Subscriber, Told, Try};

/// What all of them write to. Clones share it. They run on a [`tokio::task::LocalSet`].
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    moment: u64,
    publications: Vec<Publication>,
    subscribers: Vec<Subscriber>,
    /// Where each subscriber is, and whether it is connected.
    places: Vec<(Option<Cursor>, bool)>,
    reconnects: usize,
    refusals: BTreeSet<String>,
    faults: Vec<String>,
}

/// How a publisher publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// An event a request, as JSON.
    Single,
    /// An event a request, as a form.
    Form,
    /// So many events a request, as NDJSON.
    Batch(usize),
    /// So many events a request, as NDJSON, each with an idempotency key; tried again until they are acknowledged, and sometimes once more.
    Keyed(usize),
}

/// A publisher that goes on until it is stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// A subscriber that follows a feed until the recorder's runtime ends; it comes back by itself.
    pub fn follow(&self, name: &str, choice: Choice, options: Options) -> JoinHandle<()> {
        let topics = options.matchers.as_slice().iter().map(|matcher| matcher.to_string()).collect();
        let index = {
            let mut state = self.state();
            state.subscribers.push(Subscriber { name: name.to_owned(), topics, ..Subscriber::default() });
            state.places.push((None, false));
            state.subscribers.len() - 1
        };
        let recorder = self.clone();
        tokio::task::spawn_local(async move {
            let mut feed = Feed::new(choice, options);
            loop {
                let update = feed.next().await;
                let is_over = update.is_err();
                recorder.take(index, update, feed.cursor());
                if is_over {
                    return;
                }
            }
        })
    }

    /// A publisher of one event after the other, whatever happens to the hub. Its events are named after it.
    pub fn load(&self, name: &str, topic: &str, manner: Manner, options: Options) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (recorder, stopped) = (self.clone(), stop.clone());
        let (name, topic) = (name.to_owned(), topic.to_owned());
        let task = tokio::task::spawn_local(async move {
            let mut publisher = Publisher::new(options, HttpVersion::H1);
            let mut number = 0;
            while !stopped.load(Relaxed) {
                let count = if let Manner::Batch(count) | Manner::Keyed(count) = manner { count } else { 1 };
                let texts: Vec<String> = (number..number + count).map(|number| format!("{name}/{number}")).collect();
                number += count;
                let cursors = recorder.publish(&mut publisher, manner, &topic, &texts).await;
                if cursors.iter().all(Option::is_none) {
                    // The hub is gone, or can't.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
        Load { stop, task }
    }

    /// Publishes events in one request, and writes down what became of them: their positions, if they were acknowledged. With
    /// [`Manner::Keyed`] it tries again until they are, for as long as the hub can be expected to be away.
    pub async fn publish(
        &self,
        publisher: &mut Publisher,
        manner: Manner,
        topic: &str,
        texts: &[String],
    ) -> Vec<Option<Cursor>> {
        let keyed = matches!(manner, Manner::Keyed(_));
        let drafts: Vec<Draft> = texts
            .iter()
            .map(|text| Draft { idempotency_key: keyed.then(|| text.clone()), ..Draft::text(topic, text.clone()) })
            .collect();
        let mut tries = vec![Vec::new(); texts.len()];
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            let begun = self.moment();
            let outcomes = self.attempt(publisher, manner, &drafts).await;
            let ended = self.moment();
            for (tries, outcome) in tries.iter_mut().zip(outcomes.iter().flatten()) {
                tries.push(Try { begun, ended, outcome: *outcome });
            }
            let is_acknowledged = outcomes.is_some_and(|all| all.iter().all(|one| one.cursor().is_some()));
            // Now and then the answer is as good as lost.
            if !keyed || Instant::now() > give_up_at || is_acknowledged && fastrand::u8(..) < 230 {
                break;
            }
            if !is_acknowledged {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let cursors: Vec<Option<Cursor>> = tries.iter().map(|tries| tries.last()?.outcome.cursor()).collect();
        if !cursors.iter().flatten().is_sorted_by(|one, other| one.seq < other.seq) {
            self.state().faults.push(format!("the lines of a batch are out of order: {cursors:?}"));
        }
        let publications = texts.iter().zip(tries).filter(|(_, tries)| !tries.is_empty());
        let publications = publications.map(|(text, tries)| Publication {
            text: text.clone(),
            topics: vec![topic.to_owned()],
            keyed,
            tries,
        });
        self.state().publications.extend(publications);
        cursors
    }

    /// One request. None if there was nobody to ask.
    async fn attempt(&self, publisher: &mut Publisher, manner: Manner, drafts: &[Draft]) -> Option<Vec<Outcome>> {
        let answer = match manner {
            Manner::Single => publisher.publish(&drafts[0]).await.map(|one| vec![Ok(one)]),
            Manner::Form => publisher.publish_form(&drafts[0]).await.map(|one| vec![Ok(one)]),
            Manner::Batch(_) | Manner::Keyed(_) => publisher.publish_batch(drafts).await,
        };
        let all = |outcome| Some(vec![outcome; drafts.len()]);
        match answer {
            Ok(lines) => {
                let outcome = |line: Result<Published, Refusal>| match line {
                    Ok(published) => Outcome::Acknowledged(published.cursor.expect("no publisher's id was given")),
                    Err(refusal) => self.refused(&refusal.code),
                };
                Some(lines.into_iter().map(outcome).collect())
            }
            Err(PublishError::Connect(_)) => None,
            Err(PublishError::Refused(refusal)) => all(self.refused(&refusal.code)),
            Err(PublishError::Cut { .. } | PublishError::Timeout { .. }) => all(Outcome::Unknown),
            Err(error) => {
                self.state().faults.push(format!("a publisher: {error}"));
                all(Outcome::Unknown)
            }
        }
    }

    /// Waits until every subscriber is connected.
    ///
    /// # Panics
    /// If one of them isn't within 20 s.
    pub async fn all_connected(&self) {
        let missing = |state: &State| {
            let places = state.places.iter().enumerate();
            places.filter(|(_, (_, connected))| !connected).map(|(index, _)| (index, 0)).collect()
        };
        self.until_none(missing).await;
    }

    /// Waits until every subscriber has been brought to a position. However long that takes on a busy machine, each of them has to
    /// get on.
    ///
    /// # Panics
    /// If one of them that isn't there gets nothing new in 20 s.
    pub async fn all_reach(&self, cursor: Cursor) {
        let is_there = |at: Cursor| at.epoch == cursor.epoch && at.seq >= cursor.seq;
        let missing = |state: &State| {
            let places = state.places.iter().enumerate();
            let missing = places.filter(|(_, (place, _))| !place.is_some_and(is_there));
            missing.map(|(index, (place, _))| (index, place.map_or(0, |at| at.seq.0))).collect()
        };
        self.until_none(missing).await;
    }

    /// Waits until so many events are acknowledged.
    ///
    /// # Panics
    /// If none is for 20 s before there are that many.
    pub async fn acknowledged(&self, count: usize) {
        let is = |publication: &Publication| publication.tries.iter().any(|one| one.outcome.cursor().is_some());
        let missing = |state: &State| {
            let acknowledged = state.publications.iter().filter(|one| is(one)).count();
            if acknowledged < count { vec![(0, acknowledged as u64)] } else { vec![] }
        };
        self.until_none(missing).await;
    }

    /// How many events were acknowledged so far.
    pub fn acknowledged_so_far(&self) -> usize {
        let is = |publication: &&Publication| publication.tries.iter().any(|one| one.outcome.cursor().is_some());
        self.state().publications.iter().filter(is).count()
    }

    /// The newest position that was acknowledged.
    pub fn newest(&self) -> Option<Cursor> {
        let state = self.state();
        let tries = state.publications.iter().rev().flat_map(|publication| &publication.tries);
        tries.filter_map(|one| one.outcome.cursor()).max_by_key(|cursor| cursor.seq)
    }

    /// How often a subscriber has lost its connection.
    pub fn reconnects(&self) -> usize {
        self.state().reconnects
    }

    /// The codes with which publishers were refused so far.
    pub fn refusals(&self) -> Vec<String> {
        self.state().refusals.iter().cloned().collect()
    }

    /// All that was written down. Each subscriber has to have got everything up to `upto`.
    ///
    /// # Panics
    /// If a client found its hub to break the protocol, or a feed has ended for good.
    pub fn history(&self, keeps: Keeps, upto: Option<Cursor>) -> History {
        let state = self.state();
        assert_eq!(state.faults, [] as [&str; 0]);
        let mut subscribers = state.subscribers.clone();
        subscribers.iter_mut().for_each(|subscriber| subscriber.upto = upto);
        History { publications: state.publications.clone(), subscribers, keeps }
    }

    fn take(&self, index: usize, update: Result<Update, FeedError>, cursor: Option<Cursor>) {
        let mut state = self.state();
        let name = state.subscribers[index].name.clone();
        match update {
            Ok(Update::Connected { .. }) => state.places[index].1 = true,
            Ok(Update::Disconnected { error, .. }) => {
                state.reconnects += usize::from(std::mem::take(&mut state.places[index].1));
                if let FeedError::Receive(
                    ReceiveError::Malformed(_)
                    | ReceiveError::Message { .. }
                    | ReceiveError::TooLong(_)
                    | ReceiveError::Order { .. }
                    | ReceiveError::Skipped { .. },
                ) = error
                {
                    state.faults.push(format!("{name}: {error}"));
                }
            }
            Ok(Update::Item(item)) => {
                state.places[index].0 = cursor;
                if let Item::Bye(_) = item {
                    state.reconnects += usize::from(std::mem::take(&mut state.places[index].1));
                }
                state.subscribers[index].told.extend(Told::of(&item));
            }
            Err(error) => state.faults.push(format!("{name} has ended: {error}")),
        }
        drop(state);
        self.0.changed.notify_waiters();
    }

    fn refused(&self, code: &str) -> Outcome {
        self.state().refusals.insert(code.to_owned());
        // A disk that failed may have kept what it was given.
        if code == "log_unavailable" { Outcome::Unknown } else { Outcome::Refused }
    }

    fn moment(&self) -> u64 {
        let mut state = self.state();
        state.moment += 1;
        state.moment
    }

    /// Waits until nothing is missing any more. What is missing has a name, and a measure of how far it has come: slow is as good as
    /// fast, but what doesn't move has failed.
    async fn until_none(&self, missing: impl Fn(&State) -> Vec<(usize, u64)>) {
        let mut moved: BTreeMap<usize, (u64, Instant)> = BTreeMap::new();
        loop {
            let changed = self.0.changed.notified();
            let missing = missing(&self.state());
            if missing.is_empty() {
                return;
            }
            let now = Instant::now();
            let since =
                |name, far| moved.get(&name).filter(|(before, _)| *before == far).map_or(now, |&(_, since)| since);
            moved = missing.into_iter().map(|(name, far)| (name, (far, since(name, far)))).collect();
            let is_stuck = moved.values().any(|&(_, since)| now - since > PATIENCE);
            assert!(!is_stuck, "nothing in {PATIENCE:?}: {}", self.places());
            // Publishers don't notify.
            let _ = tokio::time::timeout(Duration::from_millis(50), changed).await;
        }
    }

    fn places(&self) -> String {
        let state = self.state();
        let places = state.subscribers.iter().zip(&state.places);
        let places: Vec<String> = places.map(|(one, place)| format!("{}: {place:?}", one.name)).collect();
        format!("{places:?}; faults: {:?}", state.faults)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    /// Lets it finish its request, and stops it.
    ///
    /// # Panics
    /// If it has panicked.
    pub async fn stop(self) {
        self.stop.store(true, Relaxed);
        self.task.await.expect("a publisher that doesn't panic");
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
