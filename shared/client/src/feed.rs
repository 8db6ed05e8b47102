//! A feed that survives its connections.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    pin::Pin,
    time::Duration,
};

use fanwire_protocol::{
    Cursor, Delivery, HubUrl, LastEventId, Matcher, Seq,
    frame::Malformed,
    message::{Bye, Gap, Hello, Verdict},
};
use futures_util::future::BoxFuture;
use tokio::time::{Sleep, sleep};

use crate::{
    Choice, ConnectError, Connection, Control, ControlError, Item, Options, ReceiveError, Token, Transport,
    backoff::Backoff, chain::AHEAD_MAX, target::Place,
};

/// A feed that comes back after a cut with the cursor of the last item that it handed out: between what one connection brought and
/// what the next brings, no event is missing and none comes twice. Where the hub has lost events, it says so with a gap.
///
/// This is the only layer that retries: see [`crate::Retry`]. It ends with a bye that has no way back, and with what trying again
/// can't help: a refused request, and a certificate that isn't trusted, if the hub has never been reached before.
///
/// **Auto.** WebTransport is tried first. If it has failed, or [`Options::head_start`] has passed, SSE is tried as well, and the first
/// to say hello is used; the other is dropped. Each new connection is a new race: a client whose network blocks UDP loses the head
/// start each time, and one that got into a better network comes back to WebTransport with its next connection, not before.
pub struct Feed {
    choice: Choice,
    options: Options,
    cursor: Option<Cursor>,
    /// With [`Delivery::PerTopic`]: what was handed out above the cursor, by this connection or an earlier one.
    ahead: BTreeSet<Seq>,
    /// What is left of a gap, around what was handed out of it before it was lost.
    pieces: VecDeque<Gap>,
    /// The hub has said that the cursor means nothing to it. Until it has told the gap, the old cursor is kept: with the new one, a cut
    /// in between would make the loss a silent one.
    gap_due: bool,
    /// The hub has been reached.
    greeted: bool,
    backoff: Backoff,
    state: State,
}

/// What happens to a feed.
#[derive(Debug)]
pub enum Update {
    /// A connection says hello, which is the next item.
    Connected {
        /// The one that won.
        transport: Transport,
        /// See [`crate::Times::connect`].
        connect: Duration,
        /// See [`crate::Times::hello`]; for [`Choice::Auto`] counted from the start of this transport's own attempt.
        hello: Duration,
    },
    /// There is no connection, or none any more.
    Disconnected {
        /// Why not.
        error: FeedError,
        /// When the next attempt begins.
        retry_in: Duration,
    },
    /// The feed's next item.
    Item(Item),
}

enum State {
    Connecting(BoxFuture<'static, Result<(Connection, Item), ConnectError>>),
    Live {
        connection: Box<Connection>,
        first: Option<Item>,
    },
    /// A bye has been handed out.
    Dismissed(Bye),
    Waiting(Pin<Box<Sleep>>),
    Over,
}

impl Feed {
    /// A feed. Nothing happens before [`Feed::next`].
    pub fn new(choice: Choice, mut options: Options) -> Self {
        options.control = true;
        take_matchers(&mut options);
        let backoff = Backoff::new(options.retry);
        let state = State::Connecting(Box::pin(establish(choice, options.clone())));
        Self {
            choice,
            options,
            cursor: None,
            ahead: BTreeSet::new(),
            pieces: VecDeque::new(),
            gap_due: false,
            greeted: false,
            backoff,
            state,
        }
    }

    /// Waits for what happens next.
    ///
    /// Cancel-safe: nothing is lost by a `select!`, and an attempt to connect goes on with the next call.
    ///
    /// # Errors
    /// The feed has ended, and this is why; after that [`FeedError::Over`].
    pub async fn next(&mut self) -> Result<Update, FeedError> {
        if let State::Waiting(wait) = &mut self.state {
            wait.as_mut().await;
            self.state = self.connecting();
        }
        loop {
            if let Some(update) = self.next_connected().await? {
                return Ok(update);
            }
        }
    }

    /// Where the feed is, after the items that were handed out.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// The connection, if there is one.
    pub fn connection(&self) -> Option<&Connection> {
        match &self.state {
            State::Live { connection, .. } => Some(connection),
            _ => None,
        }
    }

    /// Requests to the hub; none but on WebTransport. What it does to the topics is forgotten with the connection: for that there are
    /// [`Feed::subscribe`] and [`Feed::unsubscribe`].
    pub fn control(&self) -> Option<Control> {
        self.connection()?.control()
    }

    /// Adds topics, for later connections too. Only on WebTransport.
    pub async fn subscribe(&mut self, matchers: &[Matcher]) -> Result<Seq, ControlError> {
        let from = self.control().ok_or(ControlError::Unsupported)?.subscribe(matchers).await?;
        for matcher in matchers {
            self.options.matchers.insert(matcher.clone());
        }
        Ok(from)
    }

    /// Takes topics out, for later connections too. Only on WebTransport.
    pub async fn unsubscribe(&mut self, matchers: &[Matcher]) -> Result<Seq, ControlError> {
        let from = self.control().ok_or(ControlError::Unsupported)?.unsubscribe(matchers).await?;
        for matcher in matchers {
            self.options.matchers.remove(matcher);
        }
        Ok(from)
    }

    /// Comes with another token from now on, and shows it to the hub at once where the connection can: on WebTransport. On SSE it is
    /// shown with the next connection, which the hub asks for when the old token expires.
    pub async fn renew(&mut self, token: Token) -> Result<(), ControlError> {
        self.options.token = Some(token.clone());
        match self.control() {
            Some(control) => control.authenticate(&token).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Ends the feed: see [`Connection::close`].
    pub async fn close(self) {
        if let State::Live { connection, .. } = self.state {
            connection.close().await;
        }
    }

    /// None for what comes again.
    async fn next_connected(&mut self) -> Result<Option<Update>, FeedError> {
        match &mut self.state {
            State::Connecting(attempt) => match attempt.await {
                Ok((connection, first)) => Ok(Some(self.connected(connection, first))),
                Err(error) => self.failed(FeedError::Connect(error)).map(Some),
            },
            State::Live { connection, first } => {
                if let Some(gap) = self.pieces.pop_front() {
                    return Ok(Some(Update::Item(Item::Gap(gap))));
                }
                let received = match first.take() {
                    Some(first) => Ok(first),
                    None => connection.next().await,
                };
                match received {
                    Ok(item) => self.took(item),
                    Err(error) => self.failed(FeedError::Receive(error)).map(Some),
                }
            }
            State::Dismissed(bye) => {
                let bye = FeedError::Bye(bye.clone());
                self.failed(bye).map(Some)
            }
            State::Waiting(_) | State::Over => Err(FeedError::Over),
        }
    }

    fn connected(&mut self, connection: Connection, first: Item) -> Update {
        let (transport, times) = (connection.transport(), connection.times());
        tracing::debug!(%transport, ?times, "a feed is connected");
        self.state = State::Live { connection: Box::new(connection), first: Some(first) };
        Update::Connected { transport, connect: times.connect, hello: times.hello.unwrap_or(times.connect) }
    }

    /// Takes note of an item and hands it out, unless it was before.
    fn took(&mut self, item: Item) -> Result<Option<Update>, FeedError> {
        match &item {
            Item::Hello(hello) => {
                if let Err(malformed) = self.check(hello) {
                    return self.failed(FeedError::Receive(malformed.into())).map(Some);
                }
                self.greeted = true;
                self.gap_due = matches!(hello.verdict, Verdict::NewEpoch | Verdict::UnknownCursor);
                if self.gap_due {
                    self.ahead.clear();
                }
            }
            Item::Bye(bye) => {
                self.state = State::Dismissed(bye.clone());
                return Ok(Some(Update::Item(item)));
            }
            Item::Changed(_) => {}
            // A connection that gets this far isn't one of those that fail at once.
            _ => {
                self.gap_due = false;
                self.backoff.reset();
            }
        }
        if !self.gap_due {
            self.cursor = self.connection().and_then(Connection::cursor).or(self.cursor);
        }
        if self.options.asked_delivery() == Delivery::PerTopic {
            return self.took_per_topic(item);
        }
        Ok(Some(Update::Item(item)))
    }

    /// The same where items may be ahead of the cursor, and so come again with another connection.
    fn took_per_topic(&mut self, item: Item) -> Result<Option<Update>, FeedError> {
        let reached = self.cursor.map_or(Seq::default(), |cursor| cursor.seq);
        let item = match item {
            Item::Event(event) if self.ahead.contains(&event.event.seq()) => None,
            Item::Event(event) => {
                let seq = event.event.seq();
                if seq > reached {
                    // A hub sends what is missing before it goes further than it was, so that this isn't reached twice.
                    if self.ahead.len() >= 2 * AHEAD_MAX {
                        return self.failed(FeedError::Receive(ReceiveError::Ahead { of: reached })).map(Some);
                    }
                    self.ahead.insert(seq);
                }
                Some(Item::Event(event))
            }
            Item::Gap(gap) => {
                self.pieces = pieces(gap, &self.ahead);
                self.pieces.pop_front().map(Item::Gap)
            }
            item => Some(item),
        };
        if self.ahead.first().is_some_and(|first| *first <= reached) {
            self.ahead = self.ahead.split_off(&Seq(reached.0 + 1));
        }
        Ok(item.map(Update::Item))
    }

    /// Whether the hub goes on where the client asked it to.
    fn check(&self, hello: &Hello) -> Result<(), Malformed> {
        let Some(asked) = self.cursor else { return Ok(()) };
        match hello.verdict {
            Verdict::NewEpoch | Verdict::UnknownCursor => Ok(()),
            Verdict::Resumed if hello.cursor.epoch == asked.epoch && hello.cursor.seq >= asked.seq => Ok(()),
            _ => Err(Malformed("it was asked to resume, and starts somewhere else")),
        }
    }

    fn failed(&mut self, error: FeedError) -> Result<Update, FeedError> {
        let asked = self.asked(&error);
        self.state = State::Over;
        if error.is_terminal(self.greeted) {
            return Err(error);
        }
        // Without entropy everybody waits for the longest.
        let random = getrandom::u64().unwrap_or(u64::MAX);
        let Some(retry_in) = self.backoff.fail(asked, random) else { return Err(error) };
        tracing::debug!(%error, ?retry_in, "a feed is disconnected");
        self.state = State::Waiting(Box::pin(sleep(retry_in)));
        Ok(Update::Disconnected { error, retry_in })
    }

    /// How long the hub wants to be left alone.
    fn asked(&self, error: &FeedError) -> Option<Duration> {
        match error {
            FeedError::Bye(bye) => bye.retry_ms.map(Duration::from_millis),
            FeedError::Connect(error) => error.retry_after(),
            // A `retry` of a stream is a publisher's or the hub's wish for every reconnection, and no reason to be away for long.
            _ => self.connection().and_then(Connection::retry).map(|retry| retry.min(self.options.retry.max)),
        }
    }

    fn connecting(&self) -> State {
        let mut options = self.options.clone();
        if let Some(cursor) = self.cursor {
            options.last_event_id = Some(LastEventId::Cursor(cursor));
            // It would win over the cursor.
            options.headers.remove("last-event-id");
        }
        State::Connecting(Box::pin(establish(self.choice, options)))
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Connecting(_) => "connecting",
            State::Live { .. } => "live",
            State::Dismissed(_) => "dismissed",
            State::Waiting(_) => "waiting",
            State::Over => "over",
        };
        let (choice, cursor) = (&self.choice, &self.cursor);
        f.debug_struct("Feed")
            .field("choice", choice)
            .field("cursor", cursor)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

/// Why a feed has no connection, or has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// An attempt to connect failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A connection broke.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The hub said bye.
    #[error("the hub said bye: {} ({})", .0.reason, .0.code)]
    Bye(Bye),
    /// The feed has ended before.
    #[error("the feed has ended")]
    Over,
}

impl FeedError {
    fn is_terminal(&self, greeted: bool) -> bool {
        match self {
            // A certificate may be renewed, and a hub configured anew.
            Self::Connect(ConnectError::Untrusted { .. } | ConnectError::NotOffered { .. }) => !greeted,
            Self::Connect(error) => error.is_terminal(),
            Self::Receive(error) => error.is_terminal(),
            Self::Bye(bye) => bye.retry_ms.is_none(),
            Self::Over => true,
        }
    }
}

/// A gap without what was handed out of it before.
fn pieces(gap: Gap, ahead: &BTreeSet<Seq>) -> VecDeque<Gap> {
    let Some(mut from) = gap.from.filter(|from| *from <= gap.to) else { return [gap].into() };
    let mut pieces = VecDeque::new();
    let had = ahead.range(Seq(from)..=Seq(gap.to)).map(|seq| seq.0);
    for next in had.chain([gap.to + 1]) {
        if from < next {
            pieces.push_back(Gap { from: Some(from), to: next - 1, ..gap });
        }
        from = next + 1;
    }
    pieces
}

/// A connection and its first word, which is hello, or bye where that is all the hub has to say.
type Established = Result<(Connection, Item), ConnectError>;

async fn establish(choice: Choice, options: Options) -> Established {
    match choice {
        Choice::Only(transport) => first_word(&options, Connection::connect(transport, &options)).await,
        Choice::Sse => first_word(&options, Connection::connect_sse(&options)).await,
        Choice::Auto => race(&options).await,
    }
}

async fn first_word(options: &Options, connect: impl Future<Output = Result<Connection, ConnectError>>) -> Established {
    let after = options.connect_timeout;
    let url = || options.url.to_string();
    let heard = async {
        let mut connection = connect.await?;
        let first = connection.next().await.map_err(|source| ConnectError::NoHello { url: url(), source })?;
        Ok((connection, first))
    };
    tokio::time::timeout(after, heard).await.unwrap_or_else(|_| {
        let place = Place::of(&options.url)?.to_string();
        Err(ConnectError::Timeout { place, after })
    })
}

/// See [`Feed`].
async fn race(options: &Options) -> Established {
    let mut webtransport = Box::pin(first_word(options, Connection::connect(Transport::WebTransport, options)));
    let early = tokio::time::timeout(options.head_start, &mut webtransport).await;
    if let Ok(established) = early {
        if says_hello(&established) {
            return established;
        }
        return better(established, first_word(options, Connection::connect_sse(options)).await);
    }
    let mut sse = Box::pin(first_word(options, Connection::connect_sse(options)));
    tokio::select! {
        established = &mut webtransport => {
            if says_hello(&established) { established } else { better(established, sse.await) }
        }
        established = &mut sse => {
            if says_hello(&established) {
                return established;
            }
            let webtransport = webtransport.await;
            if says_hello(&webtransport) { webtransport } else { better(webtransport, established) }
        }
    }
}

fn says_hello(established: &Established) -> bool {
    matches!(established, Ok((_, Item::Hello(_))))
}

/// What to make of a race in which WebTransport didn't say hello: SSE's answer is the more telling one.
fn better(webtransport: Established, sse: Established) -> Established {
    match (webtransport, sse) {
        (Err(webtransport), Err(sse)) => {
            Err(ConnectError::Both { sse: Box::new(sse), webtransport: Box::new(webtransport) })
        }
        (_, sse) => sse,
    }
}

/// Makes the matchers of the URL the options' own, so that they can be taken out later. One that can't be read stays: the hub says
/// what is wrong with it.
fn take_matchers(options: &mut Options) {
    let mut rest = Vec::new();
    for (name, value) in options.url.query_pairs() {
        let matcher = match &*name {
            "match" | "match_exact" | "topic" => Matcher::exact(&value).ok(),
            "match_urlpattern" => Matcher::pattern(&value, &HubUrl::default()).ok(),
            _ => None,
        };
        match matcher {
            Some(matcher) => {
                options.matchers.insert(matcher);
            }
            None => rest.push((name.into_owned(), value.into_owned())),
        }
    }
    options.url.set_query(None);
    if !rest.is_empty() {
        options.url.query_pairs_mut().extend_pairs(rest);
    }
}
