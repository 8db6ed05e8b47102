//! What a subscription is called, and what is said of it.

use std::{borrow::Cow, fmt::Write as _, sync::Arc};

use fanwire_protocol::{MatchType, Topic};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{mercure0, registry::Key};

/// Under which the topics of the hub's own events are, and the paths of the list.
pub const NAMESPACE: &str = "/.well-known/mercure/subscriptions";

/// What is said of a subscription, in its event and in the list. [Mercure, Subscription Events]
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Document<'a> {
    /// The event's topic.
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) match_type: Cow<'a, str>,
    #[serde(borrow, rename = "match")]
    pub(super) text: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) subscriber: Cow<'a, str>,
    pub(super) active: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) payload: Option<&'a RawValue>,
}

impl<'a> Document<'a> {
    pub(super) fn new(key: &'a Key, active: bool, payload: Option<&'a RawValue>) -> Self {
        Self {
            id: topic(key).into(),
            kind: "subscription".into(),
            match_type: key.match_type.as_str().into(),
            text: (&*key.text).into(),
            subscriber: urn(key.subscriber).into(),
            active,
            payload,
        }
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain data with string keys")
    }
}

/// A path under [`NAMESPACE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    path: String,
    kind: Kind,
    dialect: Dialect,
}

/// In whose words it is told who is subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Those of Mercure 1.0.
    Today,
    /// Those of Mercure 0.x.
    Mercure0,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    All,
    /// Those of a matcher, of any of these types.
    Of(Vec<MatchType>, Arc<str>),
    /// That of a feed with such a matcher, of any of these types.
    One(Vec<MatchType>, Arc<str>, u128),
    /// Nothing is ever there.
    Nowhere,
}

impl Place {
    /// Reads what follows [`NAMESPACE`] in a path, or nothing, as it came; however it is written, it has one name.
    pub fn parse(rest: &str, dialect: Dialect) -> Option<Self> {
        let mut path = NAMESPACE.to_owned();
        let Some(rest) = rest.strip_prefix('/') else {
            return rest.is_empty().then_some(Self { path, kind: Kind::All, dialect });
        };
        let parts = rest.split('/').map(|part| percent_decode_str(part).decode_utf8().ok());
        let parts: Vec<Cow<'_, str>> = parts.collect::<Option<_>>()?;
        for part in &parts {
            let _ = write!(path, "/{}", encode(part));
        }
        let (types, rest) = match (dialect, &parts[..]) {
            (Dialect::Today, [name, rest @ ..]) => {
                (MatchType::ALL.into_iter().filter(|kind| kind.as_str() == name).collect(), rest)
            }
            (_, rest) => (mercure0::MATCH_TYPES.to_vec(), rest),
        };
        let kind = match rest {
            _ if types.is_empty() => None,
            [text] => Some(Kind::Of(types, text.as_ref().into())),
            [text, subscriber] => {
                parse_urn(subscriber).map(|subscriber| Kind::One(types, text.as_ref().into(), subscriber))
            }
            _ => None,
        };
        Some(Self { path, kind: kind.unwrap_or(Kind::Nowhere), dialect })
    }

    /// In whose words it is asked for.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What is said of a subscription here; nothing of one that these words can't tell of.
    pub(super) fn document(&self, key: &Key, payload: Option<&RawValue>) -> Option<String> {
        match self.dialect {
            Dialect::Today => Some(Document::new(key, true, payload).to_json()),
            Dialect::Mercure0 => {
                let document = mercure0::Document::new(key, true, payload)?;
                Some(if self.is_one() { document.to_json() } else { document.within().to_json() })
            }
        }
    }

    /// The path: the topic that somebody has to be granted to be told what is there.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is one subscription, and not a collection.
    pub fn is_one(&self) -> bool {
        matches!(self.kind, Kind::One(..))
    }

    /// Whether nothing can be there.
    pub fn is_nowhere(&self) -> bool {
        self.kind == Kind::Nowhere
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }
}

/// The topic of a subscription's events.
pub(super) fn topic(key: &Key) -> String {
    format!("{NAMESPACE}/{}/{}/{}", key.match_type.as_str(), encode(&key.text), encode(&urn(key.subscriber)))
}

/// As a topic of an event, which is never too long: a matcher has 1,024 bytes at the most.
pub(super) fn event_topic(key: &Key) -> Option<Topic> {
    Topic::of_event(&topic(key)).ok()
}

/// A feed's name as a UUID. [RFC 9562]
pub(super) fn urn(subscriber: u128) -> String {
    let hex = format!("{subscriber:032x}");
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn parse_urn(text: &str) -> Option<u128> {
    let digits: String = text.strip_prefix("urn:uuid:")?.chars().filter(|&c| c != '-').collect();
    let subscriber = u128::from_str_radix(&digits, 16).ok()?;
    (urn(subscriber) == text).then_some(subscriber)
}

pub(super) fn encode(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, NOT_UNRESERVED).into()
}

/// What a simple expansion encodes. [RFC 6570 §3.2.2]
const NOT_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Option<Place> {
        Place::parse(rest, Dialect::Today)
    }

    #[test]
    fn a_subscription_has_one_path_however_it_is_written() {
        let text = "https://example.com/:selector%20?";
        let subscriber = 0x_bb3d_e268_05b0_4c65_b44e_8f9a_cefc_29d6;
        let key = Key { match_type: MatchType::UrlPattern, text: text.into(), subscriber };
        let canonical = "/.well-known/mercure/subscriptions/urlpattern/https%3A%2F%2Fexample.com%2F%3Aselector%2520%3F\
                         /urn%3Auuid%3Abb3de268-05b0-4c65-b44e-8f9acefc29d6";
        assert_eq!(topic(&key), canonical);
        for rest in [
            canonical.strip_prefix(NAMESPACE).unwrap(),
            "/urlpattern/https:%2f%2fexample.com%2F:selector%2520%3f/urn:uuid:bb3de268-05b0-4c65-b44e-8f9acefc29d6",
        ] {
            let place = parse(rest).unwrap();
            let one = Kind::One(vec![key.match_type], key.text.clone(), subscriber);
            assert_eq!((place.path(), place.kind()), (canonical, &one));
        }
        assert_eq!(parse("").unwrap().kind(), &Kind::All);
        assert_eq!(parse("/exact/%2A").unwrap().kind(), &Kind::Of(vec![MatchType::Exact], "*".into()));
        for nowhere in
            ["/", "/exact", "/Exact/a", "/glob/a", "/exact/a/b", "/exact/a/urn:uuid:BB", "/exact/a/b/c", "//"]
        {
            assert!(parse(nowhere).unwrap().is_nowhere(), "{nowhere}");
        }
        assert_eq!(parse("/exact/%ff"), None);
        assert_eq!(parse("x"), None);
        let longest = Key { text: "é".repeat(512).into(), ..key };
        assert!(event_topic(&longest).is_some());
    }
}
