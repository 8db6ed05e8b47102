//! Which limit it was that ended a connection.

use std::error::Error;

use crate::telemetry::Limit;

/// A connection came to this limit.
#[derive(Debug, thiserror::Error)]
#[error("the limit {} was reached", .0.name())]
pub(super) struct Reached(pub(super) Limit);

/// The limit that an error tells of, if it does.
pub(super) fn reached(error: &(dyn Error + 'static)) -> Option<Limit> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(Reached(limit)) = error.downcast_ref() {
            return Some(*limit);
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_timeout() {
                return Some(Limit::HeadTime);
            }
            if error.is_parse_too_large() {
                return Some(Limit::HeadBytes);
            }
        }
        // What h2 hangs up for by itself: floods, and frames that can't be.
        if error.downcast_ref::<h2::Error>().is_some_and(|error| error.is_go_away() && error.is_library()) {
            return Some(Limit::Frames);
        }
        next = error.source();
    }
    None
}
