//! What somebody was let in with, and what it allows.

use std::{fmt, sync::Arc};

use fanwire_protocol::Topic;
use serde_json::value::RawValue;

use super::{Denied, Key, mercure0::Action};
use crate::core::{self, Scope};

/// What a request or a feed was let in with.
#[derive(Debug, Clone)]
pub struct Pass {
    /// Whose token it was; none for those who showed none.
    pub identity: Option<Identity>,
    /// What it allows.
    pub rights: Rights,
    /// The page that asked, if it was one.
    pub origin: Option<PageOrigin>,
    pub(super) anonymous: Anonymous,
}

/// Whom a feed is for.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Names the feed; nobody guesses it.
    pub id: u128,
    /// What it was let in with, last.
    pub pass: Arc<Pass>,
}

/// What those may do who show no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anonymous {
    /// Everything that isn't private: the hub has no keys.
    Everything,
    /// See what isn't private.
    Subscribe,
    /// Nothing.
    Nothing,
}

/// Whose token it was.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The token's `iss`.
    pub issuer: Arc<str>,
    /// Its `sub`: whom it speaks for.
    pub subject: Option<Box<str>>,
    /// Its `client_id`.
    pub client_id: Option<Box<str>>,
    /// Its `jti`: its own name.
    pub id: Option<Box<str>>,
    /// Its `iat`, in milliseconds since the Unix epoch.
    pub issued_at_ms: Option<u64>,
    /// Its `exp`, in milliseconds since the Unix epoch; only tokens of Mercure 0.x may have none.
    pub expires_at_ms: Option<u64>,
    pub(super) kind: TokenKind,
    pub(super) key: Arc<Key>,
}

/// By which rules a token was found good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// Those of access tokens.
    Access,
    /// Those of Mercure 0.x, for this.
    Mercure0(Action),
}

/// What a token grants. [Mercure, Authorization Details]
#[derive(Debug, Clone, Default)]
pub struct Rights {
    /// May publish events all of whose topics are in here.
    pub publish: Arc<Scope>,
    /// May see private events of which a topic is in here.
    pub subscribe: Arc<Scope>,
    /// May revoke the tokens of its own issuer: the action `revoke` on `*`.
    pub revoke: bool,
    /// Data for subscriptions, in the order in which it applies.
    pub payloads: Vec<Payload>,
}

/// Data that a token attaches to subscriptions whose matcher is in a scope. [Mercure, Payloads]
#[derive(Clone)]
pub struct Payload {
    /// Which subscriptions.
    pub scope: Scope,
    /// A JSON object; none hides those of the details that follow.
    pub json: Option<Arc<RawValue>>,
}

/// Which page asked a hub, and under which name of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageOrigin {
    /// As the `Origin` header has it.
    pub origin: Box<str>,
    /// The host that was asked, without port.
    pub host: Option<Box<str>>,
}

impl Pass {
    pub(super) fn anonymous(anonymous: Anonymous) -> Self {
        // One for both: each request of a hub without keys has a pass.
        let nothing: Arc<Scope> = Arc::default();
        let rights = Rights { publish: nothing.clone(), subscribe: nothing, revoke: false, payloads: vec![] };
        Self { identity: None, rights, origin: None, anonymous }
    }

    /// Whether it lets somebody subscribe at all.
    pub fn check_subscribe(&self) -> Result<(), Denied> {
        let open = self.identity.is_some() || self.anonymous != Anonymous::Nothing;
        if open { Ok(()) } else { Err(Denied::NoToken) }
    }

    /// Whether it lets somebody publish at all.
    pub fn check_publisher(&self) -> Result<(), Denied> {
        match self.identity {
            None if self.anonymous == Anonymous::Everything => Ok(()),
            None => Err(Denied::NoToken),
            Some(_) if self.rights.publish.is_empty() => Err(Denied::InsufficientScope),
            Some(_) => Ok(()),
        }
    }

    /// Whether it lets somebody publish an event with all these topics. [Mercure, Publishers]
    pub fn check_publish(&self, topics: &[Topic]) -> Result<(), Denied> {
        self.check_publisher()?;
        let granted = self.identity.is_none() || topics.iter().all(|topic| self.rights.publish.covers(topic));
        if granted { Ok(()) } else { Err(Denied::InsufficientScope) }
    }

    /// What a feed may see.
    pub fn feed_rights(&self) -> core::Rights {
        core::Rights::to(self.rights.subscribe.clone())
    }

    /// Whom something that is published is from, to tell publishers apart: the same text for the same issuer and subject, empty for
    /// those who show no token.
    pub fn publisher(&self) -> String {
        let subject = |identity: &Identity| identity.subject.as_deref().unwrap_or_default().to_owned();
        self.identity.as_ref().map_or_else(String::new, |identity| {
            // The length keeps two pairs with the same letters apart.
            format!("{}:{}{}", identity.issuer.len(), identity.issuer, subject(identity))
        })
    }
}

impl Identity {
    /// Whether both are the same subject of the same issuer.
    pub fn is_same_subject(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.subject == other.subject && self.client_id == other.client_id
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("scope", &self.scope).finish_non_exhaustive()
    }
}
