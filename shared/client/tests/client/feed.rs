//! A feed survives its connections.

use std::time::Duration;

use fanwire_client::{Choice, ConnectError, Feed, FeedError, Item, Options, Retry, Transport, Trust, Update};
use fanwire_protocol::{
    Cursor, Epoch, LastEventId, Matcher, Seq,
    message::{Bye, ByeCode, Gap, GapReason, Hello, Message, Verdict},
};
use tokio::time::Instant;

use crate::{
    hub::{Hub, Say, Script, Seen, Serve, Then, offer, silent_udp},
    sample::{bye, cursor, event, hello, ping, says},
};

const EVENTS: u64 = 60;

/// A hub with a log of events 1 to [`EVENTS`], of which it says some and then breaks off, each time after a few bytes more.
fn a_log_that_breaks_off(connection: usize, seen: &Seen) -> Script {
    let asked = seen.value("last_event_id").map(LastEventId::parse);
    let Some(Ok(Some(LastEventId::Cursor(Cursor { seq: Seq(from), .. })))) = asked else {
        assert_eq!(asked, Some(Ok(Some(LastEventId::Earliest))));
        return broken_off(connection, 0, Verdict::Earliest);
    };
    broken_off(connection, from, Verdict::Resumed)
}

fn broken_off(connection: usize, from: u64, verdict: Verdict) -> Script {
    let mut feed = vec![hello(from, verdict)];
    feed.extend((from..EVENTS).map(|prev| says(prev, prev + 1)));
    let then = if connection.is_multiple_of(2) { Then::End } else { Then::Cut };
    Script { bytes_max: 300 + 41 * connection, chunk_bytes: 29, ..Script::feed(feed, then) }
}

fn impatient(hub: &Hub) -> Options {
    let mut options = hub.options();
    options.retry = Retry { base: Duration::from_millis(1), max: Duration::from_millis(2), attempts_max: None };
    options
}

/// What a feed comes to. A feed that tries for ever is a test that fails.
async fn until<T>(feed: &mut Feed, mut wanted: impl FnMut(Result<Update, FeedError>) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = wanted(feed.next().await) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("the feed comes to what is wanted in time")
}

/// The feed's next item, over however many connections.
async fn item(feed: &mut Feed) -> Item {
    until(feed, |next| match next.unwrap() {
        Update::Item(item) => Some(item),
        _ => None,
    })
    .await
}

async fn disconnected(feed: &mut Feed) -> (FeedError, Duration) {
    until(feed, |next| match next.unwrap() {
        Update::Disconnected { error, retry_in } => Some((error, retry_in)),
        _ => None,
    })
    .await
}

async fn end(feed: &mut Feed) -> FeedError {
    until(feed, Result::err).await
}

#[tokio::test]
async fn no_cut_loses_or_repeats_an_event() {
    for transport in Transport::ALL {
        let hub = Hub::start(Serve::usual(transport), a_log_that_breaks_off).await;
        let mut feed = Feed::new(transport.into(), impatient(&hub).last_event_id(LastEventId::Earliest));
        let mut got = Vec::new();
        while got.len() < EVENTS as usize {
            if let Item::Event(event) = item(&mut feed).await {
                assert_eq!(feed.cursor(), Some(event.event.cursor));
                got.push(event.event);
            }
        }
        let expected: Vec<_> = (1..=EVENTS).map(event).collect();
        assert_eq!(got, expected, "{transport}");
        assert!(hub.seen().len() > 5, "{transport}");
    }
}

#[tokio::test]
async fn a_feed_tells_how_it_is() {
    let hub = Hub::saying(Serve::H1, Script::feed(vec![hello(3, Verdict::Live), ping(3)], Then::End)).await;
    let mut feed = Feed::new(Choice::Sse, impatient(&hub));
    let Ok(Update::Connected { transport: Transport::SseH1, connect, hello }) = feed.next().await else { panic!() };
    assert!(hello >= connect);
    assert!(matches!(feed.next().await, Ok(Update::Item(Item::Hello(_)))));
    assert!(matches!(feed.next().await, Ok(Update::Item(Item::Ping(_)))));
    let Ok(Update::Disconnected { error, retry_in }) = feed.next().await else { panic!() };
    assert_eq!(error.to_string(), "the feed ended without a bye");
    assert!(retry_in <= Duration::from_millis(1));
    // It asked for the ping's cursor, and the hub doesn't go on there.
    let (error, _) = disconnected(&mut feed).await;
    assert!(error.to_string().contains("asked to resume"), "{error}");
    assert_eq!(hub.seen()[1].value("last_event_id"), Some(&*cursor(3).to_string()));
}

#[tokio::test]
async fn a_cursor_of_another_log_is_kept_until_the_gap_is_told() {
    let other = Cursor { epoch: Epoch::from_bits(99), seq: Seq(7) };
    for transport in Transport::ALL {
        let hub = Hub::start(Serve::usual(transport), move |connection, seen| {
            let gap = Gap { reason: GapReason::NewEpoch, from: None, to: 4, cursor: cursor(4) };
            let (feed, asked) = match connection {
                // The first connection breaks before the gap.
                0 => (vec![hello(0, Verdict::NewEpoch)], other),
                1 => (vec![hello(0, Verdict::NewEpoch), Say::Message(Message::Gap(gap)), says(4, 5)], other),
                _ => (vec![hello(5, Verdict::Resumed), says(5, 6)], cursor(5)),
            };
            assert_eq!(seen.value("last_event_id"), Some(&*asked.to_string()));
            Script::feed(feed, Then::End)
        })
        .await;
        let mut options = impatient(&hub).last_event_id(LastEventId::Cursor(other));
        // It would win over the cursor.
        options.headers.insert("last-event-id", "mine".parse().unwrap());
        let mut feed = Feed::new(transport.into(), options);
        let mut seen = Vec::new();
        while !matches!(seen.last(), Some(Item::Event(last)) if last.event.seq() == Seq(6)) {
            seen.push(item(&mut feed).await);
        }
        let shape: String = seen
            .iter()
            .map(|item| match item {
                Item::Hello(_) => 'h',
                Item::Gap(_) => 'g',
                Item::Event(_) => 'e',
                _ => '?',
            })
            .collect();
        assert_eq!(shape, "hhgehe", "{transport}");
        let headers = hub.seen().iter().map(|seen| seen.headers.contains_key("last-event-id")).collect::<Vec<_>>();
        assert_eq!(headers, [true, true, false], "{transport}");
    }
}

#[tokio::test]
async fn a_bye_without_return_ends_the_feed() {
    for transport in Transport::ALL {
        let last = bye(Bye::terminal(ByeCode::BadRequest, "no matcher"));
        let hub = Hub::saying(Serve::usual(transport), Script::feed(vec![last], Then::End)).await;
        let mut feed = Feed::new(transport.into(), impatient(&hub));
        assert!(matches!(item(&mut feed).await, Item::Bye(_)));
        let FeedError::Bye(last) = feed.next().await.unwrap_err() else { panic!() };
        assert_eq!((last.code, &*last.reason), (ByeCode::BadRequest as u32, "no matcher"));
        assert!(matches!(feed.next().await, Err(FeedError::Over)));
        assert_eq!(hub.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_refused_request_ends_the_feed() {
    let body = r#"{"error": {"code": "no_matcher", "message": "say what you want"}}"#;
    for transport in Transport::ALL {
        let hub = Hub::saying(Serve::usual(transport), Script::answer(400, vec![], body)).await;
        let error = end(&mut Feed::new(transport.into(), impatient(&hub))).await;
        assert!(matches!(error, FeedError::Connect(ConnectError::Refused(_))), "{transport}: {error:?}");
        assert_eq!(hub.seen().len(), 1);
    }
}

#[tokio::test]
async fn the_hub_says_how_long_to_stay_away() {
    let asked = |script: Script| async move {
        let hub = Hub::saying(Serve::H1, script).await;
        disconnected(&mut Feed::new(Choice::Sse, impatient(&hub))).await.1
    };
    let near = |wait: Duration, asked_ms| {
        let asked = Duration::from_millis(asked_ms);
        assert!(wait >= asked && wait <= asked + Duration::from_millis(1), "{wait:?}");
    };
    let drain = bye(Bye::retry(ByeCode::Drain, "the hub is shutting down", 1200));
    near(asked(Script::feed(vec![hello(3, Verdict::Live), drain], Then::End)).await, 1200);
    near(asked(Script::answer(503, vec![("retry-after", "7".into())], "")).await, 7000);
    near(asked(Script::answer(429, vec![], "")).await, 0);
    // A stream's `retry` is bounded by the client's longest wait, here 2 ms.
    let retry = vec![Say::Raw(b"retry: 5000\n".to_vec()), hello(3, Verdict::Live)];
    near(asked(Script::feed(retry, Then::End)).await, 2);
}

#[tokio::test]
async fn it_waits_as_long_as_it_says_and_gives_up_when_told() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut options = Options::new(&format!("http://{free}/events")).unwrap();
    options.retry.attempts_max = Some(3);
    let mut feed = Feed::new(Choice::Only(Transport::SseH1), options);
    tokio::time::pause();
    let mut announced = Duration::ZERO;
    for ceiling_ms in [500, 1000, 2000] {
        let before = Instant::now();
        let (_, retry_in) = disconnected(&mut feed).await;
        // The clock only moves while the feed waits, and in whole milliseconds.
        let waited = before.elapsed();
        assert!(waited >= announced && waited <= announced + Duration::from_millis(2), "{waited:?} {announced:?}");
        assert!(retry_in <= Duration::from_millis(ceiling_ms));
        announced = retry_in;
    }
    let error = end(&mut feed).await;
    assert!(matches!(error, FeedError::Connect(ConnectError::Tcp { .. })), "{error:?}");
}

#[tokio::test]
async fn a_dead_connection_is_replaced() {
    for transport in Transport::ALL {
        let hub = Hub::start(Serve::usual(transport), |connection, _| {
            let (seq, verdict) = if connection == 0 { (3, Verdict::Live) } else { (4, Verdict::Resumed) };
            let hello = Hello { version: 1, cursor: cursor(seq), verdict, heartbeat_ms: 50 };
            Script::feed(vec![Say::Message(Message::Hello(hello)), says(seq, seq + 1)], Then::Hold)
        })
        .await;
        let mut feed = Feed::new(transport.into(), impatient(&hub));
        let (error, _) = disconnected(&mut feed).await;
        assert!(error.to_string().contains("two heartbeats"), "{transport}: {error}");
        while !matches!(item(&mut feed).await, Item::Event(event) if event.event.seq() == Seq(5)) {}
    }
}

#[tokio::test]
async fn a_certificate_that_isnt_trusted_ends_a_new_feed() {
    let hub = Hub::saying(Serve::H2Tls, Script::feed(vec![hello(3, Verdict::Live)], Then::Hold)).await;
    let error = end(&mut Feed::new(Choice::Sse, impatient(&hub).trust(Trust::Pinned(vec![])))).await;
    assert!(matches!(error, FeedError::Connect(ConnectError::Untrusted { .. })), "{error:?}");
}

/// A front with SSE, which offers WebTransport somewhere.
async fn front(webtransport: String, hash: Option<fanwire_client::CertificateHash>, sse: Script) -> Hub {
    Hub::start(Serve::H1, move |_, seen| match &*seen.path {
        "/events" => sse.clone(),
        _ => offer(Some((&webtransport, hash))),
    })
    .await
}

async fn winner(feed: &mut Feed) -> Transport {
    match feed.next().await.unwrap() {
        Update::Connected { transport, .. } => transport,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn auto_takes_webtransport_where_it_is() {
    let greeting = Script::feed(vec![hello(3, Verdict::Live)], Then::Hold);
    let quic = Hub::saying(Serve::WebTransport, greeting.clone()).await;
    let front = front(quic.url.clone(), Some(quic.hash), greeting).await;
    let mut options = Options::new(&front.url).unwrap();
    options.head_start = Duration::from_secs(5);
    let mut feed = Feed::new(Choice::Auto, options);
    assert_eq!(winner(&mut feed).await, Transport::WebTransport);
    assert_eq!(front.seen().len(), 1, "SSE has not been tried");
}

#[tokio::test]
async fn auto_takes_sse_where_udp_is_blocked() {
    let (_socket, url) = silent_udp();
    let greeting = Script::feed(vec![hello(3, Verdict::Live)], Then::Hold);
    let front = front(url.into(), None, greeting).await;
    let mut options = Options::new(&front.url).unwrap().trust(Trust::Insecure);
    options.head_start = Duration::from_millis(20);
    let mut feed = Feed::new(Choice::Auto, options);
    assert_eq!(winner(&mut feed).await, Transport::SseH1);
}

#[tokio::test]
async fn auto_doesnt_wait_for_what_has_failed() {
    let greeting = Script::feed(vec![hello(3, Verdict::Live)], Then::Hold);
    let bye = Script::feed(vec![bye(Bye::retry(ByeCode::Limit, "too many sessions", 1000))], Then::End);
    for refusal in [Script::answer(403, vec![], ""), bye] {
        let quic = Hub::saying(Serve::WebTransport, refusal).await;
        let front = front(quic.url.clone(), Some(quic.hash), greeting.clone()).await;
        let mut options = Options::new(&front.url).unwrap();
        options.head_start = Duration::from_secs(3600);
        let mut feed = Feed::new(Choice::Auto, options);
        assert_eq!(winner(&mut feed).await, Transport::SseH1);
    }
}

#[tokio::test]
async fn auto_says_why_both_failed() {
    let hub = Hub::saying(Serve::H1, Script::answer(404, vec![], "")).await;
    let error = end(&mut Feed::new(Choice::Auto, impatient(&hub))).await;
    let FeedError::Connect(ConnectError::Both { sse, webtransport }) = error else { panic!("{error:?}") };
    assert!(sse.to_string().contains("404") && webtransport.to_string().contains("well-known"));
}

#[tokio::test]
async fn topics_that_were_changed_stay_changed() {
    let hub = Hub::start(Serve::WebTransport, |_, seen| match &*seen.path {
        "/0x11" | "/0x12" => {
            Script::feed(vec![Say::Raw(br#"{"request_id": ID, "ok": {"from_seq": 3}}"#.to_vec())], Then::Hold)
        }
        _ if seen.value("last_event_id").is_some() => Script::feed(vec![hello(3, Verdict::Resumed)], Then::Hold),
        _ => {
            let hello = Hello { version: 1, cursor: cursor(3), verdict: Verdict::Live, heartbeat_ms: 300 };
            Script::feed(vec![Say::Message(Message::Hello(hello))], Then::Hold)
        }
    })
    .await;
    let mut options = Options::new(&format!("{}?topic=a&x=1&match=b", hub.url)).unwrap();
    options.trust = Trust::Pinned(vec![hub.hash]);
    options.retry = impatient(&hub).retry;
    let mut feed = Feed::new(Choice::Only(Transport::WebTransport), options);
    item(&mut feed).await;
    assert_eq!(feed.subscribe(&[Matcher::exact("c").unwrap()]).await, Ok(Seq(3)));
    assert_eq!(feed.unsubscribe(&[Matcher::exact("a").unwrap()]).await, Ok(Seq(3)));
    item(&mut feed).await;
    let matches = |seen: &Seen| -> Vec<String> {
        seen.query.iter().filter(|pair| pair.0 == "match").map(|pair| pair.1.clone()).collect()
    };
    let seen: Vec<Seen> = hub.seen().into_iter().filter(|seen| seen.path == "/events").collect();
    assert_eq!((matches(&seen[0]), matches(&seen[1])), (vec!["a".into(), "b".into()], vec!["b".into(), "c".into()]));
    assert!(seen.iter().all(|seen| seen.value("x") == Some("1") && seen.value("topic").is_none()));
}
