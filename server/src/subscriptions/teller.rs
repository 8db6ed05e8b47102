//! Publishes what is due.

use std::{sync::Arc, time::Duration};

use fanwire_protocol::Draft;

use super::{NAMESPACE, Subscriptions, document::Document, mercure0, registry::event};
use crate::log::{SharedLog, Stamped};

/// Tells for as long as it is polled: first, that what an earlier run on this log had left active is over, and then what changes.
/// `now_ms` tells the time since the Unix epoch.
pub async fn tell(subscriptions: Arc<Subscriptions>, log: SharedLog, now_ms: fn() -> u64) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    end_earlier(&log, now_ms).await;
    loop {
        interval.tick().await;
        publish(&log, subscriptions.due(EVENTS_A_TICK), now_ms).await;
    }
}

/// Every subscription ends with its hub. Of those whose beginning isn't kept any more nothing is told: whoever goes on from before is told a
/// gap.
async fn end_earlier(log: &SharedLog, now_ms: fn() -> u64) {
    let mut after = None;
    loop {
        let newest = match log.newest_under(&format!("{NAMESPACE}/"), after.take(), EVENTS_A_TICK).await {
            Ok(newest) => newest,
            Err(error) => {
                tracing::warn!(%error, "which subscriptions an earlier run has left can't be read; trying again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let Some(last) = newest.last() else { return };
        after = Some(last.draft.canonical().clone());
        let ended = newest.iter().filter_map(|told| end(&told.draft));
        publish(log, ended.collect(), now_ms).await;
    }
}

/// The event that tells that what an earlier one has told is over, if that said it wasn't.
fn end(told: &Draft) -> Option<Draft> {
    let json = told.data.bytes();
    if let Ok(mut document) = serde_json::from_slice::<Document<'_>>(json) {
        return std::mem::replace(&mut document.active, false)
            .then(|| event(Some(told.canonical().clone()), &document))?;
    }
    let mut document: mercure0::Document<'_> = serde_json::from_slice(json).ok()?;
    std::mem::replace(&mut document.active, false).then(|| document.to_event())?
}

/// Until it is committed: what comes later comes after it.
async fn publish(log: &SharedLog, drafts: Vec<Draft>, now_ms: fn() -> u64) {
    if drafts.is_empty() {
        return;
    }
    let mut complained = false;
    let events: Vec<_> = drafts.into_iter().map(|draft| Stamped::new(draft, now_ms())).collect();
    while let Err(error) = log.append(events.clone()).await {
        if !complained {
            tracing::warn!(%error, "who is subscribed can't be told now; trying again");
            complained = true;
        }
        tokio::time::sleep(RETRY).await;
    }
}

const TICK: Duration = Duration::from_millis(100);
/// So 5,000 a second: what more there is to tell waits.
const EVENTS_A_TICK: usize = 500;
const RETRY: Duration = Duration::from_secs(1);
