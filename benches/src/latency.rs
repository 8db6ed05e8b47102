//! Times, counted in a histogram of three digits.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Many times, as they travel between processes and stand in the JSON of a run: `[nanoseconds, how many]`, rising.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Times(Vec<(u64, u64)>);

/// Times that are being counted.
#[derive(Debug)]
pub struct Counted(Histogram<u64>);

impl Default for Counted {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, NS_MAX, DIGITS).expect("the bounds are in order"))
    }
}

impl Counted {
    /// Counts a time. What is beyond an hour counts as an hour.
    pub fn add(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// As it is sent on.
    pub fn times(&self) -> Times {
        Times(self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect())
    }
}

impl Times {
    /// Adds those of another process or round.
    pub fn merge<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut counted = Counted::default();
        for (ns, count) in all.into_iter().flat_map(|times| &times.0) {
            counted.0.saturating_record_n(*ns, *count);
        }
        counted.times()
    }

    /// The time within which a part of all lies, in milliseconds; of no times none.
    pub fn quantile_ms(&self, part: f64) -> Option<f64> {
        let wanted = ((self.count() as f64 * part).ceil() as u64).max(1);
        let mut before = 0;
        let found = self.0.iter().find(|(_, count)| {
            before += count;
            before >= wanted
        });
        found.or(self.0.last()).map(|(ns, _)| *ns as f64 / 1e6)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

const NS_MAX: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_three_digits() {
        let mut counted = Counted::default();
        (1..=1_000).for_each(|ms| counted.add(ms * 1_000_000));
        let times = Times::merge([&counted.times(), &Times::default()]);
        assert_eq!(times.count(), 1_000);
        for (part, ms) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1_000.0)] {
            let got = times.quantile_ms(part).unwrap();
            assert!((got / ms - 1.0).abs() < 0.002, "{part}: {got}");
        }
        assert_eq!(Times::default().quantile_ms(0.5), None);
    }
}
