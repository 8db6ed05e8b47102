//! The table of a contest.

use crate::{
    contest::{Series, Turn},
    link::Link,
    load::Kind,
    plot::OverLink,
    scenario::Scenario,
    spread::median,
};

/// A table in Markdown: medians of the rounds with the lowest and the highest.
pub fn markdown(scenario: &Scenario, all: &[Series]) -> String {
    aligned(&rows(scenario, all))
}

/// The same as cells, the head first.
pub fn rows(scenario: &Scenario, all: &[Series]) -> Vec<Vec<String>> {
    let Some(first) = all.first() else { return vec![Vec::new()] };
    let columns = columns(scenario);
    let mut rows =
        vec![std::iter::once(String::new()).chain(columns.iter().map(|column| column.0.to_owned())).collect()];
    for series in all {
        let mut row = vec![series.name.clone()];
        row.extend(columns.iter().map(|(_, column)| column.tell(series, first)));
        rows.push(row);
    }
    // A measure that nobody has says nothing.
    let told: Vec<bool> =
        (0..=columns.len()).map(|column| rows.iter().skip(1).any(|row| row[column] != NOT_MEASURED)).collect();
    let kept = |row: Vec<String>| row.into_iter().zip(&told).filter(|(_, told)| **told).map(|(cell, _)| cell).collect();
    rows.into_iter().map(kept).collect()
}

/// What a scenario that is measured on many links comes to: the median p99 of each contestant, a column a link; and what the links have lost.
pub fn over_links(all: &[OverLink]) -> Vec<Vec<String>> {
    let mut rows = vec![std::iter::once(String::new()).chain(all.iter().map(|(link, _)| heading(link))).collect()];
    let Some((_, first)) = all.first() else { return rows };
    let cell = |series: &Series, measure: &dyn Fn(&Turn) -> Option<f64>| {
        let values: Vec<f64> = series.turns.iter().filter_map(measure).collect();
        if values.is_empty() { NOT_MEASURED.to_owned() } else { median(values) }
    };
    for (nth, Series { name, .. }) in first.iter().enumerate() {
        let p99 = |turn: &Turn| turn.outcome.latency.quantile_ms(0.99);
        rows.push(
            std::iter::once(name.clone()).chain(all.iter().map(|(_, series)| cell(&series[nth], &p99))).collect(),
        );
    }
    let lost = |all: &[Series]| -> String {
        let values =
            all.iter().flat_map(|series| &series.turns).filter_map(|turn| Some(turn.link?.down.loss_percent()));
        median(values.collect())
    };
    rows.push(
        std::iter::once("packets lost, %".to_owned()).chain(all.iter().map(|(_, series)| lost(series))).collect(),
    );
    rows
}

fn heading(link: &Link) -> String {
    let tcp = link.tcp_congestion.as_deref().map_or_else(String::new, |name| format!(", {name}"));
    format!("{} %, {} ms{tcp}", link.loss_percent, link.round_trip_ms)
}

/// A measure of one contestant over the same measure of another, round by round.
pub fn ratios(one: &Series, other: &Series, measure: &dyn Fn(&Turn) -> Option<f64>) -> Vec<f64> {
    let pairs = one.turns.iter().zip(&other.turns);
    pairs.filter_map(|(one, other)| Some(measure(one)? / measure(other)?)).filter(|ratio| ratio.is_finite()).collect()
}

/// A measure of a turn, if it has it.
pub type Measure = Box<dyn Fn(&Turn) -> Option<f64>>;

enum Column {
    /// A measure of each turn.
    Each(Measure),
    /// The same by connection.
    PerConnection(fn(&Turn) -> Option<f64>),
    /// The same over that of the first row.
    Ratio(fn(&Turn) -> Option<f64>),
    /// A count of all turns together.
    Sum(fn(&Turn) -> u64),
}

impl Column {
    fn tell(&self, series: &Series, first: &Series) -> String {
        let values: Vec<f64> = match self {
            Self::Each(measure) => series.turns.iter().filter_map(measure).collect(),
            Self::PerConnection(measure) => {
                series.turns.iter().filter_map(|turn| Some(measure(turn)? / series.subscribers as f64)).collect()
            }
            Self::Ratio(measure) => ratios(series, first, measure),
            Self::Sum(measure) => return series.turns.iter().map(measure).sum::<u64>().to_string(),
        };
        if values.is_empty() { NOT_MEASURED.to_owned() } else { median(values) }
    }
}

fn columns(scenario: &Scenario) -> Vec<(&'static str, Column)> {
    let each = |measure: fn(&Turn) -> Option<f64>| Column::Each(Box::new(measure));
    let latency = |part| Column::Each(Box::new(move |turn: &Turn| turn.outcome.latency.quantile_ms(part)));
    let connect = |part| Column::Each(Box::new(move |turn: &Turn| turn.connect.quantile_ms(part)));
    let first = |part| Column::Each(Box::new(move |turn: &Turn| turn.outcome.first_event.quantile_ms(part)));
    let recovery = |part| Column::Each(Box::new(move |turn: &Turn| turn.outcome.recovery.quantile_ms(part)));
    let mut columns = match scenario.kind() {
        Kind::Connect(_) => vec![
            ("accepted p50 ms", connect(0.5)),
            ("p99 ms", connect(0.99)),
            ("first event p50 ms", first(0.5)),
            ("p99 ms", first(0.99)),
            ("max ms", first(1.0)),
            ("CPU µs/connection", each(Turn::cpu_us)),
        ],
        Kind::Storm { .. } => vec![
            ("back p50 ms", recovery(0.5)),
            ("p99 ms", recovery(0.99)),
            ("max ms", recovery(1.0)),
            ("live p99 before, ms", each(|turn| turn.around_the_storm()?.0.quantile_ms(0.99))),
            ("meanwhile, ms", each(|turn| turn.around_the_storm()?.1.quantile_ms(0.99))),
        ],
        Kind::Feed if scenario.idle_seconds > 0.0 => vec![
            ("KiB/connection", Column::PerConnection(|turn| turn.resident_kib)),
            ("CPU idle, % of a core", each(|turn| Some(turn.idle_cpu? * 100.0))),
            ("connect p50 ms", connect(0.5)),
            ("p99 ms", connect(0.99)),
            ("event p50 ms", latency(0.5)),
            ("last ms", latency(1.0)),
        ],
        Kind::Feed => vec![
            ("CPU µs/delivery", each(Turn::cpu_us)),
            ("CPU × first", Column::Ratio(Turn::cpu_us)),
            ("p50 ms", latency(0.5)),
            ("p99 ms", latency(0.99)),
            ("p99.9 ms", latency(0.999)),
            ("max ms", latency(1.0)),
            ("deliveries/s", each(|turn| Some(turn.per_second()))),
            ("wire bytes/delivery", each(Turn::wire_bytes)),
            ("KiB/connection", Column::PerConnection(|turn| turn.resident_kib)),
            ("connect p99 ms", connect(0.99)),
            ("packets lost, %", each(|turn| Some(turn.link?.down.loss_percent()))),
        ],
    };
    if scenario.replay_latest {
        let values = |part| Column::Each(Box::new(move |turn: &Turn| turn.outcome.values.quantile_ms(part)));
        columns.extend([("all values p50 ms", values(0.5)), ("p99 ms", values(0.99))]);
    }
    columns.push(("lost", Column::Sum(|turn| turn.outcome.lost())));
    columns.push(("twice", Column::Sum(|turn| turn.outcome.duplicates + turn.outcome.strays)));
    columns
}

/// Markdown that reads well as it is.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (nth, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            out.push_str(&format!("| {cell}{} ", " ".repeat(width - cell.chars().count())));
        }
        out.push_str("|\n");
        if nth == 0 {
            widths.iter().for_each(|width| out.push_str(&format!("| {} ", "-".repeat(*width))));
            out.push_str("|\n");
        }
    }
    out
}

const NOT_MEASURED: &str = "–";
