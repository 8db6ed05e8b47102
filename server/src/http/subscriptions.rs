//! `/events/subscriptions…`: who is subscribed. [Mercure, Subscription API; PROTOCOL §2.7]

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use fanwire_protocol::{
    Topic,
    message::{Bye, ByeCode},
};
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use serde_json::json;

use super::{EVENTS_PATHS, Edge};
use crate::{
    auth::{Denied, Pass},
    hub::{Hub, Refused},
    subscriptions::{Dialect, Next, Place, Subscriptions},
};

/// Tells who is subscribed.
pub(super) async fn get(State(edge): State<Arc<Edge>>, request: Request<Body>) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let Some(subscriptions) = edge.hub.subscriptions() else { return Err(not_there()) };
    let pass = edge.admit(&head.method, &head.uri, &head.headers).await?;
    answer(&edge.hub, subscriptions, &pass, &place(head.uri.path(), Dialect::Today)?, &head.headers)
}

/// What is at a place, for whoever may know.
pub(super) fn answer(
    hub: &Hub,
    subscriptions: &Arc<Subscriptions>,
    pass: &Pass,
    place: &Place,
    headers: &HeaderMap,
) -> Result<Response, Refused> {
    pass.identity.as_ref().ok_or(Denied::NoToken)?;
    // However the path was written, what is granted is the resource that it leads to.
    let topic = Topic::of_event(place.path()).map_err(|_| not_there())?;
    if !pass.rights.subscribe.covers(&topic) {
        return Err(Denied::InsufficientScope.into());
    }
    // Before the list is read: whoever goes on from there may be told something twice, and misses nothing.
    let cursor = hub.head();
    let last_event_id = if cursor.seq.0 == 0 { "earliest".to_owned() } else { cursor.to_string() };
    let tag = subscriptions.tag();
    let known = |tags: &HeaderValue| tags.to_str().is_ok_and(|tags| tags.split(',').any(|it| it.trim() == tag));
    let mut response = if place.is_nowhere() {
        return Err(not_there());
    } else if place.is_one() {
        let mut document = subscriptions.get(place).ok_or_else(not_there)?;
        if place.dialect() == Dialect::Mercure0 {
            // Where to go on from is a member there. [Mercure 0.x, Subscription API]
            document.pop();
            document.extend_from_slice(format!(",\"lastEventID\":\"{last_event_id}\"}}").as_bytes());
        }
        Body::from(document).into_response()
    } else {
        let beginning = subscriptions.beginning(place, &last_event_id);
        Body::from_stream(list(subscriptions.clone(), place.clone(), beginning)).into_response()
    };
    if headers.get(header::IF_NONE_MATCH).is_some_and(known) {
        response = StatusCode::NOT_MODIFIED.into_response();
    }
    let (media, kind) = match place.dialect() {
        Dialect::Today => ("application/json", "; type=\"mercure\""),
        Dialect::Mercure0 => ("application/ld+json", ""),
    };
    let link = format!(
        "<{}>; rel=\"mercure\"; last-event-id=\"{last_event_id}\"{kind}; content-type=\"{media}\"",
        EVENTS_PATHS[1]
    );
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    mark(response.headers_mut(), &link, &tag);
    Ok(response)
}

/// Ends the feed that a subscription is of.
pub(super) async fn delete(State(edge): State<Arc<Edge>>, request: Request<Body>) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let Some(subscriptions) = edge.hub.subscriptions() else { return Err(not_there()) };
    let pass = edge.admit(&head.method, &head.uri, &head.headers).await?;
    let identity = pass.identity.as_ref().ok_or(Denied::NoToken)?;
    if !pass.rights.revoke {
        return Err(Denied::InsufficientScope.into());
    }
    let subscriber = subscriptions.subscriber(&place(head.uri.path(), Dialect::Today)?).ok_or_else(not_there)?;
    if subscriber.issuer.is_some_and(|issuer| issuer != identity.issuer) {
        return Err(Denied::InsufficientScope.into());
    }
    let bye = Bye::terminal(ByeCode::Revoked, "this feed was ended by somebody who may");
    let closed = u32::from(edge.feeds.end(subscriber.id, bye).await);
    let mut response = Json(json!({ "closed": closed })).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Where a path leads to.
pub(super) fn place(path: &str, dialect: Dialect) -> Result<Place, Refused> {
    let rest = EVENTS_PATHS.iter().find_map(|base| path.strip_prefix(base)?.strip_prefix("/subscriptions"));
    rest.and_then(|rest| Place::parse(rest, dialect)).ok_or_else(not_there)
}

/// There is no such subscription, or the hub doesn't tell.
pub(super) fn not_there() -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "not_found", "there is no such subscription, or none is told of")
}

/// A collection, a piece at a time: a reader holds one piece, however many subscriptions there are and however slowly it reads.
fn list(
    subscriptions: Arc<Subscriptions>,
    place: Place,
    beginning: String,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    enum At {
        Beginning(String),
        /// Behind something, or behind nothing so far.
        Within(Option<Next>),
        End,
    }
    stream::unfold((At::Beginning(beginning), subscriptions, place), async |(at, subscriptions, place)| {
        let (bytes, at) = match at {
            At::Beginning(text) => (Bytes::from(text), At::Within(None)),
            At::Within(from) => {
                // Others get their turn between two pieces.
                tokio::task::yield_now().await;
                let mut piece = subscriptions.piece(&place, from);
                match piece.next {
                    Some(next) => (piece.json.into(), At::Within(Some(next))),
                    None => {
                        piece.json.extend_from_slice(b"]}");
                        (piece.json.into(), At::End)
                    }
                }
            }
            At::End => return None,
        };
        Some((Ok(bytes), (at, subscriptions, place)))
    })
}

fn mark(headers: &mut HeaderMap, link: &str, tag: &str) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::LINK, HeaderValue::from_str(link).expect("a cursor is ASCII"));
    headers.insert(header::ETAG, HeaderValue::from_str(tag).expect("hex digits"));
}
