//! Many events a request.

use fanwire_tests::{Ask, Story, TestHub, Version, Way};
use http::StatusCode;
use serde_json::{Value, json};

use crate::stored;

#[tokio::test]
async fn each_line_has_its_result_in_order() {
    for version in Version::ALL {
        let hub = TestHub::start();
        let mut feed = Way::SseH1.subscribe(&hub, &["*"]).await;
        let body = [
            r#"{"topic": "a", "data": "0", "id": "mine"}"#,
            "",
            r#"{"topic": "*", "data": "bad"}"#,
            "garbage\r",
            "  \t \r",
            "{\"topic\": \"b\", \"data\": \"1\"}\r",
            r#"{"data": "bad"}"#,
            r#"{"topic": ["c", "d"], "data_base64": "Mg=="}"#,
            "null",
            r#"{"topic": "e", "data": "3"}"#,
        ]
        .join("\n");
        let answer = Ask::post("application/x-ndjson", body).whole(version, &hub).await;
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/x-ndjson"));
        let lines: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let cursor = |seq: u64| format!("#{}:{seq}", hub.running().hub().epoch());
        let published = |seq: u64| json!({"id": cursor(seq), "cursor": cursor(seq)});
        let refused = |line: &Value| (line["line"].as_u64().unwrap(), line["error"]["code"].clone());
        assert_eq!(lines.len(), 8);
        assert_eq!(lines[0], json!({"id": "mine", "cursor": cursor(1)}));
        assert_eq!(refused(&lines[1]), (3, json!("reserved_topic")));
        assert_eq!(refused(&lines[2]), (4, json!("malformed")));
        assert_eq!(lines[3], published(2));
        assert_eq!(refused(&lines[4]), (7, json!("no_topic")));
        assert_eq!(lines[5], published(3));
        assert_eq!(refused(&lines[6]), (9, json!("malformed")));
        assert_eq!(lines[7], published(4));
        assert_eq!(Story::read(&mut feed, 4).await.texts(), ["0", "1", "2", "3"], "{version:?}");
    }
}

#[tokio::test]
async fn a_batch_of_nothing_is_answered_with_nothing() {
    let hub = TestHub::start();
    for body in ["", "\n", "\r\n\r\n", " \n\t\n"] {
        let answer = Ask::post("application/x-ndjson", body).whole(Version::H1, &hub).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, ""), "{body:?}");
    }
    stored(&hub, 0).await;
}

#[tokio::test]
async fn a_line_that_is_not_utf8_keeps_no_other_back() {
    let hub = TestHub::start();
    let body = b"{\"topic\":\"a\"}\n{\"topic\":\"\xff\"}\n{\"topic\":\"b\"}".to_vec();
    let answer = Ask::post("application/x-ndjson", body).whole(Version::H1, &hub).await;
    let lines: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[1]["line"], &lines[1]["error"]["code"]), (3, &json!(2), &json!("not_utf8")));
    stored(&hub, 2).await;
}

#[tokio::test]
async fn as_many_lines_as_may_be_are_taken() {
    let hub = TestHub::start();
    let body = "\n{\"topic\":\"a\"}\n".repeat(10_000);
    let answer = Ask::post("application/x-ndjson", body).whole(Version::H1, &hub).await;
    assert_eq!((answer.status, answer.text().lines().count()), (StatusCode::OK, 10_000));
    stored(&hub, 10_000).await;
}
