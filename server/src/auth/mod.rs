//! Who is let in, and what for: tokens, the keys that they are verified with, and the rights that they carry.
//!
//! The hub is an OAuth 2.0 protected resource: its tokens are JWTs by RFC 9068, whose `authorization_details` say which topics they
//! are for. Everything that decides whether a token is good is pure ([`token`], [`details`], [`key`]); only [`jwks`] reaches out.
//! A hub without issuers looks at no tokens.

mod details;
mod issuer;
mod jwks;
mod key;
mod mercure0;
pub mod mint;
mod pass;
mod revoked;
mod ticket;
mod token;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use fanwire_protocol::HubUrl;
use tokio::sync::Notify;
use url::Url;

use crate::{
    core::{Lease, LeaseOf},
    telemetry::Metrics,
};

pub use details::{DETAIL_TYPE, DetailsError};
pub use issuer::{Issuer, IssuerConfig, KeySource};
pub use jsonwebtoken::Algorithm;
pub use jwks::{BadUrl, Jwks, KeySet, KeysUrl, Limits as JwksLimits, parse_set, parse_url};
pub use key::{Key, KeyError};
pub use mercure0::{Action, Actions};
pub use pass::{Holder, Identity, PageOrigin, Pass, Payload, Rights};
pub use revoked::{Revocation, TooManyRevocations};
pub use ticket::TICKET_LIFE;
pub(crate) use ticket::random_u128;
pub use token::TokenError;

use jwks::Told;
use mercure0::Unverified0;
use pass::Anonymous;
use revoked::Revoked;
use ticket::Tickets;
use token::{Rules, Unverified};

/// Whom the hub lets in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whose tokens it takes; none: it looks at no tokens.
    pub issuers: Vec<IssuerConfig>,
    /// The hub's resource identifier, which tokens name in `aud`.
    pub resource: String,
    /// Those who show no token may subscribe to what isn't private.
    pub allow_anonymous: bool,
    /// How far a token's `nbf` may be ahead of the hub's clock.
    pub clock_skew: Duration,
    /// The cookie that a token may come in.
    pub cookie: String,
    /// How long a feed may be open, whoever it is for.
    pub feed_lifetime_max: Option<Duration>,
    /// How keys are fetched.
    pub jwks: JwksLimits,
    /// The most revocations that are kept; each takes some 200 bytes. As it was when the hub began.
    pub revocations_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            issuers: vec![],
            resource: String::new(),
            allow_anonymous: false,
            clock_skew: Duration::from_secs(30),
            // [Mercure, Cookie]
            cookie: "__Secure-mercure_access_token".to_owned(),
            feed_lifetime_max: None,
            jwks: JwksLimits::default(),
            revocations_max: 100_000,
        }
    }
}

impl Config {
    /// What relative topics and patterns are resolved against: the hub's URL, if its resource identifier says where it is, or else a
    /// name that nobody has.
    pub fn hub_url(&self) -> HubUrl {
        let url = Url::parse(&self.resource).ok().filter(|url| url.scheme() == "https");
        let url = url.and_then(|url| url.join(HUB_PATH).ok()).and_then(HubUrl::new);
        url.unwrap_or_default()
    }
}

/// Decides who is let in.
#[derive(Debug)]
pub struct Auth {
    rules: ArcSwap<InForce>,
    revoked: Revoked,
    tickets: Tickets,
    told: Told,
}

/// The configuration that holds now.
#[derive(Debug)]
struct InForce {
    config: Config,
    base: HubUrl,
    issuers: Vec<Issuer>,
}

/// What somebody shows to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown<'a> {
    /// Nothing.
    Nothing,
    /// An access token.
    Token(&'a str),
    /// A ticket.
    Ticket(&'a str),
}

/// Why somebody isn't let in, or may not do something. [RFC 6750 §3.1]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A token is needed, and none was shown.
    #[error("a token is needed")]
    NoToken,
    /// What was shown isn't good; why isn't told.
    #[error("the token isn't valid")]
    InvalidToken,
    /// It was shown in a way that isn't one.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// A good token, for something else.
    #[error("the token doesn't grant this")]
    InsufficientScope,
    /// A page that may be of another site, with a cookie that the browser added.
    #[error(
        "a cookie is taken only from pages of the hub's own and the allowed origins, and the request doesn't say that it is of one"
    )]
    ForeignPage,
    /// There are as many tickets as may be.
    #[error("too many tickets wait to be used")]
    TooManyTickets,
    /// The issuer's keys couldn't be had so far.
    #[error("the keys of the token's issuer can't be had now")]
    NoKeys,
}

impl Auth {
    /// Must be called on a tokio runtime, on which keys are fetched.
    pub fn new(config: Config) -> Self {
        Self::counted(config, Arc::default())
    }

    /// The same, with what is counted.
    pub fn counted(config: Config, metrics: Arc<Metrics>) -> Self {
        let told = Told { lost: Arc::new(Notify::new()), metrics };
        let revoked = Revoked::new(config.revocations_max);
        let rules = ArcSwap::from_pointee(InForce::new(config, &[], &told));
        Self { rules, revoked, tickets: Tickets::new(), told }
    }

    /// Goes on with another configuration. Whom it wouldn't let in any more is [`Auth::withdrawn`]. Must be called on a tokio runtime.
    pub fn replace(&self, config: Config) {
        let before = self.rules.load();
        self.rules.store(Arc::new(InForce::new(config, &before.issuers, &self.told)));
    }

    /// Waits until an issuer has taken back a key.
    pub async fn keys_lost(&self) {
        self.told.lost.notified().await;
    }

    /// Whether what somebody was let in with is good no more: it was revoked, its key or its issuer is gone, or strangers aren't let
    /// in any more.
    pub fn withdrawn(&self, pass: &Pass) -> bool {
        let rules = self.rules.load();
        match &pass.identity {
            Some(identity) => {
                let issuer = rules.issuers.iter().find(|issuer| issuer.name() == &*identity.issuer);
                self.revoked.covers(identity)
                    || !issuer.is_some_and(|issuer| issuer.holds(&identity.key, identity.kind))
            }
            None if rules.issuers.is_empty() => false,
            None => pass.anonymous == Anonymous::Everything || !rules.config.allow_anonymous,
        }
    }

    /// Makes tokens of an issuer invalid, whatever they say. The feeds that they let in are still to be ended. `until_ms`: when they have
    /// expired, and this can be forgotten.
    pub fn revoke(
        &self,
        issuer: &str,
        revocation: Revocation,
        until_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<(), TooManyRevocations> {
        self.revoked.add(issuer, revocation, until_ms, now_ms)
    }

    /// A ticket for one connection of the next [`TICKET_LIFE`], with the rights of this pass.
    pub fn issue_ticket(&self, pass: Pass, now_ms: u64) -> Result<String, Denied> {
        if pass.identity.is_none() {
            return Err(Denied::NoToken);
        }
        self.tickets.issue(pass, now_ms)
    }

    /// Whether the hub looks at tokens.
    pub fn has_keys(&self) -> bool {
        !self.rules.load().issuers.is_empty()
    }

    /// The hub's resource identifier.
    pub fn resource(&self) -> String {
        self.rules.load().config.resource.clone()
    }

    /// The issuers that publish their keys under a name that is a URL: those that others can ask for tokens.
    pub fn authorization_servers(&self) -> Vec<String> {
        let rules = self.rules.load();
        let published = |issuer: &&Issuer| issuer.publishes_keys() && issuer.name().starts_with("https://");
        rules.issuers.iter().filter(published).map(|issuer| issuer.name().to_owned()).collect()
    }

    /// The cookie that a token may come in.
    pub fn cookie(&self) -> String {
        self.rules.load().config.cookie.clone()
    }

    /// For how long a feed may be open that is opened, or renewed, with this pass.
    pub fn lease(&self, pass: &Pass, now_ms: u64) -> Option<Lease> {
        let lifetime_max = self.rules.load().config.feed_lifetime_max;
        let life = lifetime_max.map(|life| Lease { left_ms: life.as_millis() as u64, of: LeaseOf::Feed });
        let token = pass.identity.as_ref().and_then(|identity| identity.expires_at_ms).map(|expires_at_ms| {
            // No later than the token's end, also where time is told in ticks.
            let left_ms = expires_at_ms.saturating_sub(now_ms + TICK_MS);
            Lease { left_ms, of: LeaseOf::Token }
        });
        life.into_iter().chain(token).min_by_key(|lease| lease.left_ms)
    }

    /// Lets somebody in, or not. What the pass is good for, it says itself.
    pub async fn admit(&self, shown: Shown<'_>, now_ms: u64) -> Result<Pass, Denied> {
        let rules = self.rules.load_full();
        let pass = match shown {
            _ if rules.issuers.is_empty() => return Ok(Pass::anonymous(Anonymous::Everything)),
            Shown::Nothing => return Ok(rules.stranger()),
            Shown::Token(text) => Box::pin(rules.verify(text, now_ms)).await,
            Shown::Ticket(text) => self.tickets.redeem(text, now_ms),
        };
        self.still_good(pass?, now_ms)
    }

    /// The same by the rules of Mercure 0.x, whose tokens are good for one thing at a time.
    pub async fn admit_mercure0(&self, token: Option<&str>, action: Action, now_ms: u64) -> Result<Pass, Denied> {
        let rules = self.rules.load_full();
        let pass = match token {
            _ if rules.issuers.is_empty() => return Ok(Pass::anonymous(Anonymous::Everything)),
            None => return Ok(rules.stranger()),
            Some(text) => Box::pin(rules.verify_mercure0(text, action, now_ms)).await,
        };
        self.still_good(pass?, now_ms)
    }

    fn still_good(&self, pass: Pass, now_ms: u64) -> Result<Pass, Denied> {
        let expires_at_ms = pass.identity.as_ref().and_then(|identity| identity.expires_at_ms);
        let expired = expires_at_ms.is_some_and(|expires| expires <= now_ms);
        if expired || self.withdrawn(&pass) {
            tracing::debug!("a token was refused: it was revoked");
            return Err(Denied::InvalidToken);
        }
        Ok(pass)
    }
}

impl InForce {
    fn new(config: Config, before: &[Issuer], told: &Told) -> Self {
        let issuers = Issuer::start_all(&config, before, told);
        Self { base: config.hub_url(), config, issuers }
    }

    fn stranger(&self) -> Pass {
        Pass::anonymous(if self.config.allow_anonymous { Anonymous::Subscribe } else { Anonymous::Nothing })
    }

    fn rules(&self, now_ms: u64) -> Rules<'_> {
        let Config { resource, clock_skew, .. } = &self.config;
        Rules { resource, clock_skew: *clock_skew, base: &self.base, now_ms }
    }

    async fn verify(&self, text: &str, now_ms: u64) -> Result<Pass, Denied> {
        let token = Unverified::parse(text).map_err(denied)?;
        let issuer = self.issuers.iter().find(|issuer| issuer.name() == token.issuer && !issuer.name().is_empty());
        let issuer = issuer.ok_or_else(|| denied(TokenError::Issuer))?;
        let rules = self.rules(now_ms);
        self.verify_with(&[issuer], || issuer.verify(&token, &rules)).await
    }

    /// A token that names its issuer is that one's, or of one without a name. One that doesn't may be any issuer's whose keys are for such.
    async fn verify_mercure0(&self, text: &str, action: Action, now_ms: u64) -> Result<Pass, Denied> {
        let token = Unverified0::parse(text).map_err(denied)?;
        let may_be = |issuer: &&Issuer| {
            let named = |name: &str| issuer.name().is_empty() || issuer.name() == name;
            issuer.is_for_mercure0(action) && token.issuer.as_deref().is_none_or(named)
        };
        let issuers: Vec<&Issuer> = self.issuers.iter().filter(may_be).collect();
        if issuers.is_empty() {
            return Err(denied(TokenError::Issuer));
        }
        let rules = self.rules(now_ms);
        self.verify_with(&issuers, || token.verify(&issuers, action, &rules)).await
    }

    /// Verifies, and where the key may be a new one once more.
    async fn verify_with(
        &self,
        issuers: &[&Issuer],
        verify: impl Fn() -> Result<(Identity, Rights), TokenError>,
    ) -> Result<Pass, Denied> {
        let mut verified = verify();
        if matches!(verified, Err(TokenError::NoKey | TokenError::Signature)) {
            let mut refreshed = false;
            for issuer in issuers {
                refreshed |= issuer.refresh().await;
            }
            if refreshed {
                verified = verify();
            }
        }
        match verified {
            Ok((identity, rights)) => {
                Ok(Pass { identity: Some(identity), rights, origin: None, anonymous: Anonymous::Nothing })
            }
            Err(TokenError::NoKey) if issuers.iter().any(|issuer| issuer.lacks_keys()) => Err(Denied::NoKeys),
            Err(error) => Err(denied(error)),
        }
    }
}

fn denied(error: TokenError) -> Denied {
    tracing::debug!(%error, "a token was refused");
    Denied::InvalidToken
}

/// Where the hub is, on whichever host. [Mercure, Discovery]
const HUB_PATH: &str = "/.well-known/mercure";
/// How late a feed may be ended, at most: the shards' tick and some slack.
const TICK_MS: u64 = 200;
