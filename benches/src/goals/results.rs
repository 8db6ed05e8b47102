//! The results, in Markdown.

use std::{fs, time::SystemTime};

use fanwire_bench::{cli::describe, plot::OverLink, table};

use super::Run;

/// `arguments` are those that this program was called with.
pub(super) fn markdown(arguments: &str, run: &Run) -> String {
    let mut cells = vec![["what", "goal", "measured", "met", "figures"].map(str::to_owned).to_vec()];
    cells.extend(run.rows.iter().map(|row| {
        vec![row.what.clone(), row.goal.clone(), row.measured.clone(), row.met.to_owned(), row.figures.clone()]
    }));
    let mut out = format!(
        "# Results\n\nWritten by `{COMMAND} {arguments}`, on {}.\n\n{ABOUT}\n\n## Goals\n\n{}\n{NOTES}\n",
        machine(),
        table::aligned(&cells)
    );
    for (scenario, rounds, all) in &run.tables {
        let (name, about) = (&scenario.name, &scenario.about);
        out.push_str(&format!("\n## {name}: {about}\n\n{}\n", describe(scenario, *rounds)));
        out.push_str(&table::markdown(scenario, all));
    }
    out.push_str(&lossy("lossy", &run.over_links));
    out.push_str(&lossy("lossy-defaults", &run.over_links_by_default));
    out
}

fn lossy(name: &str, over_links: &[OverLink]) -> String {
    let Some((link, _)) = over_links.first() else { return String::new() };
    format!(
        "\n## {name}\n\np99 latency in ms over links that lose and delay packets, QUIC with Cubic, TCP with {}; and what they lost of what the hub sent.\n\n{}",
        link.congestion(),
        table::aligned(&table::over_links(over_links))
    )
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let memory = read("/proc/meminfo");
    let kib =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse::<u64>().ok());
    let release = read("/proc/sys/kernel/osrelease");
    let days = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    let (year, month, day) = date(days as i64);
    format!(
        "{year}-{month:02}-{day:02}: {cores} cores ({}), {} GiB, Linux {}",
        model.unwrap_or("unknown"),
        kib.unwrap_or(0).div_ceil(1024 * 1024),
        release.trim()
    )
}

/// The civil date so many days after 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
    // Years begin in March, so that the odd day comes last, and 400 of them are one era.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}

const COMMAND: &str = "cargo build --release --workspace && cargo run --release -p fanwire-bench --";
const ABOUT: &str = "Server and load share the machine. `measured` is the median of the rounds with the lowest and the highest; a ratio is of two turns of the same
round. [README.md](README.md) says what each measure is, and what it leaves out.";
/// True of every run; the figures are in its tables.
const NOTES: &str = "`out of reach` is what the floor in the same rounds doesn't meet either: something that does less than the hub has to. Its ratio stands in the last column, and
how many times as much the hub takes. Ratios are those of a kind of machine: the cheaper its system calls, the more all else counts. What is in the way:

- **TLS.** `send-loop-tls` is the send loop through rustls and nothing besides, a record for each event and socket; `send-loop-h2` is the same in frames of
  HTTP/2.
- **WebTransport.** `quinn-proto` and `quinn-proto-datagram` are QUIC in a loop on one thread and nothing besides: what packets, their encryption and their
  acknowledgements take, and a connection's memory, before there are tasks or a hub. `quinn` and `quinn-datagram` are plain quinn, on as many threads as there are
  cores.
- **Saturated.** An event of the hub's has an id, by which its reader can come back, and a third more bytes than `axum-batched`'s; `axum-batched-ids` sends as many.
- **Two shards on two cores.** `send-loop-threads` writes from as many threads as the hub. With `--hub-argument=--shards=1` the hub takes less for a delivery, and
  the last subscriber has it later.";

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_are_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(20_454), (2026, 1, 1));
    }
}
