//! What a long work tells while it goes on: JSON, a message a line.

use fanwire_protocol::{Cursor, message::Refusal};
use serde::{Deserialize, Serialize};

use crate::log::admin::Step;

/// A line of an answer; among those of an export there are events, which have another form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message<T> {
    /// How far it is.
    Progress(Step),
    /// What is exported may lack events with these numbers, both included: they aren't kept any more.
    Gap {
        /// The first number.
        from: u64,
        /// The last number.
        to: u64,
    },
    /// All is done: the last line.
    Done(T),
    /// It failed: the last line.
    Error(Refusal),
}

/// What became of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// How many events.
    pub events: u64,
    /// Everything up to here was looked at: an export after it goes on.
    pub upto: Cursor,
}

impl<T: Serialize> Message<T> {
    /// The message as a line.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, self).expect("plain data with string keys");
        out.push(b'\n');
    }
}
