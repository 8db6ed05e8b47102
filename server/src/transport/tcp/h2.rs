//! HTTP/2.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    rc::{Rc, Weak},
    task::Poll,
    time::Duration,
};

use axum::response::Response;
use http::{Request, header};
use hyper::{body::Incoming, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};

use super::{Error, Limits, Requests, feed_body::ResponseBody, limit};
use crate::{
    fanout::{Feed, LocalShard},
    http::OpenFeed,
    telemetry::{Limit, Metrics, Transport},
    transport::sse::Writer,
};

pub(super) async fn serve<S>(requests: Requests, shard: Rc<LocalShard>, stream: S) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let limits = requests.service.limits;
    let streams = Rc::new(Streams {
        open: Cell::new(0),
        open_max: limits.h2_streams_max as usize,
        asked: Cell::new(false),
        idle_since: Cell::new(Instant::now()),
        metrics: requests.service.metrics.clone(),
    });
    let answer = {
        let shard = shard.clone();
        // Boxed: a stream with a feed isn't to take the memory that its request's handler would.
        service_fn(move |request: Request<Incoming>| Box::pin(answer(requests.clone(), shard.clone(), request)))
    };
    let mut connection = pin!(
        http2::Builder::new(ShardExecutor { shard: shard.clone(), streams: streams.clone() })
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_streams_max)
            .max_header_list_size(limits.head_bytes_max as u32)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(stream), answer)
    );
    let over = tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = shard.draining().cancelled() => None,
        limit = streams.idle_for_too_long(&limits) => Some(limit),
    };
    connection.as_mut().graceful_shutdown();
    let Some(limit) = over else { return Ok(connection.await?) };
    // What came before the peer knew is still answered.
    tokio::select! {
        ended = connection => ended?,
        () = streams.idle_for(LAST_STREAMS) => {}
    }
    Err(limit::Reached(limit).into())
}

async fn answer(
    requests: Requests,
    shard: Rc<LocalShard>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (mut head, body) = requests.answer(request).await.into_parts();
    let Some(open) = head.extensions.remove::<OpenFeed>() else {
        return Ok(Response::from_parts(head, ResponseBody::Plain { body }));
    };
    head.headers.remove(header::CONTENT_LENGTH);
    let writer = Writer::new(&open, false);
    let opening = writer.opening(&open);
    let (subscription, holder, seat) = open.grant.into_feed();
    let feed = Rc::new(shard.open(subscription, holder, Transport::SseH2));
    FEED.with(|slot| *slot.borrow_mut() = Rc::downgrade(&feed));
    Ok(Response::from_parts(head, ResponseBody::feed(feed, writer, opening, seat)))
}

tokio::task_local! {
    /// The feed of the stream whose task this is.
    static FEED: Rc<RefCell<Weak<Feed>>>;
}

/// The streams of a connection.
#[derive(Debug)]
struct Streams {
    open: Cell<usize>,
    open_max: usize,
    /// There was one.
    asked: Cell<bool>,
    idle_since: Cell<Instant>,
    metrics: std::sync::Arc<Metrics>,
}

/// Counts a stream as open.
struct OpenStream(Rc<Streams>);

impl Streams {
    fn open(self: &Rc<Self>) -> OpenStream {
        self.asked.set(true);
        self.open.set(self.open.get() + 1);
        if self.open.get() == self.open_max {
            self.metrics.reached(Limit::Streams);
        }
        OpenStream(self.clone())
    }

    async fn idle_for_too_long(&self, limits: &Limits) -> Limit {
        // The peer has to come to its first request sooner than to its next.
        sleep_until(self.idle_since.get() + limits.head).await;
        if !self.asked.get() {
            return Limit::HeadTime;
        }
        self.idle_for(limits.h2_idle).await;
        Limit::IdleTime
    }

    /// Resolves when there was no stream for so long.
    async fn idle_for(&self, bound: Duration) {
        loop {
            let since = if self.open.get() > 0 { Instant::now() } else { self.idle_since.get() };
            if self.open.get() == 0 && since.elapsed() >= bound {
                return;
            }
            sleep_until(since + bound.max(LOOK_INTERVAL)).await;
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.idle_since.set(Instant::now());
    }
}

/// Runs the tasks of a connection's streams on its shard. One whose feed was cut is dropped, which resets the stream: hyper itself waits for
/// its peer to read for as long as the connection lives.
#[derive(Clone)]
struct ShardExecutor {
    shard: Rc<LocalShard>,
    streams: Rc<Streams>,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for ShardExecutor {
    fn execute(&self, task: F) {
        let open = self.streams.open();
        self.shard.spawn(async move {
            let feed = Rc::new(RefCell::new(Weak::new()));
            let mut task = Box::pin(FEED.scope(feed.clone(), task));
            poll_fn(|cx| {
                if task.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                let feed = feed.borrow().upgrade();
                feed.map_or(Poll::Pending, |feed| feed.poll_cut(cx))
            })
            .await;
            drop((task, open));
        });
    }
}

/// What a stream may have in hyper's buffer while its client doesn't read.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// A peer that is gone without a word is noticed after these two. [RFC 9113 §6.7]
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection that was idle is left to the peer to close it.
const LAST_STREAMS: Duration = Duration::from_secs(1);
/// How often a connection that is to end soon is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
