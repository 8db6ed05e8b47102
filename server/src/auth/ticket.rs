//! Tickets: a token's rights for one connection of the next few seconds, for clients that can't send headers and may put a ticket,
//! but no token, into a URL. What a ticket stands for stays here; the ticket is a name for it, signed by a key that lives as long as
//! the hub.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use super::{Denied, Pass};

/// The tickets that weren't used yet.
pub(super) struct Tickets {
    signing: EncodingKey,
    verifying: DecodingKey,
    open: Mutex<HashMap<u128, Ticket>>,
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
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= TICKETS_MAX {
            open.retain(|_, ticket| ticket.until_ms > now_ms);
        }
        if open.len() >= TICKETS_MAX {
            return Err(Denied::TooManyTickets);
        }
        open.insert(name, Ticket { pass, until_ms: now_ms + TICKET_LIFE.as_millis() as u64 });
        drop(open);
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
        let ticket = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        ticket.filter(|ticket| ticket.until_ms > now_ms).map(|ticket| ticket.pass).ok_or(Denied::InvalidToken)
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
const TYPE: &str = "fanwire-ticket+jwt";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::pass::Anonymous;

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
    fn tickets_that_wait_are_bounded() {
        let tickets = Tickets::new();
        for _ in 0..TICKETS_MAX {
            issue(&tickets, 0).unwrap();
        }
        assert_eq!(issue(&tickets, 0), Err(Denied::TooManyTickets));
        assert!(issue(&tickets, TICKET_LIFE.as_millis() as u64).is_ok(), "those whose time is over make room");
    }
}
