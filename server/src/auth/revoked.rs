//! Tokens that are good no more, though their time isn't over.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::Identity;

/// What is revoked, of one issuer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Revocation {
    /// The token with this `jti`.
    Token(String),
    /// Every token of this `sub` that was issued until now.
    Subject(String),
}

/// There are as many revocations as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are {0} revocations, and none can be forgotten yet")]
pub struct TooManyRevocations(usize);

/// What was revoked since the hub began.
#[derive(Debug)]
pub(super) struct Revoked {
    entries: Mutex<HashMap<(String, Revocation), Entry>>,
    count_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at_ms: u64,
    /// When it may be forgotten, since what it is about has expired.
    until_ms: Option<u64>,
}

impl Revoked {
    pub(super) fn new(count_max: usize) -> Self {
        Self { entries: Mutex::default(), count_max }
    }

    pub(super) fn add(
        &self,
        issuer: &str,
        revocation: Revocation,
        until_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<(), TooManyRevocations> {
        let mut revoked = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (issuer.to_owned(), revocation);
        if !revoked.contains_key(&key) && revoked.len() >= self.count_max {
            revoked.retain(|_, entry| entry.until_ms.is_none_or(|until| until > now_ms));
            if revoked.len() >= self.count_max {
                return Err(TooManyRevocations(self.count_max));
            }
        }
        let entry = revoked.entry(key).or_insert(Entry { at_ms: now_ms, until_ms });
        entry.at_ms = now_ms;
        // The longer of both; none is the longest.
        entry.until_ms = entry.until_ms.zip(until_ms).map(|(before, now)| before.max(now));
        Ok(())
    }

    pub(super) fn covers(&self, identity: &Identity) -> bool {
        let revoked = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if revoked.is_empty() {
            return false;
        }
        let entry = |revocation| revoked.get(&(identity.issuer.to_string(), revocation));
        let token = identity.id.as_deref().and_then(|id| entry(Revocation::Token(id.to_owned())));
        let subject = identity.subject.as_deref().and_then(|subject| entry(Revocation::Subject(subject.to_owned())));
        // A token that doesn't say when it was issued may have been issued before.
        let before = |entry: &Entry| identity.issued_at_ms.is_none_or(|issued| issued <= entry.at_ms);
        token.is_some() || subject.is_some_and(before)
    }
}
