//! What a subscriber asks for: the query of a feed, the same on every transport.

use std::time::Duration;

use fanwire_protocol::{LastEventId, Matcher, Matchers, TopicError};

use super::{Limits, Refused, form_pairs};
use crate::log::Replay;

/// A feed that is asked for, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedRequest {
    /// What is wanted; at least one.
    pub matchers: Matchers,
    /// From where on.
    pub last_event_id: Option<LastEventId>,
    /// What to begin with, without a position.
    pub replay: Replay,
    /// From one heartbeat to the next.
    pub heartbeat: Option<Duration>,
    /// Whether an SSE feed carries control messages.
    pub control: bool,
}

impl FeedRequest {
    /// Parses a query, and a `Last-Event-ID` header, which wins over the query's.
    pub fn parse(query: &str, last_event_id_header: Option<&[u8]>, limits: &Limits) -> Result<Self, Refused> {
        let mut matchers = Matchers::default();
        let (mut last_event_id, mut heartbeat, mut control, mut delivery) = (None, None, None, None);
        let mut replay = None;
        for pair in form_pairs(query.as_bytes()) {
            let (name, value) = pair?;
            match &*name {
                "match" | "match_exact" | "topic" => {
                    matchers.insert(Matcher::exact(&value).map_err(bad_matcher)?);
                    if matchers.as_slice().len() > Matchers::COUNT_MAX {
                        let message = format!("a feed has at most {} matchers", Matchers::COUNT_MAX);
                        return Err(Refused::bad_request("too_many_matchers", message));
                    }
                }
                name if name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("match")) => {
                    let message = format!("{name:?} is no matcher that this hub knows: it knows match and match_exact");
                    return Err(Refused::bad_request("unknown_matcher", message));
                }
                "last_event_id" => last_event_id = last_event_id.or(Some(value)),
                "replay" => replay = replay.or(Some(value)),
                "heartbeat" => heartbeat = heartbeat.or(Some(value)),
                "control" => control = control.or(Some(value)),
                "delivery" => delivery = delivery.or(Some(value)),
                _ => {}
            }
        }
        if matchers.as_slice().is_empty() {
            let message = "say what to subscribe to: ?topic=… (or match=…), or topic=* for everything";
            return Err(Refused::bad_request("no_matcher", message));
        }
        if delivery.is_some_and(|delivery| delivery != "ordered") {
            return Err(Refused::bad_request("bad_delivery", "this hub delivers \"ordered\""));
        }
        let replay = match replay.as_deref() {
            None => Replay::Nothing,
            Some("latest") => Replay::Latest,
            Some(_) => return Err(Refused::bad_request("bad_replay", "replay is \"latest\", or left out")),
        };
        let last_event_id = match last_event_id_header.filter(|header| !header.is_empty()) {
            Some(header) => {
                Some(std::str::from_utf8(header).map_err(|_| bad_last_event_id("it isn't valid UTF-8"))?.into())
            }
            None => last_event_id,
        };
        let last_event_id = last_event_id.map(|text| LastEventId::parse(&text)).transpose();
        Ok(Self {
            matchers,
            last_event_id: last_event_id.map_err(|error| bad_last_event_id(&error.to_string()))?.flatten(),
            replay,
            heartbeat: heartbeat.map(|text| parse_heartbeat(&text, limits)).transpose()?,
            control: control.is_some_and(|control| control == "1"),
        })
    }
}

fn bad_matcher(error: TopicError) -> Refused {
    Refused::bad_request("bad_matcher", format!("a matcher is a topic or *: {error}"))
}

fn bad_last_event_id(why: &str) -> Refused {
    Refused::bad_request("bad_last_event_id", format!("the last event id can't be one: {why}"))
}

fn parse_heartbeat(text: &str, limits: &Limits) -> Result<Duration, Refused> {
    let (min, max) = (limits.heartbeat_min, limits.heartbeat_max);
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|heartbeat| (min..=max).contains(heartbeat)).ok_or_else(|| {
        let message = format!("heartbeat is a number of seconds from {} to {}", min.as_secs_f64(), max.as_secs_f64());
        Refused::bad_request("bad_heartbeat", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str, header: Option<&str>) -> Result<FeedRequest, &'static str> {
        FeedRequest::parse(query, header.map(str::as_bytes), &Limits::default()).map_err(|refused| refused.code)
    }

    #[test]
    fn a_query_says_what_is_wanted() {
        let request = parse("topic=a&match=b&match_exact=a&heartbeat=2.5&control=1&x=y", None).unwrap();
        assert_eq!(request.matchers, ["a", "b"].map(|topic| Matcher::exact(topic).unwrap()).into_iter().collect());
        assert_eq!((request.heartbeat, request.control), (Some(Duration::from_millis(2500)), true));
    }

    #[test]
    fn the_header_wins_unless_it_is_empty() {
        let last = |query, header| parse(query, header).unwrap().last_event_id;
        assert_eq!(last("topic=a&last_event_id=earliest", Some("x")), LastEventId::parse("x").unwrap());
        assert_eq!(last("topic=a&last_event_id=earliest", Some("")), Some(LastEventId::Earliest));
        assert_eq!(last("topic=a&last_event_id=", None), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (query, code) in [
            ("", "no_matcher"),
            ("topic=", "bad_matcher"),
            ("topic=a%0Ab", "bad_matcher"),
            ("topic=%ff", "not_utf8"),
            ("topic=a&match_uri=b", "unknown_matcher"),
            ("topic=a&Match=b", "unknown_matcher"),
            ("topic=a&heartbeat=0.5", "bad_heartbeat"),
            ("topic=a&heartbeat=NaN", "bad_heartbeat"),
            ("topic=a&delivery=carrier-pigeon", "bad_delivery"),
            ("topic=a&replay=all", "bad_replay"),
            ("topic=a&last_event_id=%23nope", "bad_last_event_id"),
        ] {
            assert_eq!(parse(query, None).err(), Some(code), "{query}");
        }
        let many: String = (0..101).map(|i| format!("topic={i}&")).collect();
        assert_eq!(parse(&many, None).err(), Some("too_many_matchers"));
    }
}
