//! `GET /events`: a feed as Server-Sent Events.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use fanwire_protocol::Delivery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header, request::Parts};

use super::{
    AuthMode, Edge,
    access::MERCURE_LAST_EVENT_ID,
    is_events_path,
    publish::{content_type, read, source_of},
    refusal::RefusedCode,
};
use crate::hub::{Asked, FeedRequest, Grant, Hub, Refused};

/// In the extensions of a response: what the connection's driver is to open and render as its body.
#[derive(Debug, Clone)]
pub struct OpenFeed {
    /// The feed.
    pub grant: Grant,
    /// The client takes control messages.
    pub control: bool,
    /// The client is a browser's EventSource or fetch.
    pub browser: bool,
    /// How long a client waits before it connects again, in milliseconds.
    pub retry_ms: u64,
}

pub(super) async fn get(State(edge): State<Arc<Edge>>, request: Request<Body>) -> Response {
    let (head, _) = request.into_parts();
    answer(&edge, &head, None).await
}

/// As [`get`], with more of the query in the body. [Mercure, Subscription; RFC 10008]
pub(super) async fn query(edge: &Edge, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    answer(edge, &head, Some(body)).await
}

/// Refuses any request.
pub(super) fn refuse(request: &Request<Body>, refused: Refused) -> Response {
    let is_feed = is_events_path(request.uri().path()) && request.method() == Method::GET;
    refuse_feed(is_feed && request.headers().contains_key(SEC_FETCH_DEST), refused)
}

/// EventSource takes every status but 200 for final: a browser that is to come back later gets a stream that ends.
pub(super) fn refuse_feed(browser: bool, refused: Refused) -> Response {
    let Some(after) = refused.retry_after.filter(|_| browser) else { return refused.into_response() };
    let mut response = Body::from(format!("retry: {}\n\n", after.as_millis())).into_response();
    mark_as_stream(response.headers_mut());
    response.extensions_mut().insert(RefusedCode(refused.code));
    response
}

async fn answer(edge: &Edge, head: &Parts, body: Option<Body>) -> Response {
    let browser = head.headers.contains_key(SEC_FETCH_DEST);
    match subscribe(edge, browser, head, body).await {
        Ok(response) => response,
        Err(refused) => refuse_feed(browser, refused),
    }
}

async fn subscribe(edge: &Edge, browser: bool, head: &Parts, body: Option<Body>) -> Result<Response, Refused> {
    let Parts { method, uri, headers, .. } = head;
    let pass = edge.admit(method, uri, headers).await?;
    if AuthMode::of(uri)? == AuthMode::InBand {
        let message = "auth=inband is for WebTransport: here a token comes in a header or a cookie";
        return Err(Refused::bad_request("bad_auth", message));
    }
    let form = match body {
        Some(body) => read_form(&edge.hub, headers, body).await?,
        None => Bytes::new(),
    };
    let limits = edge.hub.limits();
    let seat = edge.hub.seat(&pass, source_of(head)?)?;
    let last_event_id = headers.get(LAST_EVENT_ID).map(HeaderValue::as_bytes);
    let asked = Asked { query: uri.query().unwrap_or_default(), form: &form, last_event_id };
    let mut request = FeedRequest::parse(asked, edge.hub.patterns(), limits, &seat).await?;
    // Here there is no other.
    request.delivery = Delivery::Ordered;
    let control = request.control;
    let grant = edge.hub.subscribe(request, &edge.auth, pass, seat).await?;
    let open = OpenFeed { grant, control, browser, retry_ms: limits.retry.as_millis() as u64 };
    Ok(feed(open, method))
}

/// The head of a feed, and what is to be its body.
pub(super) fn feed(open: OpenFeed, method: &Method) -> Response {
    // Of no known length, also where a HEAD asks.
    let mut response = Body::from_stream(futures_util::stream::empty::<Result<Bytes, Infallible>>()).into_response();
    mark_as_stream(response.headers_mut());
    let preceding = HeaderValue::from_bytes(open.grant.preceding_id.as_bytes());
    response.headers_mut().insert(MERCURE_LAST_EVENT_ID, preceding.expect("ids hold no control characters"));
    if *method != Method::HEAD {
        response.extensions_mut().insert(open);
    }
    response
}

async fn read_form(hub: &Hub, headers: &HeaderMap, body: Body) -> Result<Bytes, Refused> {
    let content_type = content_type(headers);
    if content_type != "application/x-www-form-urlencoded" {
        let message = format!("{content_type:?} isn't taken: a query is a form (application/x-www-form-urlencoded)");
        return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    }
    read(hub, body, hub.limits().query_bytes_max).await
}

fn mark_as_stream(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx holds events back until a buffer is full unless it is told not to.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
}

pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
pub(super) const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
