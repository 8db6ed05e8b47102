//! Requests on WebTransport's control stream.

use std::time::Duration;

use fanwire_client::{Connection, Control, ControlError, Item, Options, Publication, Published, Transport};
use fanwire_protocol::{Matcher, Seq, message::Verdict};
use serde_json::{Value, json};

use crate::{
    hub::{Hub, Say, Script, Seen, Serve, Then},
    sample::{cursor, hello, says},
};

/// A hub whose feed says hello and an event, and whose control stream answers as told.
async fn hub(answers: impl Fn(&Seen) -> Vec<&'static str> + Send + Sync + 'static) -> Hub {
    Hub::start(Serve::WebTransport, move |_, seen| {
        if seen.path == "/events" {
            return Script::feed(vec![hello(3, Verdict::Live), says(3, 4)], Then::Hold);
        }
        Script::feed(answers(seen).into_iter().map(|text| Say::Raw(text.into())).collect(), Then::Hold)
    })
    .await
}

async fn connect(options: &Options) -> (Connection, Control) {
    let connection = Connection::connect(Transport::WebTransport, options).await.unwrap();
    let control = connection.control().unwrap();
    (connection, control)
}

#[tokio::test]
async fn requests_are_answered_while_nobody_reads_the_feed() {
    let hub = hub(|seen| match &*seen.path {
        "/0x11" => vec![r#"{"request_id": ID, "ok": {"from_seq": 131}, "x": 1}"#],
        "/0x12" => vec![r#"{"request_id": ID, "error": {"code": "bad_matcher", "message": "no"}}"#],
        _ => vec![r##"{"request_id": ID, "ok": {"id": "mine", "cursor": "#0a1b2c3d4e:42"}}"##],
    })
    .await;
    let (mut connection, control) = connect(&hub.options()).await;
    let matchers = [Matcher::exact("orders/1").unwrap(), Matcher::Any];
    assert_eq!(control.subscribe(&matchers).await, Ok(Seq(131)));
    let refused = ControlError::Refused { code: "bad_matcher".into(), message: "no".into() };
    assert_eq!(control.unsubscribe(&matchers).await, Err(refused));
    let published = Published { id: "mine".into(), cursor: Some(cursor(42)) };
    assert_eq!(control.publish(&Publication::binary("a", &b"\xff"[..])).await, Ok(published));
    let sent: Vec<Value> = hub.seen()[1..].iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
    let expected = [
        json!({"request_id": 1, "match": ["orders/1", "*"]}),
        json!({"request_id": 2, "match": ["orders/1", "*"]}),
        json!({"request_id": 3, "topic": "a", "data_base64": "/w=="}),
    ];
    assert_eq!(sent, expected);
    assert!(matches!(connection.next().await, Ok(Item::Hello(_))));
    assert!(matches!(connection.next().await, Ok(Item::Event(_))));
}

#[tokio::test]
async fn answers_come_in_any_order() {
    // The first request is answered after the second; an answer to nobody is ignored.
    let hub = hub(|seen| {
        let first = seen.body.windows(15).any(|window| window == b"\"request_id\":1}")
            || seen.body.starts_with(b"{\"request_id\":1,");
        if first {
            vec![r#"{"request_id": 999, "ok": {"from_seq": 0}}"#]
        } else {
            vec![r#"{"request_id": 2, "ok": {"from_seq": 2}}"#, r#"{"request_id": 1, "ok": {"from_seq": 1}}"#]
        }
    })
    .await;
    let (_connection, control) = connect(&hub.options()).await;
    let any = [Matcher::Any];
    let results = tokio::join!(control.subscribe(&any), control.subscribe(&any));
    assert_eq!(results, (Ok(Seq(1)), Ok(Seq(2))));
}

#[tokio::test]
async fn a_request_doesnt_wait_for_ever() {
    let hub = hub(|_| vec![]).await;
    let mut options = hub.options();
    options.request_timeout = Duration::from_millis(50);
    let (connection, control) = connect(&options).await;
    let any = [Matcher::Any];
    assert!(matches!(control.subscribe(&any).await, Err(ControlError::Timeout { .. })));
    // Nor for a connection that has ended.
    let (ended, closed) = tokio::join!(control.subscribe(&any), connection.close());
    assert_eq!((ended, closed), (Err(ControlError::Closed), ()));
    assert_eq!(control.subscribe(&any).await, Err(ControlError::Closed));
}

#[tokio::test]
async fn an_answer_that_cant_be_read_ends_the_stream() {
    let hub = hub(|_| vec!["x"]).await;
    let (_connection, control) = connect(&hub.options()).await;
    assert_eq!(control.subscribe(&[Matcher::Any]).await, Err(ControlError::Closed));
}

#[tokio::test]
async fn only_webtransport_has_a_control_stream() {
    let hub = Hub::saying(Serve::H1, Script::feed(vec![hello(3, Verdict::Live)], Then::Hold)).await;
    assert!(Connection::connect(Transport::SseH1, &hub.options()).await.unwrap().control().is_none());
}
