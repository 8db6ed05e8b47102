//! A feed in a WebTransport session: a stream of frames out, or several, and one control stream in.

mod datagrams;
mod lanes;
mod linked;
mod ordered;

use std::{cell::RefCell, future::poll_fn, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use fanwire_protocol::{
    Delivery, Matcher, Matchers, Seq,
    frame::{self, Decoder, Frame},
    message::{Answer, Auth, Bye, ByeCode, Done, Outcome, Subscribe},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;

use datagrams::Datagrams;
use lanes::Lanes;
use ordered::Ordered;

use super::quic::{Close, RecvStream, SendStream, Session, SessionOffer, WriteError};
use crate::{
    admission::Source,
    auth::{Denied, Pass, Shown},
    core::ChangeError,
    fanout::{Feed, LocalShard, Newcomer, Outlet},
    http::{AuthMode, Edge, is_events_path, page_origin},
    hub::{Asked, FeedRequest, Grant, Refused, Seat, now_ms, publication_from_json},
    telemetry::{Limit, Transport},
};

/// Serves a session, from its CONNECT to its end.
pub(super) fn serve(
    (shard, newcomer): (Rc<LocalShard>, Newcomer),
    edge: Arc<Edge>,
    peer: SocketAddr,
    offer: SessionOffer,
) -> impl Future<Output = ()> + 'static {
    // Boxed, like all steps that are soon past or that few sessions take: a session's memory is that of its largest step otherwise, and
    // what comes from one step to the next has it twice.
    let opening = newcomer.clone().gate(Box::pin(open(edge.clone(), peer, offer)));
    async move {
        let opened = opening.await;
        newcomer.settle();
        drop(newcomer);
        let Some((session, begun)) = opened else { return };
        let bye = match begun {
            Ok(granted) => Box::pin(serve_feed(&shard, (&edge, peer), &session, granted)).await,
            Err(bye) => {
                Box::pin(say_bye(&session, &bye)).await;
                Some(bye)
            }
        };
        if let Some(bye) = bye {
            Box::pin(end(&session, bye)).await;
        }
    }
}

/// What a session begins with: its feed, and the control stream if there is one yet.
struct Granted {
    grant: Grant,
    control: Option<Box<Control>>,
}

/// Accepts a session and grants it its feed, or says why not. None if there is no session to go on with.
async fn open(edge: Arc<Edge>, peer: SocketAddr, offer: SessionOffer) -> Option<(Session, Result<Box<Granted>, Bye>)> {
    let request = offer.request();
    if !is_events_path(request.uri().path()) {
        offer.refuse(StatusCode::NOT_FOUND).await;
        return None;
    }
    if let Err(refused) = edge.access.load().check(request.uri(), request.headers()) {
        tracing::debug!(%peer, code = refused.code, "session refused");
        edge.hub.metrics().refused(refused.code);
        offer.refuse(refused.status).await;
        return None;
    }
    let (uri, headers) = (request.uri().clone(), request.headers().clone());
    let session = match offer.accept(None).await {
        Ok(session) => session,
        Err(error) => {
            tracing::debug!(%peer, %error, "session not opened");
            return None;
        }
    };
    let begun = begin((&edge, peer), &session, &uri, &headers).await.transpose()?;
    Some((session, begun))
}

/// Closes a session whose feed has ended with this bye.
async fn end(session: &Session, bye: Bye) {
    // That a browser has the bye doesn't mean that its page has read it, and the close throws away what wasn't.
    let _ = tokio::time::timeout(LAST_WORD, session.closed()).await;
    session.close(Close::new(bye.code, &bye.reason)).await;
}

/// The stream of the client's requests.
struct Control {
    answers: SendStream,
    requests: RecvStream,
    decoder: Decoder,
}

/// Grants the feed that the session asks for; with `auth=inband` only to whoever shows a token on the control stream, which is returned.
/// None if the session has ended.
async fn begin(
    (edge, peer): (&Edge, SocketAddr),
    session: &Session,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Option<Box<Granted>>, Bye> {
    let refused = |refused| to_bye(edge, &refused);
    let in_band = AuthMode::of(uri).map_err(refused)? == AuthMode::InBand;
    let pass = if in_band { None } else { Some(edge.admit(&Method::CONNECT, uri, headers).await.map_err(refused)?) };
    let Some(pass) = pass else {
        let shown = tokio::time::timeout(AUTH_TIME_MAX, begin_in_band((edge, peer), session, uri, headers)).await;
        return shown.unwrap_or_else(|_| {
            edge.hub.metrics().refused("no_token");
            Err(unauthorized(format!("no AUTH came within {} s", AUTH_TIME_MAX.as_secs())))
        });
    };
    let grant = grant((edge, peer), pass, uri, headers).await.map_err(refused)?;
    Ok(Some(Box::new(Granted { grant, control: None })))
}

/// Grants a feed to whoever has this pass.
async fn grant(
    (edge, peer): (&Edge, SocketAddr),
    pass: Pass,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Grant, Refused> {
    let last_event_id = headers.get("last-event-id").map(HeaderValue::as_bytes);
    let asked = Asked { query: uri.query().unwrap_or_default(), form: b"", last_event_id };
    let seat = edge.hub.seat(&pass, peer.ip().into())?;
    let request = FeedRequest::parse(asked, edge.hub.patterns(), edge.hub.limits(), &seat).await?;
    edge.hub.subscribe(request, &edge.auth, pass, seat).await
}

/// What is asked for is looked at once it is known who asks.
async fn begin_in_band(
    (edge, peer): (&Edge, SocketAddr),
    session: &Session,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Option<Box<Granted>>, Bye> {
    let Some((answers, requests)) = session.accept_bi().await else { return Ok(None) };
    let mut control = Box::new(Control::new(answers, requests));
    let auth = loop {
        match control.request().await? {
            None => return Err(unauthorized("the control stream ended before an AUTH came")),
            Some(frame) if frame.kind == frame::AUTH => break frame,
            Some(frame) if matches!(frame.kind, frame::SUBSCRIBE | frame::UNSUBSCRIBE | frame::PUBLISH) => {
                return Err(unauthorized("with auth=inband the first request is AUTH"));
            }
            Some(_) => {}
        }
    };
    let Auth { request_id, token } = parse_auth(&auth.payload)?;
    let granted = async {
        let mut pass = edge.auth.admit(Shown::Token(&token), now_ms()).await?;
        pass.origin = page_origin(uri, headers);
        grant((edge, peer), pass, uri, headers).await
    };
    let granted = granted.await;
    let outcome = match &granted {
        Ok(grant) => Outcome::Ok(authorized(&grant.holder.pass, grant.cursor.seq)),
        Err(refused) => Outcome::Error(refused.to_refusal()),
    };
    if !control.answer(&Answer { request_id, outcome }).await {
        return Ok(None);
    }
    let granted = granted.map(|grant| Some(Box::new(Granted { grant, control: Some(control) })));
    granted.map_err(|refused| to_bye(edge, &refused))
}

fn to_bye(edge: &Edge, refused: &Refused) -> Bye {
    edge.hub.metrics().refused(refused.code);
    refused.to_bye()
}

impl Control {
    fn new(answers: SendStream, requests: RecvStream) -> Self {
        Self { answers, requests, decoder: Decoder::new(frame::REQUEST_BYTES_MAX) }
    }

    /// The next request; none at the stream's end.
    async fn request(&mut self) -> Result<Option<Frame>, Bye> {
        loop {
            match self.decoder.next() {
                Ok(Some(request)) => return Ok(Some(request)),
                Ok(None) => {}
                Err(error) => return Err(Bye::terminal(ByeCode::BadRequest, error.to_string())),
            }
            match self.requests.read_chunk(READ_BYTES).await {
                Ok(Some(bytes)) => self.decoder.feed(&bytes),
                _ => return Ok(None),
            }
        }
    }

    /// False if the client takes no answers.
    async fn answer(&mut self, answer: &Answer) -> bool {
        self.answers.write_all_chunks(&mut [frame::json(frame::ANSWER, answer)]).await.is_ok()
    }
}

/// Runs a feed until it, or the session, ends. Returns the bye that was said, or is still to be told by the close alone.
///
/// The feed begins before the future: what a future is given it keeps for as long as it lasts, a box with nothing in it, too.
fn serve_feed<'a>(
    shard: &Rc<LocalShard>,
    (edge, peer): (&'a Edge, SocketAddr),
    session: &'a Session,
    granted: Box<Granted>,
) -> impl Future<Output = Option<Bye>> + use<'a> {
    let Granted { grant, control } = *granted;
    let (delivery, start) = (grant.delivery, grant.cursor.seq);
    let (subscription, holder, seat) = grant.into_feed();
    let pass = RefCell::new(holder.pass.clone());
    let feed = Rc::new(shard.open(subscription, holder, Transport::WebTransport));
    let client = Client { edge, from: peer.ip().into(), feed, seat, pass };
    async move { follow(&client, session, (delivery, start), control).await }
}

/// Serves a session whose feed is open.
async fn follow(
    client: &Client<'_>,
    session: &Session,
    (delivery, start): (Delivery, Seq),
    control: Option<Box<Control>>,
) -> Option<Bye> {
    let Client { edge, feed, .. } = client;
    let feed_stream = async {
        let stream = Box::pin(session.open_uni()).await.ok()?;
        match delivery {
            Delivery::Ordered => {
                let outlet = Outlet::new(Ordered::new(feed.clone(), stream));
                let bye = poll_fn(|cx| outlet.poll(cx, Ordered::poll)).await?;
                Box::pin(end_streams(outlet.into_connection().map(Ordered::into_stream))).await;
                Some(bye)
            }
            Delivery::PerTopic => {
                let mut lanes = Box::new(Lanes::new(session, stream, start));
                let bye = Box::pin(lanes.write_feed(feed)).await?;
                Box::pin(end_streams(lanes.into_streams())).await;
                Some(bye)
            }
            Delivery::Datagram => {
                let outlet = Outlet::new(Datagrams::new(feed.clone(), session, stream, start));
                let bye = poll_fn(|cx| outlet.poll(cx, Datagrams::poll)).await?;
                Box::pin(end_streams(outlet.into_connection().map(Datagrams::into_stream))).await;
                Some(bye)
            }
        }
    };
    tokio::select! {
        _ = session.closed() => None,
        bye = feed_stream => bye,
        // Whatever the feed's stream waits for: to be opened, or to be read.
        () = poll_fn(|cx| feed.poll_cut(cx)) => {
            Some(Bye::retry(ByeCode::Stalled, "nothing was read for too long", edge.hub.limits().retry.as_millis() as u64))
        }
        bye = serve_client_streams(client, session, control) => bye,
    }
}

/// What a feed ends with whose stream takes nothing more: a bye if the client has stopped it, and nothing where the session is gone.
fn bye_after(error: WriteError) -> Option<Bye> {
    matches!(error, WriteError::Stopped(_)).then(|| Bye::terminal(ByeCode::Closed, "the feed was stopped"))
}

/// Ends the session of a feed that was refused. A client that takes no stream is told by the close alone.
async fn say_bye(session: &Session, bye: &Bye) {
    let said = tokio::time::timeout(DELIVERY, async {
        let mut stream = session.open_uni().await.ok()?;
        stream.write_all_chunks(&mut [frame::json(frame::BYE, bye)]).await.ok()?;
        Some(stream)
    });
    if let Ok(Some(stream)) = said.await {
        end_streams([stream]).await;
    }
}

/// Finishes streams, and gives the client a moment to have them: browsers throw away what they haven't read when the session closes.
async fn end_streams(streams: impl IntoIterator<Item = SendStream>) {
    let mut streams: Vec<SendStream> = streams.into_iter().collect();
    streams.iter_mut().for_each(SendStream::finish);
    let delivered = async {
        for stream in &streams {
            stream.stopped().await;
        }
    };
    let _ = tokio::time::timeout(DELIVERY, delivered).await;
}

/// Serves the control stream, and refuses other streams, for as long as the session lives. If the client breaks the rules its feed is
/// ended, and the bye returned if the feed's stream hasn't got to it in a while: then the close alone tells it.
async fn serve_client_streams(client: &Client<'_>, session: &Session, control: Option<Box<Control>>) -> Option<Bye> {
    let control = async {
        let control = match control {
            Some(control) => control,
            None => {
                let (answers, requests) = session.accept_bi().await?;
                Box::new(Control::new(answers, requests))
            }
        };
        Box::pin(serve_control(client, session, control)).await
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

/// Answers the requests of the control stream, and refuses further streams like it, for as long as the session lives.
async fn serve_control(client: &Client<'_>, session: &Session, mut control: Box<Control>) -> Option<Bye> {
    let more = async {
        while let Some((send, recv)) = session.accept_bi().await {
            send.reset(0);
            recv.stop(0);
        }
    };
    let serve = async {
        match client.answer_requests(&mut control).await {
            Some(bye) => {
                client.edge.hub.metrics().reached(Limit::Frames);
                client.feed.end(bye.clone());
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
}

/// Whom a session is for.
struct Client<'a> {
    edge: &'a Edge,
    from: Source,
    feed: Rc<Feed>,
    seat: Arc<Seat>,
    /// What it has shown last.
    pass: RefCell<Arc<Pass>>,
}

impl Client<'_> {
    /// One request at a time: a client that reads no answers gets nothing done. None once the client has ended its requests in order.
    async fn answer_requests(&self, control: &mut Control) -> Option<Bye> {
        loop {
            let request = match control.request().await {
                Ok(Some(request)) => request,
                Ok(None) => {
                    control.answers.finish();
                    return None;
                }
                Err(bye) => return Some(bye),
            };
            let answer = match Box::pin(self.answer_request(&request)).await {
                None => continue,
                Some(Ok(answer)) => answer,
                Some(Err(bye)) => return Some(bye),
            };
            if !control.answer(&answer).await {
                return None;
            }
        }
    }

    /// What becomes of a request; none for a frame of a type that isn't known.
    async fn answer_request(&self, request: &Frame) -> Option<Result<Answer, Bye>> {
        let outcome = match request.kind {
            frame::SUBSCRIBE | frame::UNSUBSCRIBE => self.change(request).await,
            frame::PUBLISH => self.publish(&request.payload).await,
            frame::AUTH => self.renew(&request.payload).await,
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
            Err(refused) => {
                self.edge.hub.metrics().refused(refused.code);
                Outcome::Error(refused.to_refusal())
            }
        };
        Some(Ok(Answer { request_id, outcome }))
    }

    async fn change(&self, request: &Frame) -> Result<Done, Refused> {
        let Subscribe { request_id, matchers, patterns } = serde_json::from_slice(&request.payload)
            .map_err(|error| Refused::bad_request("malformed", error.to_string()))?;
        if matchers.len() + patterns.len() > Matchers::COUNT_MAX {
            // Before any is looked at: comparing them takes the square of their number.
            return Err(Refused::bad_request("too_many_matchers", ChangeError::TooManyMatchers.to_string()));
        }
        let matchers = matchers.iter().map(|text| {
            Matcher::exact(text).map_err(|error| Refused::bad_request("bad_matcher", format!("{text:?}: {error}")))
        });
        let matchers = matchers.collect::<Result<_, _>>()?;
        let add = request.kind == frame::SUBSCRIBE;
        let change = |matchers: Vec<Matcher>| {
            let mut now = Matchers::default();
            let changed = self.feed.change(request_id, |current| {
                for matcher in matchers {
                    let _ = if add { current.insert(matcher) } else { current.remove(&matcher) };
                }
                now = current.clone();
            });
            let from_seq = changed.map_err(change_refused)?;
            Ok((Done::Changed { from_seq: from_seq.0 }, now))
        };
        self.edge.hub.change(&self.seat, (matchers, &patterns), add, change).await
    }

    async fn publish(&self, payload: &[u8]) -> Result<Done, Refused> {
        // Nothing is published for a request that couldn't be answered.
        if request_id(payload).is_err() {
            return Err(Refused::bad_request("malformed", "no request_id"));
        }
        let pass = self.pass.borrow().clone();
        if self.feed.is_over() {
            // With what let it in.
            return Err(Denied::InvalidToken.into());
        }
        pass.check_publisher()?;
        self.edge.hub.meter(&pass, self.from, 1)?;
        let publication = publication_from_json(payload, self.edge.hub.limits())?;
        pass.check_publish(publication.draft.topics())?;
        let published = self.edge.hub.publish_one(&pass.publisher(), publication).await?;
        Ok(Done::Published { id: published.id_text().into_owned(), cursor: published.cursor })
    }

    /// Goes on with another token. If that one isn't good, nothing changes.
    async fn renew(&self, payload: &[u8]) -> Result<Done, Refused> {
        let Auth { request_id, token } =
            parse_auth(payload).map_err(|bye| Refused::bad_request("malformed", bye.reason))?;
        let now_ms = now_ms();
        let mut pass = self.edge.auth.admit(Shown::Token(&token), now_ms).await?;
        let before = self.pass.borrow().clone();
        if let (Some(before), Some(now)) = (&before.identity, &pass.identity)
            && !before.is_same_subject(now)
        {
            let message = "the token is of another subject: that one needs a feed of its own";
            return Err(Refused::new(StatusCode::FORBIDDEN, "other_subject", message));
        }
        pass.origin = before.origin.clone();
        let lease = self.edge.auth.lease(&pass, now_ms);
        let pass = Arc::new(pass);
        let from_seq = self.feed.authorize(request_id, pass.clone(), lease).map_err(change_refused)?;
        *self.pass.borrow_mut() = pass.clone();
        Ok(authorized(&pass, from_seq))
    }
}

fn authorized(pass: &Pass, from: Seq) -> Done {
    match pass.identity.as_ref().and_then(|identity| identity.expires_at_ms) {
        Some(expires_at_ms) => Done::Authorized { from_seq: from.0, expires_at_ms },
        None => Done::Changed { from_seq: from.0 },
    }
}

/// Reads an `AUTH`. A session whose client can't write one ends.
fn parse_auth(payload: &[u8]) -> Result<Auth, Bye> {
    let malformed = |error: serde_json::Error| {
        // Without what was found there, which may be a piece of a token.
        let reason = format!("an AUTH is an object with a request_id and a token (line {})", error.line());
        Bye::terminal(ByeCode::BadRequest, reason)
    };
    request_id(payload).map_err(malformed)?;
    serde_json::from_slice(payload).map_err(malformed)
}

fn unauthorized(reason: impl Into<String>) -> Bye {
    Bye::terminal(ByeCode::Unauthorized, reason)
}

fn change_refused(error: ChangeError) -> Refused {
    match error {
        ChangeError::TooManyMatchers => Refused::bad_request("too_many_matchers", error.to_string()),
        error => Refused::new(StatusCode::TOO_MANY_REQUESTS, "too_many_changes", error.to_string()),
    }
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

const READ_BYTES: usize = 16 * 1024;
/// How long a client may take to show its token, where nothing is delivered before.
const AUTH_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a client is left to close the session by itself once it has the bye.
const LAST_WORD: Duration = Duration::from_millis(500);
/// How long a client may take to have the end of its feed before the session is closed under it.
const DELIVERY: Duration = Duration::from_secs(2);
