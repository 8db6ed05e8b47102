//! HTTP/2.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    rc::Rc,
    time::Duration,
};

use axum::response::Response;
use http::{Request, header};
use hyper::{body::Incoming, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Error, Service, feed_body::ResponseBody};
use crate::{fanout::LocalShard, http::OpenFeed};

pub(super) async fn serve<S>(service: Service, shard: Rc<LocalShard>, stream: S) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let limits = service.limits;
    let answer = {
        let shard = shard.clone();
        service_fn(move |request: Request<Incoming>| answer(service.clone(), shard.clone(), request))
    };
    let mut connection = pin!(
        http2::Builder::new(ShardExecutor(shard.clone()))
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_streams_max)
            .max_header_list_size(limits.head_bytes_max as u32)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(stream), answer)
    );
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = shard.draining().cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

async fn answer(
    service: Service,
    shard: Rc<LocalShard>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (mut head, body) = service.answer(request).await.into_parts();
    let Some(open) = head.extensions.remove::<OpenFeed>() else {
        return Ok(Response::from_parts(head, ResponseBody::Plain { body }));
    };
    head.headers.remove(header::CONTENT_LENGTH);
    let feed = shard.open(open.grant.subscription.clone(), open.grant.holder.clone());
    Ok(Response::from_parts(head, ResponseBody::feed(open, feed)))
}

/// Runs the tasks of a connection's streams on its shard.
#[derive(Clone)]
struct ShardExecutor(Rc<LocalShard>);

impl<F: Future<Output = ()> + 'static> Executor<F> for ShardExecutor {
    fn execute(&self, task: F) {
        self.0.spawn(Pin::from(Box::new(task)));
    }
}

/// What a stream may have in hyper's buffer while its client doesn't read.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// A peer that is gone without a word is noticed after these two. [RFC 9113 §6.7]
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
