//! What a subscriber asks for.

use std::{fmt, sync::Arc};

use crate::{HubUrl, Pattern, PatternError, Topic, TopicError, TopicUrl};

/// One matcher.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Matcher {
    /// Every topic, written `*`, whichever type of matcher is asked for.
    Any,
    /// This topic, byte for byte.
    Exact(Topic),
    /// Every topic that the pattern takes.
    Pattern(Pattern),
}

impl Matcher {
    /// Parses the value of `match`: `*` or an exact topic.
    pub fn exact(text: &str) -> Result<Self, TopicError> {
        if text == "*" { Ok(Self::Any) } else { Topic::new(text).map(Self::Exact) }
    }

    /// Parses the value of `match_urlpattern`: `*` or a URL pattern, which is compiled.
    pub fn pattern(text: &str, base: &HubUrl) -> Result<Self, PatternError> {
        if text == "*" { Ok(Self::Any) } else { Pattern::new(text, base).map(Self::Pattern) }
    }

    /// Parses a topic selector of Mercure 0.x: `*`, a URI template, which is compiled, or an exact topic.
    pub fn selector(text: &str, base: &HubUrl) -> Result<Self, SelectorError> {
        match Self::exact(text)? {
            Self::Exact(topic) => {
                let template = Pattern::template(&topic, base)?;
                Ok(template.map_or(Self::Exact(topic), Self::Pattern))
            }
            any => Ok(any),
        }
    }

    /// Whether the matcher takes this topic.
    pub fn matches(&self, topic: &Topic) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == topic,
            Self::Pattern(pattern) => pattern.matches(&TopicUrl::new(topic, pattern.base())),
        }
    }

    /// The type of matcher that it is. [Mercure, Matcher Types]
    pub fn match_type(&self) -> MatchType {
        match self {
            Self::Any | Self::Exact(_) => MatchType::Exact,
            Self::Pattern(pattern) if pattern.is_template() => MatchType::UriTemplate,
            Self::Pattern(_) => MatchType::UrlPattern,
        }
    }

    /// The matcher as it was given.
    pub fn text(&self) -> Arc<str> {
        match self {
            Self::Any => "*".into(),
            Self::Exact(topic) => topic.shared(),
            Self::Pattern(pattern) => pattern.shared(),
        }
    }

    /// The parameter that asks for it in the query of a feed.
    pub fn parameter(&self) -> &'static str {
        match self {
            Self::Any | Self::Exact(_) => "match",
            Self::Pattern(pattern) if pattern.is_template() => "topic",
            Self::Pattern(_) => "match_urlpattern",
        }
    }
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// It is no topic either.
    #[error("{0}")]
    Topic(#[from] TopicError),
    /// It is a URI template that costs too much.
    #[error("{0}")]
    Template(#[from] PatternError),
}

/// A type of matcher. `*` is one of `exact`, whichever way it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatchType {
    /// `exact`
    Exact,
    /// `urlpattern`
    UrlPattern,
    /// `uritemplate`, which only clients of Mercure 0.x ask for, by another name.
    UriTemplate,
}

impl MatchType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Exact, Self::UrlPattern, Self::UriTemplate];
    /// Those that may be asked for by their names.
    pub const OFFERED: [Self; 2] = [Self::Exact, Self::UrlPattern];

    /// Its name in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::UrlPattern => "urlpattern",
            Self::UriTemplate => "uritemplate",
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(topic) => topic.fmt(f),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

/// The matchers of one feed, each once. An event is in the feed if any of its topics is taken by any matcher.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matchers(Vec<Matcher>);

impl Matchers {
    /// The most matchers of one feed; each costs some 100 bytes, and a pattern what it is compiled to: some 500 bytes, or several KiB
    /// where it has regular expressions. An event is compared with every pattern that some feed has.
    pub const COUNT_MAX: usize = 100;

    /// Whether any matcher takes any of these topics. The patterns must have the same base.
    pub fn matches(&self, topics: &[Topic]) -> bool {
        let exactly = |matcher: &Matcher| match matcher {
            Matcher::Any => true,
            Matcher::Exact(exact) => topics.contains(exact),
            Matcher::Pattern(_) => false,
        };
        if self.0.iter().any(exactly) {
            return true;
        }
        let Some(base) = self.patterns().next().map(Pattern::base) else { return false };
        topics.iter().any(|topic| {
            let url = TopicUrl::new(topic, base);
            self.patterns().any(|pattern| pattern.matches(&url))
        })
    }

    /// The patterns among the matchers.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter().filter_map(|matcher| match matcher {
            Matcher::Pattern(pattern) => Some(pattern),
            Matcher::Any | Matcher::Exact(_) => None,
        })
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
