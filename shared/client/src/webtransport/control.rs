//! Requests to the hub on the control stream. [PROTOCOL §5.4]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fanwire_protocol::{
    Matcher, Seq,
    frame::{self, Decoder},
    message::{Answer, Auth, Done, Outcome, Refusal, Subscribe},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;
use web_transport_quinn::{RecvStream, SendStream, Session};

use crate::{Publication, Published, Token};

/// The control stream of a WebTransport session: any number of requests at a time. Clones are the same stream.
///
/// It works as long as its connection does, also while nobody reads the feed.
#[derive(Debug, Clone)]
pub struct Control(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    session: Session,
    timeout: Duration,
    next_id: AtomicU64,
    pending: Arc<Pending>,
    /// None until the first request.
    running: OnceLock<Running>,
}

#[derive(Debug)]
struct Running {
    frames: mpsc::Sender<Bytes>,
    /// Ends the task with the last handle.
    _task: AbortOnDropHandle<()>,
}

/// Requests that have no answer yet; none once the stream has ended.
#[derive(Debug)]
struct Pending(Mutex<Option<HashMap<u64, oneshot::Sender<Outcome>>>>);

impl Control {
    pub(super) fn new(session: Session, timeout: Duration) -> Self {
        Self(Arc::new(Inner {
            session,
            timeout,
            next_id: AtomicU64::new(1),
            pending: Arc::new(Pending(Mutex::new(Some(HashMap::new())))),
            running: OnceLock::new(),
        }))
    }

    /// Adds topics to the feed. Events with a number above the one that comes back, on these topics, are in it.
    pub async fn subscribe(&self, matchers: &[Matcher]) -> Result<Seq, ControlError> {
        self.change(frame::SUBSCRIBE, matchers).await
    }

    /// Takes topics out of the feed, for events with a number above the one that comes back.
    pub async fn unsubscribe(&self, matchers: &[Matcher]) -> Result<Seq, ControlError> {
        self.change(frame::UNSUBSCRIBE, matchers).await
    }

    /// Shows the hub a token: the first of a session with `auth=inband`, or another one for a feed that goes on. Its rights hold for
    /// events with a number above the one that comes back. If the hub refuses it, nothing changes.
    pub async fn authenticate(&self, token: &Token) -> Result<Seq, ControlError> {
        let token = token.as_str();
        let auth = |request_id| frame::json(frame::AUTH, &Auth { request_id, token: token.to_owned() });
        match self.request(auth).await? {
            Done::Authorized { from_seq, .. } | Done::Changed { from_seq } => Ok(Seq(from_seq)),
            Done::Published { .. } => Err(ControlError::Malformed("an answer to another kind of request")),
        }
    }

    /// Publishes an event.
    pub async fn publish(&self, publication: &Publication) -> Result<Published, ControlError> {
        #[derive(serde::Serialize)]
        struct Numbered<'a> {
            request_id: u64,
            #[serde(flatten)]
            publication: &'a Publication,
        }
        let numbered = |request_id| frame::json(frame::PUBLISH, &Numbered { request_id, publication });
        let done = self.request(numbered).await?;
        match done {
            Done::Published { id, cursor } => Ok(Published { id, cursor: Some(cursor) }),
            _ => Err(ControlError::Malformed("an answer to another kind of request")),
        }
    }

    async fn change(&self, kind: u64, matchers: &[Matcher]) -> Result<Seq, ControlError> {
        let (patterns, matchers): (Vec<&Matcher>, Vec<_>) =
            matchers.iter().partition(|matcher| matches!(matcher, Matcher::Pattern(_)));
        let texts = |matchers: Vec<&Matcher>| matchers.into_iter().map(Matcher::to_string).collect();
        let (matchers, patterns) = (texts(matchers), texts(patterns));
        match self.request(|request_id| frame::json(kind, &Subscribe { request_id, matchers, patterns })).await? {
            Done::Changed { from_seq } => Ok(Seq(from_seq)),
            _ => Err(ControlError::Malformed("an answer to another kind of request")),
        }
    }

    /// Sends a frame and waits for its answer.
    async fn request(&self, encode: impl FnOnce(u64) -> Bytes) -> Result<Done, ControlError> {
        let inner = &*self.0;
        let request_id = inner.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = encode(request_id);
        if frame.len() > frame::REQUEST_BYTES_MAX {
            return Err(ControlError::TooLong);
        }
        let frames = inner.running.get_or_init(|| inner.run()).frames.clone();
        let answer = inner.pending.insert(request_id)?;
        // Whatever happens from here on, the request doesn't stay behind.
        let _registered = Registered { pending: &inner.pending, request_id };
        let answered = async {
            frames.send(frame).await.map_err(|_| ControlError::Closed)?;
            answer.await.map_err(|_| ControlError::Closed)
        };
        match tokio::time::timeout(inner.timeout, answered).await {
            Ok(outcome) => match outcome? {
                Outcome::Ok(done) => Ok(done),
                Outcome::Error(Refusal { code, message }) => Err(ControlError::Refused { code, message }),
            },
            Err(_) => Err(ControlError::Timeout { after: inner.timeout }),
        }
    }
}

impl Inner {
    fn run(&self) -> Running {
        let (frames, queue) = mpsc::channel(QUEUE_MAX);
        let (session, pending) = (self.session.clone(), self.pending.clone());
        let task = tokio::spawn(async move {
            if let Ok((send, receive)) = session.open_bi().await {
                tokio::select! {
                    () = write(send, queue) => {}
                    () = read(receive, &pending) => {}
                }
            }
            pending.end();
        });
        Running { frames, _task: AbortOnDropHandle::new(task) }
    }
}

async fn write(mut send: SendStream, mut queue: mpsc::Receiver<Bytes>) {
    while let Some(frame) = queue.recv().await {
        if let Err(error) = send.write_chunk(frame).await {
            tracing::debug!(%error, "the control stream can't be written");
            return;
        }
    }
}

async fn read(mut receive: RecvStream, pending: &Pending) {
    let mut decoder = Decoder::new(frame::PAYLOAD_BYTES_MAX);
    loop {
        let chunk = match receive.read_chunk(CHUNK_BYTES_MAX, true).await {
            Ok(Some(chunk)) => chunk,
            ended => return tracing::debug!(?ended, "the control stream ended"),
        };
        decoder.feed(&chunk.bytes);
        loop {
            match decoder.next() {
                Ok(Some(frame)) if frame.kind == frame::ANSWER => match serde_json::from_slice(&frame.payload) {
                    Ok(answer) => pending.answer(answer),
                    Err(error) => return tracing::debug!(%error, "an answer on the control stream can't be read"),
                },
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return tracing::debug!(%error, "the control stream isn't frames"),
            }
        }
    }
}

impl Pending {
    fn insert(&self, request_id: u64) -> Result<oneshot::Receiver<Outcome>, ControlError> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = pending.as_mut().ok_or(ControlError::Closed)?;
        if pending.len() >= PENDING_MAX {
            return Err(ControlError::TooMany);
        }
        let (sender, receiver) = oneshot::channel();
        pending.insert(request_id, sender);
        Ok(receiver)
    }

    fn remove(&self, request_id: u64) -> Option<oneshot::Sender<Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.remove(&request_id)
    }

    fn answer(&self, answer: Answer) {
        if let Some(sender) = self.remove(answer.request_id) {
            // It may have been given up.
            let _ = sender.send(answer.outcome);
        }
    }

    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

struct Registered<'a> {
    pending: &'a Pending,
    request_id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.pending.remove(self.request_id);
    }
}

/// Why a request on the control stream failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The hub refused it.
    #[error("the hub refused it: {code}: {message}")]
    Refused {
        /// Stable, for programs. [PROTOCOL §2.3]
        code: String,
        /// For people.
        message: String,
    },
    /// The connection ended before the answer came: it may have been done or not.
    #[error("the connection ended before the hub answered")]
    Closed,
    /// No answer came: it may have been done or not.
    #[error("the hub didn't answer within {} ms", .after.as_millis())]
    Timeout {
        /// How long the client waited.
        after: Duration,
    },
    /// 1,024 requests are waiting for their answers.
    #[error("too many requests are waiting for their answers")]
    TooMany,
    /// The request is longer than 2 MiB.
    #[error("the request is longer than {} bytes", frame::REQUEST_BYTES_MAX)]
    TooLong,
    /// The answer makes no sense.
    #[error("the hub breaks the protocol: {0}")]
    Malformed(&'static str),
    /// Only WebTransport has a control stream.
    #[error("only webtransport has a control stream, and the feed isn't on it")]
    Unsupported,
}

const PENDING_MAX: usize = 1024;
const QUEUE_MAX: usize = 64;
const CHUNK_BYTES_MAX: usize = 64 * 1024;
