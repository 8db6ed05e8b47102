//! Heartbeats, refusals, drains, and clients that go away.

use std::time::Duration;

use fanwire_client::{ConnectError, Connection, Item};
use fanwire_protocol::message::ByeCode;
use fanwire_tests::{Story, TestHub, Way, soon};

use crate::on_every_way;

on_every_way!(
    silence_is_broken_by_heartbeats_that_carry_the_position,
    a_drain_is_told_and_ends_the_feed,
    a_wrong_query_is_refused_with_a_reason,
    beyond_the_limit_nobody_gets_in,
    a_client_that_goes_away_is_noticed_at_once,
);
on_every_way!(@way per_topic PerTopic [
    silence_is_broken_by_heartbeats_that_carry_the_position,
    a_drain_is_told_and_ends_the_feed,
    beyond_the_limit_nobody_gets_in,
    a_client_that_goes_away_is_noticed_at_once
]);

on_every_way!(@way datagram Datagram [
    silence_is_broken_by_heartbeats_that_carry_the_position,
    beyond_the_limit_nobody_gets_in,
    a_client_that_goes_away_is_noticed_at_once
]);

async fn silence_is_broken_by_heartbeats_that_carry_the_position(way: Way) {
    let hub = TestHub::start();
    let mut options = way.options(&hub).topic("quiet").unwrap();
    options.heartbeat = Some(Duration::from_millis(200));
    let mut feed = way.connect(&options).await;
    Story::read(&mut feed, 0).await;
    hub.publish_numbers("others", 0..10).await;
    let watermark = loop {
        match soon(feed.next()).await.unwrap() {
            Item::Ping(ping) if ping.watermark.seq.0 == 10 => break ping.watermark,
            Item::Hello(hello) => assert_eq!(hello.heartbeat_ms, 200),
            Item::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(feed.cursor(), Some(watermark));
}

async fn a_drain_is_told_and_ends_the_feed(way: Way) {
    let hub = TestHub::start();
    let mut feed = way.subscribe(&hub, &["numbers"]).await;
    hub.publish_numbers("numbers", 0..3).await;
    let running = hub.into_running();
    let drained = tokio::spawn(running.drain(Duration::from_secs(10)));
    let mut numbers = 0;
    let bye = loop {
        match soon(feed.next()).await.unwrap() {
            Item::Bye(bye) => break bye,
            Item::Event(_) => numbers += 1,
            _ => {}
        }
    };
    assert_eq!((bye.code, numbers), (ByeCode::Drain as u32, 3));
    assert!(bye.retry_ms.is_some());
    assert!(soon(feed.next()).await.is_err());
    feed.close().await;
    assert!(soon(drained).await.unwrap(), "every connection ended by itself");
}

async fn a_wrong_query_is_refused_with_a_reason(way: Way) {
    let hub = TestHub::start();
    for (query, code) in [
        ("", "no_matcher"),
        ("match_uri=a", "unknown_matcher"),
        ("topic=a%0Ab", "bad_matcher"),
        ("topic=%ff", "not_utf8"),
        ("topic=a&heartbeat=0", "bad_heartbeat"),
        ("topic=a&delivery=x", "bad_delivery"),
        ("topic=a&last_event_id=%23x", "bad_last_event_id"),
    ] {
        let mut options = way.options(&hub);
        options.url.set_query(Some(query));
        match soon(Connection::connect(way.transport(), &options)).await {
            Ok(mut feed) => {
                let Ok(Item::Bye(bye)) = soon(feed.next()).await else { panic!("{query}: no bye") };
                assert_eq!((bye.code, bye.retry_ms), (ByeCode::BadRequest as u32, None));
                assert!(bye.reason.starts_with(code), "{query}: {}", bye.reason);
                assert_eq!(way, Way::WebTransport);
            }
            Err(ConnectError::Refused(refused)) => {
                assert_eq!((refused.status, refused.code.as_str()), (400, code), "{query}");
            }
            Err(error) => panic!("{query}: {error}"),
        }
    }
    assert_eq!(hub.running().hub().subscribers(), 0);
}

async fn beyond_the_limit_nobody_gets_in(way: Way) {
    let hub = TestHub::with(|config| config.limits.subscribers_max = 1);
    let mut first = way.subscribe(&hub, &["a"]).await;
    Story::read(&mut first, 0).await;
    let options = way.options(&hub).topic("a").unwrap();
    match soon(Connection::connect(way.transport(), &options)).await {
        Ok(mut second) => {
            let Ok(Item::Bye(bye)) = soon(second.next()).await else { panic!("no bye") };
            assert_eq!(bye.code, ByeCode::Limit as u32);
            assert!(bye.retry_ms.is_some());
        }
        Err(ConnectError::Refused(refused)) => {
            assert_eq!(refused.status, 503);
            assert!(refused.retry_after.is_some());
        }
        Err(error) => panic!("{error}"),
    }
    hub.publish_numbers("a", 0..1).await;
    assert_eq!(Story::read(&mut first, 1).await.numbers(), [0], "who was in stays in");
}

async fn a_client_that_goes_away_is_noticed_at_once(way: Way) {
    let hub = TestHub::start();
    let mut feed = way.subscribe(&hub, &["a"]).await;
    Story::read(&mut feed, 0).await;
    soon(async {
        // The feed is opened on its shard as the answer goes out.
        while hub.running().hub().subscribers() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    feed.close().await;
    // Far sooner than a heartbeat, which is 15 seconds.
    let gone = async {
        while hub.running().hub().subscribers() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("noticed within 5 s");
}
