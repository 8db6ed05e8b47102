//! HTTP/1.0 and 1.1: hyper serves requests until one of them is granted a feed; then its socket is taken over.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::{pending, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::TryFutureExt as _;
use http::{Request, Version, header, response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Error, Requests, Rest, h1_feed, h1_timer::HeadTimer};
use crate::{fanout::LocalShard, http::OpenFeed};

/// A response whose body is a feed, and the version of the request.
struct Granted {
    head: response::Parts,
    open: OpenFeed,
    version: Version,
}

/// Serves requests until the connection ends, or until one of them is granted a feed: then that is what is left to be run.
pub(super) async fn serve<S>(requests: Requests, shard: Rc<LocalShard>, stream: S) -> Result<Option<Rest>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let limits = requests.service.limits;
    let granted: Rc<RefCell<Option<Granted>>> = Rc::default();
    let answer = {
        let (requests, granted) = (Rc::new(requests), granted.clone());
        service_fn(move |request: Request<Incoming>| Box::pin(answer(requests.clone(), request, granted.clone())))
    };
    let mut connection = http1::Builder::new()
        .timer(HeadTimer::default())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes_max)
        // Who has said all it has to say, and closes its side, still gets its answer: it may have published.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), answer);
    let ended = {
        let mut draining = pin!(shard.draining().cancelled());
        let mut told = false;
        poll_fn(|cx| {
            if !told && draining.as_mut().poll(cx).is_ready() {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            let polled = connection.poll_without_shutdown(cx);
            if granted.borrow().is_some() { Poll::Ready(Ok(())) } else { polled }
        })
        .await
    };
    let mut stream = connection.into_parts().io.into_inner();
    let Some(Granted { head, open, version }) = granted.take() else {
        stream.shutdown().await?;
        tokio::select! {
            _ = tokio::time::timeout(LINGER, Box::pin(linger(stream))) => {}
            () = shard.draining().cancelled() => {}
        }
        ended?;
        return Ok(None);
    };
    // What a client sends after its request for a feed is nothing that will be answered: the connection ends with the feed.
    let chunked = version >= Version::HTTP_11;
    let head = encode_head(&head, chunked);
    Ok(Some(Box::pin(h1_feed::serve(&shard, h1_feed::Opened { stream, head, open, chunked }).err_into())))
}

/// Reads on where everything is said, so that the last answer arrives: a client that is still sending, a body too large for
/// instance, would be reset, and might never read why. [RFC 9112 §9.6]
async fn linger(mut stream: impl AsyncRead + Unpin) -> io::Result<()> {
    let mut room = [0; 8 * 1024];
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        match stream.read(&mut room).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// Answers a request, unless it is granted a feed: then it is left pending, and hyper writes nothing.
async fn answer(
    requests: Rc<Requests>,
    request: Request<Incoming>,
    granted: Rc<RefCell<Option<Granted>>>,
) -> Result<Response<Body>, Infallible> {
    let version = request.version();
    let response = requests.answer(Box::new(request.map(Body::new))).await;
    let (mut head, body) = response.into_parts();
    match head.extensions.remove::<OpenFeed>() {
        None => Ok(Response::from_parts(head, body)),
        Some(open) => {
            *granted.borrow_mut() = Some(Granted { head, open, version });
            pending().await
        }
    }
}

/// The head of a response without a known length. The connection is its own from here on, and ends with it, which is how HTTP/1.0
/// knows the end. [RFC 9112 §6.3, §9.6]
fn encode_head(head: &response::Parts, chunked: bool) -> Bytes {
    let mut out = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        if name != header::CONTENT_LENGTH {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let coding = if chunked { "transfer-encoding: chunked\r\n" } else { "" };
    out.extend_from_slice(format!("date: {date}\r\n{coding}connection: close\r\n\r\n").as_bytes());
    out.into()
}

/// How long a client that was answered may go on sending.
const LINGER: Duration = Duration::from_secs(5);
/// How much of it is read.
const LINGER_BYTES_MAX: usize = 32 * 1024 * 1024;
