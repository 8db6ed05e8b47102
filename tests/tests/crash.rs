//! The hub is killed at random moments under load: what was acknowledged is there, in order, once, and subscribers that come back
//! miss nothing.
//!
//! Ten times, or 200 times with `tests/run --full`. The moments come from a seed that is printed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use fanwire_client::{Choice, Connection, Feed, HttpVersion, Item, Options, Publication, Publisher, Transport, Update};
use fanwire_protocol::{LastEventId, Seq};
use fanwire_tests::soon;

/// What a publisher was told: text by number.
type Acknowledged = BTreeMap<Seq, String>;

const PUBLISHERS: usize = 4;

#[tokio::test]
async fn what_was_acknowledged_survives_every_kill() {
    tokio::task::LocalSet::new().run_until(kill_and_kill_again()).await;
}

async fn kill_and_kill_again() {
    let full = std::env::var_os("TESTS_FULL").is_some_and(|full| full == "1");
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let data = tempfile::tempdir().unwrap();
    let address = free_port();
    let url = format!("http://{address}/events");
    let mut hub = Hub::start(address, data.path());
    let subscriber = tokio::task::spawn_local(subscribe(url.clone()));
    let mut acknowledged = Acknowledged::new();
    let rounds = if full { 200 } else { 10 };
    for round in 0..rounds {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| tokio::task::spawn_local(publish(url.clone(), format!("{round}/{publisher}"))))
            .collect();
        tokio::time::sleep(Duration::from_millis(rng.u64(20..250))).await;
        hub.kill();
        for publisher in publishers {
            for (seq, text) in soon(publisher).await.unwrap() {
                assert_eq!(acknowledged.insert(seq, text), None, "a number given twice");
            }
        }
        hub = Hub::start(address, data.path());
    }
    eprintln!("{} acknowledged over {rounds} kills", acknowledged.len());
    assert!(acknowledged.len() > rounds, "there was no load");

    let options = Options::new(&url).unwrap().topic("load").unwrap();
    let last =
        Publisher::new(options.clone(), HttpVersion::H1).publish(&Publication::text("load", "last")).await.unwrap();
    let stored = read_all(options.last_event_id(LastEventId::Earliest)).await;
    let mut texts: Vec<_> = stored.values().collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), stored.len(), "an event stored twice");
    for (seq, text) in &acknowledged {
        assert_eq!(stored.get(seq), Some(text), "{seq} was acknowledged");
    }
    assert_eq!(stored.keys().last(), last.cursor.map(|cursor| cursor.seq).as_ref());
    let seen =
        tokio::time::timeout(Duration::from_secs(60), subscriber).await.expect("the subscriber comes back").unwrap();
    let expected: Vec<_> = stored.into_iter().collect();
    assert!(seen == expected, "the subscriber saw {} of {} events, or others", seen.len(), expected.len());
}

/// Publishes one after the other until the hub is gone, and tells what it was told.
async fn publish(url: String, name: String) -> Vec<(Seq, String)> {
    let mut publisher = Publisher::new(Options::new(&url).unwrap(), HttpVersion::H1);
    let mut told = Vec::new();
    loop {
        let text = format!("{name}/{}", told.len());
        match publisher.publish(&Publication::text("load", text.clone())).await {
            Ok(published) => told.push((published.cursor.unwrap().seq, text)),
            Err(_) => return told,
        }
    }
}

/// Follows the feed over every kill, until the last event.
async fn subscribe(url: String) -> Vec<(Seq, String)> {
    let options = Options::new(&url).unwrap().topic("load").unwrap().last_event_id(LastEventId::Earliest);
    let mut feed = Feed::new(Choice::Only(Transport::SseH1), options);
    let mut seen = Vec::new();
    loop {
        match feed.next().await.expect("the feed comes back") {
            Update::Item(Item::Event(event)) => {
                let text = String::from_utf8(event.event.draft.data.bytes().to_vec()).unwrap();
                let is_last = text == "last";
                seen.push((event.event.seq(), text));
                if is_last {
                    return seen;
                }
            }
            Update::Item(Item::Gap(gap)) => panic!("{gap:?}, though everything is kept"),
            _ => {}
        }
    }
}

async fn read_all(options: Options) -> BTreeMap<Seq, String> {
    let mut connection = soon(Connection::connect(Transport::SseH1, &options)).await.unwrap();
    let mut stored = BTreeMap::new();
    loop {
        if let Item::Event(event) = soon(connection.next()).await.unwrap() {
            let text = String::from_utf8(event.event.draft.data.bytes().to_vec()).unwrap();
            let is_last = text == "last";
            assert_eq!(stored.insert(event.event.seq(), text), None);
            if is_last {
                return stored;
            }
        }
    }
}

struct Hub(Child);

impl Hub {
    fn start(address: SocketAddr, data: &Path) -> Self {
        let mut child = Command::new(binary())
            .args([
                "serve",
                "--https",
                "off",
                "--no-demo",
                "--log",
                "warn",
                "--http",
                &address.to_string(),
                "--data-dir",
            ])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary is built: cargo build");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("http://"), "it serves: {line}");
        Self(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The hub's binary, beside the tests'.
fn binary() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    deps.parent().and_then(Path::parent).expect("target/debug/deps").join("fanwire")
}

/// A port that nobody has now; the hub comes back to it after every kill.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
