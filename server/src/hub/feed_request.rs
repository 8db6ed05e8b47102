//! What a subscriber asks for: the query of a feed, the same on every transport.

use std::time::Duration;

use fanwire_protocol::{Delivery, LastEventId, Matcher, Matchers, TopicError};

use super::{Limits, Patterns, Refused, Seat, form_pairs, patterns::COMPILED_A_TURN};
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
    /// How the events come over WebTransport.
    pub delivery: Delivery,
}

/// What a subscriber has sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// The query of the URL.
    pub query: &'a str,
    /// The form in the body of a `QUERY`: as if it followed the query.
    pub form: &'a [u8],
    /// The `Last-Event-ID` header, which wins over both.
    pub last_event_id: Option<&'a [u8]>,
}

impl FeedRequest {
    /// A feed of these, from here on.
    pub fn of(matchers: Matchers, last_event_id: Option<LastEventId>) -> Self {
        let (replay, delivery) = (Replay::Nothing, Delivery::Ordered);
        Self { matchers, last_event_id, replay, heartbeat: None, control: false, delivery }
    }

    /// Checks what a subscriber asks for who has a seat. Others get their turn while many patterns are compiled.
    pub async fn parse(asked: Asked<'_>, patterns: &Patterns, limits: &Limits, seat: &Seat) -> Result<Self, Refused> {
        let mut matchers = Matchers::default();
        let (mut last_event_id, mut heartbeat, mut control, mut delivery) = (None, None, None, None);
        let mut replay = None;
        let mut compiled = 0;
        for pair in form_pairs(asked.query.as_bytes()).chain(form_pairs(asked.form)) {
            let (name, value) = pair?;
            match &*name {
                "match" | "match_exact" | "topic" => {
                    insert(&mut matchers, Matcher::exact(&value).map_err(bad_matcher)?)?;
                }
                "match_urlpattern" => {
                    let (matcher, new) = patterns.matcher(&value, seat)?;
                    insert(&mut matchers, matcher)?;
                    compiled += usize::from(new);
                    if new && compiled % COMPILED_A_TURN == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                name if name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("match")) => {
                    let message = format!(
                        "{name:?} is no matcher that this hub knows: it knows match, match_exact and match_urlpattern"
                    );
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
        let delivery = delivery.map_or(Ok(Delivery::default()), |delivery| delivery.parse());
        let replay = match replay.as_deref() {
            None => Replay::Nothing,
            Some("latest") => Replay::Latest,
            Some(_) => return Err(Refused::bad_request("bad_replay", "replay is \"latest\", or left out")),
        };
        let last_event_id = match asked.last_event_id.filter(|header| !header.is_empty()) {
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
            delivery: delivery.map_err(|error| Refused::bad_request("bad_delivery", error.to_string()))?,
        })
    }
}

/// Adds a matcher, unless it is one too many.
pub(crate) fn insert(matchers: &mut Matchers, matcher: Matcher) -> Result<(), Refused> {
    matchers.insert(matcher);
    if matchers.as_slice().len() > Matchers::COUNT_MAX {
        let message = format!("a feed has at most {} matchers", Matchers::COUNT_MAX);
        return Err(Refused::bad_request("too_many_matchers", message));
    }
    Ok(())
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
    use std::sync::Arc;

    use super::{
        super::seats::{Bounds, Seats},
        *,
    };

    fn parse(query: &str, header: Option<&str>) -> Result<FeedRequest, &'static str> {
        ask(Asked { query, form: b"", last_event_id: header.map(str::as_bytes) })
    }

    fn ask(asked: Asked<'_>) -> Result<FeedRequest, &'static str> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (patterns, limits) = (Patterns::default(), Limits::default());
        let bounds = Bounds { all_max: 1, of_one_max: 1, patterns_of_one_max: usize::MAX, subscriptions_of_one_max: 0 };
        let seat = Arc::new(Seats::new(bounds)).take("a").unwrap();
        runtime.block_on(FeedRequest::parse(asked, &patterns, &limits, &seat)).map_err(|refused| refused.code)
    }

    #[test]
    fn a_query_says_what_is_wanted() {
        let request = parse("topic=a&match=b&match_exact=a&heartbeat=2.5&control=1&x=y", None).unwrap();
        assert_eq!(request.matchers, ["a", "b"].map(|topic| Matcher::exact(topic).unwrap()).into_iter().collect());
        assert_eq!((request.heartbeat, request.control), (Some(Duration::from_millis(2500)), true));
    }

    #[test]
    fn delivery_is_ordered_unless_it_is_asked_for_otherwise() {
        assert_eq!(parse("topic=a", None).unwrap().delivery, Delivery::Ordered);
        for delivery in Delivery::ALL {
            assert_eq!(parse(&format!("topic=a&delivery={delivery}"), None).unwrap().delivery, delivery);
        }
    }

    #[test]
    fn the_header_wins_unless_it_is_empty() {
        let last = |query, header| parse(query, header).unwrap().last_event_id;
        assert_eq!(last("topic=a&last_event_id=earliest", Some("x")), LastEventId::parse("x").unwrap());
        assert_eq!(last("topic=a&last_event_id=earliest", Some("")), Some(LastEventId::Earliest));
        assert_eq!(last("topic=a&last_event_id=", None), None);
    }

    #[test]
    fn a_body_adds_to_the_query() {
        let asked = Asked {
            query: "match=a&last_event_id=x",
            form: b"match=b&match_urlpattern=/c&last_event_id=y",
            last_event_id: None,
        };
        let request = ask(asked).unwrap();
        let wanted = ["a", "b", "/c"];
        assert_eq!(request.matchers.as_slice().iter().map(Matcher::to_string).collect::<Vec<_>>(), wanted);
        assert_eq!(request.last_event_id, LastEventId::parse("x").unwrap());
        assert_eq!(ask(Asked { query: "", ..asked }).unwrap().last_event_id, LastEventId::parse("y").unwrap());
        let header = ask(Asked { last_event_id: Some(b"z"), ..asked }).unwrap();
        assert_eq!(header.last_event_id, LastEventId::parse("z").unwrap());
    }

    #[test]
    fn the_wildcard_is_one_whichever_type_is_asked_for() {
        for name in ["match", "match_exact", "match_urlpattern", "topic"] {
            assert_eq!(parse(&format!("{name}=*"), None).unwrap().matchers.as_slice(), [Matcher::Any]);
        }
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
            ("topic=a&match_urlPattern=/b", "unknown_matcher"),
            ("topic=a&matcher=b", "unknown_matcher"),
            ("match_urlpattern=/(", "bad_matcher"),
            ("match_urlpattern=", "bad_matcher"),
            ("match_urlpattern=/a%E2%80%8B", "bad_matcher"),
            ("topic=a&heartbeat=0.5", "bad_heartbeat"),
            ("topic=a&heartbeat=NaN", "bad_heartbeat"),
            ("topic=a&delivery=carrier-pigeon", "bad_delivery"),
            ("topic=a&replay=all", "bad_replay"),
            ("topic=a&last_event_id=%23nope", "bad_last_event_id"),
        ] {
            assert_eq!(parse(query, None).err(), Some(code), "{query}");
        }
        for name in ["topic", "match_urlpattern"] {
            let many: String = (0..101).map(|i| format!("{name}={i}&")).collect();
            assert_eq!(parse(&many, None).err(), Some("too_many_matchers"));
        }
    }
}
