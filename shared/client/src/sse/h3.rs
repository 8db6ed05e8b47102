//! SSE over HTTP/3.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use h3::error::Code;
use hyper::{StatusCode, http::response};
use url::Url;

use crate::{ConnectError, Options, Source, Trust, dial, http::hub_error, target::Place};

/// The body and the connection that it comes on, which is for nothing else.
pub(crate) struct Body {
    quic: quinn::Connection,
    driver: Driver,
    stream: h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>,
    /// h3 ends a connection whose senders are all gone.
    _sender: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
}

type Driver = h3::client::Connection<h3_quinn::Connection, Bytes>;

pub(super) async fn open(options: &Options, url: &Url, trust: &Trust) -> Result<(response::Parts, Body), ConnectError> {
    let http = |error: Source| ConnectError::http(url, error);
    let quic = dial::quic(options, &Place::of(url)?, trust).await?;
    let (mut driver, mut sender) = h3::client::builder()
        .max_field_section_size(HEAD_BYTES_MAX)
        .send_grease(false)
        .build(h3_quinn::Connection::new(quic.clone()))
        .await
        .map_err(|error| http(error.into()))?;
    let request = super::request(options, url)?;
    let answered = async {
        let mut stream = sender.send_request(request).await?;
        stream.finish().await?;
        let response = stream.recv_response().await?;
        Ok::<_, h3::error::StreamError>((response, stream))
    };
    let (response, stream) = drive(&mut driver, answered).await.map_err(http)?.map_err(|error| http(error.into()))?;
    let mut body = Body { quic, driver, stream, _sender: sender };
    if response.status() != StatusCode::OK {
        let text = tokio::time::timeout(ERROR_WAIT, body.beginning()).await.unwrap_or_default();
        return Err(hub_error(url, response.status(), response.headers(), &text).into());
    }
    Ok((response.into_parts().0, body))
}

impl Body {
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Source> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    pub(super) fn quic(&self) -> &quinn::Connection {
        &self.quic
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Source>> {
        loop {
            match self.stream.poll_recv_data(cx) {
                Poll::Ready(Ok(Some(mut data))) => {
                    if data.has_remaining() {
                        return Poll::Ready(Ok(Some(data.copy_to_bytes(data.remaining()))));
                    }
                }
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => return self.driver.poll_close(cx).map(|error| Err(error.into())),
            }
        }
    }

    /// As much of an error's text as is worth reading.
    async fn beginning(&mut self) -> Bytes {
        let mut text = BytesMut::new();
        while let Ok(Some(part)) = self.chunk().await {
            text.extend_from_slice(&part);
            if text.len() > ERROR_BYTES_MAX {
                text.truncate(ERROR_BYTES_MAX);
                break;
            }
        }
        text.freeze()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.quic.close(NO_ERROR, b"");
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("quic", &self.quic).finish_non_exhaustive()
    }
}

/// Waits for something on a connection while it is moved on.
async fn drive<T>(driver: &mut Driver, work: impl Future<Output = T>) -> Result<T, Source> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        driver.poll_close(cx).map(|error| Err(error.into()))
    })
    .await
}

const NO_ERROR: quinn::VarInt = quinn::VarInt::from_u32(Code::H3_NO_ERROR.value() as u32);
const HEAD_BYTES_MAX: u64 = 64 * 1024;
const ERROR_BYTES_MAX: usize = 64 * 1024;
const ERROR_WAIT: Duration = Duration::from_secs(5);
