//! The seats of subscribers, and what they have at them of what is bounded for all: so much in all, and so much of one client.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fanwire_protocol::{Matcher, Matchers, Pattern};

/// Gives seats out.
#[derive(Debug)]
pub(super) struct Seats {
    bounds: Bounds,
    taken: Mutex<Taken>,
}

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Seats.
    pub(super) all_max: usize,
    /// Seats of one client.
    pub(super) of_one_max: usize,
    /// Different patterns of one client. How many there may be in all is [`Patterns`](super::Patterns)' business.
    pub(super) patterns_of_one_max: usize,
    /// Subscriptions of one client that are told of. How many there may be in all is [`Subscriptions`](crate::subscriptions::Subscriptions)'
    /// business.
    pub(super) subscriptions_of_one_max: usize,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    by_client: HashMap<Arc<str>, OfOne>,
}

#[derive(Debug, Default)]
struct OfOne {
    seats: usize,
    subscriptions: usize,
    /// By how many of its seats have them.
    patterns: HashMap<Pattern, usize>,
}

/// A subscriber's place among [`Limits::subscribers_max`](super::Limits), and what it has there, for as long as it lives.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    client: Arc<str>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    patterns: Vec<Pattern>,
    subscriptions: usize,
}

/// What somebody had at a seat at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    patterns: usize,
    subscriptions: usize,
}

/// Why there is no seat, or nothing more to be had at it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// All are taken.
    All,
    /// This client has as many as one may have.
    OfOne,
}

impl Seats {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, taken: Mutex::default() }
    }

    /// How many are taken.
    pub(super) fn count(&self) -> usize {
        self.lock().count
    }

    /// Takes one for a client, by its name.
    pub(super) fn take(self: &Arc<Self>, client: &str) -> Result<Seat, Full> {
        let mut taken = self.lock();
        if taken.count >= self.bounds.all_max {
            return Err(Full::All);
        }
        let known = taken.by_client.get_key_value(client).map(|(name, of_one)| (name.clone(), of_one.seats));
        let (client, of_one) = known.unwrap_or_else(|| (client.into(), 0));
        if of_one >= self.bounds.of_one_max {
            return Err(Full::OfOne);
        }
        taken.count += 1;
        taken.by_client.entry(client.clone()).or_default().seats += 1;
        Ok(Seat { seats: self.clone(), client, held: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Has a pattern as well, if it may.
    pub(super) fn add_pattern(&self, pattern: &Pattern) -> Result<(), Full> {
        let mut held = self.lock();
        if held.patterns.contains(pattern) {
            return Ok(());
        }
        self.with_client(|of_one| {
            let room = of_one.patterns.len() < self.seats.bounds.patterns_of_one_max;
            match of_one.patterns.get_mut(pattern) {
                Some(seats) => *seats += 1,
                None if room => drop(of_one.patterns.insert(pattern.clone(), 1)),
                None => return Err(Full::OfOne),
            }
            Ok(())
        })?;
        held.patterns.push(pattern.clone());
        Ok(())
    }

    /// Has so many more subscriptions that are told of, if it may.
    pub(super) fn add_subscriptions(&self, more: usize) -> Result<(), Full> {
        let mut held = self.lock();
        self.with_client(|of_one| {
            if of_one.subscriptions + more > self.seats.bounds.subscriptions_of_one_max {
                return Err(Full::OfOne);
            }
            of_one.subscriptions += more;
            Ok(())
        })?;
        held.subscriptions += more;
        Ok(())
    }

    /// What there is now, for [`Seat::back_to`].
    pub(super) fn now(&self) -> Before {
        let held = self.lock();
        Before { patterns: held.patterns.len(), subscriptions: held.subscriptions }
    }

    /// Gives back what was added since.
    pub(super) fn back_to(&self, before: Before) {
        let mut held = self.lock();
        let patterns = held.patterns.split_off(before.patterns);
        let subscriptions = mem::replace(&mut held.subscriptions, before.subscriptions) - before.subscriptions;
        self.give_back(&patterns, subscriptions);
    }

    /// Gives back what isn't among these.
    pub(super) fn keep(&self, matchers: &Matchers) {
        let mut held = self.lock();
        let is_kept = |pattern: &Pattern| {
            matchers.as_slice().iter().any(|matcher| matches!(matcher, Matcher::Pattern(kept) if kept == pattern))
        };
        let (patterns, gone) = mem::take(&mut held.patterns).into_iter().partition(is_kept);
        held.patterns = patterns;
        let subscriptions = held.subscriptions.saturating_sub(matchers.as_slice().len());
        held.subscriptions -= subscriptions;
        self.give_back(&gone, subscriptions);
    }

    fn give_back(&self, patterns: &[Pattern], subscriptions: usize) {
        self.with_client(|of_one| of_one.give_back(patterns, subscriptions));
    }

    fn with_client<T>(&self, act: impl FnOnce(&mut OfOne) -> T) -> T {
        let mut taken = self.seats.lock();
        act(taken.by_client.entry(self.client.clone()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfOne {
    fn give_back(&mut self, patterns: &[Pattern], subscriptions: usize) {
        self.subscriptions -= subscriptions;
        for pattern in patterns {
            if let Some(seats) = self.patterns.get_mut(pattern) {
                *seats -= 1;
                if *seats == 0 {
                    self.patterns.remove(pattern);
                }
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let held = mem::take(&mut *self.lock());
        let mut taken = self.seats.lock();
        taken.count -= 1;
        if let Some(of_one) = taken.by_client.get_mut(&self.client) {
            of_one.give_back(&held.patterns, held.subscriptions);
            of_one.seats -= 1;
            if of_one.seats == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fanwire_protocol::HubUrl;

    use super::*;

    const BOUNDS: Bounds = Bounds { all_max: 5, of_one_max: 3, patterns_of_one_max: 2, subscriptions_of_one_max: 4 };

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text, &HubUrl::default()).unwrap()
    }

    #[test]
    fn one_client_leaves_seats_to_others() {
        let seats = Arc::new(Seats::new(BOUNDS));
        let mut held: Vec<Seat> = (0..3).map(|_| seats.take("a").unwrap()).collect();
        assert_eq!(seats.take("a").unwrap_err(), Full::OfOne);
        held.extend([seats.take("b").unwrap(), seats.take("c").unwrap()]);
        assert_eq!((seats.take("b").unwrap_err(), seats.count()), (Full::All, 5));
        held.remove(0);
        held.push(seats.take("a").unwrap());
        drop(held);
        assert_eq!((seats.count(), seats.lock().by_client.len()), (0, 0));
    }

    #[test]
    fn one_client_leaves_patterns_and_subscriptions_to_others() {
        let seats = Arc::new(Seats::new(BOUNDS));
        let (first, second, other) = (seats.take("a").unwrap(), seats.take("a").unwrap(), seats.take("b").unwrap());
        let [a, b, c] = ["/a/:id", "/b/:id", "/c/:id"].map(pattern);
        first.add_pattern(&a).unwrap();
        // The same one counts once, at one seat and at several.
        first.add_pattern(&pattern("/a/:id")).unwrap();
        second.add_pattern(&a).unwrap();
        second.add_pattern(&b).unwrap();
        assert_eq!(first.add_pattern(&c), Err(Full::OfOne));
        other.add_pattern(&c).unwrap();
        first.add_subscriptions(3).unwrap();
        assert_eq!(second.add_subscriptions(2), Err(Full::OfOne));
        other.add_subscriptions(4).unwrap();
        // What is added for nothing is given back, and what is left behind as well.
        let before = second.now();
        second.add_subscriptions(1).unwrap();
        second.back_to(before);
        first.keep(&[Matcher::Pattern(a.clone())].into_iter().collect());
        second.add_subscriptions(3).unwrap();
        second.keep(&Matchers::default());
        assert_eq!(first.add_pattern(&c), Ok(()), "b was the second's");
        drop(first);
        second.add_pattern(&a).unwrap();
        let before = second.now();
        second.add_pattern(&b).unwrap();
        second.back_to(before);
        second.add_pattern(&c).unwrap();
        drop(other);
        assert_eq!(seats.lock().by_client["a"].patterns, HashMap::from([(a, 1), (c, 1)]));
        drop(second);
        assert_eq!((seats.count(), seats.lock().by_client.len()), (0, 0));
    }
}
