//! The report: one HTML file that needs nothing else.

use std::fmt::Write as _;

use crate::{
    cli::describe,
    contest::{Series, Turn},
    load::Kind,
    plot::{self, OverLink, Titled, escape},
    scenario::Scenario,
    table,
};

/// A contest that was run.
pub struct Contest {
    /// What was done.
    pub scenario: Scenario,
    /// How often.
    pub rounds: usize,
    /// What came of it.
    pub series: Vec<Series>,
}

/// The whole page.
pub fn html(contests: &[Contest]) -> String {
    let mut body = String::new();
    let mut links = String::new();
    for (nth, contest) in contests.iter().enumerate() {
        let Contest { scenario, rounds, series } = contest;
        let is_same = |other: &&Contest| other.scenario.name == scenario.name;
        let mut id = escape(&scenario.name);
        if contests[..nth].iter().any(|before| is_same(&before)) {
            id.push_str(&format!("-{nth}"));
        } else {
            let _ = write!(links, "<a href=\"#{id}\">{id}</a>");
            let alike = contests.iter().filter(is_same);
            let over: Vec<OverLink> =
                alike.filter_map(|one| Some((one.scenario.link.clone()?, one.series.clone()))).collect();
            if over.len() > 1 {
                id.push_str("-0");
                body.push_str(&over_links(&scenario.name, &scenario.about, &over));
            }
        }
        let _ = write!(
            body,
            "<section id=\"{id}\"><h2>{name}</h2><p>{about}. {said}</p>",
            name = escape(&scenario.name),
            about = escape(&scenario.about),
            said = escape(describe(scenario, *rounds).trim())
        );
        body.push_str(&rows(&table::rows(scenario, series)));
        let bars = measures(scenario);
        let bars = bars.iter().filter_map(|(title, measure)| plot::bars(series, title, measure));
        let lines: Vec<String> = [plot::distribution(series), plot::timeline(series)].into_iter().flatten().collect();
        let legend = if lines.is_empty() { String::new() } else { plot::legend(series) };
        let figures = bars.chain(lines).fold(String::new(), |mut all, svg| {
            let _ = write!(all, "<figure>{svg}</figure>");
            all
        });
        let _ = write!(body, "<div class=\"figures\">{figures}</div>{legend}</section>");
    }
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>fanwire bench</title>\
         <style>{}{PAGE}</style><main><header><h1>fanwire bench</h1><p>{ABOUT}</p><nav>{links}</nav></header>{body}</main></html>\n",
        plot::STYLE
    )
}

/// What many links come to, before each of them.
fn over_links(name: &str, about: &str, all: &[OverLink]) -> String {
    let figures: String = plot::over_links(all).iter().map(|svg| format!("<figure>{svg}</figure>")).collect();
    format!(
        "<section id=\"{name}\"><h2>{name}: all links</h2><p>{about}. p99 latency in ms, and what the links lost of what the hub sent.</p>{}<div class=\"figures\">{figures}</div>{}</section>",
        rows(&table::over_links(all)),
        all.first().map(|(_, series)| plot::legend(series)).unwrap_or_default(),
        name = escape(name),
        about = escape(about)
    )
}

fn rows(rows: &[Vec<String>]) -> String {
    let mut out = "<div class=\"wide\"><table>".to_owned();
    for (nth, row) in rows.iter().enumerate() {
        let tag = if nth == 0 { "th" } else { "td" };
        out.push_str("<tr>");
        for cell in row {
            // The spread is worth less ink than the median.
            let cell = match escape(cell).split_once(" (") {
                Some((median, spread)) if nth > 0 => format!("{median} <small>({spread}</small>"),
                _ => escape(cell),
            };
            let _ = write!(out, "<{tag}>{cell}</{tag}>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
    out
}

/// What is drawn as bars.
fn measures(scenario: &Scenario) -> Vec<Titled> {
    let subscribers = scenario.subscribers as f64;
    let memory: Titled =
        ("Resident memory for a connection, KiB", Box::new(move |turn| Some(turn.resident_kib? / subscribers)));
    match scenario.kind() {
        Kind::Connect(_) => vec![
            (
                "From nothing to the first event, p50 ms",
                Box::new(|turn: &Turn| turn.outcome.first_event.quantile_ms(0.5)),
            ),
            ("The same, p99 ms", Box::new(|turn: &Turn| turn.outcome.first_event.quantile_ms(0.99))),
        ],
        Kind::Storm { .. } => vec![
            ("Back after, p50 ms", Box::new(|turn: &Turn| turn.outcome.recovery.quantile_ms(0.5))),
            ("Back after, the last, ms", Box::new(|turn: &Turn| turn.outcome.recovery.quantile_ms(1.0))),
        ],
        Kind::Feed if scenario.idle_seconds > 0.0 => {
            vec![memory, ("Connecting, p99 ms", Box::new(|turn: &Turn| turn.connect.quantile_ms(0.99)))]
        }
        Kind::Feed if scenario.rate.is_none() => vec![
            ("Deliveries a second", Box::new(|turn: &Turn| Some(turn.per_second()))),
            ("CPU of the server for a delivery, µs", Box::new(Turn::cpu_us)),
        ],
        Kind::Feed if scenario.replay_latest => vec![
            (
                "From nothing to the newest of each topic, p99 ms",
                Box::new(|turn: &Turn| turn.outcome.values.quantile_ms(0.99)),
            ),
            ("CPU of the server for a delivery, µs", Box::new(Turn::cpu_us)),
            ("p99 latency, ms", Box::new(|turn: &Turn| turn.outcome.latency.quantile_ms(0.99))),
            memory,
        ],
        Kind::Feed => vec![
            ("CPU of the server for a delivery, µs", Box::new(Turn::cpu_us)),
            ("p99 latency, ms", Box::new(|turn: &Turn| turn.outcome.latency.quantile_ms(0.99))),
            memory,
            ("Bytes on the wire for a delivery", Box::new(Turn::wire_bytes)),
        ],
    }
}

const ABOUT: &str = "Medians of the rounds, with the lowest and the highest in brackets. Contestants took turns, so that ratios within a table \
mean more than its figures. Blue: the hub; grey: peers; faint: floors, which do less than a hub has to.";
const PAGE: &str = "
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; } h1 { margin: 0; font-size: 26px; } h2 { margin: 0; font-size: 20px; }
header p { max-width: 70ch; color: var(--soft); } nav a { margin-right: 16px; color: var(--ours); } section { margin-top: 48px; } section > p { color: var(--soft); margin: 4px 0 16px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; white-space: nowrap; }
th, td { padding: 5px 12px; border-bottom: 1px solid var(--line); text-align: right; } th { color: var(--soft); font-weight: 500; white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; font-weight: 600; position: sticky; left: 0; background: var(--paper); } small { color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 16px; margin-top: 20px; }
figure { margin: 0; padding: 16px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; } figure svg { width: 100%; display: block; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: var(--ink); } .legend svg { margin-right: 6px; }
";
