//! `POST /events`: publish one event, or a batch.

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::sync::SemaphorePermit;

use super::{Edge, refusal::ErrorBody};
use crate::hub::{Hub, Published, Refused, draft_from_form, draft_from_json};

pub(super) async fn post(State(edge): State<Edge>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    match publish(&edge.hub, &parts.headers, body).await {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    }
}

async fn publish(hub: &Hub, headers: &HeaderMap, body: Body) -> Result<Response, Refused> {
    let limits = hub.limits();
    match content_type(headers).as_str() {
        "application/x-www-form-urlencoded" => {
            let draft = draft_from_form(&read(hub, body, limits.body_bytes_max).await?, limits)?;
            let published = hub.publish_one(draft).await?;
            let mut response = published.id.into_response();
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, text);
            Ok(response)
        }
        "application/json" => {
            let draft = draft_from_json(&read(hub, body, limits.body_bytes_max).await?, limits)?;
            let published = hub.publish_one(draft).await?;
            Ok(Json(Line::from(&published)).into_response())
        }
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
            let lines = publish_lines(hub, &read(hub, body, limits.batch_bytes_max).await?).await?;
            Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
        }
        other => {
            let message = format!(
                "{other:?} isn't taken: publish a form (application/x-www-form-urlencoded), application/json or application/x-ndjson"
            );
            Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
        }
    }
}

/// Publishes each line that is an event; one that isn't doesn't keep the others back.
async fn publish_lines(hub: &Hub, body: &[u8]) -> Result<Vec<u8>, Refused> {
    let limits = hub.limits();
    let lines: Vec<&[u8]> = body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).collect();
    let count = lines.iter().filter(|line| !line.is_empty()).count();
    if count > limits.batch_lines_max {
        return Err(Refused::too_large(format!("a batch has at most {} lines", limits.batch_lines_max)));
    }
    let mut drafts = Vec::with_capacity(count);
    let mut refused = Vec::new();
    for (index, line) in lines.into_iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        match draft_from_json(line, limits) {
            Ok(draft) => drafts.push(draft),
            Err(error) => refused.push((drafts.len() + refused.len(), index + 1, error)),
        }
    }
    let published = if drafts.is_empty() { vec![] } else { hub.publish(drafts).await? };
    let (mut published, mut refused) = (published.iter(), refused.iter().peekable());
    let mut answer = Vec::with_capacity(count * 48);
    for position in 0..count {
        let line = match refused.next_if(|(at, ..)| *at == position) {
            Some((_, line, error)) => Line::Refused { line: *line, error: ErrorBody::from(error) },
            None => Line::from(published.next().expect("a draft for each line that wasn't refused")),
        };
        serde_json::to_writer(&mut answer, &line).expect("plain data with string keys");
        answer.push(b'\n');
    }
    Ok(answer)
}

#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    Published {
        id: String,
        cursor: fanwire_protocol::Cursor,
    },
    Refused {
        line: usize,
        #[serde(flatten)]
        error: ErrorBody,
    },
}

impl From<&Published> for Line {
    fn from(published: &Published) -> Self {
        Self::Published { id: published.id.clone(), cursor: published.cursor }
    }
}

/// The media type without its parameters, in lower case.
fn content_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads a body, within the hub's limits of size, time, and what all bodies together may take.
async fn read(hub: &Hub, mut body: Body, bytes_max: usize) -> Result<Bytes, Refused> {
    let too_large = || Refused::too_large(format!("the body has more than {bytes_max} bytes"));
    let collect = async {
        let (mut bytes, mut held) = (BytesMut::new(), None::<SemaphorePermit<'_>>);
        while let Some(frame) = body.frame().await {
            let broken = |error| Refused::bad_request("malformed", format!("the body ended early: {error}"));
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            if bytes.len() + data.len() > bytes_max {
                return Err(too_large());
            }
            let permit = hub.hold_body(data.len())?;
            match &mut held {
                Some(held) => held.merge(permit),
                None => held = Some(permit),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    };
    let time_max = hub.limits().body_time_max;
    tokio::time::timeout(time_max, collect).await.unwrap_or_else(|_| {
        let message = format!("the body didn't arrive in {} s", time_max.as_secs());
        Err(Refused::new(StatusCode::REQUEST_TIMEOUT, "timeout", message))
    })
}
