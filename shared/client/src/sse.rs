//! A feed as Server-Sent Events, on every version of HTTP. [PROTOCOL §4]

mod h3;
mod read;
mod tcp;

use bytes::Bytes;
use hyper::{HeaderMap, Request, header, http::response};
use url::Url;

use crate::{ConnectError, Options, Source, Transport, http::Wanted, target};

pub(crate) use read::Reader;

/// The body of a feed's answer.
#[derive(Debug)]
pub(crate) enum Body {
    Tcp(Box<tcp::Body>),
    H3(Box<h3::Body>),
}

impl Body {
    /// The next bytes; none at the end. Cancel-safe.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Source> {
        match self {
            Self::Tcp(body) => body.chunk().await,
            Self::H3(body) => body.chunk().await,
        }
    }

    pub(crate) fn quic(&self) -> Option<&quinn::Connection> {
        match self {
            Self::Tcp(_) => None,
            Self::H3(body) => Some(body.quic()),
        }
    }
}

/// A feed that was answered 200.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) transport: Transport,
    pub(crate) head: response::Parts,
    pub(crate) body: Body,
}

pub(crate) async fn over_tcp(options: &Options, wanted: Wanted) -> Result<Opened, ConnectError> {
    let url = target::feed_url(options, options.url.clone(), true);
    let (transport, head, body) = tcp::open(options, &url, wanted).await?;
    check(&url, &head.headers)?;
    Ok(Opened { transport, head, body: Body::Tcp(Box::new(body)) })
}

pub(crate) async fn over_h3(options: &Options) -> Result<Opened, ConnectError> {
    let (url, trust) = crate::discover::quic_side(options).await?;
    let url = target::feed_url(options, url, true);
    let (head, body) = h3::open(options, &url, &trust).await?;
    check(&url, &head.headers)?;
    Ok(Opened { transport: Transport::SseH3, head, body: Body::H3(Box::new(body)) })
}

fn request<B: Default>(options: &Options, url: &Url) -> Result<Request<B>, ConnectError> {
    let mut request = Request::get(url.as_str()).body(B::default()).map_err(|error| ConnectError::http(url, error))?;
    let mut headers = target::headers(options);
    headers.insert(header::ACCEPT, header::HeaderValue::from_static("text/event-stream"));
    headers.entry(header::CACHE_CONTROL).or_insert(header::HeaderValue::from_static("no-store"));
    *request.headers_mut() = headers;
    Ok(request)
}

fn check(url: &Url, headers: &HeaderMap) -> Result<(), ConnectError> {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("no content type");
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("text/event-stream") {
        return Ok(());
    }
    Err(ConnectError::NotAFeed { url: url.to_string(), content_type: content_type.to_owned() })
}
