//! What a hub does for its operator on this machine: a small HTTP API on a Unix socket in the data directory. Who may read the log's files
//! may use it, and nobody else.
//!
//! `fanwire log` uses the same routes in its own process when no hub runs, so that everything is done in one way.

mod client;
mod export;
mod import;
mod line;
mod long;
mod message;
mod refused;
mod socket;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};

use crate::{
    hub::{self, Refused},
    log::admin::{Admin, Stat},
};

pub use client::{Answer, Client, Fault};
pub use import::Imported;
pub use long::BackupRequest;
pub use message::{Exported, Message};
pub use socket::{Listener, SOCKET};

/// What the handlers work with.
#[derive(Debug, Clone)]
struct Desk {
    log: Arc<dyn Admin>,
    limits: hub::Limits,
}

/// Every path. `limits`: what is taken of an event that is imported.
pub fn router(log: Arc<dyn Admin>, limits: hub::Limits) -> Router {
    Router::new()
        .route("/log/stat", get(stat))
        .route("/log/export", get(export::get))
        .route("/log/import", post(import::post).layer(import::body_limit()))
        .route("/log/verify", post(long::verify))
        .route("/log/compact", post(long::compact))
        .route("/log/backup", post(long::backup))
        .with_state(Desk { log, limits })
}

async fn stat(State(desk): State<Desk>) -> Result<Json<Stat>, Refused> {
    Ok(Json(desk.log.stat().await?))
}
