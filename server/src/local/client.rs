//! Who asks: over the socket of a hub, or in this process.

use std::{io, path::Path};

use axum::{Router, body::Body};
use bytes::{Bytes, BytesMut};
use fanwire_protocol::message::Refusal;
use http::{Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use tower::ServiceExt as _;

use super::socket;

/// A way to ask for what [`router`](super::router) has.
#[derive(Debug)]
pub enum Client {
    /// A hub does it, over its socket.
    Hub(http1::SendRequest<Body>),
    /// It is done in this process.
    Here(Router),
}

/// Why an answer isn't one.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It was refused, or has failed.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The connection broke.
    #[error("the hub was gone before it had finished")]
    Gone(Box<dyn std::error::Error + Send + Sync>),
    /// It answered something else than what was asked for.
    #[error("the hub's answer can't be read; are the hub and this program of one version?")]
    Unreadable(#[from] serde_json::Error),
}

/// An answer that comes line by line.
#[derive(Debug)]
pub struct Answer {
    body: Body,
    buffer: BytesMut,
    /// Up to here there is no line's end in the buffer.
    searched: usize,
    is_complete: bool,
}

impl Client {
    /// Asks the hub that serves a data directory. An error of the kind `NotFound` or `ConnectionRefused` means that none does.
    pub async fn connect(directory: &Path) -> io::Result<Self> {
        let stream = socket::connect(directory).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the sender or the hub; whatever is wrong with it shows in what was asked.
        tokio::spawn(connection);
        Ok(Self::Hub(sender))
    }

    /// Asks for something that comes as one piece of JSON.
    pub async fn ask<T: DeserializeOwned>(&mut self, method: &str, path: &str, body: Bytes) -> Result<T, Fault> {
        let body = self.send(method, path, body).await?.into_body();
        let body = body.collect().await.map_err(|error| Fault::Gone(error.into()))?.to_bytes();
        Ok(serde_json::from_slice(&body)?)
    }

    /// Asks for something that comes line by line.
    pub async fn follow(&mut self, method: &str, path: &str, body: Bytes) -> Result<Answer, Fault> {
        let body = self.send(method, path, body).await?.into_body();
        Ok(Answer { body, buffer: BytesMut::new(), searched: 0, is_complete: false })
    }

    async fn send(&mut self, method: &str, path: &str, body: Bytes) -> Result<Response<Body>, Fault> {
        let request = Request::builder().method(method).uri(path).header(header::HOST, "hub").body(Body::from(body));
        let request = request.map_err(|error| Fault::Gone(error.into()))?;
        let response = match self {
            Self::Hub(sender) => {
                sender.ready().await.map_err(|error| Fault::Gone(error.into()))?;
                let response = sender.send_request(request).await.map_err(|error| Fault::Gone(error.into()))?;
                response.map(Body::new)
            }
            Self::Here(router) => {
                let Ok(response) = router.clone().oneshot(request).await;
                response
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| Fault::Gone(error.into()))?.to_bytes();
        let refused = serde_json::from_slice::<ErrorBody>(&body).map_or_else(
            |_| Refusal { code: status.as_str().to_owned(), message: format!("the hub answered {status}") },
            |body| body.error,
        );
        Err(Fault::Refused(refused))
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Refusal,
}

impl Answer {
    /// The next lines, whole ones; none when it is over.
    pub async fn lines(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let fresh = &self.buffer[self.searched..];
            if let Some(end) = fresh.iter().rposition(|&byte| byte == b'\n') {
                let lines = self.buffer.split_to(self.searched + end + 1).freeze();
                self.searched = self.buffer.len();
                return Ok(Some(lines));
            }
            self.searched = self.buffer.len();
            if self.is_complete {
                return Ok(None);
            }
            match self.body.frame().await {
                Some(frame) => {
                    let frame = frame.map_err(|error| Fault::Gone(error.into()))?;
                    self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                }
                None => self.is_complete = true,
            }
        }
    }
}
