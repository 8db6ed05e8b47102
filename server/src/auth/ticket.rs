//! Tickets: a token's rights for one connection of the next few seconds, for clients that can't send headers and may put a ticket,
//! but no token, into a URL. What a ticket stands for stays here; the ticket is a name for it, signed by a key that lives as long as
//! the hub.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use super::{Denied, Pass};

/// The tickets that weren't used yet.
pub(super) struct Tickets {
    signing: EncodingKey,
    verifying: DecodingKey,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    tickets: HashMap<u128, Ticket>,
    /// How many of them are whose.
    by_client: HashMap<String, usize>,
}

struct Ticket {
    pass: Pass,
    until_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    /// In hexadecimal digits.
    jti: String,
}

impl Tickets {
    pub(super) fn new() -> Self {
        // Without entropy there is no TLS either.
        let key: [[u8; 8]; 4] = std::array::from_fn(|_| random_u64().to_ne_bytes());
        let key = key.concat();
        Self {
            signing: EncodingKey::from_secret(&key),
            verifying: DecodingKey::from_secret(&key),
            open: Mutex::default(),
        }
    }

    /// A ticket for what a pass is good for.
    pub(super) fn issue(&self, pass: Pass, now_ms: u64) -> Result<String, Denied> {
        let name = random_u128();
        self.lock().insert(name, Ticket { pass, until_ms: now_ms + TICKET_LIFE.as_millis() as u64 }, now_ms)?;
        let header = Header { typ: Some(TYPE.to_owned()), ..Header::new(Algorithm::HS256) };
        encode(&header, &Claims { jti: format!("{name:x}") }, &self.signing).map_err(|_| Denied::InvalidToken)
    }

    /// What a ticket is good for; it isn't good for it again.
    pub(super) fn redeem(&self, text: &str, now_ms: u64) -> Result<Pass, Denied> {
        let mut validation = Validation::new(Algorithm::HS256);
        (validation.validate_exp, validation.validate_aud) = (false, false);
        validation.required_spec_claims.clear();
        let data = decode::<Claims>(text, &self.verifying, &validation).map_err(|_| Denied::InvalidToken)?;
        let name = u128::from_str_radix(&data.claims.jti, 16).map_err(|_| Denied::InvalidToken)?;
        let ticket = self.lock().remove(name);
        ticket.filter(|ticket| ticket.until_ms > now_ms).map(|ticket| ticket.pass).ok_or(Denied::InvalidToken)
    }
}

impl Tickets {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn insert(&mut self, name: u128, ticket: Ticket, now_ms: u64) -> Result<(), Denied> {
        let client = ticket.pass.publisher();
        if self.is_full_for(&client) {
            let over: Vec<u128> =
                self.tickets.iter().filter(|(_, ticket)| ticket.until_ms <= now_ms).map(|(name, _)| *name).collect();
            for name in over {
                self.remove(name);
            }
        }
        if self.is_full_for(&client) {
            return Err(Denied::TooManyTickets);
        }
        *self.by_client.entry(client).or_default() += 1;
        self.tickets.insert(name, ticket);
        Ok(())
    }

    fn remove(&mut self, name: u128) -> Option<Ticket> {
        let ticket = self.tickets.remove(&name)?;
        let client = ticket.pass.publisher();
        if let Some(count) = self.by_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&client);
            }
        }
        Some(ticket)
    }

    fn is_full_for(&self, client: &str) -> bool {
        self.tickets.len() >= TICKETS_MAX
            || self.by_client.get(client).is_some_and(|&count| count >= TICKETS_OF_ONE_MAX)
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets")
    }
}

/// A number that nobody guesses.
pub(crate) fn random_u128() -> u128 {
    u128::from(random_u64()) << 64 | u128::from(random_u64())
}

fn random_u64() -> u64 {
    getrandom::u64().expect("the system has a source of randomness")
}

/// How long a ticket is good: for the connection that is about to be made.
pub const TICKET_LIFE: Duration = Duration::from_secs(10);
/// The most tickets that are open at a time; each takes some KiB at the most.
const TICKETS_MAX: usize = 10_000;
/// The most of them of one subject.
const TICKETS_OF_ONE_MAX: usize = 1_000;
const TYPE: &str = "fanwire-ticket+jwt";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::auth::{
        Identity, Key,
        pass::{Anonymous, TokenKind},
    };

    fn issue(tickets: &Tickets, now_ms: u64) -> Result<String, Denied> {
        tickets.issue(Pass::anonymous(Anonymous::Subscribe), now_ms)
    }

    #[test]
    fn a_ticket_is_good_once_and_for_some_seconds() {
        let (tickets, others) = (Tickets::new(), Tickets::new());
        let life_ms = TICKET_LIFE.as_millis() as u64;
        let ticket = issue(&tickets, 0).unwrap();
        assert!(others.redeem(&ticket, 0).is_err(), "another hub's");
        assert!(tickets.redeem(&ticket, life_ms - 1).is_ok());
        assert!(tickets.redeem(&ticket, life_ms - 1).is_err());
        let late = issue(&tickets, 0).unwrap();
        assert!(tickets.redeem(&late, life_ms).is_err());
        // None of another kind, whoever signed it.
        let claims = Claims { jti: "1".to_owned() };
        let none = encode(&Header::new(Algorithm::HS384), &claims, &tickets.signing).unwrap();
        assert!(tickets.redeem(&none, 0).is_err());
    }

    #[test]
    fn tickets_that_wait_are_bounded_and_one_subject_leaves_some_to_others() {
        let tickets = Tickets::new();
        let key = Arc::new(Key::secret(&[7; 32], &[]).unwrap());
        let issue = |subject: usize, now_ms| {
            let identity = Identity {
                issuer: "https://app.example".into(),
                subject: Some(subject.to_string().into()),
                client_id: None,
                id: None,
                issued_at_ms: None,
                expires_at_ms: None,
                kind: TokenKind::Access,
                key: key.clone(),
            };
            tickets.issue(Pass { identity: Some(identity), ..Pass::anonymous(Anonymous::Nothing) }, now_ms)
        };
        let first = issue(0, 0).unwrap();
        for _ in 1..TICKETS_OF_ONE_MAX {
            issue(0, 0).unwrap();
        }
        assert_eq!(issue(0, 0), Err(Denied::TooManyTickets));
        tickets.redeem(&first, 0).unwrap();
        issue(0, 0).unwrap();
        for subject in 1..TICKETS_MAX / TICKETS_OF_ONE_MAX {
            for _ in 0..TICKETS_OF_ONE_MAX {
                issue(subject, 0).unwrap();
            }
        }
        assert_eq!(issue(99, 0), Err(Denied::TooManyTickets));
        let later = TICKET_LIFE.as_millis() as u64;
        assert!(issue(99, later).is_ok(), "those whose time is over make room");
        let open = tickets.lock();
        assert_eq!((open.tickets.len(), open.by_client.len()), (1, 1));
    }
}
