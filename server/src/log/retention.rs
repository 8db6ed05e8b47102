//! What is kept: by class, so that a noisy topic can't evict a quiet one's history.

use std::time::Duration;

use fanwire_protocol::{Matcher, Matchers, Topic};

use super::KeyWindow;

/// Ordered classes; a topic belongs to the first that takes it, and to the default class if none does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// In order; the last takes every topic.
    classes: Vec<Class>,
    keys: KeyWindow,
}

/// How much is kept of the topics of a class. An event goes when any limit says so, the oldest of its class first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// For people.
    pub name: String,
    /// Which topics.
    pub topics: Vec<TopicRule>,
    /// At most so many events; 0 keeps nothing.
    pub events_max: usize,
    /// At most so many bytes of memory, as [`fanwire_protocol::Draft::cost`] counts.
    pub bytes_max: usize,
    /// No event older than this.
    pub age_max: Option<Duration>,
}

/// Which topics a class takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicRule {
    /// Every topic.
    Any,
    /// This topic.
    Exact(Topic),
    /// Every topic that begins so; written with a `*` at its end.
    Prefix(String),
}

impl Retention {
    /// These classes, and behind them a default class, whose own rules don't count.
    pub fn new(mut classes: Vec<Class>, default: Class) -> Self {
        classes.push(Class { topics: vec![TopicRule::Any], ..default });
        Self { classes, keys: KeyWindow::default() }
    }

    /// The same, but for how long idempotency keys are kept.
    pub fn with_keys(self, keys: KeyWindow) -> Self {
        Self { keys, ..self }
    }

    /// How long idempotency keys are kept.
    pub fn keys(&self) -> KeyWindow {
        self.keys
    }

    /// The classes, in order.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The class of a topic, as an index into [`Retention::classes`].
    pub fn class_of(&self, topic: &Topic) -> usize {
        let taken = self.classes.iter().position(|class| class.topics.iter().any(|rule| rule.takes(topic)));
        taken.expect("the last class takes every topic")
    }

    /// The classes whose evictions can hurt a feed with these matchers.
    pub(super) fn touched(&self, matchers: &Matchers) -> Vec<usize> {
        let mut touched: Vec<_> = matchers
            .as_slice()
            .iter()
            .flat_map(|matcher| match matcher {
                Matcher::Any | Matcher::Pattern(_) => 0..self.classes.len(),
                Matcher::Exact(topic) => {
                    let class = self.class_of(topic);
                    class..class + 1
                }
            })
            .collect();
        touched.sort_unstable();
        touched.dedup();
        touched
    }
}

impl Default for Retention {
    /// One class: [`Class::default`].
    fn default() -> Self {
        Self::new(vec![], Class::default())
    }
}

impl Default for Class {
    /// 100,000 events, 64 MiB, a day.
    fn default() -> Self {
        Self {
            name: "default".into(),
            topics: vec![],
            events_max: 100_000,
            bytes_max: 64 * 1024 * 1024,
            age_max: Some(Duration::from_secs(24 * 60 * 60)),
        }
    }
}

impl TopicRule {
    /// Parses `*`, `prefix*` or an exact topic.
    pub fn parse(text: &str) -> Result<Self, fanwire_protocol::TopicError> {
        match text.strip_suffix('*') {
            Some("") => Ok(Self::Any),
            Some(prefix) => Topic::new(prefix).map(|prefix| Self::Prefix(prefix.as_str().to_owned())),
            None => Topic::new(text).map(Self::Exact),
        }
    }

    fn takes(&self, topic: &Topic) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == topic,
            Self::Prefix(prefix) => topic.as_str().starts_with(prefix),
        }
    }
}

impl std::fmt::Display for TopicRule {
    /// As [`TopicRule::parse`] reads it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(topic) => f.write_str(topic.as_str()),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_class_that_takes_a_topic_has_it() {
        let class = |topics: &[&str]| Class {
            topics: topics.iter().map(|rule| TopicRule::parse(rule).unwrap()).collect(),
            ..Class::default()
        };
        let retention = Retention::new(vec![class(&["host/*", "a"]), class(&["*"])], Class::default());
        let of = |topic: &str| retention.class_of(&Topic::new(topic).unwrap());
        assert_eq!((of("host/cpu"), of("a"), of("ab"), of("host")), (0, 0, 1, 1));
        assert_eq!(Retention::default().class_of(&Topic::new("x").unwrap()), 0);
    }
}
