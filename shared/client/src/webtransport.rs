//! A feed over WebTransport. [PROTOCOL §5]

mod control;
mod datagrams;
mod lanes;
mod read;

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::StatusCode;
use url::Url;
use web_transport_quinn::{
    ClientError, ReadError, RecvStream, Session, SessionError, WebTransportError, proto::ConnectRequest,
};

use crate::{ConnectError, HubError, Options, ReceiveError, dial, target, target::Place};

pub use control::{Control, ControlError};
pub(crate) use {datagrams::Datagrams, lanes::Lanes, read::Reader};

/// A session and its feed stream, where it has just one.
#[derive(Debug)]
pub(crate) struct Feed {
    session: Session,
    /// None until the hub has opened it.
    stream: Option<RecvStream>,
    control: OnceLock<Control>,
    request_timeout: std::time::Duration,
}

pub(crate) async fn open(options: &Options) -> Result<Feed, ConnectError> {
    let (url, trust) = crate::discover::quic_side(options).await?;
    let url = target::feed_url(options, url, false);
    let quic = dial::quic(options, &Place::of(&url)?, &trust).await?;
    let mut headers = target::headers(options);
    let in_band = options.token.as_ref().filter(|_| options.auth_in_band);
    if in_band.is_some() {
        headers.remove(hyper::header::AUTHORIZATION);
    }
    let request = ConnectRequest::new(url.clone()).with_headers(headers);
    let session = Session::connect(quic, request).await.map_err(|error| connect_error(&url, error))?;
    let request_timeout = options.request_timeout;
    let feed = Feed { session, stream: None, control: OnceLock::new(), request_timeout };
    if let Some(token) = in_band {
        // If it is refused, the bye on the feed says so, too.
        match feed.control().authenticate(token).await {
            Ok(_) | Err(ControlError::Refused { .. } | ControlError::Closed) => {}
            Err(error) => return Err(ConnectError::http(&url, error)),
        }
    }
    Ok(feed)
}

impl Feed {
    /// The next bytes of the feed; none at its end. Cancel-safe.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        chunk(&self.session, &mut self.stream).await
    }

    /// The control stream, which is opened with its first request.
    pub(crate) fn control(&self) -> Control {
        self.control.get_or_init(|| Control::new(self.session.clone(), self.request_timeout)).clone()
    }

    pub(crate) fn quic(&self) -> &quinn::Connection {
        &self.session
    }

    /// Closes the session, and waits until the hub knows, or a moment has passed.
    pub(crate) async fn close(&mut self) {
        self.session.close(0, b"");
        self.session.closed().await;
    }
}

async fn chunk(session: &Session, stream: &mut Option<RecvStream>) -> Result<Option<Bytes>, ReceiveError> {
    let stream = match stream {
        Some(stream) => stream,
        // The first stream is the feed; others are never looked at.
        none => none.insert(session.accept_uni().await.map_err(session_error)?),
    };
    match stream.read_chunk(CHUNK_BYTES_MAX, true).await {
        Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
        Err(error) => Err(read_error(error)),
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.session.close(0, b"");
    }
}

fn read_error(error: ReadError) -> ReceiveError {
    match error {
        ReadError::SessionError(error) => session_error(error),
        error => ReceiveError::Cut(error.into()),
    }
}

fn session_error(error: SessionError) -> ReceiveError {
    match error {
        SessionError::WebTransportError(WebTransportError::Closed(code, reason)) => {
            ReceiveError::Closed { code, reason }
        }
        // How the library says that the hub ended the session without a capsule.
        SessionError::ConnectionError(quinn::ConnectionError::LocallyClosed) => ReceiveError::Ended,
        error => ReceiveError::Cut(error.into()),
    }
}

fn connect_error(url: &Url, error: ClientError) -> ConnectError {
    use web_transport_quinn::{ConnectError as Connect, proto::ConnectError as Proto};
    let status = match &error {
        ClientError::HttpError(Connect::ErrorStatus(status)) => Some(*status),
        ClientError::HttpError(Connect::ProtoError(Proto::ErrorStatus(status))) => Some(*status),
        ClientError::HttpError(Connect::ProtoError(Proto::WrongStatus(status))) => *status,
        _ => None,
    };
    match status {
        Some(status) => refused(url, status),
        None => ConnectError::http(url, error),
    }
}

fn refused(url: &Url, status: StatusCode) -> ConnectError {
    let (code, message) = (String::new(), String::new());
    Box::new(HubError { url: url.to_string(), status: status.as_u16(), code, message, retry_after: None }).into()
}

const CHUNK_BYTES_MAX: usize = 64 * 1024;
