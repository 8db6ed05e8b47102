//! The floor under publishing: hyper reads the POST and answers, and nothing becomes of the event.

use std::convert::Infallible;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

#[tokio::main]
pub(super) async fn serve() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("http://{address} feed=http://{address}/events");
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // One that breaks off gets its answer as well.
    let _ = request.into_body().collect().await;
    let answer = Response::builder().header("content-type", "application/json").body(Full::from(ANSWER));
    Ok(answer.unwrap_or_default())
}

/// As a hub would say it.
const ANSWER: &str = r##"{"id":"#0a1b2c3d4e:42","cursor":"#0a1b2c3d4e:42"}"##;
