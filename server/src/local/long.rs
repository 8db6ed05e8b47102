//! Work that takes long, and tells how far it is: `POST /log/verify`, `/log/compact`, `/log/backup`.

use std::{convert::Infallible, path::PathBuf};

use axum::{body::Body, extract::State};
use bytes::Bytes;
use futures_util::{future::BoxFuture, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Desk, Message};
use crate::{
    hub::Refused,
    log::admin::{AdminError, Progress, Step},
};

/// What `POST /log/backup` is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct BackupRequest {
    /// The directory to make, as an absolute path.
    pub destination: PathBuf,
}

pub(super) async fn verify(State(desk): State<Desk>) -> Body {
    let (progress, steps) = Progress::channel();
    tell(desk.log.verify(progress), steps)
}

pub(super) async fn compact(State(desk): State<Desk>) -> Body {
    let (progress, steps) = Progress::channel();
    tell(desk.log.compact(progress), steps)
}

pub(super) async fn backup(State(desk): State<Desk>, request: Bytes) -> Result<Body, Refused> {
    let malformed = |error: serde_json::Error| Refused::bad_request("malformed", error.to_string());
    let request: BackupRequest = serde_json::from_slice(&request).map_err(malformed)?;
    let (progress, steps) = Progress::channel();
    Ok(tell(desk.log.backup(request.destination, progress), steps))
}

/// The work's steps while it goes on, and then what came of it. It is given up when nobody reads.
fn tell<T: Serialize + 'static>(work: BoxFuture<'static, Result<T, AdminError>>, steps: mpsc::Receiver<Step>) -> Body {
    let lines = stream::unfold((Some(work), steps), |(work, mut steps)| async {
        let mut work = work?;
        let (message, rest) = tokio::select! {
            biased;
            Some(step) = steps.recv() => (Message::Progress(step), Some(work)),
            done = &mut work => {
                let message = done.map_or_else(
                    |error| Message::Error(Refused::from(error).to_refusal()),
                    Message::Done,
                );
                (message, None)
            }
        };
        let mut line = Vec::new();
        message.write_to(&mut line);
        Some((Ok::<_, Infallible>(Bytes::from(line)), (rest, steps)))
    });
    Body::from_stream(lines)
}
