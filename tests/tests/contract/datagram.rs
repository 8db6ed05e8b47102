//! `delivery=datagram`: history whole, and then the newest of each topic, whatever is lost on the way.

use std::collections::{BTreeMap, BTreeSet};

use fanwire_client::{Choice, Connection, Delivery, Feed, FeedEvent, Item, Publication, Transport, Update};
use fanwire_protocol::{
    Matcher,
    frame::{self, Decoder},
    message::{ByeCode, Verdict},
};
use fanwire_tests::{Story, TestHub, Way, raw_http3::RawHttp3, soon};

const TOPICS: usize = 40;

fn number(event: &FeedEvent) -> usize {
    std::str::from_utf8(event.event.draft.data.bytes()).unwrap().parse().unwrap()
}

async fn next_event(feed: &mut Connection) -> FeedEvent {
    loop {
        match soon(feed.next()).await.unwrap() {
            Item::Event(event) => return event,
            Item::Hello(_) | Item::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn publish(hub: &TestHub, numbers: std::ops::Range<usize>) {
    for number in numbers {
        hub.publish_numbers(&format!("topic/{}", number % TOPICS), number..number + 1).await;
    }
}

#[tokio::test]
async fn small_events_come_in_datagrams_and_large_ones_on_the_stream() {
    let hub = TestHub::start();
    let mut feed = Way::Datagram.subscribe(&hub, &["a"]).await;
    let received = |feed: &Connection| feed.quic().unwrap().stats().frame_rx.datagram;
    assert!(matches!(soon(feed.next()).await.unwrap(), Item::Ping(_)), "there is no history");
    for (bytes, datagrams) in [(10, 1), (1_000, 2), (1_500, 2), (300_000, 2), (10, 3)] {
        let text = "x".repeat(bytes);
        hub.publish(&Publication::text("a", text.clone())).await;
        let event = next_event(&mut feed).await;
        assert_eq!(event.event.draft.data.bytes(), text.as_bytes());
        assert_eq!(received(&feed), datagrams, "after {bytes} bytes");
    }
    assert_eq!(feed.cursor().unwrap().seq.0, 5);
}

#[tokio::test]
async fn who_takes_no_datagrams_gets_everything_on_the_stream() {
    let hub = TestHub::start();
    let mut transport = quinn::TransportConfig::default();
    transport.datagram_receive_buffer_size(None);
    let http3 = RawHttp3::with(&hub, transport).await;
    let mut session = http3.session("/events?topic=a&delivery=datagram").await;
    assert_eq!(session.feed.json(frame::HELLO).await["verdict"], "live");
    for number in 0..3 {
        hub.publish_numbers("a", number..number + 1).await;
        let event = soon(async {
            loop {
                let frame = session.feed.next().await.unwrap();
                if frame.kind == frame::EVENT {
                    break frame.payload;
                }
            }
        });
        assert!(event.await.ends_with(number.to_string().as_bytes()));
    }
}

#[tokio::test]
async fn a_datagram_names_its_session() {
    let hub = TestHub::start();
    let http3 = RawHttp3::connect(&hub).await;
    let mut sessions = vec![];
    for topic in ["a", "b"] {
        let mut session = http3.session(&format!("/events?topic={topic}&delivery=datagram")).await;
        session.feed.json(frame::PING).await;
        sessions.push(session);
    }
    for (session, topic) in sessions.iter().zip(["a", "b"]) {
        hub.publish_numbers(topic, 7..8).await;
        let datagram = soon(http3.connection.read_datagram()).await.unwrap();
        assert_eq!(u64::from(datagram[0]), session.id / 4);
        let mut decoder = Decoder::new(2_000);
        decoder.feed(&datagram[1..]);
        let frame = decoder.next().unwrap().unwrap();
        assert!(frame.kind == frame::EVENT && frame.payload.ends_with(format!("{topic}7").as_bytes()));
    }
}

#[tokio::test]
async fn history_comes_whole_and_what_is_live_after_it() {
    let hub = TestHub::start();
    let before = 50 * TOPICS;
    publish(&hub, 0..before).await;
    let mut feed = Way::Datagram.resume(&hub, &["*"], "earliest").await;
    let mut newest = BTreeMap::new();
    let read = async {
        let mut history = 0..before;
        while newest.values().filter(|number| **number >= before).count() < TOPICS {
            let event = next_event(&mut feed).await;
            let got = number(&event);
            assert_eq!(history.next().unwrap_or(got), got, "nothing of history is missing, or out of order");
            let last = newest.insert(event.event.draft.canonical().clone(), got);
            assert!(last < Some(got), "{got} after {last:?}, of one topic");
        }
    };
    tokio::join!(read, async {
        // Whatever is lost of it: there is something newer for a while.
        for round in 1..200 {
            publish(&hub, before * round..before * round + TOPICS).await;
            tokio::task::yield_now().await;
        }
    });
}

#[tokio::test]
async fn the_newest_wins_and_what_is_missing_is_counted_and_shows() {
    let hub = TestHub::start();
    let mut feed = Way::Datagram.subscribe(&hub, &["a"]).await;
    let flood = 20_000;
    hub.publish_numbers("a", 0..flood).await;
    let (mut got, mut last) = (0, None::<FeedEvent>);
    let mut published = flood;
    // The last of them may be lost on its way: there is always something newer.
    while last.as_ref().is_none_or(|last| number(last) < flood - 1) {
        let event = match tokio::time::timeout(std::time::Duration::from_millis(200), next_event(&mut feed)).await {
            Ok(event) => event,
            Err(_) => {
                hub.publish_numbers("a", published..published + 1).await;
                published += 1;
                continue;
            }
        };
        if let Some(last) = &last {
            let (before, seq) = (last.event.seq(), event.event.seq());
            assert!(seq > before);
            assert_eq!(event.prev == Some(before), seq.0 == before.0 + 1, "prev says whether something is missing");
        }
        got += 1;
        last = Some(event);
    }
    let text = hub.running().hub().metrics().to_text();
    let superseded: usize = text
        .lines()
        .find_map(|line| line.strip_prefix("fanwire_events_let_go_total{why=\"superseded\"} "))
        .unwrap_or_else(|| panic!("{text}"))
        .parse()
        .unwrap();
    assert!(superseded > 0, "20,000 events of one topic in one go");
    assert!(got + superseded <= published, "{got} came, and {superseded} were let go of");
}

#[tokio::test]
async fn what_is_published_while_it_is_away_comes_whole() {
    let hub = TestHub::start();
    let options = Way::Datagram.options(&hub).topic("a").unwrap();
    let mut feed = Feed::new(Choice::Only(Transport::WebTransport), options);
    let (mut published, mut next, mut hellos) = (0, 0, 0);
    while hellos < 4 || next < published {
        match soon(feed.next()).await.unwrap() {
            Update::Item(Item::Hello(hello)) => {
                hellos += 1;
                assert_eq!(hello.verdict, if hellos == 1 { Verdict::Live } else { Verdict::Resumed });
            }
            Update::Item(Item::Ping(_)) if published == 0 => {
                hub.publish_numbers("a", 0..1).await;
                published = 1;
            }
            Update::Item(Item::Event(event)) => {
                assert_eq!(number(&event), next);
                next += 1;
                if next == published {
                    feed.connection().and_then(Connection::quic).unwrap().close(0u8.into(), b"");
                }
            }
            Update::Disconnected { .. } if hellos < 4 => {
                hub.publish_numbers("a", published..published + 300).await;
                published += 300;
            }
            Update::Connected { .. } | Update::Disconnected { .. } | Update::Item(Item::Ping(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(next, 901);
}

#[tokio::test]
async fn a_drain_delivers_the_newest_of_each_topic_first() {
    let hub = TestHub::start();
    let mut feed = Way::Datagram.subscribe(&hub, &["*"]).await;
    for number in 0..5 * TOPICS {
        hub.publish_numbers(&format!("topic/{}", number % TOPICS), number..number + 1).await;
    }
    let drained = tokio::spawn(hub.into_running().drain(std::time::Duration::from_secs(10)));
    let mut newest = BTreeMap::new();
    let bye = loop {
        match soon(feed.next()).await.unwrap() {
            Item::Event(event) => drop(newest.insert(event.event.draft.canonical().clone(), number(&event))),
            Item::Bye(bye) => break bye,
            _ => {}
        }
    };
    assert_eq!(bye.code, ByeCode::Drain as u32);
    assert_eq!(newest.into_values().collect::<BTreeSet<_>>(), (4 * TOPICS..5 * TOPICS).collect());
    feed.close().await;
    assert!(soon(drained).await.unwrap());
}

#[tokio::test]
async fn a_change_holds_by_number() {
    let hub = TestHub::start();
    let mut feed = Way::Datagram.subscribe(&hub, &["a"]).await;
    let control = feed.control().unwrap();
    let from = soon(control.subscribe(&[Matcher::exact("b").unwrap()])).await.unwrap();
    let changed = loop {
        if let Item::Changed(changed) = soon(feed.next()).await.unwrap() {
            break changed;
        }
    };
    assert_eq!(changed.from_seq, from.0);
    hub.publish_numbers("b", 1..2).await;
    assert_eq!(number(&next_event(&mut feed).await), 1);
    soon(control.unsubscribe(&[Matcher::exact("b").unwrap()])).await.unwrap();
    hub.publish_numbers("b", 2..3).await;
    hub.publish_numbers("a", 3..4).await;
    let event = loop {
        if let Item::Event(event) = soon(feed.next()).await.unwrap() {
            break event;
        }
    };
    assert_eq!(number(&event), 3);
}

#[tokio::test]
async fn on_sse_it_is_an_ordered_feed() {
    let hub = TestHub::start();
    for way in [Way::SseH1, Way::SseH2Tls, Way::SseH3] {
        let options = way.options(&hub).delivery(Delivery::Datagram).topic("a").unwrap();
        let mut feed = way.connect(&options).await;
        assert!(matches!(soon(feed.next()).await.unwrap(), Item::Hello(_)));
        hub.publish_numbers("a", 0..2_000).await;
        let story = Story::read(&mut feed, 2_000).await;
        assert_eq!(story.numbers(), (0..2_000).collect::<Vec<_>>(), "{way:?}");
    }
}
