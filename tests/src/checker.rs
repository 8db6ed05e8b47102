//! Judges what a hub did, from what its publishers and its subscribers were told.
//!
//! It is pure: a [`History`] in, a [`Violation`] out for each promise that was broken. It doesn't know how the hub works, so it can
//! judge one that was killed, filled up or restarted as well as one that wasn't.

#[cfg(test)]
mod examples;
mod judge;
#[cfg(test)]
mod mutations;

use fanwire_client::Item;
use fanwire_protocol::{
    Cursor,
    message::{Gap, Verdict},
};

/// All that was asked of a hub, and all that it told.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// What it was asked to publish.
    pub publications: Vec<Publication>,
    /// Who listened.
    pub subscribers: Vec<Subscriber>,
    /// What it may lose.
    pub keeps: Keeps,
}

/// What a hub may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keeps {
    /// Nothing that was acknowledged, and nothing that anyone was shown.
    #[default]
    Everything,
    /// What gaps leave: it may lose what it tells.
    WhatGapsLeave,
}

/// An event that somebody wanted to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its data, which no other event has.
    pub text: String,
    /// Its topics.
    pub topics: Vec<String>,
    /// Every try had the same idempotency key, so that all of them make one event.
    pub keyed: bool,
    /// How often it was tried, and what came of it, in order.
    pub tries: Vec<Try>,
}

/// One request to publish an event. Moments are of one clock that all publishers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    /// When it was sent.
    pub begun: u64,
    /// When its outcome was known.
    pub ended: u64,
    /// What the hub said.
    pub outcome: Outcome,
}

/// What became of a request to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The event has this position.
    Acknowledged(Cursor),
    /// There was no answer, or one that leaves it open: it may have been published or not.
    Unknown,
    /// It wasn't published.
    Refused,
}

/// One who listened, over as many connections as it took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscriber {
    /// For the sentences.
    pub name: String,
    /// What it asked for; `*` is everything.
    pub topics: Vec<String>,
    /// What it was told, in order. A new connection begins with a hello.
    pub told: Vec<Told>,
    /// It must have been told everything up to here, if anything.
    pub upto: Option<Cursor>,
}

/// What a subscriber was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A connection begins.
    Hello {
        /// Everything after it follows.
        cursor: Cursor,
        /// What became of the position that was asked for.
        verdict: Verdict,
    },
    /// An event.
    Event {
        /// Its position.
        cursor: Cursor,
        /// Its data.
        text: String,
    },
    /// Loss.
    Gap(Gap),
    /// Everything up to here was told.
    Watermark(Cursor),
}

impl Told {
    /// What of a feed's items is to be judged.
    ///
    /// # Panics
    /// If an event isn't text, which nobody publishes here.
    pub fn of(item: &Item) -> Option<Self> {
        match item {
            Item::Hello(hello) => Some(Self::Hello { cursor: hello.cursor, verdict: hello.verdict }),
            Item::Event(event) => {
                let text = String::from_utf8(event.event.draft.data.bytes().to_vec()).expect("text");
                Some(Self::Event { cursor: event.event.cursor, text })
            }
            Item::Gap(gap) => Some(Self::Gap(*gap)),
            Item::Ping(ping) => Some(Self::Watermark(ping.watermark)),
            Item::Plain(_) | Item::Changed(_) | Item::Bye(_) => None,
        }
    }
}

/// A promise that was broken, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum Violation {
    /// An event is missing, and no gap tells it.
    #[error("{subscriber} never got {cursor} ({text:?}), and no gap told it so")]
    Lost { subscriber: String, cursor: Cursor, text: String },
    /// An event is missing that mustn't be, though a gap tells it.
    #[error("{subscriber} never got {cursor} ({text:?}): a gap told it so, but nothing may be lost")]
    GivenUp { subscriber: String, cursor: Cursor, text: String },
    /// A subscriber was left behind.
    #[error("{subscriber} was told nothing beyond {reached}, and there was something up to {upto}")]
    Stopped { subscriber: String, reached: String, upto: Cursor },
    /// An event was delivered again.
    #[error("{subscriber} got {cursor} ({text:?}) more than once")]
    Repeated { subscriber: String, cursor: Cursor, text: String },
    /// An event came after a later one, or after the feed was said to be complete beyond it.
    #[error("{subscriber} got {cursor} ({text:?}) after it had been brought to {after}")]
    Reordered { subscriber: String, cursor: Cursor, text: String, after: Cursor },
    /// One number, two events.
    #[error("{cursor} is {one:?}, and {other:?} as well")]
    NumberReused { cursor: Cursor, one: String, other: String },
    /// One event, more numbers than it was published with.
    #[error("{text:?} has the numbers {numbers}, and may have {allowed}")]
    Multiplied { text: String, numbers: String, allowed: usize },
    /// An event that nobody published.
    #[error("{subscriber} got {cursor} ({text:?}), which nobody published")]
    Invented { subscriber: String, cursor: Cursor, text: String },
    /// An event whose publisher was told that it wasn't published.
    #[error("{subscriber} got {cursor} ({text:?}), which was refused")]
    Refused { subscriber: String, cursor: Cursor, text: String },
    /// An event of a topic that wasn't asked for.
    #[error("{subscriber} got {cursor} ({text:?}), and hadn't asked for its topics")]
    Unasked { subscriber: String, cursor: Cursor, text: String },
    /// A gap lies over something that was delivered.
    #[error("{subscriber} was told that {from} to {to} are missing, and got {cursor} ({text:?})")]
    GapOverDelivered { subscriber: String, from: u64, to: u64, cursor: Cursor, text: String },
    /// A log was replaced by another without a word of what is lost.
    #[error("{subscriber} came from {from} to {to} without the gap that was due")]
    GapMissing { subscriber: String, from: String, to: Cursor },
    /// A feed didn't go on where the last connection had ended.
    #[error("{subscriber} was at {position}, and was made to start at {hello} ({verdict:?})")]
    Misplaced { subscriber: String, position: Cursor, hello: Cursor, verdict: Verdict },
    /// Something came before the hello.
    #[error("{subscriber} was told {what} before any hello")]
    NoHello { subscriber: String, what: String },
    /// An event was published after another was acknowledged, and has a lower number.
    #[error("{text:?} was sent after {earlier} had been acknowledged, and was acknowledged as {cursor}")]
    OutOfTime { text: String, cursor: Cursor, earlier: Cursor },
}

impl History {
    /// Every promise that was broken; none if all is well.
    pub fn judge(&self) -> Vec<Violation> {
        judge::judge(self)
    }

    /// Fails a test with a sentence for each promise that was broken, or the first of them.
    ///
    /// # Panics
    /// If [`History::judge`] finds anything.
    #[track_caller]
    pub fn assert_kept(&self) {
        let violations = self.judge();
        let sentences: Vec<String> = violations.iter().take(SENTENCES_MAX).map(ToString::to_string).collect();
        assert!(violations.is_empty(), "{} promises broken:\n  {}", violations.len(), sentences.join("\n  "));
    }

    /// How many events were acknowledged, and how many left open.
    pub fn outcomes(&self) -> (usize, usize) {
        let acknowledged = |outcome: &Outcome| matches!(outcome, Outcome::Acknowledged(_));
        let mut counts = (0, 0);
        for publication in &self.publications {
            let mut outcomes = publication.tries.iter().map(|one| one.outcome);
            if outcomes.clone().any(|outcome| acknowledged(&outcome)) {
                counts.0 += 1;
            } else if outcomes.any(|outcome| outcome == Outcome::Unknown) {
                counts.1 += 1;
            }
        }
        counts
    }
}

impl Outcome {
    /// The event's position, if it was acknowledged.
    pub fn cursor(&self) -> Option<Cursor> {
        match self {
            Self::Acknowledged(cursor) => Some(*cursor),
            Self::Unknown | Self::Refused => None,
        }
    }
}

impl Publication {
    /// How many events it may have become.
    fn events_max(&self) -> usize {
        let possible = self.tries.iter().filter(|one| one.outcome != Outcome::Refused).count();
        if self.keyed { possible.min(1) } else { possible }
    }

    fn is_for(&self, topics: &[String]) -> bool {
        topics.iter().any(|topic| topic == "*" || self.topics.contains(topic))
    }
}

const SENTENCES_MAX: usize = 20;
