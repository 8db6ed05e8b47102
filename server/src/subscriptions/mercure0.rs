//! What clients of Mercure 0.x are told of subscriptions: another document, on another topic. [Mercure 0.x, Active Subscriptions]

use std::borrow::Cow;

use fanwire_protocol::{Data, Draft, MatchType, Topic};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    NAMESPACE,
    document::{encode, urn},
    registry::Key,
};

/// Those that are told of. 0.x has no word for URL patterns, and a matcher has no type there: what is a template is to be seen by it.
pub(super) const MATCH_TYPES: [MatchType; 2] = [MatchType::Exact, MatchType::UriTemplate];

/// What is said of a subscription.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Document<'a> {
    #[serde(borrow, rename = "@context", default, skip_serializing_if = "Option::is_none")]
    context: Option<Cow<'a, str>>,
    /// The event's topic.
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    subscriber: Cow<'a, str>,
    pub(super) active: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
}

impl<'a> Document<'a> {
    /// None for one that isn't told of.
    pub(super) fn new(key: &'a Key, active: bool, payload: Option<&'a RawValue>) -> Option<Self> {
        let subscriber = urn(key.subscriber);
        let document = Self {
            context: Some(CONTEXT.into()),
            id: format!("{NAMESPACE}/{}/{}", encode(&key.text), encode(&subscriber)).into(),
            kind: "Subscription".into(),
            topic: (&*key.text).into(),
            subscriber: subscriber.into(),
            active,
            payload,
        };
        MATCH_TYPES.contains(&key.match_type).then_some(document)
    }

    /// The same among others, that have its context around them.
    pub(super) fn within(self) -> Self {
        Self { context: None, ..self }
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain data with string keys")
    }

    /// As an event. None for a topic that is none, which there isn't.
    pub(super) fn to_event(&self) -> Option<Draft> {
        let topic = Topic::of_event(&self.id).ok()?;
        let mut draft = Draft::new(vec![topic], Data::text(&self.to_json())).ok()?;
        draft.private = true;
        Some(draft)
    }
}

/// What the members mean.
pub(super) const CONTEXT: &str = "https://mercure.rocks/";
