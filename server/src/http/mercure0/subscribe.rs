//! Feeds as Mercure 0.x has them. [Mercure 0.x, Subscription; Reconnection]

use std::sync::Arc;

use axum::{body::Body, extract::State, response::Response};
use fanwire_protocol::{LastEventId, Matchers};
use http::{HeaderMap, HeaderValue, Request, header, request::Parts};

use super::{Edge, credentials};
use crate::{
    auth::Action,
    http::{
        publish::source_of,
        subscribe::{LAST_EVENT_ID, OpenFeed, SEC_FETCH_DEST, feed, refuse_feed},
    },
    hub::{COMPILED_A_TURN, FeedRequest, Patterns, Refused, Seat, form_pairs, insert},
};

pub(super) async fn get(State(edge): State<Arc<Edge>>, request: Request<Body>) -> Response {
    let (head, _) = request.into_parts();
    let browser = is_event_source(&head.headers);
    subscribe(&edge, browser, &head).await.unwrap_or_else(|refused| refuse_feed(browser, refused))
}

async fn subscribe(edge: &Edge, browser: bool, head: &Parts) -> Result<Response, Refused> {
    let pass = credentials::admit(edge, Action::Subscribe, head).await?;
    let seat = edge.hub.seat(&pass, source_of(head)?)?;
    let request = parse(head.uri.query().unwrap_or_default(), &head.headers, edge.hub.patterns(), &seat).await?;
    let grant = edge.hub.subscribe(request, &edge.auth, pass, seat).await?;
    let retry_ms = edge.hub.limits().retry.as_millis() as u64;
    let preceding = HeaderValue::from_bytes(grant.preceding_id.as_bytes());
    let mut response = feed(OpenFeed { grant, control: false, browser, retry_ms }, &head.method);
    let headers = response.headers_mut();
    headers.insert(LAST_EVENT_ID, preceding.expect("ids hold no control characters"));
    // There may be a token in the URL. [Mercure 0.x, URI Query Parameter]
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    Ok(response)
}

/// Checks what a subscriber asks for: `topic`s that are selectors, and the last event's id under its names of all versions.
async fn parse(query: &str, headers: &HeaderMap, patterns: &Patterns, seat: &Seat) -> Result<FeedRequest, Refused> {
    let (mut matchers, mut last_event_id, mut of_today) = (Matchers::default(), None, false);
    let mut compiled = 0;
    for pair in form_pairs(query.as_bytes()) {
        let (name, value) = pair?;
        match &*name {
            "topic" => {
                let (matcher, new) = patterns.selector(&value, seat)?;
                insert(&mut matchers, matcher)?;
                compiled += usize::from(new);
                // Others get their turn.
                if new && compiled % COMPILED_A_TURN == 0 {
                    tokio::task::yield_now().await;
                }
            }
            // Clients have written it in every case.
            name if ["lastEventID", "Last-Event-ID"].iter().any(|known| name.eq_ignore_ascii_case(known)) => {
                last_event_id = last_event_id.or(Some(value).filter(|value| !value.is_empty()));
            }
            name => of_today |= name.starts_with("match"),
        }
    }
    if matchers.as_slice().is_empty() {
        let message = if of_today {
            "Mercure 0.x is spoken here, which knows no matchers but topic=…: those of 1.0 are taken at /events"
        } else {
            "say what to subscribe to: ?topic=…, or topic=* for everything"
        };
        return Err(Refused::bad_request("no_matcher", message));
    }
    let header = headers.get(LAST_EVENT_ID).map(HeaderValue::as_bytes).filter(|header| !header.is_empty());
    let asked = match header {
        Some(header) => Some(String::from_utf8_lossy(header)),
        None => last_event_id,
    };
    // An id that can't be one of this hub's is one that it doesn't have: another hub may have given it.
    let after = asked.and_then(|text| LastEventId::parse(&text).unwrap_or(Some(LastEventId::Earliest)));
    Ok(FeedRequest::of(matchers, after))
}

/// Whether a browser's own EventSource asks: its requests bypass caches, and have no `Authorization`. [WHATWG HTML §9.2.2] Clients that pages
/// bring along may take the block that a feed begins with for an event, and can see a status.
fn is_event_source(headers: &HeaderMap) -> bool {
    let uncached = headers.get(header::CACHE_CONTROL).is_some_and(|value| value == "no-cache");
    headers.contains_key(SEC_FETCH_DEST) && uncached && !headers.contains_key(header::AUTHORIZATION)
}
