//! `GET /log/export?topic=…&after=…&to=…`: events as lines of JSON, read page by page, so that nothing is pinned while the reader takes
//! its time.

use std::{convert::Infallible, sync::Arc};

use axum::{body::Body, extract::State};
use bytes::Bytes;
use fanwire_protocol::{Cursor, Epoch, LastEventId, Matcher, Matchers, Seq};
use futures_util::stream;
use http::Uri;

use super::{Desk, Exported, Message, line};
use crate::{
    core::{PageItem, Read},
    hub::{Refused, form_pairs},
    log::admin::{Admin, AdminError, Bounds, Stage, Step},
};

pub(super) async fn get(State(desk): State<Desk>, uri: Uri) -> Result<Body, Refused> {
    let bounds = desk.log.bounds().await?;
    let read = parse(uri.query().unwrap_or_default(), &bounds)?;
    let export = Export { epoch: bounds.epoch, first: read.after, events: 0, read: Some(read), log: desk.log };
    let pages = stream::unfold(export, |mut export| async {
        let text = export.next().await?;
        Some((Ok::<_, Infallible>(text), export))
    });
    Ok(Body::from_stream(pages))
}

struct Export {
    log: Arc<dyn Admin>,
    epoch: Epoch,
    first: Seq,
    events: u64,
    /// What is still to be read.
    read: Option<Read>,
}

impl Export {
    async fn next(&mut self) -> Option<Bytes> {
        let read = self.read.take()?;
        let mut out = Vec::new();
        match self.page(read, &mut out).await {
            Ok(rest) => self.read = rest,
            Err(error) => Message::<Exported>::Error(Refused::from(error).to_refusal()).write_to(&mut out),
        }
        Some(out.into())
    }

    async fn page(&mut self, mut read: Read, out: &mut Vec<u8>) -> Result<Option<Read>, AdminError> {
        let page = self.log.read(read.clone()).await?;
        for item in &page.items {
            match item {
                PageItem::Event(event) => {
                    line::write(event, out);
                    self.events += 1;
                }
                PageItem::Gap { from, to } => Message::<Exported>::Gap { from: from.0, to: to.0 }.write_to(out),
            }
        }
        if page.reached >= read.upto {
            let upto = Cursor { epoch: self.epoch, seq: read.upto };
            Message::Done(Exported { events: self.events, upto }).write_to(out);
            return Ok(None);
        }
        let (done, total) = (page.reached.0 - self.first.0, read.upto.0 - self.first.0);
        Message::<Exported>::Progress(Step { done, total: Some(total), stage: Stage::Itself }).write_to(out);
        read.after = page.reached;
        Ok(Some(read))
    }
}

fn parse(query: &str, bounds: &Bounds) -> Result<Read, Refused> {
    let (mut matchers, mut after, mut to) = (Vec::new(), None, None);
    for pair in form_pairs(query.as_bytes()) {
        let (name, value) = pair?;
        match &*name {
            "topic" => {
                let bad = |error| Refused::bad_request("bad_topic", format!("{value:?} is no topic: {error}"));
                matchers.push(Matcher::exact(&value).map_err(bad)?);
            }
            "after" => after = Some(position("after", &value, bounds)?),
            "to" => to = Some(position("to", &value, bounds)?.min(bounds.head)),
            other => return Err(Refused::bad_request("unknown_parameter", format!("{other:?} is no parameter"))),
        }
    }
    if after > Some(bounds.head) {
        let message = format!("the newest event of this log has the number {}", bounds.head);
        return Err(Refused::bad_request("unknown_cursor", message));
    }
    if matchers.is_empty() {
        matchers.push(Matcher::Any);
    }
    let after_first = after.unwrap_or(Seq::ZERO);
    Ok(Read {
        after: after_first,
        upto: to.unwrap_or(bounds.head).max(after_first),
        matchers: Arc::new(matchers.into_iter().collect::<Matchers>()),
        // Who doesn't say from where wants what is kept.
        only: None,
        told: after.is_none().then(|| bounds.floors.clone()),
        events_max: PAGE_EVENTS_MAX,
        bytes_max: PAGE_BYTES_MAX,
    })
}

/// A number, or a cursor of this log.
fn position(name: &str, text: &str, bounds: &Bounds) -> Result<Seq, Refused> {
    let bad = |message: String| Refused::bad_request("bad_position", message);
    if let Ok(number) = text.parse() {
        return Ok(Seq(number).min(Seq::MAX));
    }
    match LastEventId::parse(text) {
        Ok(Some(LastEventId::Cursor(cursor))) if cursor.epoch == bounds.epoch => Ok(cursor.seq),
        Ok(Some(LastEventId::Cursor(cursor))) => {
            Err(bad(format!("{name}: {text} is of the log {}, and this one is {}", cursor.epoch, bounds.epoch)))
        }
        _ => Err(bad(format!("{name}: {text:?} is neither a number nor a cursor like #{}:42", bounds.epoch))),
    }
}

/// How much is read, and held in memory, at a time.
const PAGE_EVENTS_MAX: usize = 1000;
const PAGE_BYTES_MAX: usize = 1024 * 1024;
