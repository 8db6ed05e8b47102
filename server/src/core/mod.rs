//! The pure heart of the hub: which feed gets what, in which order, and what it is told.
//!
//! Nothing here knows a socket, an async runtime, a clock or randomness: time comes in as [`Time`], entropy as a seed, events as
//! the log's committed tail, older history as [`Page`]s that were asked for with [`Effect::Read`]. So a test can drive it step by step.

mod committed;
mod feed;
mod newest;
#[cfg(test)]
mod newest_simulation;
mod pages;
mod queue;
mod rights;
mod shard;
#[cfg(test)]
mod simulation;

use std::{rc::Rc, sync::Arc};

use fanwire_protocol::{
    Matchers, Seq,
    message::{Bye, Changed, Gap, GapReason, Hello, Ping, Verdict},
};

pub use committed::{Chunk, Committed};
pub use newest::Losses;
pub use pages::{Pages, PagesLimits, SharedPage};
pub use rights::{Lease, LeaseOf, Rights, Scope};
pub use shard::{ChangeError, FeedId, Shard, Taken};

/// Milliseconds since a moment of the caller's choice; never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

/// An event among the feeds of one shard. They count their references by themselves: a count that cores share, up and down for each
/// feed, would cost more than the rest of the walk.
pub type Shared = Rc<Arc<Committed>>;

/// What a subscriber gets, in order.
#[derive(Debug, Clone)]
pub enum Item {
    /// The feed begins; the first item, unless the reader was cut off before it took it.
    Hello(Box<Hello>),
    /// An event.
    Event {
        /// The event before it in this feed, or the cursor that the feed started at or was set to by a gap.
        prev: Seq,
        /// The event.
        event: Shared,
        /// Better lost than late: the newest of a topic wins in this feed ([`Subscription::newest_above`]), and this is no history.
        lossy: bool,
    },
    /// Loss, told.
    Gap(Box<Gap>),
    /// The matchers or the rights changed.
    Changed(Changed),
    /// A heartbeat.
    Ping(Ping),
    /// The feed ends; always the last item.
    Bye(Box<Bye>),
}

/// Where a feed starts: what the log made of a subscriber's `last_event_id`.
#[derive(Debug, Clone)]
pub struct Start {
    /// Everything after it is wanted.
    pub after: Seq,
    /// What became of what was asked for.
    pub verdict: Verdict,
    /// Loss that is known from the start, before anything else.
    pub gap: Option<StartGap>,
    /// Evictions up to these floors aren't told: the subscriber asked for what is left.
    pub told: Option<Floors>,
    /// Nothing that the subscriber's matchers take was evicted after it, as far as is known.
    pub complete: bool,
    /// Only these events come before the feed goes on with everything.
    pub latest: Option<Latest>,
}

/// The newest event of each topic at one moment: what a feed with `replay=latest` begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// Their numbers, in order.
    pub seqs: Arc<[Seq]>,
    /// The newest number of that moment: every event above it is wanted.
    pub upto: Seq,
}

/// Loss that is known when a feed opens: what lies between a position that means nothing here and [`Start::after`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartGap {
    /// Why.
    pub reason: GapReason,
}

/// For each retention class, the highest number that was evicted from it.
pub type Floors = Arc<[Seq]>;

/// What a new subscriber asks for, checked.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// What it wants.
    pub matchers: Matchers,
    /// What it may see.
    pub rights: Rights,
    /// From where on.
    pub start: Start,
    /// From one heartbeat to the next, in milliseconds.
    pub heartbeat_ms: u64,
    /// For how long at most.
    pub lease: Option<Lease>,
    /// Where the newest of a topic wins: up to this number, or further, events come from history, and all of them, which a ping ends. Above
    /// it events of a topic that wait are let go of for a newer one: see [`Shard::losses`].
    pub newest_above: Option<Seq>,
}

/// Something that the caller has to do for the core.
#[derive(Debug)]
pub enum Effect {
    /// The feed has something to take.
    Wake(FeedId),
    /// History is wanted; answer with [`Shard::page`] or [`Shard::read_failed`].
    Read(ReadRequest),
}

/// A bounded piece of history that a feed wants.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// For whom.
    pub feed: FeedId,
    /// Which of the feed's reads.
    pub token: u64,
    /// What.
    pub read: Read,
}

/// A bounded read of history.
#[derive(Debug, Clone)]
pub struct Read {
    /// Only events after this one.
    pub after: Seq,
    /// Only events up to this one.
    pub upto: Seq,
    /// Only events that these take.
    pub matchers: Arc<Matchers>,
    /// Don't tell evictions up to these floors.
    pub told: Option<Floors>,
    /// Only these events, of those that are still kept, and no gaps.
    pub only: Option<Arc<[Seq]>>,
    /// At most so many events.
    pub events_max: usize,
    /// No further event once they cost so much; at least one is given.
    pub bytes_max: usize,
}

/// A piece of history.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Events and gaps, in order.
    pub items: Vec<PageItem>,
    /// Everything up to here is in the page.
    pub reached: Seq,
}

/// A part of a [`Page`].
#[derive(Debug, Clone)]
pub enum PageItem<E = Arc<Committed>> {
    /// An event that is still there.
    Event(E),
    /// A stretch, both ends included, in which events may have been evicted.
    Gap {
        /// The first number.
        from: Seq,
        /// The last number.
        to: Seq,
    },
}

/// What the core allows, each with its cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most items that wait in a feed. Each costs 32 bytes; the events are shared.
    pub queue_items_max: usize,
    /// The most bytes of events that wait in a feed, while it pins them beyond the log's retention; one event may exceed it.
    pub queue_bytes_max: usize,
    /// The most topics of which an event waits where the newest of a topic wins; the oldest is let go of for one more. Each costs 150
    /// bytes, and what [`Limits::queue_bytes_max`] counts.
    pub newest_topics_max: usize,
    /// A feed that takes nothing for so long, while something waits, is ended, in milliseconds.
    pub stalled_ms_max: u64,
    /// The most changes of matchers and rights that wait for a feed that is catching up.
    pub changes_max: usize,
    /// How long a client is asked to wait before it comes back, in milliseconds.
    pub retry_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_items_max: 128,
            queue_bytes_max: 256 * 1024,
            newest_topics_max: 1024,
            stalled_ms_max: 60_000,
            changes_max: 16,
            retry_ms: 2_000,
        }
    }
}
