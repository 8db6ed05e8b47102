//! Parts of the goals, and rows of their table.

use std::fmt;

use clap::ValueEnum;
use fanwire_bench::spread::{median, middle};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Broadcast,
    Saturated,
    Idle,
    Connect,
    Storm,
    Topics,
    Publish,
    Scale,
    Lossy,
    LossyDefaults,
}

impl Part {
    pub(super) const ALL: [Self; 10] = [
        Self::Broadcast,
        Self::Saturated,
        Self::Idle,
        Self::Connect,
        Self::Storm,
        Self::Topics,
        Self::Publish,
        Self::Scale,
        Self::Lossy,
        Self::LossyDefaults,
    ];
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_possible_value().expect("every part has a name").get_name())
    }
}

/// What a measure is to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    /// By values, one a round; the median counts.
    fn is_met(self, values: &[f64]) -> Option<bool> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        middle(&sorted).map(|value| match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        })
    }
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) goal: String,
    pub(super) measured: String,
    pub(super) met: &'static str,
    pub(super) figures: String,
}

impl Row {
    /// `values`: one a round; the median counts.
    pub(super) fn new(what: impl Into<String>, goal: Goal, values: Vec<f64>, figures: String) -> Self {
        Self::beside_a_floor(what, goal, values, &[], figures)
    }

    /// `floor`: the same of something that does less than the hub has to. Where it doesn't meet the goal either, that is out of reach.
    pub(super) fn beside_a_floor(
        what: impl Into<String>,
        goal: Goal,
        values: Vec<f64>,
        floor: &[f64],
        figures: String,
    ) -> Self {
        let met = match (goal.is_met(&values), goal.is_met(floor)) {
            (None, _) => "not measured",
            (Some(true), _) => "yes",
            (Some(false), Some(false)) => "out of reach",
            (Some(false), _) => "no",
        };
        let goal = match goal {
            Goal::AtMost(most) => format!("≤ {most}"),
            Goal::AtLeast(least) => format!("≥ {least}"),
        };
        Self { what: what.into(), goal, measured: told(&values), met, figures }
    }

    pub(super) fn failed(part: Part, why: String) -> Self {
        let (goal, measured) = ("–".to_owned(), "–".to_owned());
        Self { what: part.to_string(), goal, measured, met: "not measured", figures: why.replace(['\n', '|'], " ") }
    }
}

/// The median of the rounds, with the lowest and the highest.
pub(super) fn told(values: &[f64]) -> String {
    if values.is_empty() { "–".to_owned() } else { median(values.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_decides() {
        let met = |goal, values: &[f64]| Row::new("", goal, values.to_vec(), String::new()).met;
        assert_eq!(met(Goal::AtMost(1.1), &[1.0, 1.1, 9.0]), "yes");
        assert_eq!(met(Goal::AtMost(1.1), &[1.0, 1.2, 1.2]), "no");
        assert_eq!(met(Goal::AtMost(1.1), &[1.0, 1.15]), "yes");
        assert_eq!(met(Goal::AtLeast(1.0), &[0.9]), "no");
        assert_eq!(met(Goal::AtLeast(1.0), &[]), "not measured");
    }

    #[test]
    fn what_no_floor_meets_is_out_of_reach() {
        let met = |values: &[f64], floor: &[f64]| {
            Row::beside_a_floor("", Goal::AtMost(1.1), values.to_vec(), floor, String::new()).met
        };
        assert_eq!(met(&[1.3], &[1.2]), "out of reach");
        assert_eq!(met(&[1.3], &[1.1]), "no");
        assert_eq!(met(&[1.1], &[1.2]), "yes");
        assert_eq!(met(&[], &[1.2]), "not measured");
    }
}
