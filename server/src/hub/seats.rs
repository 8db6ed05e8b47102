//! The seats of subscribers: so many in all, and so many of one client.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Gives seats out.
#[derive(Debug)]
pub(super) struct Seats {
    all_max: usize,
    of_one_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    by_client: HashMap<Arc<str>, usize>,
}

/// A subscriber's place among [`Limits::subscribers_max`](super::Limits), for as long as it lives.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    client: Arc<str>,
}

/// Why there is no seat.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// All are taken.
    All,
    /// This client has as many as one may have.
    OfOne,
}

impl Seats {
    pub(super) fn new(all_max: usize, of_one_max: usize) -> Self {
        Self { all_max, of_one_max, taken: Mutex::default() }
    }

    /// How many are taken.
    pub(super) fn count(&self) -> usize {
        self.lock().count
    }

    /// Takes one for a client, by its name.
    pub(super) fn take(self: &Arc<Self>, client: &str) -> Result<Seat, Full> {
        let mut taken = self.lock();
        if taken.count >= self.all_max {
            return Err(Full::All);
        }
        let known = taken.by_client.get_key_value(client).map(|(name, count)| (name.clone(), *count));
        let (client, of_one) = known.unwrap_or_else(|| (client.into(), 0));
        if of_one >= self.of_one_max {
            return Err(Full::OfOne);
        }
        taken.count += 1;
        taken.by_client.insert(client.clone(), of_one + 1);
        Ok(Seat { seats: self.clone(), client })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.count -= 1;
        if let Some(count) = taken.by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_seats_to_others() {
        let seats = Arc::new(Seats::new(5, 3));
        let mut held: Vec<Seat> = (0..3).map(|_| seats.take("a").unwrap()).collect();
        assert_eq!(seats.take("a").unwrap_err(), Full::OfOne);
        held.extend([seats.take("b").unwrap(), seats.take("c").unwrap()]);
        assert_eq!((seats.take("b").unwrap_err(), seats.count()), (Full::All, 5));
        held.remove(0);
        held.push(seats.take("a").unwrap());
        drop(held);
        assert_eq!((seats.count(), seats.lock().by_client.len()), (0, 0));
    }
}
