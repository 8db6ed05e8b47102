//! Every transport brings the same.

use std::time::Duration;

use fanwire_client::{ConnectError, Connection, Item, Options, PlainEvent, ReceiveError, Transport};
use fanwire_protocol::{
    LastEventId,
    frame::{self, put_varint},
    message::{Bye, ByeCode, Hello, Message, Verdict},
};

use crate::{
    hub::{Hub, Say, Script, Serve, Then, message_frame},
    sample::{self, cursor, everything, hello, items, ping, says},
};

async fn read(connection: &mut Connection) -> (Vec<Item>, ReceiveError) {
    let mut items = Vec::new();
    loop {
        match connection.next().await {
            Ok(item) => items.push(item),
            Err(error) => return (items, error),
        }
    }
}

#[tokio::test]
async fn every_transport_brings_the_same_whatever_the_chunks() {
    let serves = [Serve::H1, Serve::H1Tls, Serve::H2c, Serve::H2Tls, Serve::H3, Serve::WebTransport];
    for serve in serves {
        let transport = match serve {
            Serve::H1 | Serve::H1Tls => Transport::SseH1,
            Serve::H2c | Serve::H2Tls => Transport::SseH2,
            Serve::H3 => Transport::SseH3,
            Serve::WebTransport => Transport::WebTransport,
        };
        for chunk_bytes in [1, 7, 1 << 20] {
            let script = Script { chunk_bytes, ..Script::feed(everything(), Then::Hold) };
            let hub = Hub::saying(serve, script).await;
            let mut connection = Connection::connect(transport, &hub.options()).await.unwrap();
            assert_eq!(connection.transport(), transport);
            assert_eq!(connection.times().hello, None);
            let (got, error) = read(&mut connection).await;
            let mut expected = items(&everything(), transport == Transport::WebTransport);
            assert_eq!(got, expected, "{serve:?} {chunk_bytes}");
            assert!(matches!(expected.pop(), Some(Item::Bye(_))) && matches!(error, ReceiveError::Ended));
            assert_eq!(connection.cursor(), Some(cursor(15)));
            assert!(connection.times().hello.unwrap() >= connection.times().connect);
            assert_eq!(connection.head().is_none(), transport == Transport::WebTransport);
            assert_eq!(connection.quic().is_some(), transport.is_quic());
            connection.close().await;
        }
    }
}

#[tokio::test]
async fn the_request_says_what_was_asked() {
    for transport in Transport::ALL {
        let hub =
            Hub::saying(Serve::usual(transport), Script::feed(vec![hello(3, Verdict::Resumed)], Then::Hold)).await;
        let mut options = hub.options().topic("größe").unwrap().last_event_id(LastEventId::Cursor(cursor(3)));
        options.heartbeat = Some(Duration::from_millis(2500));
        options.headers.insert("x-mine", "1".parse().unwrap());
        let mut connection = Connection::connect(transport, &options).await.unwrap();
        connection.next().await.unwrap();
        let seen = &hub.seen()[0];
        assert_eq!((&*seen.path, &seen.headers["x-mine"]), ("/events", &"1".parse().unwrap()));
        let matches: Vec<_> = seen.query.iter().filter(|pair| pair.0 == "match").map(|pair| &*pair.1).collect();
        assert_eq!(matches, ["*", "größe"]);
        assert_eq!(seen.value("last_event_id"), Some(&*cursor(3).to_string()));
        assert_eq!(seen.value("heartbeat"), Some("2.5"));
        let sse = transport != Transport::WebTransport;
        assert_eq!(seen.value("control"), sse.then_some("1"));
        assert_eq!(seen.headers.get("accept").is_some_and(|accept| accept == "text/event-stream"), sse);
        assert_eq!(seen.headers.contains_key("host"), transport == Transport::SseH1, "{transport}");
    }
}

#[tokio::test]
async fn what_is_not_known_is_skipped() {
    for transport in Transport::ALL {
        let unknown = if transport == Transport::WebTransport {
            let mut bytes = Vec::new();
            for kind in [0x3f, 0x0abc, frame::ANSWER] {
                put_varint(&mut bytes, kind);
                bytes.extend_from_slice(b"\x03abc");
            }
            bytes
        } else {
            b"event: fanwire\ndata: {\"weather\": 1}\n\n: a comment\nfield\nretry: x\n\n".to_vec()
        };
        let feed = vec![Say::Raw(unknown.clone()), hello(3, Verdict::Live), Say::Raw(unknown), says(3, 4)];
        let hub = Hub::saying(Serve::usual(transport), Script::feed(feed.clone(), Then::End)).await;
        let mut connection = Connection::connect(transport, &hub.options()).await.unwrap();
        let (got, error) = read(&mut connection).await;
        assert_eq!(got, items(&feed, transport == Transport::WebTransport), "{transport}");
        assert!(matches!(error, ReceiveError::Ended), "{transport}: {error}");
    }
}

#[tokio::test]
async fn what_breaks_the_protocol_is_an_error_after_what_was_sound() {
    for transport in Transport::ALL {
        let webtransport = transport == Transport::WebTransport;
        let raw = |frames: &[u8], sse: &str| Say::Raw(if webtransport { frames.to_vec() } else { sse.into() });
        let good = [hello(3, Verdict::Live), says(3, 4)];
        let bad = [
            // An event that ends in the middle.
            raw(b"\x01\x02\x04\x05", "id: mine\ndata: x\n\n"),
            // A ping without a watermark.
            raw(b"\x04\x02{}", "event: fanwire\ndata: {\"ping\": {}}\n\n"),
            // Too long.
            raw(b"\x01\xc0\x00\x00\x00\x01\x00\x00\x00", &format!("data: {}\n\n", "x".repeat(2000))),
            // The same again.
            says(3, 4),
            // Two greetings.
            hello(4, Verdict::Live),
        ];
        for bad in bad {
            let feed: Vec<_> = good.iter().cloned().chain([bad.clone()]).collect();
            let hub = Hub::saying(Serve::usual(transport), Script::feed(feed, Then::Hold)).await;
            let mut options = hub.options();
            options.event_bytes_max = 1000;
            let mut connection = Connection::connect(transport, &options).await.unwrap();
            let (got, error) = read(&mut connection).await;
            assert_eq!(got, items(&good, webtransport), "{transport} {bad:?}");
            assert!(!matches!(error, ReceiveError::Ended | ReceiveError::Cut(_)), "{transport} {bad:?}: {error}");
            assert!(matches!(connection.next().await, Err(ReceiveError::Ended)));
        }
    }
    let feed = vec![hello(3, Verdict::Live), says(2, 4)];
    let hub = Hub::saying(Serve::WebTransport, Script::feed(feed, Then::Hold)).await;
    let mut connection = Connection::connect(Transport::WebTransport, &hub.options()).await.unwrap();
    assert!(matches!(read(&mut connection).await.1, ReceiveError::Skipped { .. }));
}

#[tokio::test]
async fn a_feed_that_is_cut_inside_an_event_says_so() {
    for transport in Transport::ALL {
        let feed = vec![hello(3, Verdict::Live), says(3, 4), says(4, 7)];
        let whole: usize = 3;
        let mut script = Script::feed(feed.clone(), Then::End);
        script.bytes_max = length(&feed, transport) - whole;
        let hub = Hub::saying(Serve::usual(transport), script).await;
        let mut connection = Connection::connect(transport, &hub.options()).await.unwrap();
        let (got, error) = read(&mut connection).await;
        assert_eq!(got, items(&feed[..2], transport == Transport::WebTransport));
        let malformed = matches!(error, ReceiveError::Malformed(_));
        assert_eq!(malformed, transport == Transport::WebTransport, "{transport}: {error}");
    }
}

fn length(says: &[Say], transport: Transport) -> usize {
    says.iter()
        .map(|say| match (say, transport) {
            (Say::Raw(raw), _) => raw.len(),
            (Say::Message(message), Transport::WebTransport) => message_frame(message).len(),
            (Say::Event { prev, event }, Transport::WebTransport) => {
                let body = frame::event_body(event);
                let mut head = Vec::new();
                frame::put_event_head(&mut head, *prev, body.len());
                head.len() + body.len()
            }
            (Say::Message(message), _) => fanwire_protocol::sse::control_message(message).len(),
            (Say::Event { event, .. }, _) => fanwire_protocol::sse::event_with_control_id(event).len(),
        })
        .sum()
}

#[tokio::test]
async fn a_connection_that_breaks_says_so() {
    for transport in Transport::ALL {
        let feed = vec![hello(3, Verdict::Live), says(3, 4)];
        let hub = Hub::saying(Serve::usual(transport), Script::feed(feed, Then::Cut)).await;
        let mut connection = match Connection::connect(transport, &hub.options()).await {
            Ok(connection) => connection,
            // QUIC may be faster with the end than with the answer.
            Err(error) if transport.is_quic() => {
                assert!(matches!(error, ConnectError::Http { .. }), "{error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let (got, error) = read(&mut connection).await;
        assert!(got.len() <= 2);
        assert!(matches!(error, ReceiveError::Cut(_)), "{transport}: {error:?}");
    }
}

#[tokio::test]
async fn errors_are_the_hubs_own_words() {
    let body = r#"{"error": {"code": "no_matcher", "message": "say what you want"}}"#;
    for transport in Transport::ALL {
        for status in [400, 503] {
            let headers = vec![("retry-after", "7".to_owned())];
            let hub = Hub::saying(Serve::usual(transport), Script::answer(status, headers, body)).await;
            let error = Connection::connect(transport, &hub.options()).await.unwrap_err();
            assert_eq!(error.is_terminal(), status == 400, "{transport}: {error:?}");
            let ConnectError::Refused(error) = error else { panic!("{transport}: {error:?}") };
            assert_eq!(error.status, status);
            // WebTransport doesn't bring more than the status.
            if transport != Transport::WebTransport {
                assert_eq!((&*error.code, &*error.message), ("no_matcher", "say what you want"));
                assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
            }
        }
    }
}

#[tokio::test]
async fn a_page_is_no_feed() {
    let hub = Hub::saying(Serve::H1, Script::answer(200, vec![("content-type", "text/html".into())], "<html>")).await;
    let error = Connection::connect(Transport::SseH1, &hub.options()).await.unwrap_err();
    assert!(error.to_string().ends_with("answered with text/html, not with text/event-stream"), "{error}");
    let hub = Hub::saying(Serve::H2Tls, Script::answer(302, vec![("location", "/login".into())], "")).await;
    let error = Connection::connect(Transport::SseH2, &hub.options()).await.unwrap_err();
    assert!(error.is_terminal() && error.to_string().ends_with("302: use /login"), "{error}");
}

#[tokio::test]
async fn a_bye_may_be_all_that_comes() {
    let bye = Bye::terminal(ByeCode::BadRequest, "no matcher");
    for transport in Transport::ALL {
        let feed = vec![sample::bye(bye.clone())];
        let hub = Hub::saying(Serve::usual(transport), Script::feed(feed, Then::End)).await;
        let mut connection = Connection::connect(transport, &hub.options()).await.unwrap();
        assert_eq!(connection.next().await.unwrap(), Item::Bye(bye.clone()));
        assert!(matches!(connection.next().await, Err(ReceiveError::Ended)));
    }
}

#[tokio::test]
async fn sse_without_control_messages_is_what_an_event_source_sees() {
    let text = "retry: 2000\n: hi\nid: #0a1b2c3d4e:3\n\nid: mine\nevent: fanwire\ndata: größe\ndata: 2\n\n";
    for transport in [Transport::SseH1, Transport::SseH2, Transport::SseH3] {
        let mut script = Script::feed(vec![Say::Raw(text.into())], Then::End);
        script.headers.push(("mercure-last-event-id", "earliest".to_owned()));
        let hub = Hub::saying(Serve::usual(transport), script).await;
        let mut options = hub.options();
        options.control = false;
        let mut connection = Connection::connect(transport, &options).await.unwrap();
        assert_eq!(connection.head().unwrap().headers["mercure-last-event-id"], "earliest");
        let plain = PlainEvent { id: "mine".into(), kind: Some("fanwire".into()), data: "größe\n2".into() };
        let (got, error) = read(&mut connection).await;
        assert_eq!(got, [Item::Plain(plain)]);
        assert!(matches!(error, ReceiveError::Ended), "{transport}: {error}");
        assert_eq!((connection.last_event_id(), connection.retry()), (Some("mine"), Some(Duration::from_secs(2))));
        assert_eq!(hub.seen()[0].value("control"), None);
    }
}

#[tokio::test]
async fn sse_is_h2_where_tls_negotiates_it() {
    let script = Script::feed(vec![hello(3, Verdict::Live)], Then::Hold);
    for (serve, expected) in
        [(Serve::H1, Transport::SseH1), (Serve::H1Tls, Transport::SseH1), (Serve::H2Tls, Transport::SseH2)]
    {
        let hub = Hub::saying(serve, script.clone()).await;
        let mut connection = Connection::connect_sse(&hub.options()).await.unwrap();
        assert_eq!(connection.transport(), expected);
        assert!(matches!(connection.next().await, Ok(Item::Hello(_))));
    }
}

#[tokio::test]
async fn a_silent_hub_is_taken_for_dead() {
    for transport in Transport::ALL {
        let hello = Hello { version: 1, cursor: cursor(3), verdict: Verdict::Live, heartbeat_ms: 50 };
        let feed = vec![Say::Message(Message::Hello(hello))];
        let hub = Hub::saying(Serve::usual(transport), Script::feed(feed, Then::Hold)).await;
        let mut connection = Connection::connect(transport, &hub.options()).await.unwrap();
        assert!(matches!(connection.next().await, Ok(Item::Hello(_))));
        assert!(matches!(connection.next().await, Err(ReceiveError::Silent { .. })), "{transport}");
    }
}

#[tokio::test]
async fn an_hour_of_silence_is_two_heartbeats_and_no_more() {
    let feed = vec![hello(3, Verdict::Live)];
    let hub = Hub::saying(Serve::H1, Script::feed(feed, Then::Hold)).await;
    let mut connection = Connection::connect(Transport::SseH1, &hub.options()).await.unwrap();
    assert!(matches!(connection.next().await, Ok(Item::Hello(_))));
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    assert!(matches!(connection.next().await, Err(ReceiveError::Silent { .. })));
    assert!((30..=31).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn next_may_be_given_up_at_any_time() {
    for transport in Transport::ALL {
        let script = Script { chunk_bytes: 1, ..Script::feed(everything(), Then::Hold) };
        let hub = Hub::saying(Serve::usual(transport), script).await;
        let mut connection = Connection::connect(transport, &hub.options()).await.unwrap();
        let expected = items(&everything(), transport == Transport::WebTransport);
        let mut got = Vec::new();
        while got.len() < expected.len() {
            tokio::select! {
                biased;
                item = connection.next() => got.push(item.unwrap()),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(got, expected, "{transport}");
    }
}

#[tokio::test]
async fn ten_sessions_share_a_socket() {
    let endpoint = quinn::Endpoint::client("0.0.0.0:0".parse().unwrap()).unwrap();
    for transport in [Transport::WebTransport, Transport::SseH3] {
        let feed = vec![hello(3, Verdict::Live), ping(4)];
        let hub = Hub::saying(Serve::usual(transport), Script::feed(feed, Then::Hold)).await;
        let mut options = hub.options();
        options.endpoint = Some(endpoint.clone());
        let mut connections = Vec::new();
        for _ in 0..10 {
            connections.push(Connection::connect(transport, &options).await.unwrap());
        }
        let ports: std::collections::HashSet<_> =
            connections.iter().map(|connection| connection.quic().unwrap().stable_id()).collect();
        assert_eq!((ports.len(), endpoint.open_connections()), (10, 10));
        // The end of one is not the end of the others.
        drop(connections.pop());
        for connection in &mut connections {
            assert!(matches!(connection.next().await, Ok(Item::Hello(_))));
            assert!(matches!(connection.next().await, Ok(Item::Ping(_))));
        }
        drop(connections);
        endpoint.wait_idle().await;
    }
}

#[tokio::test]
async fn a_hub_that_never_answers_is_given_up() {
    let (_socket, url) = crate::hub::silent_udp();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = format!("http://{}/events", listener.local_addr().unwrap());
    for (transport, url) in
        [(Transport::SseH1, &*tcp), (Transport::SseH3, url.as_str()), (Transport::WebTransport, url.as_str())]
    {
        let mut options = Options::new(url).unwrap();
        options.trust = fanwire_client::Trust::Insecure;
        options.connect_timeout = Duration::from_millis(50);
        let error = Connection::connect(transport, &options).await.unwrap_err();
        assert!(matches!(error, ConnectError::Timeout { .. }), "{error}");
        assert!(error.to_string().contains("127.0.0.1:"), "{error}");
    }
}
