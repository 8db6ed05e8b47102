//! Pictures, as SVG. Colours are CSS variables, for light pages and dark ones.

use std::fmt::Write as _;

use crate::{
    contest::{Role, Series, Turn},
    link::Link,
    load::SLICE_MS,
    spread::{self, middle, short},
    table::Measure,
};

/// What a page, or a picture that stands alone, needs to say once.
pub const STYLE: &str = "
:root { --ink: #1c2530; --soft: #5d6b7a; --line: #dde3ea; --paper: #ffffff; --card: #f7f9fb; --ours: #2563c9; --peer: #97a3b0; --floor: #c9d1d9;
  --c0: #2563c9; --c1: #d9480f; --c2: #2b8a3e; --c3: #7048e8; --c4: #0c8599; --c5: #c2255c; --c6: #b7791f; --c7: #5c6370; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf1; --soft: #9aa8b7; --line: #2c3642; --paper: #11161c; --card: #182028; --ours: #6ea8ff;
  --peer: #7d8a98; --floor: #4a5663; --c0: #6ea8ff; --c1: #ff9466; --c2: #69d184; --c3: #b39dfc; --c4: #45c8dc; --c5: #f58ab2; --c6: #f0b860; --c7: #b4bdc7; } }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .soft { fill: var(--soft); } svg .end { text-anchor: end; } svg .middle { text-anchor: middle; } svg .title { font-weight: 600; font-size: 13px; }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .range { stroke: var(--ink); stroke-width: 1.5; opacity: 0.55; }
svg path { fill: none; stroke-width: 2; stroke-linejoin: round; }
";

/// A standalone picture: processor time and tail latency of everybody in a contest.
pub fn cpu_and_latency(all: &[Series]) -> String {
    let cpu = bars_at(all, "CPU of the server for a delivery, µs", &Turn::cpu_us, 150.0, 300.0);
    let p99 = |turn: &Turn| turn.outcome.latency.quantile_ms(0.99);
    let latency = bars_at(all, "p99 latency, ms", &p99, 0.0, 300.0);
    let height = height(all.len());
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="-20 0 880 {height}" width="880" height="{height}" role="img">
<title>Server CPU for a delivery and p99 latency, by transport</title><style>{STYLE}</style>
<rect x="-20" width="880" height="{height}" fill="var(--paper)"/>{cpu}<g transform="translate(510 0)">{latency}</g></svg>
"#
    )
}

/// Bars with a measure of each contestant: the median of its rounds, a line from the lowest to the highest. None where nobody has it.
pub fn bars(all: &[Series], title: &str, measure: &dyn Fn(&Turn) -> Option<f64>) -> Option<String> {
    let any = all.iter().flat_map(|series| &series.turns).any(|turn| measure(turn).is_some());
    any.then(|| {
        let inner = bars_at(all, title, measure, 150.0, 300.0);
        let height = height(all.len());
        format!(r#"<svg viewBox="-20 0 540 {height}" role="img"><title>{title}</title>{inner}</svg>"#)
    })
}

fn height(rows: usize) -> f64 {
    44.0 + rows as f64 * ROW
}

/// `label`: room for the names, which aren't written if there is none.
fn bars_at(all: &[Series], title: &str, measure: &dyn Fn(&Turn) -> Option<f64>, label: f64, width: f64) -> String {
    let rounds: Vec<Vec<f64>> = all
        .iter()
        .map(|series| {
            let mut values: Vec<f64> = series.turns.iter().filter_map(measure).collect();
            values.sort_by(f64::total_cmp);
            values
        })
        .collect();
    let most = rounds.iter().flatten().copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let x = |value: f64| label + value.max(0.0) / most * width;
    let mut out = format!(r#"<text class="title" x="{label}" y="20">{title}</text>"#);
    for (nth, (series, values)) in all.iter().zip(&rounds).enumerate() {
        let y = 36.0 + nth as f64 * ROW;
        let middle = y + ROW / 2.0;
        if label > 0.0 {
            let _ = write!(
                out,
                r#"<text class="end" x="{}" y="{}">{}</text>"#,
                label - 10.0,
                middle + 4.0,
                escape(&series.name)
            );
        }
        let (Some(low), Some(high)) = (values.first(), values.last()) else {
            let _ = write!(out, r#"<text class="soft" x="{}" y="{}">–</text>"#, label + 4.0, middle + 4.0);
            continue;
        };
        let median = spread::middle(values).unwrap_or_default();
        let _ = write!(
            out,
            r#"<rect x="{label}" y="{}" width="{:.1}" height="{}" rx="2" fill="var(--{})"/>"#,
            y + 4.0,
            (x(median) - label).max(1.0),
            ROW - 8.0,
            colour(series.role)
        );
        if high > low {
            let _ = write!(out, r#"<path class="range" d="M{:.1} {middle}H{:.1}"/>"#, x(*low), x(*high));
        }
        let _ = write!(out, r#"<text x="{:.1}" y="{}">{}</text>"#, x(*high) + 6.0, middle + 4.0, short(median));
    }
    out
}

fn colour(role: Role) -> &'static str {
    match role {
        Role::Hub => "ours",
        Role::Peer => "peer",
        Role::Floor => "floor",
    }
}

/// How latency is distributed: the tail, ten times rarer with every step to the right. None if there is none.
pub fn distribution(all: &[Series]) -> Option<String> {
    let lines: Vec<Line> = all
        .iter()
        .map(|series| {
            let times = crate::latency::Times::merge(series.turns.iter().map(|turn| &turn.outcome.latency));
            // What fewer than ten events had says nothing about the next run.
            let deepest = (times.count() as f64 / 10.0).max(1.0).log10().min(5.0);
            let steps = (0..=50).map(|step| f64::from(step) * 0.1).filter(|nines| *nines <= deepest);
            steps.filter_map(|nines| Some((nines, times.quantile_ms(1.0 - 10f64.powf(-nines) + 1e-12)?))).collect()
        })
        .collect();
    let ticks = ["min", "p90", "p99", "p99.9", "p99.99", "p99.999"];
    let ticks = ticks.iter().enumerate().map(|(nth, name)| (nth as f64, (*name).to_owned())).collect();
    lines_at("Latency from the intended time of sending, ms", all, &lines, ticks)
}

/// p99 latency over the time of a run, of the last round. None if there is none.
pub fn timeline(all: &[Series]) -> Option<String> {
    let lines: Vec<Line> = all
        .iter()
        .map(|series| {
            let slices = series.turns.last().map(|turn| &*turn.outcome.timeline).unwrap_or_default();
            let time = |slice: usize| slice as f64 * SLICE_MS as f64 / 1000.0;
            slices
                .iter()
                .enumerate()
                .filter_map(|(slice, times)| Some((time(slice), times.quantile_ms(0.99)?)))
                .collect()
        })
        .collect();
    let end = lines.iter().flatten().map(|point| point.0).fold(0.0, f64::max);
    let step = (end / 6.0).ceil().max(1.0);
    let ticks =
        (0..=7).map(|nth| f64::from(nth) * step).filter(|at| *at <= end).map(|at| (at, format!("{at} s"))).collect();
    lines_at("p99 latency as the run goes on, ms", all, &lines, ticks)
}

/// p99 latency over what links lose: a figure for each round trip and each congestion control of TCP.
pub fn over_links(all: &[OverLink]) -> Vec<String> {
    let mut figures = Vec::new();
    let kind = |link: &Link| (link.round_trip_ms.to_bits(), link.tcp_congestion.clone());
    for (nth, (link, series)) in all.iter().enumerate() {
        if all[..nth].iter().any(|(before, _)| kind(before) == kind(link)) {
            continue;
        }
        let alike: Vec<&OverLink> = all.iter().filter(|(other, _)| kind(other) == kind(link)).collect();
        let p99 = |series: &Series| {
            let mut rounds: Vec<f64> =
                series.turns.iter().filter_map(|turn| turn.outcome.latency.quantile_ms(0.99)).collect();
            rounds.sort_by(f64::total_cmp);
            middle(&rounds)
        };
        let line = |nth: usize| -> Line {
            alike.iter().filter_map(|(link, series)| Some((link.loss_percent, p99(&series[nth])?))).collect()
        };
        let lines: Vec<Line> = (0..series.len()).map(line).collect();
        let ticks = alike.iter().map(|(link, _)| (link.loss_percent, format!("{} %", link.loss_percent))).collect();
        let tcp = link.tcp_congestion.as_deref().unwrap_or("the system's own");
        let title = format!("p99 ms by packets lost, {} ms there and back, TCP: {tcp}", link.round_trip_ms);
        figures.extend(lines_at(&escape(&title), series, &lines, ticks));
    }
    figures
}

/// The same as a standalone picture. None where there is nothing to draw.
pub fn lossy(all: &[OverLink]) -> Option<String> {
    let figures = over_links(all);
    let (_, series) = all.first()?;
    if figures.is_empty() {
        return None;
    }
    let width = figures.len() as f64 * (WIDTH + 20.0);
    let height = HEIGHT + 18.0 + series.len().div_ceil(NAMES_A_ROW) as f64 * NAMES_HEIGHT;
    let mut out = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<title>p99 latency of each transport where packets are lost</title><style>{STYLE}</style><rect width="{width}" height="{height}" fill="var(--paper)"/>"#
    );
    for (nth, figure) in figures.iter().enumerate() {
        let placed =
            format!(r#"<svg x="{}" y="4" width="{WIDTH}" height="{HEIGHT}" "#, nth as f64 * (WIDTH + 20.0) + 10.0);
        out.push_str(&figure.replacen("<svg ", &placed, 1));
    }
    for (nth, one) in series.iter().enumerate() {
        let x = 20.0 + (nth % NAMES_A_ROW) as f64 * (width - 40.0) / NAMES_A_ROW as f64;
        let y = HEIGHT + 22.0 + (nth / NAMES_A_ROW) as f64 * NAMES_HEIGHT;
        let _ = write!(
            out,
            r#"<path d="M{x} {y}H{}" style="{}"/><text x="{}" y="{}">{}</text>"#,
            x + 26.0,
            stroke(series, nth),
            x + 32.0,
            y + 4.0,
            escape(&one.name),
        );
    }
    out.push_str("</svg>\n");
    Some(out)
}

/// A link, and what everybody did over it.
pub type OverLink = (Link, Vec<Series>);

type Line = Vec<(f64, f64)>;

fn lines_at(title: &str, all: &[Series], lines: &[Line], ticks: Vec<(f64, String)>) -> Option<String> {
    let points = || lines.iter().flatten();
    let right = points().map(|point| point.0).fold(0.0, f64::max);
    if right <= 0.0 {
        return None;
    }
    let low = points().map(|point| point.1).fold(f64::INFINITY, f64::min).max(1e-3);
    let high = points().map(|point| point.1).fold(0.0, f64::max).max(low * 1.5);
    let (low, high) = (low.log10() - 0.05, high.log10() + 0.05);
    let x = |value: f64| 46.0 + value / right * (WIDTH - 60.0);
    let y = |ms: f64| 34.0 + (1.0 - (ms.max(1e-3).log10() - low) / (high - low)) * (HEIGHT - 60.0);
    let mut out = format!(
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{title}</title><text class="title" x="0" y="16">{title}</text>"#
    );
    for power in -3..7 {
        for digit in [1.0, 2.0, 5.0] {
            let ms = digit * 10f64.powi(power);
            if (low..=high).contains(&ms.log10()) {
                let at = y(ms);
                let _ = write!(
                    out,
                    r#"<path class="grid" d="M46 {at:.1}H{}"/><text class="soft end" x="40" y="{:.1}">{ms}</text>"#,
                    WIDTH - 14.0,
                    at + 4.0
                );
            }
        }
    }
    for (at, name) in ticks.iter().filter(|(at, _)| *at <= right) {
        let at = x(*at);
        let _ = write!(
            out,
            r#"<path class="grid" d="M{at:.1} 34V{}"/><text class="soft middle" x="{at:.1}" y="{}">{name}</text>"#,
            HEIGHT - 26.0,
            HEIGHT - 8.0
        );
    }
    for (nth, (series, line)) in all.iter().zip(lines).enumerate() {
        let mut path = String::new();
        for (nth, (at, ms)) in line.iter().enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if nth == 0 { "M" } else { "L" }, x(*at), y(*ms));
        }
        let _ = write!(
            out,
            r#"<path d="{path}" style="{}"><title>{}</title></path>"#,
            stroke(all, nth),
            escape(&series.name)
        );
    }
    out.push_str("</svg>");
    Some(out)
}

/// Which line is whose, as HTML.
pub fn legend(all: &[Series]) -> String {
    let entry = |(nth, series): (usize, &Series)| {
        format!(
            r#"<span><svg viewBox="0 0 26 10" width="26" height="10"><path d="M1 5H25" style="{}"/></svg>{}</span>"#,
            stroke(all, nth),
            escape(&series.name)
        )
    };
    format!(r#"<p class="legend">{}</p>"#, all.iter().enumerate().map(entry).collect::<String>())
}

/// The hub's lines are solid, others' dashed.
fn stroke(all: &[Series], nth: usize) -> String {
    let ours = |series: &&Series| series.role == Role::Hub;
    let is_ours = ours(&&all[nth]);
    let colour = all[..nth].iter().filter(|series| ours(series) == is_ours).count() % 8;
    format!("stroke: var(--c{colour}){}", if is_ours { "" } else { "; stroke-dasharray: 4 4; opacity: 0.8" })
}

/// Text for HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A measure with its title.
pub type Titled = (&'static str, Measure);

const ROW: f64 = 24.0;
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 280.0;
/// The names below two figures.
const NAMES_A_ROW: usize = 4;
const NAMES_HEIGHT: f64 = 22.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::Outcome, way::Way};

    #[test]
    fn bars_have_the_colour_of_what_somebody_is() {
        let turn = Turn {
            round: 0,
            connect: Default::default(),
            outcome: Outcome { measured: 1, ..Outcome::default() },
            cpu_seconds: Some(1e-5),
            resident_kib: None,
            idle_cpu: None,
            wire_bytes: None,
            link: None,
            complaints: Vec::new(),
        };
        let series = |name: &str, role| Series {
            name: name.to_owned(),
            way: Way::WebTransport,
            role,
            subscribers: 1,
            turns: vec![turn.clone()],
        };
        // Whatever their names.
        let all = [series("a", Role::Floor), series("webtransport", Role::Peer), series("send-loop", Role::Hub)];
        let picture = cpu_and_latency(&all);
        let colours: Vec<&str> =
            picture.split("rx=\"2\" fill=\"var(--").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert_eq!(colours, ["floor", "peer", "ours"]);
    }
}
