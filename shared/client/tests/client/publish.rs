//! Publishing over HTTP.

use std::time::Duration;

use fanwire_client::{Body, HttpVersion, Publication, PublishError, Published, Publisher};
use fanwire_protocol::message::Refusal;
use hyper::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    hub::{Hub, Script, Serve, Then},
    sample::cursor,
};

#[tokio::test]
async fn an_event_goes_out_as_json_and_as_a_form() {
    for (serve, version) in [
        (Serve::H1, HttpVersion::Auto),
        (Serve::H1Tls, HttpVersion::H1),
        (Serve::H2c, HttpVersion::H2),
        (Serve::H2Tls, HttpVersion::Auto),
    ] {
        let hub = Hub::start(serve, |_, seen| match seen.headers["content-type"].to_str().unwrap() {
            "application/json" => {
                Script::answer(200, vec![], r##"{"id": "mine", "cursor": "#0a1b2c3d4e:42", "x": 1}"##)
            }
            _ => Script::answer(200, vec![], "#0a1b2c3d4e:43"),
        })
        .await;
        let mut publisher = Publisher::new(hub.options(), version);
        let event = Publication { id: Some("mine".into()), ..Publication::text("a", "größe\n2") };
        let published = publisher.publish(&event).await.unwrap();
        assert_eq!(published, Published { id: "mine".into(), cursor: Some(cursor(42)) });
        let published = publisher.publish_form(&event).await.unwrap();
        assert_eq!(published, Published { id: "#0a1b2c3d4e:43".into(), cursor: Some(cursor(43)) });

        let seen = hub.seen();
        assert!(seen.iter().all(|seen| seen.method == Method::POST && seen.path == "/events"));
        let sent: Value = serde_json::from_slice(&seen[0].body).unwrap();
        assert_eq!(sent, json!({"topic": "a", "data": "größe\n2", "id": "mine"}));
        assert_eq!(seen[1].body, "topic=a&data=gr%C3%B6%C3%9Fe%0A2&id=mine");

        let binary = Publication::binary("a", &b"\xff"[..]);
        assert!(matches!(publisher.publish_form(&binary).await, Err(PublishError::NotText)));
        publisher.publish(&binary).await.unwrap();
    }
}

#[tokio::test]
async fn a_batch_has_a_result_for_each_line() {
    let answer = "{\"id\": \"#0a1b2c3d4e:42\", \"cursor\": \"#0a1b2c3d4e:42\"}\n\n{\"line\": 2, \"error\": {\"code\": \"no_topic\", \"message\": \"it needs one\"}}\n{\"id\": \"mine\", \"cursor\": \"#0a1b2c3d4e:43\"}";
    let hub = Hub::saying(Serve::H1, Script::answer(200, vec![], answer)).await;
    let mut publisher = Publisher::new(hub.options(), HttpVersion::Auto);
    let json =
        Publication { topics: vec!["a".into()], body: Body::Json(json!({"n": [1, "\n"]})), ..Publication::default() };
    let batch = [Publication::text("a", "1\n2"), Publication::default(), json];
    let results = publisher.publish_batch(&batch).await.unwrap();
    assert_eq!(results.len(), 3);
    assert_eq!(results[0].as_ref().unwrap().cursor, Some(cursor(42)));
    assert_eq!(results[1], Err(Refusal { code: "no_topic".into(), message: "it needs one".into() }));
    assert_eq!(results[2].as_ref().unwrap().id, "mine");

    let seen = &hub.seen()[0];
    assert_eq!(seen.headers["content-type"], "application/x-ndjson");
    let lines: Vec<Value> = seen
        .body
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(
        lines,
        [json!({"topic": "a", "data": "1\n2"}), json!({"topic": []}), json!({"topic": "a", "data": {"n": [1, "\n"]}})]
    );

    let error = publisher.publish_batch(&batch[..2]).await.unwrap_err();
    assert!(error.to_string().contains("it has 3 lines for 2 events"), "{error}");
}

#[tokio::test]
async fn a_refusal_has_the_hubs_words() {
    let body = r#"{"error": {"code": "bad_topic", "message": "no"}}"#;
    for serve in [Serve::H1, Serve::H2Tls] {
        let hub = Hub::saying(serve, Script::answer(400, vec![], body)).await;
        let mut publisher = Publisher::new(hub.options(), HttpVersion::Auto);
        for _ in 0..3 {
            let Err(PublishError::Refused(error)) = publisher.publish(&Publication::text("*", "")).await else {
                panic!()
            };
            assert_eq!((error.status, &*error.code, &*error.message), (400, "bad_topic", "no"));
        }
        let answer = publisher.post("text/plain", "x".into()).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (400, body.as_bytes()));
    }
}

#[tokio::test]
async fn a_connection_is_kept_and_replaced_when_it_has_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    // Two answers on each connection.
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut tcp, _) = listener.accept().await.unwrap();
            for _ in 0..2 {
                let mut request = Vec::new();
                while !request.ends_with(b"\"data\":\"\"}") {
                    assert_ne!(tcp.read_buf(&mut request).await.unwrap(), 0);
                }
                tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"id\":\"x\"}").await.unwrap();
            }
        }
        // The third connection breaks after the request.
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.read_u8().await.unwrap();
    });
    let mut publisher = Publisher::new(fanwire_client::Options::new(&url).unwrap(), HttpVersion::H1);
    for _ in 0..4 {
        publisher.publish(&Publication::text("a", "")).await.unwrap();
    }
    let error = publisher.publish(&Publication::text("a", "")).await.unwrap_err();
    assert!(matches!(error, PublishError::Cut { .. }), "{error:?}");
    server.await.unwrap();
}

#[tokio::test]
async fn an_answer_that_never_comes_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    let mut options = fanwire_client::Options::new(&url).unwrap();
    options.request_timeout = Duration::from_millis(50);
    let error = Publisher::new(options, HttpVersion::H1).publish(&Publication::text("a", "")).await.unwrap_err();
    assert!(matches!(error, PublishError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn a_request_is_tried_again_under_one_key() {
    let hub = Hub::start(Serve::H1, |connection, _| match connection {
        0 => Script::answer(
            503,
            vec![("retry-after", "0".to_owned())],
            r#"{"error": {"code": "draining", "message": "later"}}"#,
        ),
        1 => Script { bytes_max: 5, then: Then::Cut, ..Script::answer(200, vec![], "{never whole}") },
        _ => Script::answer(200, vec![], r##"{"id": "mine", "cursor": "#0a1b2c3d4e:42", "repeated": true}"##),
    })
    .await;
    let mut publisher = Publisher::new(hub.options(), HttpVersion::H1).retry_for(Duration::from_secs(30));
    publisher.publish(&Publication::text("a", "x")).await.unwrap();
    publisher.publish(&Publication::text("a", "y")).await.unwrap();
    let keys: Vec<_> = hub.seen().iter().map(|seen| seen.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys.len(), 4);
    assert!(keys[0] == keys[1] && keys[1] == keys[2] && keys[2] != keys[3], "{keys:?}");
}

#[tokio::test]
async fn what_no_other_try_can_change_is_told_at_once() {
    let refusal = r#"{"error": {"code": "no_topic", "message": "it needs one"}}"#;
    let hub = Hub::saying(Serve::H1, Script::answer(400, vec![], refusal)).await;
    let mut publisher = Publisher::new(hub.options(), HttpVersion::H1).retry_for(Duration::from_secs(3600));
    assert!(matches!(publisher.publish(&Publication::text("a", "x")).await, Err(PublishError::Refused(_))));
}
