//! What a subscriber asks for.

use std::fmt;

use crate::{Topic, TopicError};

/// One matcher. URL patterns get their place here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Matcher {
    /// Every topic, written `*`.
    Any,
    /// This topic, byte for byte.
    Exact(Topic),
}

impl Matcher {
    /// Parses the value of `match`: `*` or an exact topic.
    pub fn exact(text: &str) -> Result<Self, TopicError> {
        if text == "*" { Ok(Self::Any) } else { Topic::new(text).map(Self::Exact) }
    }

    /// Whether the matcher takes this topic.
    pub fn matches(&self, topic: &Topic) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == topic,
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(topic) => topic.fmt(f),
        }
    }
}

/// The matchers of one feed, each once. An event is in the feed if any of its topics is taken by any matcher.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matchers(Vec<Matcher>);

impl Matchers {
    /// The most matchers of one feed; each costs some 100 bytes.
    pub const COUNT_MAX: usize = 100;

    /// Whether any matcher takes any of these topics.
    pub fn matches(&self, topics: &[Topic]) -> bool {
        self.0.iter().any(|matcher| topics.iter().any(|topic| matcher.matches(topic)))
    }

    /// Adds a matcher; false if it was there.
    pub fn insert(&mut self, matcher: Matcher) -> bool {
        let new = !self.0.contains(&matcher);
        if new {
            self.0.push(matcher);
        }
        new
    }

    /// Takes a matcher out; false if it wasn't there.
    pub fn remove(&mut self, matcher: &Matcher) -> bool {
        let before = self.0.len();
        self.0.retain(|other| other != matcher);
        self.0.len() < before
    }

    /// The matchers, in the order in which they came.
    pub fn as_slice(&self) -> &[Matcher] {
        &self.0
    }
}

impl FromIterator<Matcher> for Matchers {
    fn from_iter<I: IntoIterator<Item = Matcher>>(matchers: I) -> Self {
        let mut set = Self::default();
        matchers.into_iter().for_each(|matcher| {
            set.insert(matcher);
        });
        set
    }
}
