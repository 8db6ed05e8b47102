//! What the hub does for whoever asks, on whatever transport: publish, and open feeds. Limits and policy are decided here, once.

mod draft;
mod feed_request;
mod form;
mod meter;
mod patterns;
mod refused;
mod reserved;
mod seats;

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fanwire_protocol::{
    Cursor, Delivery, Draft, Epoch, EventId, HubUrl, LastEventId, Matcher, Matchers, Pattern, message::Verdict,
};

use http::StatusCode;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    admission::Source,
    auth::{Auth, Holder, Pass, random_u128},
    core::Subscription,
    log::{Appended, IdempotencyKey, SharedLog, Stamped},
    subscriptions::Subscriptions,
    telemetry::Metrics,
};

use meter::Meter;
use seats::{Bounds, Full, Seats};

pub use draft::{publication_from_form, publication_from_json};
pub(crate) use feed_request::insert;
pub use feed_request::{Asked, FeedRequest};
pub use form::form_pairs;
pub(crate) use patterns::COMPILED_A_TURN;
pub use patterns::Patterns;
pub use refused::Refused;
pub use seats::Seat;

/// The hub, above every transport and below none.
#[derive(Debug)]
pub struct Hub {
    log: SharedLog,
    limits: Limits,
    patterns: Patterns,
    meter: Meter,
    metrics: Arc<Metrics>,
    /// Who is subscribed, where that is told.
    subscriptions: Option<Arc<Subscriptions>>,
    seats: Arc<Seats>,
    /// Bytes of bodies that may still come.
    bodies: Semaphore,
    draining: AtomicBool,
}

/// What the hub takes and gives.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What it takes of a publisher.
    pub event: fanwire_protocol::Limits,
    /// The most feeds that are open at a time. Each costs some 4 KiB on HTTP/1.1 and some 60 KiB on QUIC.
    pub subscribers_max: usize,
    /// The most of them that one client has: the subject of a token, or an address for those who show none. Behind a proxy everybody has the
    /// proxy's.
    pub subscribers_per_client_max: usize,
    /// The most different URL patterns and URI templates that one client has in use at a time, known in the same way.
    pub patterns_per_client_max: usize,
    /// The most subscriptions of one client that are told of, where any are.
    pub subscriptions_per_client_max: usize,
    /// The most different URL patterns and URI templates that are in use at a time. Each event is compared with each, on each shard:
    /// some 50 ns, or up to 200 µs where both pattern and topic were made to take long. Each costs from 1 KiB to some 100 KiB.
    pub patterns_max: usize,
    /// The largest form in the body of a `QUERY`, in bytes.
    pub query_bytes_max: usize,
    /// From one heartbeat of a feed to the next, where its client doesn't say.
    pub heartbeat_default: Duration,
    /// The shortest heartbeat that a client may ask for.
    pub heartbeat_min: Duration,
    /// The longest heartbeat that a client may ask for.
    pub heartbeat_max: Duration,
    /// How long a client is asked to wait before it comes back.
    pub retry: Duration,
    /// The most bytes of publish requests' bodies that are under way at a time, all together.
    pub bodies_bytes_max: usize,
    /// How many events a second one publisher may publish, by the subject of its token, or by its address where it shows none; 0: any number.
    pub publish_rate_max: u32,
    /// How long a body may take to arrive.
    pub body_time_max: Duration,
    /// The largest body of a publish request with one event, in bytes: a form may take three bytes for one.
    pub body_bytes_max: usize,
    /// The largest body of a batch, in bytes.
    pub batch_bytes_max: usize,
    /// The most lines of a batch.
    pub batch_lines_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let event = fanwire_protocol::Limits::default();
        Self {
            event,
            subscribers_max: 100_000,
            subscribers_per_client_max: 20_000,
            patterns_per_client_max: patterns::COUNT_MAX / 5,
            subscriptions_per_client_max: 50_000,
            patterns_max: patterns::COUNT_MAX,
            query_bytes_max: 3 * Matchers::COUNT_MAX * (Pattern::BYTES_MAX + 32),
            heartbeat_default: Duration::from_secs(15),
            heartbeat_min: Duration::from_secs(1),
            heartbeat_max: Duration::from_secs(120),
            retry: Duration::from_secs(2),
            bodies_bytes_max: 256 * 1024 * 1024,
            publish_rate_max: 50_000,
            body_time_max: Duration::from_secs(30),
            body_bytes_max: 3 * event.data_bytes_max + 64 * 1024,
            batch_bytes_max: 8 * 1024 * 1024,
            batch_lines_max: 10_000,
        }
    }
}

/// A feed that was granted and is to be opened on the shard of its connection.
#[derive(Debug, Clone)]
pub struct Grant {
    /// What to open.
    pub subscription: Subscription,
    /// How its events come over WebTransport.
    pub delivery: Delivery,
    /// The id that the feed starts after, as `Mercure-Last-Event-ID` tells it.
    pub preceding_id: String,
    /// The position that the feed starts after.
    pub cursor: Cursor,
    /// Whom it is for.
    pub holder: Holder,
    seat: Arc<Seat>,
}

/// An event that is to be published.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The event.
    pub draft: Draft,
    /// What the publisher names this publication by, so that trying it again makes no second event. None: each time is another.
    pub key: Option<PublicationKey>,
}

/// The name of a publication among those of its publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicationKey {
    /// The publisher's text, of at most [`PublicationKey::BYTES_MAX`].
    pub text: String,
    /// Which event of a batch whose request has one key.
    pub line: Option<u64>,
}

/// An event that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The publisher's id.
    pub id: Option<EventId>,
    /// The event's position.
    pub cursor: Cursor,
    /// It had been published before, under the same key.
    pub repeated: bool,
}

impl Published {
    /// What it is known by: the publisher's id, or else the cursor.
    pub fn id_text(&self) -> Cow<'_, str> {
        self.id.as_ref().map_or_else(|| self.cursor.to_string().into(), |id| id.as_str().into())
    }
}

impl Grant {
    /// What to open, whom it is for, and what is to be kept for as long as it is open. The rest is for the answer only.
    pub fn into_feed(self) -> (Subscription, Holder, Arc<Seat>) {
        (self.subscription, self.holder, self.seat)
    }
}

impl Hub {
    /// A hub on a log. Relative topics and patterns are resolved against `url`.
    pub fn new(log: SharedLog, limits: Limits, url: HubUrl, metrics: Arc<Metrics>) -> Self {
        let bodies = Semaphore::new(limits.bodies_bytes_max);
        let patterns = Patterns::new(url, limits.patterns_max);
        let seats = Seats::new(Bounds {
            all_max: limits.subscribers_max,
            of_one_max: limits.subscribers_per_client_max,
            patterns_of_one_max: limits.patterns_per_client_max,
            subscriptions_of_one_max: limits.subscriptions_per_client_max,
        });
        // A batch that is as long as it may be can be published at once, however low the rate.
        let burst = limits.publish_rate_max.max(limits.batch_lines_max.try_into().unwrap_or(u32::MAX));
        let meter = Meter::new(limits.publish_rate_max, burst, Instant::now());
        Self {
            log,
            limits,
            patterns,
            meter,
            metrics,
            subscriptions: None,
            seats: Arc::new(seats),
            bodies,
            draining: AtomicBool::new(false),
        }
    }

    /// The same, and it tells who is subscribed.
    pub fn telling(self, subscriptions: Option<Arc<Subscriptions>>) -> Self {
        Self { subscriptions, ..self }
    }

    /// Who is subscribed, where that is told.
    pub fn subscriptions(&self) -> Option<&Arc<Subscriptions>> {
        self.subscriptions.as_ref()
    }

    /// Whether so many matchers more of a client's may be told of; where any are, they are its from now on.
    fn add_subscriptions(&self, seat: &Seat, more: usize) -> Result<(), Refused> {
        let Some(subscriptions) = &self.subscriptions else { return Ok(()) };
        if !subscriptions.has_room(more) {
            return Err(Refused::too_many_subscriptions());
        }
        seat.add_subscriptions(more).map_err(|_| Refused::too_many_subscriptions_of_one_client())
    }

    /// The newest committed position.
    pub fn head(&self) -> Cursor {
        self.log.head()
    }

    /// What the hub takes and gives.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The patterns of its feeds.
    pub fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The name of the log.
    pub fn epoch(&self) -> Epoch {
        self.log.epoch()
    }

    /// How many feeds are open.
    pub fn subscribers(&self) -> usize {
        self.seats.count()
    }

    /// Room for some bytes of a request's body, for as long as they are held.
    pub fn hold_body(&self, bytes: usize) -> Result<SemaphorePermit<'_>, Refused> {
        let room = u32::try_from(bytes).ok().and_then(|bytes| self.bodies.try_acquire_many(bytes).ok());
        room.ok_or_else(Refused::too_busy)
    }

    /// Whether there is room for a body that is there already.
    pub fn check_body(&self, bytes: usize) -> Result<(), Refused> {
        if self.bodies.available_permits() >= bytes { Ok(()) } else { Err(Refused::too_busy()) }
    }

    /// Lets whoever has this pass and comes from this address publish so many events, unless that is more than one publisher may in this
    /// time.
    pub fn meter(&self, pass: &Pass, from: Source, events: usize) -> Result<(), Refused> {
        if !self.meter.is_on() {
            return Ok(());
        }
        let taken = self.meter.take(&name_of_client(pass, from), events, Instant::now());
        taken.map_err(|after| Refused::rate_limited(self.limits.publish_rate_max, after))
    }

    /// From now on nobody new gets in.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the hub is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Commits an event of `publisher`'s, a name that keeps publishers' keys apart: empty for whoever has none.
    pub async fn publish_one(&self, publisher: &str, publication: Publication) -> Result<Published, Refused> {
        let lost = || {
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the log took an event and told nothing of it")
        };
        self.check_open()?;
        let (receipt, event) = receive(publisher, publication, now_ms());
        let appended = self.append(vec![event]).await?.pop().ok_or_else(lost)?;
        let mut new = New::default();
        let answer = receipt.answer(appended, &mut new);
        self.metrics.published(new.events, new.bytes);
        answer
    }

    /// Commits events, in order: all that are new, or none. One whose key was given to another event is refused alone.
    pub async fn publish(
        &self,
        publisher: &str,
        publications: Vec<Publication>,
    ) -> Result<Vec<Result<Published, Refused>>, Refused> {
        self.check_open()?;
        let at_ms = now_ms();
        let received = publications.into_iter().map(|publication| receive(publisher, publication, at_ms));
        let (receipts, events): (Vec<_>, Vec<_>) = received.unzip();
        let appended = self.append(events).await?;
        let mut new = New::default();
        let answers = receipts.into_iter().zip(appended).map(|(receipt, appended)| receipt.answer(appended, &mut new));
        let answers = answers.collect();
        self.metrics.published(new.events, new.bytes);
        Ok(answers)
    }

    fn check_open(&self) -> Result<(), Refused> {
        // What is published now might reach nobody before the process ends: the publisher tries again elsewhere.
        if self.is_draining() { Err(Refused::draining()) } else { Ok(()) }
    }

    async fn append(&self, events: Vec<Stamped>) -> Result<Vec<Appended>, Refused> {
        self.log.append(events).await.map_err(|error| Refused::log_unavailable(&error))
    }

    /// A seat for whoever has this pass and comes from this address, if it may subscribe at all, and there is one.
    pub fn seat(&self, pass: &Pass, from: Source) -> Result<Seat, Refused> {
        if self.is_draining() {
            return Err(Refused::draining());
        }
        pass.check_subscribe()?;
        self.seats.take(&name_of_client(pass, from)).map_err(|full| match full {
            Full::All => Refused::too_many_subscribers(),
            Full::OfOne => Refused::too_many_of_one_client(),
        })
    }

    /// Changes what is wanted at a seat: `texts` are of patterns, which come on top of `matchers`. What becomes of all of them is up to `change`,
    /// which gives what is wanted then. Where it fails, all is as it was.
    pub async fn change<T>(
        &self,
        seat: &Seat,
        (mut matchers, texts): (Vec<Matcher>, &[String]),
        add: bool,
        change: impl FnOnce(Vec<Matcher>) -> Result<(T, Matchers), Refused>,
    ) -> Result<T, Refused> {
        let before = seat.now();
        let changed = async {
            matchers.extend(self.patterns.matchers(texts, seat).await?);
            if add {
                self.add_subscriptions(seat, matchers.len())?;
            }
            change(matchers)
        };
        match changed.await {
            Ok((done, now)) => {
                seat.keep(&now);
                Ok(done)
            }
            Err(refused) => {
                seat.back_to(before);
                Err(refused)
            }
        }
    }

    /// Grants a feed to whoever has this pass and this seat, or says why not.
    pub async fn subscribe(&self, request: FeedRequest, auth: &Auth, pass: Pass, seat: Seat) -> Result<Grant, Refused> {
        self.add_subscriptions(&seat, request.matchers.as_slice().len())?;
        let FeedRequest { matchers, last_event_id, replay, heartbeat, control: _, delivery } = request;
        let rights = pass.feed_rights();
        let start = self.log.resolve(last_event_id.as_ref(), replay, &matchers, &rights).await;
        let start = start.map_err(|error| Refused::log_unavailable(&error))?;
        let cursor = Cursor { epoch: self.log.epoch(), seq: start.after };
        let preceding_id = match (start.verdict, &last_event_id) {
            (Verdict::Live | Verdict::Latest, _) => cursor.to_string(),
            // The event may have been evicted, or the ones after it.
            (Verdict::Resumed, Some(LastEventId::Publisher(id))) if start.complete => id.as_str().to_owned(),
            (Verdict::Resumed, _) if start.complete && cursor.seq.0 > 0 => cursor.to_string(),
            _ => "earliest".to_owned(),
        };
        let heartbeat_ms = heartbeat.unwrap_or(self.limits.heartbeat_default).as_millis() as u64;
        let lease = auth.lease(&pass, now_ms());
        let newest_above = (delivery == Delivery::Datagram).then(|| self.log.head().seq);
        let subscription = Subscription { matchers, rights, start, heartbeat_ms, lease, newest_above };
        Ok(Grant {
            subscription,
            delivery,
            preceding_id,
            cursor,
            holder: Holder { id: feed_name(random_u128()), pass: Arc::new(pass) },
            seat: Arc::new(seat),
        })
    }
}

/// What is kept of a publication for its answer.
struct Receipt {
    id: Option<EventId>,
    bytes: usize,
}

/// What was committed, and hadn't been before.
#[derive(Default)]
struct New {
    events: usize,
    bytes: usize,
}

fn receive(publisher: &str, publication: Publication, at_ms: u64) -> (Receipt, Stamped) {
    let Publication { draft, key } = publication;
    let receipt = Receipt { id: draft.id.clone(), bytes: draft.data.bytes().len() };
    let key = key.map(|key| IdempotencyKey::new(publisher, &key.text, key.line, &draft));
    (receipt, Stamped { draft, at_ms, key })
}

impl Receipt {
    fn answer(self, appended: Appended, new: &mut New) -> Result<Published, Refused> {
        let (cursor, repeated) = match appended {
            Appended::New(cursor) => (cursor, false),
            Appended::Repeated(cursor) => (cursor, true),
            Appended::KeyReused => return Err(Refused::key_reused()),
        };
        if !repeated {
            new.events += 1;
            new.bytes += self.bytes;
        }
        Ok(Published { id: self.id, cursor, repeated })
    }
}

/// A client is known by its token's issuer and subject, or where there is none by where it comes from: tokens of Mercure 0.x needn't have one.
/// No name of [`Pass::publisher`] begins so.
fn name_of_client(pass: &Pass, from: Source) -> String {
    let has_subject = pass.identity.as_ref().is_some_and(|identity| identity.subject.is_some());
    if has_subject { pass.publisher() } else { format!("@{from}") }
}

/// A random name as a UUID of version 4. [RFC 9562 §5.4]
fn feed_name(random: u128) -> u128 {
    random & !(0xf << 76 | 0b11 << 62) | 4 << 76 | 0b10 << 62
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
