//! A feed in a WebTransport session: one stream of frames out, one control stream in.

use std::{future::poll_fn, net::SocketAddr, rc::Rc, time::Duration};

use bytes::{Bytes, BytesMut};
use fanwire_protocol::{
    Matcher, Matchers,
    frame::{self, Decoder, Frame},
    message::{Answer, Bye, ByeCode, Done, Outcome, Subscribe},
};
use http::StatusCode;
use serde::Deserialize;

use super::{
    quic::{Close, RecvStream, SendStream, Session, SessionOffer, WriteError},
    sse::ITEMS_A_TURN,
};
use crate::{
    core::{ChangeError, Item, Taken},
    fanout::{Feed, LocalShard},
    http::{Edge, is_events_path},
    hub::{FeedRequest, Grant, Hub, Refused, publication_from_json},
};

/// Serves a session, from its CONNECT to its end.
pub(super) async fn serve(shard: Rc<LocalShard>, edge: &Edge, peer: SocketAddr, offer: SessionOffer) {
    let request = offer.request();
    if !is_events_path(request.uri().path()) {
        return offer.refuse(StatusCode::NOT_FOUND).await;
    }
    if let Err(refused) = edge.access.check(request.uri(), request.headers()) {
        tracing::debug!(%peer, code = refused.code, "session refused");
        return offer.refuse(refused.status).await;
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let last_event_id = request.headers().get("last-event-id").cloned();
    let session = match offer.accept(None).await {
        Ok(session) => session,
        Err(error) => return tracing::debug!(%peer, %error, "session not opened"),
    };
    let header = last_event_id.as_ref().map(http::HeaderValue::as_bytes);
    let granted = match FeedRequest::parse(&query, header, edge.hub.limits()) {
        Ok(request) => edge.hub.subscribe(request).await,
        Err(refused) => Err(refused),
    };
    let bye = match granted {
        Ok(grant) => serve_feed(shard, &edge.hub, &session, grant).await,
        Err(refused) => {
            let bye = refused.to_bye();
            say_bye(&session, &bye).await;
            Some(bye)
        }
    };
    if let Some(bye) = bye {
        // That a browser has the bye doesn't mean that its page has read it, and the close throws away what wasn't.
        let _ = tokio::time::timeout(LAST_WORD, session.closed()).await;
        session.close(Close::new(bye.code, &bye.reason)).await;
    }
}

/// Runs a feed until it, or the session, ends. Returns the bye that was said, or is still to be told by the close alone.
async fn serve_feed(shard: Rc<LocalShard>, hub: &Hub, session: &Session, grant: Grant) -> Option<Bye> {
    let feed = shard.open(grant.subscription.clone());
    let feed_stream = async {
        let mut stream = session.open_uni().await.ok()?;
        let bye = write_feed(&mut stream, &feed).await?;
        end_stream(stream).await;
        Some(bye)
    };
    tokio::select! {
        _ = session.closed() => None,
        bye = feed_stream => bye,
        // Whatever the feed's stream waits for: to be opened, or to be read.
        () = poll_fn(|cx| feed.poll_cut(cx)) => {
            Some(Bye::retry(ByeCode::Stalled, "nothing was read for too long", hub.limits().retry.as_millis() as u64))
        }
        bye = serve_client_streams(hub, session, &feed) => bye,
    }
}

/// Writes the feed as frames, until its bye, which is returned, or until nobody reads it.
async fn write_feed(stream: &mut SendStream, feed: &Feed) -> Option<Bye> {
    let (mut items, mut chunks) = (Vec::new(), Vec::<Bytes>::new());
    loop {
        let taken = feed.take(ITEMS_A_TURN, &mut items).await;
        let mut heads = BytesMut::with_capacity(items.len() * EVENT_HEAD_BYTES_MAX);
        let mut said = None;
        for item in items.drain(..) {
            let encoded = match item {
                Item::Event { prev, event } => {
                    let body = event.frame_body();
                    frame::put_event_head(&mut heads, prev, body.len());
                    chunks.push(heads.split().freeze());
                    body.clone()
                }
                Item::Hello(hello) => frame::json(frame::HELLO, &hello),
                Item::Gap(gap) => frame::json(frame::GAP, &gap),
                Item::Changed(changed) => frame::json(frame::CHANGED, &changed),
                Item::Ping(ping) => frame::json(frame::PING, &ping),
                Item::Bye(bye) => {
                    let encoded = frame::json(frame::BYE, &bye);
                    said = Some(*bye);
                    encoded
                }
            };
            chunks.push(encoded);
        }
        match stream.write_all_chunks(&mut chunks).await {
            Ok(()) => chunks.clear(),
            Err(WriteError::Stopped(_)) => return Some(Bye::terminal(ByeCode::Closed, "the feed was stopped")),
            Err(_) => return None,
        }
        if said.is_some() || taken == Taken::Ended {
            return said;
        }
    }
}

/// Ends the session of a feed that was refused. A client that takes no stream is told by the close alone.
async fn say_bye(session: &Session, bye: &Bye) {
    let said = tokio::time::timeout(DELIVERY, async {
        let mut stream = session.open_uni().await.ok()?;
        stream.write_all_chunks(&mut [frame::json(frame::BYE, bye)]).await.ok()?;
        Some(stream)
    });
    if let Ok(Some(stream)) = said.await {
        end_stream(stream).await;
    }
}

/// Finishes a stream, and gives the client a moment to have it: browsers throw away what they haven't read when the session closes.
async fn end_stream(mut stream: SendStream) {
    stream.finish();
    let _ = tokio::time::timeout(DELIVERY, stream.stopped()).await;
}

/// Serves the control stream, and refuses other streams, for as long as the session lives. If the client breaks the rules its feed is
/// ended, and the bye returned if the feed's stream hasn't got to it in a while: then the close alone tells it.
async fn serve_client_streams(hub: &Hub, session: &Session, feed: &Feed) -> Option<Bye> {
    let control = async {
        let (mut answers, mut requests) = session.accept_bi().await?;
        let more = async {
            while let Some((send, recv)) = session.accept_bi().await {
                send.reset(0);
                recv.stop(0);
            }
        };
        let serve = async {
            match answer_requests(hub, feed, &mut answers, &mut requests).await {
                Some(bye) => {
                    feed.end(bye.clone());
                    tokio::time::sleep(DELIVERY).await;
                    Some(bye)
                }
                // The control stream has ended in order, and the feed goes on.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            bye = serve => bye,
            () = more => None,
        }
    };
    let uni = async {
        while let Some(stream) = session.accept_uni().await {
            stream.stop(0);
        }
    };
    tokio::select! {
        bye = control => bye,
        () = uni => None,
    }
}

async fn answer_requests(hub: &Hub, feed: &Feed, answers: &mut SendStream, requests: &mut RecvStream) -> Option<Bye> {
    let mut decoder = Decoder::new(frame::REQUEST_BYTES_MAX);
    while let Ok(Some(bytes)) = requests.read_chunk(READ_BYTES).await {
        decoder.feed(&bytes);
        loop {
            let request = match decoder.next() {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(error) => return Some(Bye::terminal(ByeCode::BadRequest, error.to_string())),
            };
            let Some(outcome) = answer_request(hub, feed, &request).await else { continue };
            match outcome {
                // One request at a time: a client that reads no answers gets nothing done.
                Ok(answer) => answers.write_all_chunks(&mut [frame::json(frame::ANSWER, &answer)]).await.ok()?,
                Err(bye) => return Some(bye),
            }
        }
    }
    answers.finish();
    None
}

/// What becomes of a request; none for a frame of a type that isn't known.
async fn answer_request(hub: &Hub, feed: &Feed, request: &Frame) -> Option<Result<Answer, Bye>> {
    let outcome = match request.kind {
        frame::SUBSCRIBE | frame::UNSUBSCRIBE => change(feed, request),
        frame::PUBLISH => publish(hub, &request.payload).await,
        frame::AUTH => Err(Refused::bad_request("malformed", "this hub has no tokens")),
        _ => return None,
    };
    let request_id = match request_id(&request.payload) {
        Ok(request_id) => request_id,
        Err(error) => {
            let reason = format!("a request without a readable request_id: {error}");
            return Some(Err(Bye::terminal(ByeCode::BadRequest, reason)));
        }
    };
    let outcome = match outcome {
        Ok(done) => Outcome::Ok(done),
        Err(refused) => Outcome::Error(refused.to_refusal()),
    };
    Some(Ok(Answer { request_id, outcome }))
}

fn change(feed: &Feed, request: &Frame) -> Result<Done, Refused> {
    let asked: Subscribe = serde_json::from_slice(&request.payload)
        .map_err(|error| Refused::bad_request("malformed", error.to_string()))?;
    if asked.matchers.len() > Matchers::COUNT_MAX {
        // Before any is looked at: comparing them takes the square of their number.
        return Err(Refused::bad_request("too_many_matchers", ChangeError::TooManyMatchers.to_string()));
    }
    let matchers = asked.matchers.iter().map(|text| {
        Matcher::exact(text).map_err(|error| Refused::bad_request("bad_matcher", format!("{text:?}: {error}")))
    });
    let matchers: Vec<Matcher> = matchers.collect::<Result<_, _>>()?;
    let add = request.kind == frame::SUBSCRIBE;
    let changed = feed.change(asked.request_id, |current: &mut Matchers| {
        for matcher in matchers {
            let _ = if add { current.insert(matcher) } else { current.remove(&matcher) };
        }
    });
    match changed {
        Ok(from_seq) => Ok(Done::Changed { from_seq: from_seq.0 }),
        Err(error @ ChangeError::TooManyMatchers) => Err(Refused::bad_request("too_many_matchers", error.to_string())),
        Err(error) => Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, "too_many_changes", error.to_string())),
    }
}

async fn publish(hub: &Hub, payload: &[u8]) -> Result<Done, Refused> {
    // Nothing is published for a request that couldn't be answered.
    if request_id(payload).is_err() {
        return Err(Refused::bad_request("malformed", "no request_id"));
    }
    let publication = publication_from_json(payload, hub.limits())?;
    let published = hub.publish_one("", publication).await?;
    Ok(Done::Published { id: published.id, cursor: published.cursor })
}

fn request_id(payload: &[u8]) -> Result<u64, serde_json::Error> {
    #[derive(Deserialize)]
    struct Numbered {
        request_id: u64,
    }
    // serde would take an array for the members in their order.
    if !payload.trim_ascii_start().starts_with(b"{") {
        return Err(serde::de::Error::custom("a request is an object"));
    }
    let Numbered { request_id } = serde_json::from_slice(payload)?;
    Ok(request_id)
}

/// A type of one byte, a length of up to four, and a seq of up to eight.
const EVENT_HEAD_BYTES_MAX: usize = 13;
const READ_BYTES: usize = 16 * 1024;
/// How long a client is left to close the session by itself once it has the bye.
const LAST_WORD: Duration = Duration::from_millis(500);
/// How long a client may take to have the end of its feed before the session is closed under it.
const DELIVERY: Duration = Duration::from_secs(2);
