//! `/metrics`, on a listener of its own: numbers are nobody's business who merely subscribes.

use std::sync::Arc;

use axum::{Extension, Router, extract::State, response::IntoResponse, routing::get};
use http::{HeaderMap, Uri, header};

use super::{Access, TurnedAway, is_loopback_host};
use crate::{hub::Refused, telemetry::Metrics};

#[derive(Debug, Clone)]
struct Desk {
    metrics: Arc<Metrics>,
    loopback_only: bool,
}

/// What the listener for metrics serves. On loopback only, it answers only to a loopback `Host`, as the hub does: a page whose owner
/// points a name at 127.0.0.1 learns nothing.
pub fn metrics_router(metrics: Arc<Metrics>, loopback_only: bool) -> Router {
    Router::new().route("/metrics", get(answer)).with_state(Desk { metrics, loopback_only })
}

async fn answer(
    State(desk): State<Desk>,
    turned_away: Option<Extension<TurnedAway>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refused> {
    if let Some(Extension(TurnedAway(refused))) = turned_away {
        return Err(refused);
    }
    let host = Access::host_of(&uri, &headers);
    if desk.loopback_only && !host.as_deref().is_some_and(is_loopback_host) {
        return Err(Refused::foreign_host(host.as_deref()));
    }
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")], desk.metrics.to_text()))
}
