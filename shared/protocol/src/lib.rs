//! Fanwire's words on the wire: topics, cursors, events, SSE text and WebTransport frames.
//!
//! Everything here is plain data and pure functions: no async, no I/O, no clock. The wire itself is specified in
//! `shared/PROTOCOL.md`; the types here make what that page forbids unrepresentable, so that a value that exists is valid.

mod cursor;
mod delivery;
mod event;
pub mod frame;
mod matcher;
pub mod message;
mod pattern;
pub mod sse;
mod template;
mod text;
mod topic;

pub use cursor::{Cursor, CursorError, Epoch, LastEventId, LastEventIdError, Seq};
pub use delivery::{Delivery, UnknownDelivery};
pub use event::{Data, Draft, DraftError, Event, Limits};
pub use matcher::{MatchType, Matcher, Matchers, SelectorError};
pub use pattern::{HubUrl, Pattern, PatternError, TopicUrl};
pub use topic::{EventId, EventIdError, EventType, EventTypeError, Topic, TopicError};

/// The version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;
