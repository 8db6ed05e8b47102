//! `POST /events/ticket` and `POST /events/revocations`. [PROTOCOL §2.5, §2.6]

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Request, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Edge, publish::read};
use crate::{
    auth::{Denied, Revocation, TICKET_LIFE},
    hub::{Refused, now_ms},
};

/// Turns a header or a cookie into a ticket.
pub(super) async fn ticket(State(edge): State<Arc<Edge>>, request: Request<Body>) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let pass = edge.admit(&head.method, &head.uri, &head.headers).await?;
    let ticket = edge.auth.issue_ticket(pass, now_ms())?;
    Ok(answer(json!({ "ticket": ticket, "expires_in_ms": TICKET_LIFE.as_millis() as u64 })))
}

/// Makes tokens of the caller's own issuer invalid, and closes the feeds that they let in.
pub(super) async fn revoke(State(edge): State<Arc<Edge>>, request: Request<Body>) -> Result<Response, Refused> {
    #[derive(Deserialize)]
    struct Order {
        jti: Option<String>,
        sub: Option<String>,
        exp: Option<u64>,
    }
    let (head, body) = request.into_parts();
    let pass = edge.admit(&head.method, &head.uri, &head.headers).await?;
    let identity = pass.identity.as_ref().ok_or(Denied::NoToken)?;
    if !pass.rights.revoke {
        return Err(Denied::InsufficientScope.into());
    }
    let body = read(&edge.hub, body, BODY_BYTES_MAX).await?;
    let malformed = |why: String| Refused::bad_request("malformed", why);
    let order: Order = serde_json::from_slice(&body).map_err(|error| malformed(error.to_string()))?;
    let revocation = match (order.jti, order.sub) {
        (Some(id), None) => Revocation::Token(id),
        (None, Some(subject)) => Revocation::Subject(subject),
        _ => return Err(malformed("either a jti or a sub is revoked".to_owned())),
    };
    let until_ms = order.exp.map(|exp| exp.saturating_mul(1000));
    edge.auth.revoke(&identity.issuer, revocation, until_ms, now_ms())?;
    Ok(answer(json!({ "closed": edge.feeds.recheck().await })))
}

fn answer(json: Value) -> Response {
    let mut response = Json(json).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const BODY_BYTES_MAX: usize = 8 * 1024;
