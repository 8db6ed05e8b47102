//! A retention class as it is written.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use super::value::{Bytes, Span};
use crate::log::{Class, TopicRule};

/// `[[retention]]` in the file; `topics=ticks/*,a;events_max=10;bytes_max=1MiB;age_max=1h` as a flag.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionRule {
    #[serde(default)]
    name: Option<String>,
    #[serde(deserialize_with = "topic_rules")]
    topics: Vec<TopicRule>,
    #[serde(default)]
    events_max: Option<usize>,
    #[serde(default)]
    bytes_max: Option<Bytes>,
    #[serde(default)]
    age_max: Option<Span>,
}

impl FromStr for RetentionRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rule = Self { name: None, topics: vec![], events_max: None, bytes_max: None, age_max: None };
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("{part:?} has no ="))?;
            match key.trim() {
                "name" => rule.name = Some(value.to_owned()),
                "topics" => {
                    for topic in value.split(',') {
                        rule.topics.push(topic_rule(topic)?);
                    }
                }
                "events_max" => rule.events_max = Some(value.parse().map_err(|_| format!("{value:?} is no number"))?),
                "bytes_max" => rule.bytes_max = Some(value.parse()?),
                "age_max" => rule.age_max = Some(value.parse()?),
                other => return Err(format!("{other:?} is no key of a retention class")),
            }
        }
        if rule.topics.is_empty() { Err("a retention class needs topics".into()) } else { Ok(rule) }
    }
}

impl From<RetentionRule> for Class {
    fn from(rule: RetentionRule) -> Self {
        let default = Self::default();
        Self {
            name: rule.name.unwrap_or_else(|| "unnamed".into()),
            topics: rule.topics,
            events_max: rule.events_max.unwrap_or(default.events_max),
            bytes_max: rule.bytes_max.map_or(default.bytes_max, |value| value.0),
            age_max: rule.age_max.map(|value| value.0),
        }
    }
}

fn topic_rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TopicRule>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.is_empty() {
        return Err(de::Error::custom("a retention class needs topics"));
    }
    texts.iter().map(|text| topic_rule(text).map_err(de::Error::custom)).collect()
}

fn topic_rule(text: &str) -> Result<TopicRule, String> {
    TopicRule::parse(text).map_err(|error| format!("{text:?} in topics: {error}"))
}
