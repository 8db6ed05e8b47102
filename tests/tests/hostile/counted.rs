//! Limits that nobody is told of, and listeners that aren't for subscribers: what is reached is counted, and others are served meanwhile.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use fanwire::telemetry::Limit;
use fanwire_tests::{Initials, Wire, http2::get};

use crate::{Memory, Witnesses, http2::Http2, impatient};

#[tokio::test]
async fn reads_of_history_wait_for_each_other() {
    // All on one shard, which has one read under way at the most; those of a log in memory are over at once.
    let directory = tempfile::tempdir().unwrap();
    let mut witnesses = Witnesses::with(|config| {
        (config.shards, config.reads_max) = (1, 1);
        config.data_dir = Some(directory.path().to_owned());
    })
    .await;
    let before = witnesses.count();
    witnesses.hub.publish_numbers("other", 0..4_000).await;
    let mut connection = Http2::open(&witnesses.hub).await;
    let burst: Vec<u8> = (0..100)
        .flat_map(|i| get(2 * i + 1, "/events?match_urlpattern=/:none/:at/:all&last_event_id=earliest"))
        .collect();
    connection.wire.send(burst).await;
    witnesses.until(|hub| hub.running().hub().subscribers() == before + 100).await;
    witnesses.served().await;
    assert!(witnesses.reached(Limit::HistoryReads) > 0);
    drop(connection);
    witnesses.alone().await;
}

#[tokio::test]
async fn first_packets_of_more_handshakes_than_may_wait_are_dropped() {
    let mut witnesses = Witnesses::with(|config| {
        config.quic_endpoint.handshakes_waiting_max = 8;
        config.quic.handshake = Duration::from_secs(1);
        // As if each had proved its address.
        config.admission.handshakes_unproved_max = usize::MAX;
    })
    .await;
    let (initials, hub) = (Initials::new(), witnesses.hub.running().https().unwrap());
    // For as long as it takes.
    let goes_on = Arc::new(AtomicBool::new(true));
    let flood = std::thread::spawn({
        let goes_on = goes_on.clone();
        move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for burst in (0_u64..).step_by(BURST).take_while(|_| goes_on.load(Relaxed)) {
                let packets =
                    (burst..).take(BURST).map(|number| initials.packet(number, &(!number).to_be_bytes(), &[]));
                for packet in packets.collect::<Vec<_>>() {
                    let _ = socket.send_to(&packet, hub);
                }
            }
        }
    });
    witnesses.until(|hub| hub.running().hub().metrics().times_reached(Limit::HandshakesWaiting) > 10).await;
    witnesses.served().await;
    goes_on.store(false, Relaxed);
    flood.join().unwrap();
    witnesses.until(|hub| hub.running().handshakes() == 0).await;
    witnesses.alone().await;
}

#[tokio::test]
async fn who_asks_for_metrics_slowly_is_given_up() {
    let Some(mut witnesses) = Witnesses::apart(|config| {
        impatient(config);
        config.tcp.head = Duration::from_secs(2);
        config.metrics = Some("127.0.0.1:0".parse().unwrap());
    })
    .await
    else {
        return;
    };
    let before = witnesses.hub.running().connections();
    let memory = Memory::now();
    let mut slow = vec![];
    for _ in 0..16 {
        let mut wire = Wire::to_metrics(&witnesses.hub).await;
        wire.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await;
        slow.push(wire);
    }
    witnesses.until(|hub| hub.running().connections() == before + 16).await;
    // One too many is told so, and subscribers don't notice.
    let mut wire = Wire::to_metrics(&witnesses.hub).await;
    wire.send(SCRAPE).await;
    let told = wire.answer().await;
    assert_eq!(told.status, 503, "{}", told.head);
    assert!(told.head.contains("\r\nretry-after: 2\r\n"), "{}", told.head);
    witnesses.served().await;
    assert_eq!((witnesses.reached(Limit::MetricsConnections), witnesses.reached(Limit::Connections)), (1, 0));
    give_up(slow).await;
    memory.grew_within("16 heads on the listener of metrics that never end", 64 << 20);
    witnesses.until(|hub| hub.running().hub().metrics().times_reached(Limit::HeadTime) >= 16).await;
    witnesses.until(|hub| hub.running().connections() == before).await;
    let mut wire = Wire::to_metrics(&witnesses.hub).await;
    wire.send(SCRAPE).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.contains("fanwire_limits_reached_total{limit=\"metrics_connections\"} 1\n"), "{text}");
    // Those who ask for them aren't among them.
    let of_clients: usize = ["tcp", "tls", "quic"]
        .iter()
        .filter_map(|carrier| {
            let line = format!("fanwire_connections{{carrier=\"{carrier}\"}} ");
            text.lines().find_map(|text| text.strip_prefix(&line)?.parse::<usize>().ok())
        })
        .sum();
    assert_eq!(of_clients, witnesses.count());
    drop(wire);
    witnesses.alone().await;
}

#[tokio::test]
async fn an_operator_who_asks_slowly_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut witnesses) = Witnesses::apart(|config| {
        config.tcp.head = Duration::from_secs(2);
        config.data_dir = Some(directory.path().to_owned());
    })
    .await
    else {
        return;
    };
    let socket = directory.path().join("hub.sock");
    let memory = Memory::now();
    let mut slow = vec![];
    for _ in 0..16 {
        let mut wire = Wire::to_socket(&socket).await;
        wire.send("GET /log/stat HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await;
        slow.push(wire);
    }
    // One more waits until one of them is given up.
    let mut waits = Wire::to_socket(&socket).await;
    waits.send("GET /log/stat HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    witnesses.until(|hub| hub.running().hub().metrics().times_reached(Limit::OperatorConnections) == 1).await;
    witnesses.served().await;
    give_up(slow).await;
    memory.grew_within("16 heads on the operator's socket that never end", 64 << 20);
    let answer = waits.answer().await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(String::from_utf8(answer.body).unwrap().contains("\"events\":3"), "what was published meanwhile");
    witnesses.until(|hub| hub.running().hub().metrics().times_reached(Limit::HeadTime) >= 16).await;
    witnesses.alone().await;
}

/// They go on, a byte at a time, until the hub hangs up on each.
async fn give_up(slow: Vec<Wire>) {
    let mut tasks = vec![];
    for mut wire in slow {
        tasks.push(tokio::spawn(async move {
            while wire.send("x").await && !wire.ends_within(Duration::from_millis(100)).await {}
        }));
    }
    for task in tasks {
        fanwire_tests::soon(task).await.unwrap();
    }
}

/// More than wait.
const BURST: usize = 200;
const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
