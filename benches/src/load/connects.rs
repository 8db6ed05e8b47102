//! From nothing to the first event, many at once.

use std::{
    cell::RefCell,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures_util::future;

use super::{
    Job, Outcome, Progress, Report, publisher, report,
    subscriber::{Subscriber, buffer},
    subscribers::{Extra, endpoints, feed_url},
};
use crate::{
    latency::Counted,
    stamp::{Scanner, now_ns},
};

pub(super) fn run(job: &Job, times: u32, progress: &Arc<Progress>) -> Result<Outcome> {
    ensure!(job.publish.warm_up + job.publish.events == 1, "who connects gets one event");
    publisher::run(job, progress)?;
    report(&Report::Measuring)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (connect, first) = (RefCell::new(Counted::default()), RefCell::new(Counted::default()));
    let (began_ns, mut received) = (now_ns(), 0);
    for time in 1..=times {
        // Sockets of their own each time, as strangers have.
        received += runtime.block_on(async {
            let endpoints = endpoints(job.way, job.subscribers)?;
            let all = (0..job.subscribers).map(|subscriber| {
                let endpoint = endpoints.get(subscriber).cloned();
                one(job, subscriber, endpoint, &connect, &first)
            });
            let got = future::try_join_all(all).await?;
            for endpoint in &endpoints {
                endpoint.close(0u32.into(), b"");
            }
            let closed = future::join_all(endpoints.iter().map(quinn::Endpoint::wait_idle));
            let _ = tokio::time::timeout(CLOSE_MAX, closed).await;
            anyhow::Ok(got.iter().filter(|got| **got).count() as u64)
        })?;
        let all = job.subscribers as u64;
        report(&Report::Progress(all * u64::from(time), all * u64::from(times)))?;
    }
    let (connect, first_event) = (connect.borrow().times(), first.borrow().times());
    Ok(Outcome {
        expected: job.subscribers as u64 * u64::from(times),
        received,
        measured: received,
        seconds: (now_ns() - began_ns) as f64 / 1e9,
        ended: progress.ended.load(Relaxed),
        connect,
        first_event,
        ..Outcome::default()
    })
}

async fn one(
    job: &Job,
    subscriber: usize,
    endpoint: Option<quinn::Endpoint>,
    connect: &RefCell<Counted>,
    first: &RefCell<Counted>,
) -> Result<bool> {
    let url = feed_url(job, subscriber, Extra::Earliest)?;
    let began_ns = now_ns();
    let mut feed = Subscriber::open(job, &url, endpoint).await.with_context(|| format!("over {}", job.way))?;
    connect.borrow_mut().add(now_ns() - began_ns);
    let (mut scanner, mut buffer, mut got) = (Scanner::default(), buffer(), false);
    let read = async {
        while !got && feed.read(&mut buffer, |bytes| scanner.feed(bytes, |_| got = true)).await? {}
        anyhow::Ok(())
    };
    if let Ok(read) = tokio::time::timeout(EVENT_MAX, read).await {
        read?;
    }
    if got {
        first.borrow_mut().add(now_ns() - began_ns);
    }
    Ok(got)
}

/// An event that takes longer is lost.
const EVENT_MAX: Duration = Duration::from_secs(10);
const CLOSE_MAX: Duration = Duration::from_secs(1);
