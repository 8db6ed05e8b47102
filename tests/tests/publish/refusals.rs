//! One event a request: each refusal has its status and its code, and stores nothing.

use fanwire_tests::{
    Ask, TestHub, Version, Wire,
    raw_http3::{RawFeed, RawHttp3, frame},
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::stored;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

/// Events that are refused in every notation: their members, and the refusal.
fn refused_everywhere() -> Vec<(Value, u16, &'static str)> {
    let long = |count: usize| "x".repeat(count);
    let topics = |count: usize| (0..count).map(|i| format!("t{i}")).collect::<Vec<_>>();
    let mut cases = vec![
        (json!({"data": "x"}), 400, "no_topic"),
        (json!({"topic": "", "data": "x"}), 400, "bad_topic"),
        (json!({"topic": ["a", ""], "data": "x"}), 400, "bad_topic"),
        (json!({"topic": "*"}), 400, "reserved_topic"),
        (json!({"topic": ["a", "*"]}), 400, "reserved_topic"),
        (json!({"topic": topics(17)}), 413, "too_many_topics"),
        (json!({"topic": long(1025)}), 413, "too_large"),
        (json!({"topic": "a", "data": long(1024 * 1024 + 1)}), 413, "too_large"),
        (json!({"topic": "a", "id": long(256)}), 413, "too_large"),
        (json!({"topic": "a", "type": long(256)}), 413, "too_large"),
        (json!({"topic": "a", "id": "#x"}), 400, "reserved_id"),
        (json!({"topic": "a", "id": "earliest"}), 400, "reserved_id"),
        (json!({"topic": "a", "type": "fanwire"}), 400, "reserved_type"),
        (json!({"topic": "a", "type": "mercure"}), 400, "reserved_type"),
        (json!({"topic": "a", "retry": 86_400_001}), 400, "bad_retry"),
    ];
    for bad in ["\0", "\n", "\r", "\t", "\u{1b}", "\u{7f}", "\u{85}", "\u{ad}", "\u{200b}", "\u{202e}", "\u{feff}"] {
        cases.push((json!({"topic": format!("a{bad}")}), 400, "bad_topic"));
        cases.push((json!({"topic": ["ok", format!("{bad}a")]}), 400, "bad_topic"));
        cases.push((json!({"topic": "a", "id": format!("a{bad}b")}), 400, "bad_id"));
        cases.push((json!({"topic": "a", "type": format!("{bad}b")}), 400, "bad_type"));
    }
    for topic in [
        "/.well-known/mercure",
        "/.well-known/mercure/",
        "/.well-known/mercure/subscriptions/a/b",
        "https://hub.example/.well-known/mercure/x",
        "//hub.example/.well-known/mercure/x",
        "/.well-known/%6dercure/x",
        "/%2ewell-known/mercure/x",
        "/.well-known%2Fmercure",
        "/a/../.well-known/mercure",
        "/.well-known/./mercure/x?y#z",
        "\\.well-known\\mercure",
        " /.well-known/mercure ",
        "mercure/x",
        "./mercure",
        "?x",
        "#x",
        " ?x",
        " ",
        "https:mercure/x",
        "HTTPS:?x",
        "https:",
    ] {
        cases.push((json!({"topic": topic}), 400, "reserved_topic"));
        cases.push((json!({"topic": ["a", topic]}), 400, "reserved_topic"));
    }
    cases
}

/// Bodies that are refused for what they are: the content type, the body, and the refusal.
fn refused_as_written() -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let mut cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        (FORM, b"".to_vec(), 400, "no_topic"),
        (FORM, b"topic=a&data=\xff".to_vec(), 400, "not_utf8"),
        (FORM, b"topic=a&data=%ff".to_vec(), 400, "not_utf8"),
        (FORM, b"topic=%c3".to_vec(), 400, "not_utf8"),
        (FORM, b"topic=a&%ff=1".to_vec(), 400, "not_utf8"),
        (FORM, b"topic=a&data=%ed%a0%80".to_vec(), 400, "not_utf8"),
        (FORM, [b"topic=a&x=" as &[u8], &vec![b'x'; 4 << 20]].concat(), 413, "too_large"),
        (JSON, b"{\"topic\":\"a\",\"data\":\"\xff\"}".to_vec(), 400, "not_utf8"),
        (JSON, b"{\"topic\":\"a\",\"other\":\"\xff\"}".to_vec(), 400, "not_utf8"),
        (JSON, b"".to_vec(), 400, "malformed"),
        (JSON, [b"{\"topic\":\"a\",\"x\":\"" as &[u8], &vec![b'x'; 4 << 20], b"\"}"].concat(), 413, "too_large"),
        (NDJSON, vec![b'\n'; (8 << 20) + 1], 413, "too_large"),
        (NDJSON, b"{}\n".repeat(10_001), 413, "too_large"),
        ("text/plain", b"topic=a".to_vec(), 415, "unsupported_media_type"),
        ("multipart/form-data; boundary=x", b"--x--".to_vec(), 415, "unsupported_media_type"),
        ("", b"topic=a".to_vec(), 415, "unsupported_media_type"),
        ("application/jsonp", b"{\"topic\":\"a\"}".to_vec(), 415, "unsupported_media_type"),
    ];
    for retry in ["", "-1", "+1", "1.5", "1s", " 1", "0x10", "99999999999999999999", "86400001"] {
        cases.push((FORM, format!("topic=a&retry={}", retry.replace('+', "%2B")).into(), 400, "bad_retry"));
    }
    for text in [
        "garbage",
        "null",
        "[]",
        "\"a\"",
        r#"{"topic": "a""#,
        r#"{"topic": "a"} x"#,
        r#"{"topic": "a"}{"topic": "b"}"#,
        r#"{"topic": "a", "topic": "b"}"#,
        r#"{"topic": 5}"#,
        r#"{"topic": ["a", 5]}"#,
        r#"{"topic": {"a": 1}}"#,
        r#"{"topic": "a", "id": 5}"#,
        r#"{"topic": "a", "private": "yes"}"#,
        r#"{"topic": "a", "retry": -1}"#,
        r#"{"topic": "a", "data": "x", "data_base64": "eA=="}"#,
        r#"{"topic": "a", "data": null, "data_base64": "eA=="}"#,
        r#"{"topic": "a", "data": "\ud800"}"#,
        r#"["a", "x", null, null, null, null, null]"#,
    ] {
        cases.push((JSON, text.into(), 400, "malformed"));
    }
    for text in ["eA", "eA=", "e A==", "eA==\n", "e_-=", "====", "x"] {
        cases.push((JSON, json!({"topic": "a", "data_base64": text}).to_string().into(), 400, "bad_data"));
    }
    for name in ["id", "type"] {
        let code = if name == "id" { "bad_id" } else { "bad_type" };
        // A form can't leave a field out as easily: there it is none.
        cases.push((JSON, json!({"topic": "a", name: ""}).to_string().into(), 400, code));
    }
    let nested = format!(r#"{{"topic": {}"a"{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    cases.push((JSON, nested.into(), 400, "malformed"));
    cases
}

#[tokio::test]
async fn every_refusal_of_an_event_has_its_code_in_every_notation() {
    let hub = TestHub::start();
    let mut publisher = hub.publisher();
    let http3 = RawHttp3::connect(&hub).await;
    let session = http3.session("/events?topic=a").await;
    let (mut control, answers) = http3.open_bi(session.id).await;
    let mut answers = RawFeed::new(answers);
    for (id, (event, status, code)) in refused_everywhere().into_iter().enumerate() {
        let mut shown = event.to_string();
        shown.truncate(100);
        let refused = (status, code.to_owned());
        for (content_type, body) in [(FORM, form(&event)), (JSON, event.to_string())] {
            let answer = publisher.post(content_type, body.into()).await.unwrap();
            let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let got = (answer.status.as_u16(), json["error"]["code"].as_str().unwrap_or_default().to_owned());
            assert_eq!(got, refused, "{content_type} {shown}");
            assert_eq!(answer.headers["content-type"], "application/json");
            assert!(!json["error"]["message"].as_str().unwrap().is_empty());
        }
        let answer = publisher.post(NDJSON, event.to_string().into()).await.unwrap();
        let line: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &line["line"], &line["error"]["code"]), (StatusCode::OK, &json!(1), &json!(code)));
        let mut request = event;
        request["request_id"] = json!(id);
        control.write_all(&frame(0x13, request.to_string().as_bytes())).await.unwrap();
        let answer = answers.json(0x20).await;
        assert_eq!((&answer["request_id"], &answer["error"]["code"]), (&json!(id), &json!(code)), "PUBLISH {shown}");
    }
    stored(&hub, 0).await;
}

#[tokio::test]
async fn a_body_that_is_none_is_refused() {
    let hub = TestHub::start();
    for (content_type, body, status, code) in refused_as_written() {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let mut ask = Ask::post(content_type, body.clone());
        if content_type.is_empty() {
            ask.headers.clear();
        }
        let answer = ask.whole(Version::H1, &hub).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code.to_owned()), "{content_type} {shown}");
        if content_type == JSON && status == 400 && !shown.contains('\n') && !body.is_empty() {
            let answer = Ask::post(NDJSON, body).whole(Version::H1, &hub).await;
            assert_eq!(answer.json()["error"]["code"], json!(code), "a line of {shown}");
        }
    }
    stored(&hub, 0).await;
}

#[tokio::test]
async fn what_is_taken_is_answered() {
    let hub = TestHub::start();
    let mut count = 0;
    for version in Version::ALL {
        let answer = Ask::post(FORM, "topic=a&data=1&unknown=%41&data=2").whole(version, &hub).await;
        count += 1;
        let cursor = format!("#{}:{count}", hub.running().hub().epoch());
        let got = (answer.status, answer.header("content-type"), answer.text());
        assert_eq!(got, (StatusCode::OK, "text/plain; charset=utf-8", &*cursor), "{version:?}");
        let form = "topic=a&id=mine&type=&retry=1000&private=on&data=a+b";
        assert_eq!(Ask::post(FORM, form).whole(version, &hub).await.text(), "mine");
        count += 1;
        for content_type in [JSON, "Application/JSON; charset=utf-8"] {
            let body = r#" {"topic": ["a", "b"], "id": "mine", "unknown": [[{}]], "data": null} "#;
            let answer = Ask::post(content_type, body).whole(version, &hub).await;
            count += 1;
            let cursor = format!("#{}:{count}", hub.running().hub().epoch());
            assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/json"));
            assert_eq!(answer.json(), json!({"id": "mine", "cursor": cursor}), "{version:?}");
        }
        let refused = Ask::post(JSON, r#"{"topic": "*"}"#).whole(version, &hub).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (400, "reserved_topic".to_owned()), "{version:?}");
        let refused = Ask::post(FORM, vec![b'x'; 4 << 20]).whole(version, &hub).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (413, "too_large".to_owned()), "{version:?}");
    }
    stored(&hub, count).await;
}

#[tokio::test]
async fn the_largest_of_everything_is_taken() {
    let hub = TestHub::start();
    let long = |count: usize| "x".repeat(count);
    let topics: Vec<_> = (0..15).map(|i| format!("t{i}")).chain([long(1024)]).collect();
    let event =
        json!({"topic": topics, "id": long(255), "type": long(255), "data": long(1 << 20), "retry": 86_400_000});
    let answer = Ask::post(JSON, event.to_string()).whole(Version::H1, &hub).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let answer = Ask::post(FORM, form(&event)).whole(Version::H1, &hub).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    // Every byte percent-encoded.
    let form = format!("topic=a&data={}", "%78".repeat(1 << 20));
    assert_eq!(Ask::post(FORM, form).whole(Version::H1, &hub).await.status, StatusCode::OK);
    stored(&hub, 3).await;
}

#[tokio::test]
async fn who_sends_a_body_too_long_hears_of_it() {
    let hub = TestHub::start();
    for announced in [true, false] {
        // It sends all of it before it reads.
        let mut wire = Wire::cleartext(&hub).await;
        let head = format!("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON}\r\n");
        let body = vec![b'x'; 6 << 20];
        if announced {
            wire.send(format!("{head}Content-Length: {}\r\n\r\n", body.len())).await;
            wire.send(&body).await;
        } else {
            wire.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len())).await;
            wire.send(&body).await;
            wire.send("\r\n0\r\n\r\n").await;
        }
        let answer = wire.answer().await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
    stored(&hub, 0).await;
}

fn form(event: &Value) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in event.as_object().expect("an object") {
        let values = match value {
            Value::Array(values) => values.clone(),
            value => vec![value.clone()],
        };
        for value in values {
            form.append_pair(name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
    form.finish()
}
