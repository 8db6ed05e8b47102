//! `POST /log/import?line=…`: appends a batch of exported lines, all or none.

use axum::{
    Json,
    extract::{DefaultBodyLimit, State},
};
use bytes::Bytes;
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};

use super::{Desk, line};
use crate::{
    hub::{Refused, form_pairs, now_ms},
    log::Appended,
};

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// How many events are new in the log.
    pub events: u64,
    /// How many were in it already.
    pub repeated: u64,
    /// The lines whose cursor stands for another event that was imported before: these weren't.
    pub refused_lines: Vec<u64>,
}

pub(super) async fn post(State(desk): State<Desk>, uri: Uri, lines: Bytes) -> Result<Json<Imported>, Refused> {
    let first = first_line(uri.query().unwrap_or_default())?;
    let now_ms = now_ms();
    let (mut events, mut line_numbers) = (Vec::new(), Vec::new());
    for (index, line) in lines.split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() || line::is_of_hub(line) {
            continue;
        }
        let event = line::read(line, now_ms, &desk.limits).map_err(|error| Refused {
            message: format!("line {}: {}", first + index as u64, error.message),
            ..error
        })?;
        events.push(event);
        line_numbers.push(first + index as u64);
        if events.len() > BATCH_EVENTS_MAX {
            return Err(Refused::too_large(format!("a batch has at most {BATCH_EVENTS_MAX} events")));
        }
    }
    let mut imported = Imported { events: 0, repeated: 0, refused_lines: vec![] };
    let appended = if events.is_empty() { vec![] } else { desk.log.append(events).await? };
    for (line, appended) in line_numbers.into_iter().zip(appended) {
        match appended {
            Appended::New(_) => imported.events += 1,
            Appended::Repeated(_) => imported.repeated += 1,
            Appended::KeyReused => imported.refused_lines.push(line),
        }
    }
    Ok(Json(imported))
}

/// The number of the batch's first line in its file, for people.
fn first_line(query: &str) -> Result<u64, Refused> {
    let mut first = 1;
    for pair in form_pairs(query.as_bytes()) {
        let (name, value) = pair?;
        let bad = || Refused::new(StatusCode::BAD_REQUEST, "unknown_parameter", format!("{name}={value} isn't known"));
        first = value.parse().ok().filter(|_| name == "line").ok_or_else(bad)?;
    }
    Ok(first)
}

pub(super) fn body_limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(BATCH_BYTES_MAX)
}

/// The most events of a batch: they are one transaction.
pub(super) const BATCH_EVENTS_MAX: usize = 1000;
/// The largest batch in bytes: one event of 4 MiB may be six times that in JSON.
pub(super) const BATCH_BYTES_MAX: usize = 32 * 1024 * 1024;
