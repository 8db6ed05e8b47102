//! The page at `/` and the browser client, out of the binary.

use std::borrow::Cow;

use axum::{
    body::Body,
    extract::Path,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::hub::Refused;

#[derive(RustEmbed)]
#[folder = "src/page/"]
struct Page;

#[derive(RustEmbed)]
#[folder = "../client-web/src/"]
struct Client;

pub(super) async fn index(headers: HeaderMap) -> Response {
    let mut response = serve(Page::get("index.html"), "index.html", &headers);
    // The page lives on what this hub sends. [Mercure, Hub Discovery]
    response.headers_mut().insert(header::LINK, HeaderValue::from_static(HUB_LINK));
    response
}

pub(super) async fn page(Path(path): Path<String>, headers: HeaderMap) -> Response {
    serve(Page::get(&path), &path, &headers)
}

pub(super) async fn client(Path(path): Path<String>, headers: HeaderMap) -> Response {
    serve(Client::get(&path), &path, &headers)
}

fn serve(file: Option<EmbeddedFile>, path: &str, asked: &HeaderMap) -> Response {
    let Some(file) = file else {
        return Refused::new(StatusCode::NOT_FOUND, "not_found", format!("there is no file {path:?}")).into_response();
    };
    let hash = file.metadata.sha256_hash();
    let etag = format!("\"{}\"", hash[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let known = asked.get(header::IF_NONE_MATCH).is_some_and(|tags| tags.as_bytes() == etag.as_bytes());
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        // Of the binary's own bytes: who asks often and reads nothing holds no copies.
        let bytes = match file.data {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => bytes.into(),
        };
        Body::from(bytes).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(path)));
    headers.insert(header::ETAG, HeaderValue::from_str(&etag).expect("hex digits"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    response
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

const HUB_LINK: &str = "</.well-known/mercure>; rel=\"mercure\"";

/// Nothing from outside; WebTransport goes to another port of the same host, and the browser shows only https there.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' https:; img-src 'self' data:; \
    object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
