//! What is HTTP/2's own: many feeds on a connection, small windows, and bodies that are asked for.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use fanwire_client::Publication;
use fanwire_tests::{TestHub, soon};
use h2::{
    RecvStream,
    client::{Builder, SendRequest},
};
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::{net::TcpStream, task::JoinSet};

#[tokio::test]
async fn feeds_on_one_connection_get_every_event_through_small_windows() {
    let hub = TestHub::start();
    // One alone, and many; an event may be larger than a stream's window, and all of them are larger than the connection's.
    for (feeds, window, longer) in [(1, 1_000, 20), (20, 1_000, 4), (1, 20_000, 20), (1, 65_535, 20)] {
        let mut requests = connect(&hub, Builder::new().initial_window_size(window)).await;
        let topic = format!("of/{feeds}/{window}");
        let mut readers = JoinSet::new();
        for _ in 0..feeds {
            let (_, body) = get(&mut requests, &format!("/events?topic={topic}")).await;
            readers.spawn(read_until(body, "last\n\n"));
        }
        let texts: Vec<String> = (0..300).map(|number| format!("{number}-{}", "x".repeat(number * longer))).collect();
        for text in &texts {
            hub.publish(&Publication::text(&topic, text)).await;
        }
        hub.publish(&Publication::text(&topic, "last")).await;
        while let Some(read) = soon(readers.join_next()).await {
            let read = read.unwrap();
            let data: Vec<&str> = read.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            assert!(data[..300] == texts, "{feeds} feeds: {} events", data.len());
        }
    }
}

#[tokio::test]
async fn a_connection_on_which_feeds_come_and_go_goes_on_within_its_windows() {
    let hub = TestHub::start();
    let mut requests = connect(&hub, &Builder::new()).await;
    // Each leaves before it has used what it may send, and all together would take the connection's window several times.
    for number in 0..40 {
        let (_, body) = get(&mut requests, "/events?topic=a").await;
        hub.publish(&Publication::text("a", "x")).await;
        let one = tokio::spawn(read_until(body, "data: x\n\n"));
        if number % 2 == 0 {
            // Another comes while it is there, and bodies besides.
            let (_, body) = get(&mut requests, "/events?topic=a").await;
            let (_, page) = get(&mut requests, "/").await;
            hub.publish(&Publication::text("a", "x")).await;
            soon(read_until(body, "data: x\n\n")).await;
            soon(read_until(page, "</html>\n")).await;
        }
        soon(one).await.unwrap();
    }
    let (_, body) = get(&mut requests, "/events?topic=b").await;
    let reader = tokio::spawn(read_until(body, "last\n\n"));
    for number in 0..300 {
        hub.publish(&Publication::text("b", format!("{number:01000}"))).await;
    }
    hub.publish(&Publication::text("b", "last")).await;
    assert_eq!(soon(reader).await.unwrap().matches("data: ").count(), 301);
}

#[tokio::test]
async fn a_feed_keeps_to_a_window_that_the_client_makes_smaller() {
    let hub = TestHub::start();
    let stream = TcpStream::connect(hub.running().http().unwrap()).await.unwrap();
    let (mut requests, mut connection) = soon(Builder::new().handshake::<_, Bytes>(stream)).await.unwrap();
    let (resize, mut resized) = tokio::sync::mpsc::channel(1);
    let driver = tokio::spawn(async move {
        loop {
            tokio::select! {
                ended = &mut connection => return ended,
                // It may still wait for the hub to have seen the last.
                Some(bytes) = resized.recv() => drop(connection.set_initial_window_size(bytes)),
            }
        }
    });
    let (_, body) = get(&mut requests, "/events?topic=a").await;
    let reader = tokio::spawn(read_until(body, "last\n\n"));
    // Not so small that it is below what was sent: this client wouldn't say then that it has read that.
    for number in 0..400 {
        hub.publish(&Publication::text("a", format!("{number:0500}"))).await;
        if number % 10 == 5 {
            resize.send(if number % 20 == 5 { 40_000 } else { 65_535 }).await.unwrap();
        }
    }
    hub.publish(&Publication::text("a", "last")).await;
    assert_eq!(soon(reader).await.unwrap().matches("data: ").count(), 401);
    assert!(!driver.is_finished(), "the client found nothing wrong");
}

#[tokio::test]
async fn a_feed_whose_client_stops_in_the_middle_of_a_frame_goes_on_where_it_was() {
    let hub = TestHub::start();
    let stream = TcpStream::connect(hub.running().http().unwrap()).await.unwrap();
    let mut wide = Builder::new();
    wide.initial_window_size(1 << 30).initial_connection_window_size(1 << 30);
    let (mut requests, mut connection) = soon(wide.handshake::<_, Bytes>(stream)).await.unwrap();
    let (_, body) = tokio::select! {
        got = soon(get(&mut requests, "/events?topic=a")) => got,
        ended = &mut connection => panic!("{ended:?}"),
    };
    // Nobody reads the socket: it fills up, while the client's windows have room for all of it.
    let texts: Vec<String> = (0..1_000).map(|number| format!("{number:08000}")).collect();
    for text in &texts {
        hub.publish(&Publication::text("a", text)).await;
    }
    tokio::spawn(connection);
    let reader = tokio::spawn(read_until(body, "last\n\n"));
    hub.publish(&Publication::text("a", "last")).await;
    let read = soon(reader).await.unwrap();
    let data: Vec<&str> = read.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert!(data[..1_000] == texts, "{} events", data.len());
}

#[tokio::test]
async fn a_feed_that_is_not_read_takes_nothing_from_others_on_its_connection() {
    let hub = TestHub::start();
    let mut requests = connect(&hub, Builder::new().initial_window_size(5_000)).await;
    let (_, unread) = get(&mut requests, "/events?topic=a").await;
    let (_, read) = get(&mut requests, "/events?topic=a").await;
    let reader = tokio::spawn(read_until(read, "last\n\n"));
    for number in 0..100 {
        hub.publish(&Publication::text("a", format!("{number:01000}"))).await;
    }
    hub.publish(&Publication::text("a", "last")).await;
    assert_eq!(soon(reader).await.unwrap().matches("data: ").count(), 101);
    // It goes on where it stopped.
    assert_eq!(soon(read_until(unread, "last\n\n")).await.matches("data: ").count(), 101);
}

#[tokio::test]
async fn a_body_is_asked_for_where_the_client_waits_for_that() {
    let hub = TestHub::start();
    let mut requests = connect(&hub, &Builder::new()).await;
    for (path, expected) in [("/events", StatusCode::OK), ("/nowhere", StatusCode::NOT_FOUND)] {
        let request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("expect", "100-continue")
            .body(());
        let (mut response, mut body) = requests.send_request(request.unwrap(), false).unwrap();
        if expected == StatusCode::OK {
            let asked = soon(poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap();
            assert_eq!(asked.status(), StatusCode::CONTINUE);
            body.send_data(Bytes::from_static(b"topic=a&data=x"), true).unwrap();
        }
        // Who isn't asked knows the answer already.
        assert_eq!(soon(response).await.unwrap().status(), expected, "{path}");
    }
}

#[tokio::test]
async fn heads_tell_the_date_and_answers_to_head_end_with_them() {
    let hub = TestHub::start();
    let mut requests = connect(&hub, &Builder::new()).await;
    for path in ["/livez", "/", "/nowhere", "/events?topic=a"] {
        let request = Request::builder().method(Method::HEAD).uri(format!("http://localhost{path}")).body(());
        let (response, _) = requests.send_request(request.unwrap(), true).unwrap();
        let response = soon(response).await.unwrap();
        assert!(response.headers()["date"].to_str().unwrap().ends_with(" GMT"), "{path}");
        assert!(response.body().is_end_stream(), "{path}");
    }
    let (head, body) = get(&mut requests, "/nowhere").await;
    let text = read_until(body, "}").await;
    assert_eq!(head["content-length"].to_str().unwrap(), text.len().to_string());
}

/// A connection in cleartext. Dropping what is returned, and all bodies, ends it.
async fn connect(hub: &TestHub, builder: &Builder) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(hub.running().http().unwrap()).await.unwrap();
    let (requests, connection) = soon(builder.handshake(stream)).await.unwrap();
    tokio::spawn(connection);
    soon(requests.ready()).await.unwrap()
}

async fn get(requests: &mut SendRequest<Bytes>, path: &str) -> (HeaderMap, RecvStream) {
    let request = Request::get(format!("http://localhost{path}")).body(()).unwrap();
    let (response, _) = requests.send_request(request, true).unwrap();
    let (head, body) = soon(response).await.unwrap().into_parts();
    (head.headers, body)
}

async fn read_until(mut body: RecvStream, ending: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(ending.as_bytes()) {
        let data = tokio::time::timeout(Duration::from_secs(20), body.data()).await.expect("more").unwrap().unwrap();
        text.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    String::from_utf8(text).unwrap()
}
