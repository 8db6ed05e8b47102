//! When to look at which connection again.

use std::time::Instant;

/// One entry a connection at the most, in a heap in which each has its known place: a connection puts its time off with each packet, and
/// entries that were left behind by that would be many times as many.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: Vec<(Instant, usize)>,
    /// Where a connection's entry is, by the connection's number; [`NOWHERE`] if it has none. After a peak the places stay, of 8 bytes each.
    places: Vec<usize>,
}

impl Timers {
    /// Looks at a connection at this time, or earlier: one that is put off keeps its entry, is looked at for nothing, and gets its time then.
    pub(super) fn set(&mut self, number: usize, due: Option<Instant>) {
        let place = self.places.get(number).copied().unwrap_or(NOWHERE);
        match (due, self.heap.get(place)) {
            (None, _) => {}
            (Some(due), Some((at, _))) if *at <= due => {}
            (Some(due), Some(_)) => {
                self.heap[place].0 = due;
                self.rise(place);
            }
            (Some(due), None) => {
                if self.places.len() <= number {
                    self.places.resize(number + 1, NOWHERE);
                }
                self.heap.push((due, number));
                self.rise(self.heap.len() - 1);
            }
        }
    }

    pub(super) fn forget(&mut self, number: usize) {
        let Some(place) = self.places.get_mut(number).map(|place| std::mem::replace(place, NOWHERE)) else { return };
        if place == NOWHERE {
            return;
        }
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.sink(place);
            self.rise(place);
        }
        if self.heap.len() < self.heap.capacity() / 4 {
            self.heap.shrink_to(self.heap.len() * 2);
        }
    }

    /// The earliest time that there is.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|(at, _)| *at)
    }

    /// Takes out a connection whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<usize> {
        let &(at, number) = self.heap.first()?;
        if at > now {
            return None;
        }
        self.forget(number);
        Some(number)
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let above = (place - 1) / 2;
            if self.heap[above].0 <= self.heap[place].0 {
                break;
            }
            self.heap.swap(above, place);
            self.note(place);
            place = above;
        }
        self.note(place);
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let below = [2 * place + 1, 2 * place + 2].into_iter().filter(|below| *below < self.heap.len());
            let Some(least) = below.min_by_key(|below| self.heap[*below].0) else { break };
            if self.heap[place].0 <= self.heap[least].0 {
                break;
            }
            self.heap.swap(least, place);
            self.note(place);
            place = least;
        }
        self.note(place);
    }

    fn note(&mut self, place: usize) {
        self.places[self.heap[place].1] = place;
    }
}

const NOWHERE: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use super::*;

    #[test]
    fn connections_come_up_in_the_order_of_their_times() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let mut timers = Timers::default();
        let mut known: HashMap<usize, Instant> = HashMap::new();
        let mut random = fastrand::Rng::with_seed(7);
        for step in 0..20_000 {
            let number = random.usize(..100);
            match random.u8(..8) {
                0 => {
                    timers.forget(number);
                    known.remove(&number);
                }
                1 => {
                    let now = at(random.u64(..1000));
                    let due = timers.due(now);
                    let least = known.values().min().copied();
                    assert_eq!(due.is_some(), least.is_some_and(|least| least <= now), "step {step}");
                    if let Some(number) = due {
                        assert_eq!(known.remove(&number), least, "step {step}");
                    }
                }
                _ => {
                    let due = at(random.u64(..1000));
                    timers.set(number, Some(due));
                    // Put off, it keeps its time.
                    let known = known.entry(number).or_insert(due);
                    *known = due.min(*known);
                }
            }
            assert_eq!(timers.next(), known.values().min().copied(), "step {step}");
            assert_eq!(timers.heap.len(), known.len());
        }
    }

    #[test]
    fn a_connection_has_one_entry_however_often_it_is_set() {
        let begun = Instant::now();
        let mut timers = Timers::default();
        for ms in 0..1000 {
            timers.set(3, Some(begun + Duration::from_millis(ms)));
            timers.set(3, Some(begun + Duration::from_millis(2000 - ms)));
        }
        assert_eq!(timers.due(begun), Some(3));
        assert_eq!(timers.due(begun + Duration::from_secs(9)), None);
    }
}
