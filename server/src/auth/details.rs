//! The `authorization_details` of a token, made into rights. [RFC 9396; Mercure, Authorization Details]
//!
//! One detail of Mercure's that can't be understood spoils the token: to act on the rest would change what it grants.

use std::sync::Arc;

use fanwire_protocol::{HubUrl, Matcher, PatternError, TopicError};
use serde_json::{Map, Value, value::to_raw_value};

use super::{Payload, Rights};

/// The type of the details that mean something here, compared byte for byte.
pub const DETAIL_TYPE: &str = "https://mercure.rocks/authorization-detail";

/// Why details grant nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DetailsError {
    /// The JSON isn't as it has to be.
    #[error("{0}")]
    Shape(&'static str),
    /// More than a token may have.
    #[error("more than {0}")]
    TooMany(&'static str),
    /// A matcher that is no topic.
    #[error("a matcher is no topic and not *: {0}")]
    Matcher(#[from] TopicError),
    /// A matcher that is no URL pattern, or costs too much.
    #[error("a matcher is no url pattern: {0}")]
    Pattern(#[from] PatternError),
    /// A kind of matcher that this hub doesn't know.
    #[error("the match_type {0:?} isn't known")]
    MatchType(String),
}

/// Reads the claim, which a token needn't have. Relative patterns are resolved against `base`. They are compiled for this token alone, some
/// 20 µs each: every user may have others, so they don't count among those of the feeds, which each event is compared with.
pub(super) fn rights(claim: Option<&Value>, base: &HubUrl) -> Result<Rights, DetailsError> {
    let (mut publish, mut subscribe, mut payloads, mut revoke) = (vec![], vec![], vec![], false);
    let Some(claim) = claim else { return Ok(Rights::default()) };
    let details = claim.as_array().ok_or(DetailsError::Shape("authorization_details is no array"))?;
    if details.len() > DETAILS_MAX {
        return Err(DetailsError::TooMany("32 details"));
    }
    for detail in details {
        let detail = detail.as_object().ok_or(DetailsError::Shape("a detail is no object"))?;
        let kind = detail.get("type").and_then(Value::as_str).ok_or(DetailsError::Shape("a detail without a type"))?;
        if kind != DETAIL_TYPE {
            continue;
        }
        let actions = strings(detail)?;
        let matchers = matchers(detail, base)?;
        let payload = match detail.get("payload") {
            None => None,
            Some(payload) if payload.is_object() => Some(payload),
            Some(_) => return Err(DetailsError::Shape("a payload is no object")),
        };
        if actions.contains(&"publish") {
            publish.extend_from_slice(&matchers);
        }
        if actions.contains(&"revoke") {
            revoke |= matchers.contains(&Matcher::Any);
        }
        if actions.contains(&"subscribe") {
            subscribe.extend_from_slice(&matchers);
            let json = payload.and_then(|payload| to_raw_value(payload).ok()).map(Arc::from);
            payloads.push(Payload { scope: matchers.into_iter().collect(), json });
        }
    }
    let (publish, subscribe) = (Arc::new(publish.into_iter().collect()), Arc::new(subscribe.into_iter().collect()));
    Ok(Rights { publish, subscribe, revoke, payloads })
}

/// The actions; those that aren't known grant nothing and do no harm.
fn strings(detail: &Map<String, Value>) -> Result<Vec<&str>, DetailsError> {
    let actions = detail.get("actions").and_then(Value::as_array).filter(|actions| !actions.is_empty());
    let actions = actions.ok_or(DetailsError::Shape("a detail without actions"))?;
    let texts = actions.iter().map(|action| action.as_str().ok_or(DetailsError::Shape("an action is no string")));
    texts.collect()
}

fn matchers(detail: &Map<String, Value>, base: &HubUrl) -> Result<Vec<Matcher>, DetailsError> {
    let topics = detail.get("topics").and_then(Value::as_array).filter(|topics| !topics.is_empty());
    let topics = topics.ok_or(DetailsError::Shape("a detail without topics"))?;
    if topics.len() > TOPICS_MAX {
        return Err(DetailsError::TooMany("100 topics in a detail"));
    }
    topics.iter().map(|entry| matcher(entry, base)).collect()
}

fn matcher(entry: &Value, base: &HubUrl) -> Result<Matcher, DetailsError> {
    let entry = entry.as_object().ok_or(DetailsError::Shape("a topic is no object"))?;
    let text = entry.get("match").and_then(Value::as_str).ok_or(DetailsError::Shape("a topic without match"))?;
    let kind = match entry.get("match_type") {
        None => "exact",
        Some(kind) => kind.as_str().ok_or(DetailsError::Shape("a match_type is no string"))?,
    };
    // The wildcard is known before its kind is looked at.
    match kind {
        _ if text == "*" => Ok(Matcher::Any),
        "exact" => Ok(Matcher::exact(text)?),
        "urlpattern" => Ok(Matcher::pattern(text, base)?),
        other => Err(DetailsError::MatchType(other.to_owned())),
    }
}

const DETAILS_MAX: usize = 32;
const TOPICS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use fanwire_protocol::Topic;
    use serde_json::json;

    use super::*;

    fn rights(claim: Option<&Value>) -> Result<Rights, DetailsError> {
        super::rights(claim, &HubUrl::default())
    }

    fn detail(extra: Value) -> Value {
        let mut detail = json!({"type": DETAIL_TYPE, "actions": ["subscribe"], "topics": [{"match": "a"}]});
        detail.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        detail
    }

    #[test]
    fn a_grant_covers_its_topics_and_actions() {
        let claim = json!([
            detail(json!({"payload": {"x": 1}})),
            detail(json!({"actions": ["publish", "fly"], "topics": [{"match": "b", "match_type": "exact"}]})),
            detail(json!({"actions": ["fly"], "topics": [{"match": "*"}]})),
            {"type": "https://example.com/other", "actions": 7},
        ]);
        let granted = rights(Some(&claim)).unwrap();
        let covers =
            |scope: &crate::core::Scope| ["a", "b", "c"].map(|topic| scope.covers(&Topic::new(topic).unwrap()));
        assert_eq!(covers(&granted.subscribe), [true, false, false]);
        assert_eq!(covers(&granted.publish), [false, true, false]);
        assert_eq!((granted.payloads.len(), granted.payloads[0].json.as_ref().unwrap().get()), (1, r#"{"x":1}"#));
        assert!(!granted.revoke);
        let claim =
            json!([detail(json!({"actions": ["publish", "revoke"], "topics": [{"match": "*", "match_type": "any"}]}))]);
        let rights = rights(Some(&claim)).unwrap();
        assert!(rights.publish.is_everything() && rights.revoke && rights.subscribe.is_empty());
    }

    #[test]
    fn a_pattern_is_granted_in_the_hubs_own_place() {
        let topics = json!([{"match": "/orders/:id", "match_type": "urlpattern"}, {"match": "b"}]);
        let base = HubUrl::new("https://hub.example/.well-known/mercure".parse().unwrap()).unwrap();
        let rights = super::rights(Some(&json!([detail(json!({ "topics": topics }))])), &base).unwrap();
        for (topic, covered) in [
            ("/orders/1", true),
            ("https://hub.example/orders/1", true),
            ("b", true),
            ("/orders/1/2", false),
            ("https://elsewhere.example/orders/1", false),
        ] {
            assert_eq!(rights.subscribe.covers(&Topic::new(topic).unwrap()), covered, "{topic}");
        }
    }

    #[test]
    fn one_bad_detail_spoils_the_token() {
        let good = detail(json!({}));
        assert!(rights(Some(&json!([good]))).is_ok());
        let many: Vec<Value> = (0..101).map(|i| json!({"match": format!("t{i}")})).collect();
        for bad in [
            json!({"actions": []}),
            json!({"actions": "subscribe"}),
            json!({"actions": ["subscribe", 1]}),
            json!({"actions": null}),
            json!({"topics": []}),
            json!({"topics": ["a"]}),
            json!({"topics": [{"match": ""}]}),
            json!({"topics": [{"match": 1}]}),
            json!({"topics": [{"match_type": "exact"}]}),
            json!({"topics": [{"match": "a", "match_type": "Exact"}]}),
            json!({"topics": [{"match": "a", "match_type": null}]}),
            json!({"topics": [{"match": "/(", "match_type": "urlpattern"}]}),
            json!({"topics": [{"match": "/a", "match_type": "URLPattern"}]}),
            json!({"topics": [{"match": "/(?=a)", "match_type": "urlpattern"}]}),
            json!({"topics": [{"match": "/a".repeat(513), "match_type": "urlpattern"}]}),
            json!({"topics": [{"match": "a\nb"}]}),
            json!({"topics": [{"match": "a"}, {"match": "x".repeat(1025)}]}),
            json!({"topics": many}),
            json!({"payload": []}),
            json!({"payload": null}),
        ] {
            assert!(rights(Some(&json!([good, detail(bad.clone())]))).is_err(), "{bad}");
        }
        for bad in
            [json!({}), json!("x"), json!(null), json!([1]), json!([{}]), json!([{"type": 1}]), json!(vec![good; 33])]
        {
            assert!(rights(Some(&bad)).is_err(), "{bad}");
        }
    }
}
