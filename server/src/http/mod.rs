//! The HTTP side: what each path does, on every HTTP version alike.
//!
//! A handler that grants a feed answers with a head and an [`OpenFeed`] in its extensions, not with a body: the connection's driver
//! opens the feed on its own shard and renders it.

mod access;
mod assets;
mod credentials;
mod discovery;
mod grants;
mod health;
mod mercure0;
mod metadata;
mod metrics;
mod publish;
mod refusal;
mod subscribe;
mod subscriptions;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{
    Router,
    body::Body,
    extract::State,
    routing::{MethodFilter, get, on, post},
};
use http::{Method, Request, Response, StatusCode};
use tower::ServiceExt;

use crate::{
    auth::Auth,
    fanout::Feeds,
    hub::{Hub, Refused},
};

pub use access::TurnedAway;
pub use access::{Access, Origin, is_loopback_host};
pub use credentials::AuthMode;
pub(crate) use credentials::page_origin;
pub use discovery::Discovery;
pub use metrics::metrics_router;
pub use publish::PeerAddress;
pub use subscribe::OpenFeed;

/// What the handlers work with.
#[derive(Debug)]
pub struct Edge {
    /// The hub.
    pub hub: Arc<Hub>,
    /// Who is let in.
    pub auth: Arc<Auth>,
    /// Who may ask from where.
    pub access: Arc<ArcSwap<Access>>,
    /// Every feed that is open.
    pub feeds: Feeds,
    /// What is told of the other transports.
    pub discovery: Arc<Discovery>,
}

/// The resource of feeds and publishing, and its name in the Mercure protocol.
pub const EVENTS_PATHS: [&str; 2] = ["/events", "/.well-known/mercure"];

/// Whether a path is the resource of feeds and publishing.
pub fn is_events_path(path: &str) -> bool {
    EVENTS_PATHS.contains(&path)
}

/// What is served: each path, on every HTTP version.
#[derive(Debug, Clone)]
pub struct Site {
    router: Router,
    /// None: whoever comes is answered.
    edge: Option<Arc<Edge>>,
    /// Where what is posted is published, without asking the router.
    published: &'static [&'static str],
}

impl Site {
    /// The hub.
    pub fn new(edge: Arc<Edge>) -> Self {
        let router = paths(resource(EVENTS_PATHS[0]).merge(resource(EVENTS_PATHS[1])), edge.clone());
        Self { router, edge: Some(edge), published: &EVENTS_PATHS }
    }

    /// The same, but what Mercure's clients ask for under its own name is answered as Mercure 0.x has it.
    pub fn of_mercure0(edge: Arc<Edge>) -> Self {
        let router = paths(resource(EVENTS_PATHS[0]).merge(mercure0::resource()), edge.clone());
        Self { router, edge: Some(edge), published: &EVENTS_PATHS[..1] }
    }

    /// Answers a request of a peer's, which is boxed since each step of the way would take the memory of all of it, twice.
    pub async fn answer(&self, peer: PeerAddress, request: Box<Request<Body>>) -> Response<Body> {
        let Some(edge) = &self.edge else { return Box::pin(self.route(peer, request)).await };
        let answer = async |request: Box<Request<Body>>| {
            if request.method() == Method::POST && self.published.contains(&request.uri().path()) {
                // What is asked for most often; the router would take longer than the log.
                return publish::post(edge, peer, request).await;
            }
            Box::pin(self.route(peer, request)).await
        };
        access::guard(edge, request, answer).await
    }

    async fn route(&self, peer: PeerAddress, mut request: Box<Request<Body>>) -> Response<Body> {
        request.extensions_mut().insert(peer);
        let Ok(response) = self.router.clone().oneshot(*request).await;
        response
    }
}

impl From<Router> for Site {
    /// Something else, which is for whoever reaches it.
    fn from(router: Router) -> Self {
        Self { router, edge: None, published: &[] }
    }
}

/// Feeds, and the list of who is subscribed, under a path. Publishing doesn't come this way.
fn resource(path: &str) -> Router<Arc<Edge>> {
    let events = on(MethodFilter::GET, subscribe::get).fallback(query_or_not_allowed);
    let mut router = Router::new().route(path, events);
    for below in ["", "/{*rest}"] {
        let list = get(subscriptions::get).delete(subscriptions::delete).fallback(not_allowed);
        router = router.route(&format!("{path}/subscriptions{below}"), list);
    }
    router
}

fn paths(resources: Router<Arc<Edge>>, edge: Arc<Edge>) -> Router {
    resources
        .route("/events/ticket", post(grants::ticket).fallback(not_allowed))
        .route("/events/revocations", post(grants::revoke).fallback(not_allowed))
        .route("/.well-known/fanwire", get(discovery::get).fallback(not_allowed))
        .route(metadata::PREFIX, get(metadata::get).fallback(not_allowed))
        .route(&format!("{}/{{*path}}", metadata::PREFIX), get(metadata::get).fallback(not_allowed))
        .route("/livez", get(health::live).fallback(not_allowed))
        .route("/readyz", get(health::ready).fallback(not_allowed))
        .route("/", get(assets::index).fallback(not_allowed))
        .route("/page/{*path}", get(assets::page).fallback(not_allowed))
        .route("/client/{*path}", get(assets::client).fallback(not_allowed))
        .fallback(not_found)
        .with_state(edge)
}

async fn not_found(request: Request<Body>) -> Refused {
    let message = format!("there is nothing at {}: events are at /events", request.uri().path());
    Refused::new(StatusCode::NOT_FOUND, "not_found", message)
}

/// `QUERY` is none of the methods that the router tells apart.
async fn query_or_not_allowed(State(edge): State<Arc<Edge>>, request: Request<Body>) -> Response<Body> {
    if request.method().as_str() == "QUERY" {
        return subscribe::query(&edge, request).await;
    }
    not_allowed(request).await
}

async fn not_allowed(request: Request<Body>) -> Response<Body> {
    let allowed = match request.uri().path() {
        path if is_events_path(path) => "GET, HEAD, POST, QUERY, OPTIONS",
        path if EVENTS_PATHS.iter().any(|base| path.starts_with(&format!("{base}/subscriptions"))) => {
            "GET, HEAD, DELETE, OPTIONS"
        }
        path if path.starts_with("/events/") => "POST, OPTIONS",
        _ => "GET, HEAD, OPTIONS",
    };
    let message = format!("{} isn't possible here: {allowed} are", request.method());
    let refused = Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    let mut response = axum::response::IntoResponse::into_response(refused);
    response.headers_mut().insert(http::header::ALLOW, http::HeaderValue::from_static(allowed));
    response
}
