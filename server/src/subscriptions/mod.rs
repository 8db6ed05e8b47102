//! Who is subscribed: the hub's own events about it, and the list of it. [Mercure, Active Subscriptions]
//!
//! The list is what the events have told: whoever reads it, and then the events from the cursor that it read the list with, knows it from then
//! on. A change is told a second after it was made, unless it was undone meanwhile, and a bounded number of them at a time.

mod document;
#[cfg(test)]
mod measure_test;
mod mercure0;
mod registry;
mod teller;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fanwire_protocol::{Draft, Matchers};
use tokio::time::Instant;

use crate::auth::{Holder, Pass, random_u128};

pub use document::{Dialect, NAMESPACE, Place};
pub use teller::tell;

use registry::{Key, Registry};

/// The subscriptions of a hub.
#[derive(Debug)]
pub struct Subscriptions {
    registry: Mutex<Registry>,
    count_max: usize,
    /// Tells what this run says from what another said.
    run: u128,
    began: Instant,
}

/// A piece of the list.
#[derive(Debug)]
pub struct Piece {
    /// Documents, with commas between.
    pub json: Vec<u8>,
    /// Where the list goes on, if it does.
    pub next: Option<Next>,
}

/// A place in the list.
#[derive(Debug, Clone)]
pub struct Next {
    behind: Key,
    /// Something of the list was given before.
    given: bool,
}

/// Somebody who has a subscription.
#[derive(Debug, Clone)]
pub struct Subscriber {
    /// The name of the feed.
    pub id: u128,
    /// The issuer of the token that let it in, if one did.
    pub issuer: Option<Arc<str>>,
}

impl Subscriptions {
    /// None so far, and `count_max` at the most, each of some 400 bytes.
    pub fn new(count_max: usize) -> Self {
        Self { registry: Mutex::default(), count_max, run: random_u128(), began: Instant::now() }
    }

    /// The same, and clients of Mercure 0.x are told as well: each change is another event for them.
    pub fn telling_mercure0(self) -> Self {
        self.lock().tell_mercure0();
        self
    }

    /// Whether there is room for so many more.
    pub fn has_room(&self, more: usize) -> bool {
        self.lock().len() + more <= self.count_max
    }

    /// A feed has begun.
    pub fn join(&self, holder: &Holder, matchers: &Matchers) {
        self.lock().join(holder, matchers, self.now_ms());
    }

    /// A feed has other matchers.
    pub fn change(&self, feed: u128, matchers: &Matchers) {
        self.lock().change(feed, matchers, self.now_ms());
    }

    /// A feed goes on with another token, which may have other payloads.
    pub fn renew(&self, feed: u128, pass: &Arc<Pass>) {
        self.lock().renew(feed, pass, self.now_ms());
    }

    /// A feed has ended.
    pub fn leave(&self, feed: u128) {
        self.lock().leave(feed, self.now_ms());
    }

    /// What is to be told by now, as events, `count_max` at the most. The list has it from here on.
    pub fn due(&self, count_max: usize) -> Vec<Draft> {
        self.lock().due(self.now_ms(), count_max)
    }

    /// The document of one subscription.
    pub fn get(&self, place: &Place) -> Option<Vec<u8>> {
        self.lock().get(place)
    }

    /// Some of the documents of a collection, from its beginning or from where the last piece ended.
    pub fn piece(&self, place: &Place, from: Option<Next>) -> Piece {
        self.lock().piece(place, from)
    }

    /// Whose a subscription is.
    pub fn subscriber(&self, place: &Place) -> Option<Subscriber> {
        self.lock().subscriber(place)
    }

    /// What a collection begins with, up to its members. `last_event_id` is where to go on from.
    pub fn beginning(&self, place: &Place, last_event_id: &str) -> String {
        let text = |text: &str| serde_json::to_string(text).expect("a text");
        let id = text(place.path());
        match place.dialect() {
            Dialect::Today => format!("{{\"id\":{id},\"type\":\"subscriptions\",\"subscriptions\":["),
            Dialect::Mercure0 => format!(
                "{{\"@context\":{},\"id\":{id},\"type\":\"Subscriptions\",\"lastEventID\":{},\"subscriptions\":[",
                text(mercure0::CONTEXT),
                text(last_event_id)
            ),
        }
    }

    /// Names what the list says now, as an entity tag.
    pub fn tag(&self) -> String {
        format!("\"{:x}-{}\"", self.run, self.lock().version())
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        // A panic under the lock would be a bug of the registry's own; going on with what it holds beats telling nothing.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a change waits to be told: one that is undone within that time isn't.
const COALESCED: Duration = Duration::from_secs(1);
