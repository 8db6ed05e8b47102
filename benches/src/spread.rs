//! Numbers of several rounds.

use std::time::Duration;

/// The value below which a part of the sorted values lies.
pub fn quantile<T: Copy + Default>(sorted: &[T], part: f64) -> T {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// The median of some rounds, with the lowest and the highest; of one round the value.
pub fn median(mut rounds: Vec<f64>) -> String {
    rounds.sort_by(f64::total_cmp);
    if let [only] = *rounds {
        return short(only);
    }
    let (low, high) = (quantile(&rounds, 0.0), quantile(&rounds, 1.0));
    format!("{} ({}–{})", short(middle(&rounds).unwrap_or_default()), short(low), short(high))
}

/// The median: of an even number of sorted values what is between the two in the middle.
pub fn middle(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        return Some(sorted[upper]);
    }
    Some((sorted.get(upper.checked_sub(1)?)? + sorted[upper]) / 2.0)
}

/// A time in milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Three digits are all that such a machine can tell.
pub fn short(value: f64) -> String {
    match value {
        value if value >= 1_000_000.0 => format!("{:.2} M", value / 1_000_000.0),
        value if value >= 10_000.0 => format!("{:.0} k", value / 1000.0),
        value if value >= 1_000.0 => format!("{:.1} k", value / 1000.0),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_told_short() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), "2.00 (1.00–3.00)");
        assert_eq!(median(vec![1_234_567.0]), "1.23 M");
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), "3.00 (1.00–9.00)");
        assert_eq!((middle(&[]), middle(&[5.0])), (None, Some(5.0)));
        assert_eq!(quantile(&[1, 2, 3, 4], 0.99), 4);
        assert_eq!(quantile::<u32>(&[], 0.5), 0);
    }
}
