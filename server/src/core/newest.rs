//! What waits in a feed where the newest event of a topic wins.

use std::collections::{BTreeMap, VecDeque};

use fanwire_protocol::{Seq, Topic};

use super::{Limits, Shared};

/// Events that were committed and not taken yet, in the order of the log, of each topic the newest only.
///
/// It is bounded whatever is published: what comes takes the place of what waits of its topic, and where there is no room for another
/// topic the oldest is let go of. What comes before an event in its feed is noted when it comes, so that a reader sees what it hasn't got.
#[derive(Debug)]
pub(super) struct Newest {
    /// In order; none where something newer came.
    waiting: VecDeque<Option<Waiting>>,
    /// How many have left `waiting` at its front, ever.
    gone: u64,
    count: usize,
    bytes: usize,
    /// Where the event of each topic is, counted from the first that ever waited. None while so few wait that they are looked through.
    places: Option<BTreeMap<Topic, u64>>,
    /// The last event that came; none before the first that isn't history's.
    last: Option<Seq>,
    /// Up to here events come from history; none while all of them do.
    upto: Option<Seq>,
}

#[derive(Debug)]
struct Waiting {
    /// None: whatever history ends with.
    prev: Option<Seq>,
    event: Shared,
}

/// Events that feeds let go of, since others were newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// A newer one of the same topic came before they were taken.
    pub superseded: u64,
    /// [`Limits::newest_topics_max`] or [`Limits::queue_bytes_max`] was reached, and they were the oldest.
    pub overflowed: u64,
}

impl Newest {
    /// Nothing waits. Events up to a number come from history.
    pub(super) fn after(upto: Seq) -> Self {
        Self { waiting: VecDeque::new(), gone: 0, count: 0, bytes: 0, places: None, last: None, upto: Some(upto) }
    }

    /// Takes an event in, unless it is known already.
    pub(super) fn offer(&mut self, event: &Shared, limits: &Limits, losses: &mut Losses) -> bool {
        // The tail may bring later what history has had.
        if event.seq() <= self.upto().max(self.last.unwrap_or_default()) {
            return false;
        }
        let cost = event.draft.cost();
        if let Some(place) = self.find(event.draft.canonical()) {
            self.remove(place);
            losses.superseded += 1;
        }
        while self.count > 0 && (self.count >= limits.newest_topics_max || self.bytes + cost > limits.queue_bytes_max) {
            self.pop();
            losses.overflowed += 1;
        }
        let prev = self.last.replace(event.seq());
        let place = self.gone + self.waiting.len() as u64;
        self.waiting.push_back(Some(Waiting { prev, event: event.clone() }));
        self.count += 1;
        self.bytes += cost;
        match &mut self.places {
            Some(places) => drop(places.insert(event.draft.canonical().clone(), place)),
            None if self.count > LOOKED_THROUGH_MAX => self.note_places(),
            None => {}
        }
        true
    }

    /// The first that waits, with what comes before it in the feed.
    pub(super) fn take(&mut self) -> Option<(Seq, Shared)> {
        let Waiting { prev, event } = self.pop()?;
        // Nothing is taken before history has ended, and then it is known: see `live_after`.
        Some((prev.unwrap_or_default(), event))
    }

    /// The number of the first that waits.
    pub(super) fn first(&self) -> Option<Seq> {
        self.waiting.front().and_then(Option::as_ref).map(|waiting| waiting.event.seq())
    }

    /// History has ended with an event or a gap, or there was none of it after this.
    pub(super) fn live_after(&mut self, prev: Seq) {
        match &mut self.last {
            last @ None => *last = Some(prev),
            Some(_) => {
                let first = self.waiting.iter_mut().flatten().next();
                if let Some(first @ Waiting { prev: None, .. }) = first {
                    first.prev = Some(prev);
                }
            }
        }
    }

    /// Takes nothing more in: what comes is read from history until [`Newest::resume`]. Gives the last that came.
    pub(super) fn pause(&mut self) -> Option<Seq> {
        self.upto = None;
        self.last.take()
    }

    /// Goes on behind a number, if it is paused. Gives up to where history goes.
    pub(super) fn resume(&mut self, upto: Seq) -> Seq {
        *self.upto.get_or_insert(upto)
    }

    /// The same, if it is known.
    pub(super) fn history_upto(&self) -> Option<Seq> {
        self.upto
    }

    /// Up to here events come from history.
    pub(super) fn upto(&self) -> Seq {
        self.upto.unwrap_or(Seq(u64::MAX))
    }

    /// Forgets what waits above a number: history brings it.
    pub(super) fn forget_above(&mut self, seq: Seq) {
        while let Some(last) = self.waiting.pop_back_if(|last| last.as_ref().is_none_or(|last| last.event.seq() > seq))
        {
            if let (Some(last), Some(places)) = (&last, &mut self.places) {
                places.remove(last.event.draft.canonical());
            }
            self.left(last);
        }
        self.close_ranks();
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn find(&self, topic: &Topic) -> Option<u64> {
        match &self.places {
            Some(places) => places.get(topic).copied(),
            None => {
                let is_of_topic = |waiting: &Option<Waiting>| {
                    waiting.as_ref().is_some_and(|waiting| waiting.event.draft.canonical() == topic)
                };
                self.waiting.iter().position(is_of_topic).map(|at| self.gone + at as u64)
            }
        }
    }

    fn remove(&mut self, place: u64) {
        let waiting = self.waiting[(place - self.gone) as usize].take();
        self.left(waiting);
        self.close_ranks();
    }

    fn pop(&mut self) -> Option<Waiting> {
        // The first place is never an empty one.
        let waiting = self.waiting.pop_front()??;
        self.gone += 1;
        if let Some(places) = &mut self.places {
            places.remove(waiting.event.draft.canonical());
        }
        self.count -= 1;
        self.bytes -= waiting.event.draft.cost();
        self.close_ranks();
        Some(waiting)
    }

    fn left(&mut self, waiting: Option<Waiting>) {
        if let Some(waiting) = waiting {
            self.count -= 1;
            self.bytes -= waiting.event.draft.cost();
        }
    }

    /// Empty places go at the front at once, elsewhere when there are more of them than of others.
    fn close_ranks(&mut self) {
        if self.count == 0 {
            // An idle feed keeps no buffer: there may be tens of thousands.
            *self = Self { last: self.last, upto: self.upto, ..Self::after(Seq::ZERO) };
            return;
        }
        while let Some(None) = self.waiting.front() {
            self.waiting.pop_front();
            self.gone += 1;
        }
        if self.waiting.len() > 2 * self.count + LOOKED_THROUGH_MAX {
            self.waiting.retain(Option::is_some);
            if self.places.is_some() {
                self.note_places();
            }
        }
    }

    fn note_places(&mut self) {
        let places = (self.gone..).zip(&self.waiting);
        let of_topic = |(place, waiting): (u64, &Option<Waiting>)| {
            waiting.as_ref().map(|waiting| (waiting.event.draft.canonical().clone(), place))
        };
        self.places = Some(places.filter_map(of_topic).collect());
    }
}

/// So many are looked through faster than they are looked up.
const LOOKED_THROUGH_MAX: usize = 16;
