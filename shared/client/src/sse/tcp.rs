//! SSE over HTTP/1.1 and HTTP/2.

use std::future::poll_fn;

use bytes::Bytes;
use hyper::{StatusCode, Version, body::Incoming, http::response};
use url::Url;

use crate::{
    ConnectError, Options, Source, Transport,
    http::{HttpConnection, Wanted},
};

/// The body and the connection that it comes on, which is for nothing else.
#[derive(Debug)]
pub(crate) struct Body {
    http: HttpConnection,
    incoming: Incoming,
}

pub(super) async fn open(
    options: &Options,
    url: &Url,
    wanted: Wanted,
) -> Result<(Transport, response::Parts, Body), ConnectError> {
    let mut http = HttpConnection::open(options, url, wanted).await?;
    let request = super::request(options, url)?;
    let response = http.send(url, request).await.map_err(|(error, _)| ConnectError::http(url, error))?;
    if response.status() != StatusCode::OK {
        return Err(http.refused(url, response).await.into());
    }
    let transport = if http.version() == Version::HTTP_2 { Transport::SseH2 } else { Transport::SseH1 };
    let (head, incoming) = response.into_parts();
    Ok((transport, head, Body { http, incoming }))
}

impl Body {
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Source> {
        let Self { http, incoming } = self;
        Ok(poll_fn(|cx| http.poll_data(incoming, cx)).await.transpose()?)
    }
}
