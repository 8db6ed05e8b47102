//! A publisher that tries again makes no second event.

use fanwire_client::{ControlError, Publication};
use fanwire_tests::{Ask, Story, TestHub, Version, Way, soon};
use http::StatusCode;
use serde_json::{Value, json};

use crate::stored;

fn keyed(key: &str, content_type: &str, body: &str) -> Ask {
    let mut ask = Ask::post(content_type, body.to_owned());
    ask.headers.push(("idempotency-key", key.to_owned()));
    ask
}

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn the_second_try_gets_the_first_id_in_every_form_and_makes_no_event() {
    for version in Version::ALL {
        let hub = TestHub::start();
        let first = keyed("\"k\"", FORM, "topic=a&data=x").whole(version, &hub).await;
        assert_eq!((first.status, first.header("idempotent-replayed")), (StatusCode::OK, ""));
        let second = keyed("k", FORM, "data=x&topic=a").whole(version, &hub).await;
        assert_eq!((second.status, second.header("idempotent-replayed")), (StatusCode::OK, "true"));
        assert_eq!(first.text(), second.text(), "{version:?}");
        let json = keyed("k", "application/json", r#"{"topic": ["a"], "data": "x"}"#).whole(version, &hub).await;
        let json: Value = serde_json::from_str(json.text()).unwrap();
        assert_eq!(json, json!({"id": first.text(), "cursor": first.text(), "repeated": true}));
        let own = r#"{"topic": "a", "data": "x", "idempotency_key": "k"}"#;
        let own = Ask::post("application/json", own.to_owned()).whole(version, &hub).await;
        assert_eq!(serde_json::from_str::<Value>(own.text()).unwrap()["repeated"], true);
        stored(&hub, 1).await;
    }
}

#[tokio::test]
async fn a_key_that_was_given_to_another_event_is_refused() {
    let hub = TestHub::start();
    for (body, status) in [
        ("topic=a&data=x", StatusCode::OK),
        ("topic=a&data=y", StatusCode::UNPROCESSABLE_ENTITY),
        ("topic=b&data=x", StatusCode::UNPROCESSABLE_ENTITY),
        ("topic=a&data=x&id=mine", StatusCode::UNPROCESSABLE_ENTITY),
        ("topic=a&data=x", StatusCode::OK),
    ] {
        let answer = keyed("k", FORM, body).whole(Version::H1, &hub).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        if status != StatusCode::OK {
            assert!(answer.text().contains("idempotency_key_reused"), "{}", answer.text());
        }
    }
    stored(&hub, 1).await;
}

#[tokio::test]
async fn events_without_a_key_and_ids_that_are_used_again_are_new_each_time() {
    let hub = TestHub::start();
    for _ in 0..2 {
        let answer = Ask::post(FORM, "topic=a&data=x&id=mine".to_owned()).whole(Version::H1, &hub).await;
        assert_eq!(answer.text(), "mine");
    }
    stored(&hub, 2).await;
}

#[tokio::test]
async fn each_line_of_a_batch_is_tried_again_alone() {
    let hub = TestHub::start();
    let mut feed = Way::SseH1.subscribe(&hub, &["*"]).await;
    let lines = |texts: &[&str]| -> String {
        texts.iter().map(|text| format!("{}\n", json!({"topic": "a", "data": text}))).collect()
    };
    let batch = async |key: &str, body: String| -> Vec<Value> {
        let answer = keyed(key, "application/x-ndjson", &body).whole(Version::H1, &hub).await;
        answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // Two lines that are alike are two events.
    let first = batch("k", lines(&["x", "x", "y"])).await;
    let again = batch("k", lines(&["x", "x", "y", "z"])).await;
    for (first, again) in first.iter().zip(&again) {
        assert_eq!((&again["cursor"], &again["repeated"]), (&first["cursor"], &json!(true)));
    }
    assert_eq!(again[3]["repeated"], Value::Null, "the fourth is new");
    let other = batch("k", lines(&["x", "w"])).await;
    assert_eq!(other[0]["cursor"], first[0]["cursor"]);
    assert_eq!((&other[1]["line"], &other[1]["error"]["code"]), (&json!(2), &json!("idempotency_key_reused")));
    // A line's own key wins, and stands for the same event outside of a batch and twice in one.
    let own = json!({"topic": "a", "data": "own", "idempotency_key": "mine"}).to_string();
    let twice = batch("k2", format!("{own}\n\n{own}\n")).await;
    assert_eq!((&twice[0]["repeated"], &twice[1]["repeated"]), (&Value::Null, &json!(true)));
    let alone = keyed("mine", FORM, "topic=a&data=own").whole(Version::H1, &hub).await;
    assert_eq!(twice[0]["cursor"], alone.text());
    assert_eq!(Story::read(&mut feed, 5).await.texts(), ["x", "x", "y", "z", "own"]);
}

#[tokio::test]
async fn a_session_publishes_under_keys_too() {
    let hub = TestHub::start();
    let feed = Way::WebTransport.subscribe(&hub, &["a"]).await;
    let control = feed.control().unwrap();
    let keyed = |text| Publication { idempotency_key: Some("k".to_owned()), ..Publication::text("a", text) };
    let first = soon(control.publish(&keyed("x"))).await.unwrap();
    assert_eq!(soon(control.publish(&keyed("x"))).await.unwrap(), first);
    let other = soon(control.publish(&keyed("y"))).await;
    assert!(matches!(&other, Err(ControlError::Refused { code, .. }) if code == "idempotency_key_reused"), "{other:?}");
    stored(&hub, 1).await;
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let hub = TestHub::start();
    let long = "k".repeat(256);
    for key in ["", "\"", "\"open", "\"a\"b\"", "\"a\\x\"", "caf\u{e9}", &long] {
        let answer = keyed(key, FORM, "topic=a").whole(Version::H1, &hub).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{key}");
        assert!(answer.text().contains("bad_idempotency_key"), "{}", answer.text());
    }
    let mut twice = keyed("a", FORM, "topic=a");
    twice.headers.push(("idempotency-key", "b".to_owned()));
    assert_eq!(twice.whole(Version::H1, &hub).await.status, StatusCode::BAD_REQUEST);
    let quoted = keyed(r#""a\"b\\""#, FORM, "topic=a").whole(Version::H1, &hub).await;
    let bare = keyed(r#"a"b\"#, FORM, "topic=a").whole(Version::H1, &hub).await;
    assert_eq!((quoted.status, bare.header("idempotent-replayed")), (StatusCode::OK, "true"));
    stored(&hub, 1).await;
}
