//! Whether the hub lives, and whether it takes new subscribers.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;

use super::Edge;

pub(super) async fn live() -> &'static str {
    "live\n"
}

pub(super) async fn ready(State(edge): State<Arc<Edge>>) -> Response {
    if edge.hub.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    "ready\n".into_response()
}
