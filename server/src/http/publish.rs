//! `POST /events`: publish one event, or a batch.

use std::{borrow::Cow, net::IpAddr};

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use fanwire_protocol::Cursor;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header, request::Parts};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::sync::SemaphorePermit;

use super::{Edge, access::lower_case, refusal::ErrorBody};
use crate::{
    admission::Source,
    auth::Pass,
    hub::{Hub, Limits, Publication, PublicationKey, Published, Refused, publication_from_form, publication_from_json},
};

/// Whom a request is from; in its extensions where the router takes it.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub IpAddr);

pub(super) async fn post(edge: &Edge, PeerAddress(from): PeerAddress, request: Box<Request<Body>>) -> Response {
    let (head, body) = request.into_parts();
    let published = match edge.admit(&head.method, &head.uri, &head.headers).await {
        Ok(pass) => publish(&edge.hub, (&pass, from.into()), &head, body, publication_from_form).await,
        Err(refused) => Err(refused),
    };
    published.unwrap_or_else(IntoResponse::into_response)
}

/// How a form is read.
pub(super) type Form = fn(&[u8], &Limits) -> Result<Publication, Refused>;

/// Publishes what is in the body, as far as the pass allows it.
pub(super) async fn publish(
    hub: &Hub,
    (pass, from): (&Pass, Source),
    head: &Parts,
    body: Body,
    form: Form,
) -> Result<Response, Refused> {
    // Before anything of the body is read.
    pass.check_publisher()?;
    let limits = hub.limits();
    let meter = |events| hub.meter(pass, from, events);
    let key = idempotency_key(&head.headers)?;
    let is_form = match &*content_type(&head.headers) {
        "application/x-www-form-urlencoded" => true,
        "application/json" => false,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
            meter(1)?;
            let lines = Box::pin(async {
                let body = read(hub, body, limits.batch_bytes_max).await?;
                publish_lines(hub, pass, key, &body, meter).await
            });
            return Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines.await?).into_response());
        }
        other => {
            let message = format!(
                "{other:?} isn't taken: publish a form (application/x-www-form-urlencoded), application/json or application/x-ndjson"
            );
            return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
        }
    };
    // Before the body is read: a refusal is to cost little.
    meter(1)?;
    let body = read(hub, body, limits.body_bytes_max).await?;
    let publication = if is_form { form(&body, limits) } else { publication_from_json(&body, limits) }?;
    pass.check_publish(publication.draft.topics())?;
    let publication = Publication { key: publication.key.or(key), ..publication };
    let published = hub.publish_one(&pass.publisher(), publication).await?;
    if !is_form {
        return Ok((replayed(&published), Json(Line::from(&published))).into_response());
    }
    let mut response = (replayed(&published), published.id_text().into_owned()).into_response();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    Ok(response)
}

/// Where a request comes from.
pub(super) fn source_of(head: &Parts) -> Result<Source, Refused> {
    let nowhere = || Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "a request from nowhere");
    head.extensions.get().map(|&PeerAddress(address)| address.into()).ok_or_else(nowhere)
}

/// Publishes each line that is an event; one that isn't doesn't keep the others back. A line has its own key, or the request's and
/// its place among the lines.
async fn publish_lines(
    hub: &Hub,
    pass: &Pass,
    key: Option<PublicationKey>,
    body: &[u8],
    meter: impl Fn(usize) -> Result<(), Refused>,
) -> Result<Vec<u8>, Refused> {
    let limits = hub.limits();
    let ends = memchr::memchr_iter(b'\n', body).chain([body.len()]);
    let lines = ends.scan(0, |start, end| Some(&body[std::mem::replace(start, end + 1)..end]));
    let lines: Vec<&[u8]> = lines.map(<[u8]>::trim_ascii).collect();
    let count = lines.iter().filter(|line| !line.is_empty()).count();
    if count > limits.batch_lines_max {
        return Err(Refused::too_large(format!("a batch has at most {} lines", limits.batch_lines_max)));
    }
    meter(count.saturating_sub(1))?;
    let mut publications = Vec::with_capacity(count);
    // By place among the lines that aren't empty: its number in the body, and why it is refused, if it is by now.
    let mut known = Vec::with_capacity(count);
    for (index, line) in lines.into_iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let place = known.len() as u64;
        let granted = publication_from_json(line, limits)
            .and_then(|publication| Ok(pass.check_publish(publication.draft.topics()).map(|()| publication)?));
        let refused = granted.map(|publication| {
            let of_request = || key.clone().map(|key| PublicationKey { line: Some(place), ..key });
            publications.push(Publication { key: publication.key.or_else(of_request), ..publication });
        });
        known.push((index + 1, refused.err()));
    }
    let published = if publications.is_empty() { vec![] } else { hub.publish(&pass.publisher(), publications).await? };
    let mut published = published.into_iter();
    let mut answer = Vec::with_capacity(count * 48);
    for (line, refused) in known {
        let outcome = match refused {
            Some(refused) => Err(refused),
            None => published.next().expect("an outcome for each line that wasn't refused"),
        };
        let line = match &outcome {
            Ok(published) => Line::from(published),
            Err(refused) => {
                hub.metrics().refused(refused.code);
                Line::Refused { line, error: ErrorBody::from(refused) }
            }
        };
        serde_json::to_writer(&mut answer, &line).expect("plain data with string keys");
        answer.push(b'\n');
    }
    Ok(answer)
}

/// The key of the request. [draft-ietf-httpapi-idempotency-key-header]
fn idempotency_key(headers: &HeaderMap) -> Result<Option<PublicationKey>, Refused> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (keys.next(), keys.next()) {
        (None, _) => Ok(None),
        (Some(key), None) => PublicationKey::from_header(key.as_bytes()).map(Some),
        (Some(_), Some(_)) => Err(Refused::bad_request("bad_idempotency_key", "a request has one Idempotency-Key")),
    }
}

/// Tells a publisher that nothing was published anew.
fn replayed(published: &Published) -> Option<[(HeaderName, HeaderValue); 1]> {
    let header = (HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));
    published.repeated.then_some([header])
}

#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Published {
        id: Id<'a>,
        cursor: Cursor,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        repeated: bool,
    },
    Refused {
        line: usize,
        #[serde(flatten)]
        error: ErrorBody,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Id<'a> {
    Publishers(&'a str),
    Hubs(Cursor),
}

impl<'a> From<&'a Published> for Line<'a> {
    fn from(published: &'a Published) -> Self {
        let Published { id, cursor, repeated } = published;
        let id = id.as_ref().map_or(Id::Hubs(*cursor), |id| Id::Publishers(id.as_str()));
        Self::Published { id, cursor: *cursor, repeated: *repeated }
    }
}

/// The media type without its parameters, in lower case.
pub(super) fn content_type(headers: &HeaderMap) -> Cow<'_, str> {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    lower_case(text.split(';').next().unwrap_or_default().trim())
}

/// Reads a body, within the hub's limits of size, time, and what all bodies together may take.
pub(super) async fn read(hub: &Hub, mut body: Body, bytes_max: usize) -> Result<Bytes, Refused> {
    let mut here = body.frame().now_or_never();
    if let Some(Some(Ok(frame))) = &mut here
        && let Some(data) = frame.data_mut()
        && data.len() <= bytes_max
        && body.is_end_stream()
    {
        // As most do, it came whole with its head: nothing is waited for, and nothing held meanwhile.
        hub.check_body(data.len())?;
        return Ok(std::mem::take(data));
    }
    let time_max = hub.limits().body_time_max;
    let collected = tokio::time::timeout(time_max, Box::pin(collect(hub, here, body, bytes_max))).await;
    collected.unwrap_or_else(|_| {
        let message = format!("the body didn't arrive in {} s", time_max.as_secs());
        Err(Refused::new(StatusCode::REQUEST_TIMEOUT, "timeout", message))
    })
}

/// The frame that is here already, if one is, and all that come.
async fn collect(
    hub: &Hub,
    mut here: Option<Option<Result<Frame<Bytes>, axum::Error>>>,
    mut body: Body,
    bytes_max: usize,
) -> Result<Bytes, Refused> {
    let broken = |error| Refused::bad_request("malformed", format!("the body ended early: {error}"));
    let (mut bytes, mut held) = (BytesMut::new(), None::<SemaphorePermit<'_>>);
    loop {
        let frame = match here.take() {
            Some(frame) => frame,
            None => body.frame().await,
        };
        let Some(frame) = frame else { return Ok(bytes.freeze()) };
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(Refused::too_large(format!("the body has more than {bytes_max} bytes")));
        }
        let permit = hub.hold_body(data.len())?;
        match &mut held {
            Some(held) => held.merge(permit),
            None => held = Some(permit),
        }
        bytes.extend_from_slice(&data);
    }
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
