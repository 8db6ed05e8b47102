//! The table of a contest.

use crate::{
    contest::{Series, Turn},
    spread::median,
};

/// A table in Markdown: medians of the rounds with the lowest and the highest.
pub fn markdown(all: &[Series]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    let first = all.first();
    for series in all {
        let of = |part: &dyn Fn(&Turn) -> Option<f64>| {
            let values: Vec<f64> = series.turns.iter().filter_map(part).collect();
            if values.is_empty() { "–".to_owned() } else { median(values) }
        };
        let latency = |part| of(&move |turn: &Turn| turn.outcome.latency.quantile_ms(part));
        let ratio = first.map_or_else(Vec::new, |first| ratios(series, first, &|turn| turn.cpu_us()));
        let lost: u64 = series.turns.iter().map(|turn| turn.outcome.lost()).sum();
        let twice: u64 = series.turns.iter().map(|turn| turn.outcome.duplicates + turn.outcome.strays).sum();
        rows.push([
            series.name.clone(),
            of(&|turn| turn.cpu_us()),
            if ratio.is_empty() { "–".to_owned() } else { median(ratio) },
            latency(0.5),
            latency(0.99),
            latency(0.999),
            latency(1.0),
            of(&|turn| Some(turn.per_second())),
            of(&|turn| Some(turn.resident_kib? / series.subscribers as f64)),
            of(&|turn| turn.connect.quantile_ms(0.99)),
            lost.to_string(),
            twice.to_string(),
        ]);
    }
    aligned(&rows)
}

/// A measure of one contestant over the same measure of another, round by round.
pub fn ratios(one: &Series, other: &Series, measure: &dyn Fn(&Turn) -> Option<f64>) -> Vec<f64> {
    let pairs = one.turns.iter().zip(&other.turns);
    pairs.filter_map(|(one, other)| Some(measure(one)? / measure(other)?)).filter(|ratio| ratio.is_finite()).collect()
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for (nth, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(widths) {
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

const HEAD: [&str; 12] = [
    "",
    "CPU µs/delivery",
    "CPU × first",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "max ms",
    "deliveries/s",
    "KiB/connection",
    "connect p99 ms",
    "lost",
    "twice",
];
