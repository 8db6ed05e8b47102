//! `QUERY`: matchers in the body, and in both. [Mercure, Subscription; RFC 10008]

use fanwire_tests::{Answer, Ask, TestHub, Version};
use http::{Method, StatusCode};

const FORM: &str = "application/x-www-form-urlencoded";

fn query(query: &str, body: impl Into<String>) -> Ask {
    let ask = Ask::post(FORM, body.into()).method(Method::from_bytes(b"QUERY").unwrap());
    Ask { path: format!("/.well-known/mercure{query}"), ..ask }
}

async fn gets(answer: &mut Answer, text: &str) -> String {
    answer.until(&format!("data: {text}\n\n")).await
}

#[tokio::test]
async fn the_union_of_query_and_body_is_subscribed_to() {
    for version in Version::ALL {
        let hub = TestHub::start();
        let mut feed = query("?match=a", "match=b&match_urlpattern=%2Fc%2F%3Aid").over(version, &hub).await;
        assert_eq!((feed.status, feed.header("content-type")), (StatusCode::OK, "text/event-stream"), "{version:?}");
        for (topic, text) in [("a", "1"), ("b", "2"), ("/c/1", "3")] {
            hub.publish_with_id(topic, text, text).await;
            gets(&mut feed, text).await;
        }
    }
}

#[tokio::test]
async fn more_matchers_fit_than_into_a_url() {
    for version in Version::ALL {
        let hub = TestHub::start();
        let body: String = (0..100).map(|i| format!("match={}{i}&", "x".repeat(1_000))).collect();
        let mut feed = query("", body).over(version, &hub).await;
        assert_eq!(feed.status, StatusCode::OK, "{version:?}");
        hub.publish_with_id(&format!("{}99", "x".repeat(1_000)), "here", "id").await;
        gets(&mut feed, "here").await;
    }
}

#[tokio::test]
async fn a_last_event_id_counts_from_the_header_before_the_query_before_the_body() {
    let hub = TestHub::start();
    for id in ["1", "2", "3", "4"] {
        hub.publish_with_id("a", id, id).await;
    }
    for version in Version::ALL {
        let told = async |ask: Ask| ask.over(version, &hub).await.header("mercure-last-event-id").to_owned();
        assert_eq!(told(query("", "match=a&last_event_id=3")).await, "3", "{version:?}");
        assert_eq!(told(query("?last_event_id=2", "match=a&last_event_id=3")).await, "2");
        let all = query("?last_event_id=2", "match=a&last_event_id=3").header("last-event-id", "1");
        assert_eq!(told(all).await, "1");
    }
}

#[tokio::test]
async fn what_is_wrong_in_the_body_is_refused_as_in_the_query() {
    let hub = TestHub::start();
    for version in Version::ALL {
        for (ask, status, code) in [
            (query("", ""), 400, "no_matcher"),
            (query("", "match=a&Match=b"), 400, "unknown_matcher"),
            (query("", "match=a%0A"), 400, "bad_matcher"),
            (query("", "match=%ff"), 400, "not_utf8"),
            (query("", "match_urlpattern=%2F("), 400, "bad_matcher"),
            (query("", format!("match=a&x={}", "x".repeat(400 * 1024))), 413, "too_large"),
        ] {
            let answer = ask.whole(version, &hub).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (status, code.into()), "{version:?}");
        }
        let mut json = query("", "{}");
        json.headers = vec![("content-type", "application/json".into())];
        let answer = json.whole(version, &hub).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (415, "unsupported_media_type".into()), "{version:?}");
        // A method of HTTP's, and of this resource only.
        let elsewhere = Ask { path: "/livez".into(), ..query("", "match=a") }.whole(version, &hub).await;
        assert_eq!(elsewhere.status, StatusCode::METHOD_NOT_ALLOWED);
    }
}
