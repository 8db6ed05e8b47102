//! The one publisher.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use anyhow::{Context, Result, ensure};
use fanwire_client::{HttpVersion, Publisher};

use super::{Job, Kind, Pace, Progress, Report, Style, id, pause, report};
use crate::{
    latency::{Counted, Times},
    stamp::{Stamp, now_ns},
};

/// Publishes what is there before anybody comes.
pub(super) fn fill(job: &Job) -> Result<()> {
    let mut way = Way::open(job)?;
    let numbers: Vec<u32> = (0..job.publish.before).collect();
    numbers.chunks(FILL_BATCH).try_for_each(|part| way.publish(job, part[0]..part[0] + part.len() as u32, now_ns()))
}

/// Publishes everything else, on this thread, and tells how late. An event that is late isn't put off: the next one has its own time.
pub(super) fn run(job: &Job, progress: &Progress) -> Result<Times> {
    let plan = &job.publish;
    let mut way = Way::open(job)?;
    let all = plan.warm_up + plan.events;
    let (mut number, mut lateness) = (plan.before, Counted::default());
    // The schedule's beginning, and the number that is due then.
    let mut start = (now_ns() + LEAD.as_nanos() as u64, number);
    while number < all {
        let hasty = number < plan.warm_up && plan.warm_up_batch > 0;
        let (batch, pace) = if hasty { (plan.warm_up_batch, Pace::FlatOut(HASTE)) } else { (plan.batch, plan.pace) };
        let (batch, until) = (batch as u32, if hasty { plan.warm_up } else { all });
        let intended_ns = match pace {
            Pace::PerSecond(rate) => {
                let intended_ns = start.0 + (f64::from(number - start.1) / rate * 1e9) as u64;
                pause(Duration::from_nanos(intended_ns.saturating_sub(now_ns())));
                intended_ns
            }
            Pace::FlatOut(window) => {
                while job.expected(number) > progress.received.load(Relaxed) + job.expected(window) {
                    ensure!(progress.ended.load(Relaxed) == 0, "a feed has ended, so that it never gets everything");
                    pause(CATCH_UP);
                }
                now_ns()
            }
        };
        if number <= plan.warm_up && plan.warm_up < number + batch {
            report(&Report::Measuring)?;
            progress.began_ns.store(intended_ns, Relaxed);
        }
        let numbers = number..(number + batch).min(until);
        number = numbers.end;
        if hasty {
            start = (now_ns() + LEAD.as_nanos() as u64, number);
        }
        lateness.add(now_ns().saturating_sub(intended_ns));
        way.publish(job, numbers, intended_ns)?;
    }
    Ok(lateness.times())
}

/// A connection to publish on, and who drives it.
struct Way {
    publisher: Publisher,
    runtime: tokio::runtime::Runtime,
}

impl Way {
    fn open(job: &Job) -> Result<Self> {
        ensure!(job.publish.bytes >= Stamp::BYTES, "an event has at least {} bytes", Stamp::BYTES);
        let options = job.access.options(&job.publish.url).context("the url to publish to")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { publisher: Publisher::new(options, HttpVersion::H1), runtime })
    }

    /// Publishes these in one request, all of which have to be accepted.
    fn publish(&mut self, job: &Job, numbers: std::ops::Range<u32>, intended_ns: u64) -> Result<()> {
        let (content_type, body) = words(job, numbers, intended_ns);
        let url = &job.publish.url;
        let answer = self.runtime.block_on(self.publisher.post(content_type, body.into()))?;
        let said = || String::from_utf8_lossy(&answer.body).chars().take(200).collect::<String>();
        ensure!(answer.status.is_success(), "{url} answered {}: {}", answer.status, said());
        // A batch may be accepted in part.
        ensure!(!answer.body.windows(9).any(|part| part == br#"{"error":"#), "{url} refused: {}", said());
        Ok(())
    }
}

fn words(job: &Job, numbers: std::ops::Range<u32>, intended_ns: u64) -> (&'static str, String) {
    let (plan, topics) = (&job.publish, job.topics.count);
    let stamp = |out: &mut String, number| Stamp { number, intended_ns }.write(out, plan.bytes);
    let mut body = String::with_capacity(numbers.len() * (plan.bytes + 48));
    match plan.style {
        Style::Fanwire if numbers.len() == 1 => {
            body = format!("topic={}&", topic(numbers.start as usize % topics));
            if let Kind::Storm { .. } = job.kind {
                body.push_str(&format!("id={}&", id(numbers.start)));
            }
            body.push_str("data=");
            stamp(&mut body, numbers.start);
            ("application/x-www-form-urlencoded", body)
        }
        Style::Fanwire => {
            for number in numbers {
                body.push_str(&format!(r#"{{"topic":"{}","data":""#, topic(number as usize % topics)));
                stamp(&mut body, number);
                body.push_str("\"}\n");
            }
            ("application/x-ndjson", body)
        }
        Style::Raw => {
            for number in numbers {
                if !body.is_empty() {
                    body.push('\n');
                }
                stamp(&mut body, number);
            }
            ("text/plain", body)
        }
    }
}

/// The name of a topic.
pub(super) fn topic(number: usize) -> String {
    format!("bench/{number}")
}

/// From the word to begin to the first event.
const LEAD: Duration = Duration::from_millis(20);
/// How many events of a hasty warm-up may be under way.
const HASTE: u32 = 8_192;
/// How many events a request has that come before anybody does.
const FILL_BATCH: usize = 1_000;
const CATCH_UP: Duration = Duration::from_micros(200);
