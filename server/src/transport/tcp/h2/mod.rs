//! HTTP/2, on the crate h2: a task reads the connection, each stream has one, and feeds are written on the walk over them.

mod answer;
mod credit;
mod feed;
mod frames;
mod link;
mod outgoing;
mod request;
mod signals;
mod streams;
mod wire;

use std::{
    cell::RefCell,
    future::{pending, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Context,
    time::Duration,
};

use ::h2::{Ping, server};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep_until, timeout},
};

use self::{
    answer::{Place, answer},
    link::{Incoming, Link},
    signals::Signals,
    streams::Streams,
    wire::{Told, Wire},
};
use super::{Error, Requests, limit};
use crate::{fanout::LocalShard, telemetry::Limit};

/// What is returned serves requests until the connection ends. It holds no more than that takes, since most of the time its feeds are idle.
pub(super) fn serve<S>(
    requests: Requests,
    shard: Rc<LocalShard>,
    stream: S,
) -> impl Future<Output = Result<(), Error>> + 'static
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let limits = requests.service.limits;
    let signals = Arc::new(Signals::new());
    let wire = Rc::new(RefCell::new(Wire::new(stream, signals.clone())));
    let handshake = server::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(limits.h2_streams_max)
        .max_header_list_size(limits.head_bytes_max as u32)
        .handshake(Told(wire.clone()));
    let link = Box::pin(async move { Ok::<_, Error>(Rc::new(Link::new(handshake.await?, wire, signals))) });
    async move { serve_link(Rc::new(requests), shard, link.await?).await }
}

async fn serve_link<S>(requests: Rc<Requests>, shard: Rc<LocalShard>, link: Rc<Link<S>>) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (limits, metrics) = (requests.service.limits, &requests.service.metrics);
    let streams = Rc::new(Streams::new(limits.h2_streams_max, requests.service.metrics.clone()));
    let begin = |(request, respond): Incoming| {
        let place = Place { requests: requests.clone(), shard: shard.clone(), link: Rc::downgrade(&link) };
        let open = streams.open();
        // Boxed: a feed isn't to take the memory that its request's handler would.
        let answer = requests.newcomer.clone().gate(Box::pin(answer(place, request, respond)));
        shard.spawn(async move {
            let ended = match answer.await {
                Ok(Some(feed)) => feed.await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                tracing::debug!(error = &*error, "stream ended");
            }
            drop(open);
        });
    };
    let mut serving = pin!(async {
        let accept = async {
            let next = |cx: &mut Context<'_>| {
                let polled = link.poll_accept(cx);
                (0..link.newly_refused()).for_each(|_| metrics.reached(Limit::HeadBytes));
                polled
            };
            while let Some(incoming) = poll_fn(next).await {
                begin(incoming?);
            }
            Ok(())
        };
        tokio::select! {
            ended = accept => ended,
            () = silence(&link) => Err(Error::from("the peer is gone")),
        }
    });
    let over = tokio::select! {
        ended = serving.as_mut() => return ended,
        () = shard.draining().cancelled() => None,
        limit = streams.idle_for_too_long(&limits) => Some(limit),
    };
    link.graceful_shutdown();
    let Some(limit) = over else { return serving.await };
    // What came before the peer knew is still answered.
    tokio::select! {
        ended = serving => ended?,
        () = streams.idle_for(LAST_STREAMS) => {}
    }
    Err(limit::Reached(limit).into())
}

/// Resolves when the peer is silent and doesn't answer pings. [RFC 9113 §6.7]
async fn silence<S: AsyncRead + AsyncWrite + Unpin>(link: &Link<S>) {
    let mut pings = None;
    loop {
        let due = link.signals().heard_at() + PING_INTERVAL;
        sleep_until(due).await;
        if link.signals().heard_at() + PING_INTERVAL > due {
            continue;
        }
        // Not before it is needed: it costs the connection some work whenever something is sent.
        pings = pings.or_else(|| link.ping_pong());
        let Some(pings) = &mut pings else { return pending().await };
        let answered = async {
            pings.send_ping(Ping::opaque())?;
            // h2 hasn't known that there would be pings.
            link.signals().wake();
            poll_fn(|cx| pings.poll_pong(cx)).await
        };
        match timeout(PING_TIMEOUT, answered).await {
            Ok(Ok(_)) => {}
            // The connection has ended, which is found out where it is read.
            Ok(Err(_)) => return pending().await,
            Err(_) => return,
        }
    }
}

/// How much a client may send ahead of what is read, on a stream and in all.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// A peer that is gone without a word is noticed after these two. [RFC 9113 §6.7]
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection that was idle is left to the peer to close it.
const LAST_STREAMS: Duration = Duration::from_secs(1);
