//! Server-Sent Events, written and read. [WHATWG HTML §9.2]

mod parse;
mod write;

pub use parse::{Block, Parser, TooLong};
pub use write::{ControlId, comment, control_message, event, event_with_control_id, id_block};
