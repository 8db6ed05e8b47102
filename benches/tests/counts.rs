//! Whether the counts are right is shown by servers that lose, repeat and end, each as it says.

#![allow(clippy::disallowed_methods, reason = "there is no shard in these threads")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Result;
use fanwire_bench::{
    contest::{self, Contestant, Role, Started, Turn, Watcher},
    load::{Access, Style},
    scenario::Scenario,
    way::Way,
};

/// How often an event goes to a subscriber: given the event's place in the run.
type Times = fn(usize) -> usize;

/// A server in the test's own process.
#[derive(Clone, Copy)]
struct Liar {
    times: Times,
    /// So long after the publisher has its answer.
    delivers_after: Option<Duration>,
}

impl Contestant for Liar {
    fn name(&self) -> String {
        "liar".to_owned()
    }

    fn way(&self) -> Way {
        Way::SseH1
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn start(&self, _: &Scenario) -> Result<Started> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (feed, liar) = (format!("http://{}/", listener.local_addr()?), *self);
        std::thread::spawn(move || {
            let subscribers = Arc::new(Mutex::new(Vec::new()));
            for stream in listener.incoming().map_while(Result::ok) {
                let subscribers = subscribers.clone();
                std::thread::spawn(move || liar.serve(stream, &subscribers));
            }
        });
        Ok(Started { server: None, access: Access::default(), publish: feed.clone(), feed, style: Style::Raw })
    }
}

impl Liar {
    /// Until the peer hangs up.
    fn serve(self, stream: TcpStream, subscribers: &Mutex<Vec<TcpStream>>) {
        let mut reader = BufReader::new(stream);
        let mut place = 0;
        loop {
            let (mut head, mut body) = (String::new(), Vec::new());
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            if head.starts_with("GET") {
                let mut stream = reader.into_inner();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").unwrap();
                subscribers.lock().unwrap().push(stream);
                return;
            }
            let length =
                head.to_lowercase().split("content-length: ").nth(1).unwrap().lines().next().unwrap().to_owned();
            reader.by_ref().take(length.parse().unwrap()).read_to_end(&mut body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            if let Some(after) = self.delivers_after {
                reader.get_mut().write_all(answer).unwrap();
                std::thread::sleep(after);
            }
            for _ in 0..(self.times)(place) {
                for mut subscriber in &*subscribers.lock().unwrap() {
                    let _ = subscriber.write_all(&[b"data: ", &body[..], b"\n\n"].concat());
                }
            }
            place += 1;
            if self.delivers_after.is_none() {
                reader.get_mut().write_all(answer).unwrap();
            }
        }
    }
}

struct Nobody;

impl Watcher for Nobody {
    fn turn(&mut self, _: usize, _: &str) {}
    fn deliveries(&mut self, _: u64, _: u64) {}
}

/// 5 subscribers, 10 events of a warm-up and 40 measured ones.
fn turn(times: Times) -> Turn {
    let mut scenario = Scenario::load("broadcast").unwrap().with_subscribers(5);
    (scenario.rate, scenario.seconds, scenario.warm_up_seconds) = (Some(200.0), 0.2, 0.05);
    turn_of(&scenario, Liar { times, delivers_after: None })
}

fn turn_of(scenario: &Scenario, liar: Liar) -> Turn {
    let program = Path::new(env!("CARGO_BIN_EXE_fanwire-bench"));
    let contestants: Vec<Box<dyn Contestant>> = vec![Box::new(liar)];
    contest::run(program, scenario, &contestants, 1, &mut Nobody).unwrap().remove(0).turns.remove(0)
}

#[test]
fn what_is_published_last_is_waited_for_however_long_ago_the_event_before_was() {
    let mut scenario = Scenario::load("broadcast").unwrap().with_subscribers(5);
    (scenario.rate, scenario.seconds, scenario.warm_up_seconds) = (Some(0.25), 8.0, 0.0);
    let liar = Liar { times: |_| 1, delivers_after: Some(Duration::from_millis(500)) };
    let turn = turn_of(&scenario, liar);
    assert_eq!((turn.outcome.expected, turn.outcome.received), (10, 10), "{turn:?}");
}

#[test]
fn an_honest_server_has_nothing_wrong() {
    let turn = turn(|_| 1);
    assert_eq!(turn.wrong(), 0, "{turn:?}");
    assert_eq!((turn.outcome.expected, turn.outcome.received, turn.outcome.measured), (250, 250, 200));
    assert_eq!(turn.outcome.latency.count(), 200);
    assert_eq!(turn.connect.count(), 5);
    let rate = turn.per_second();
    assert!((500.0..=1_300.0).contains(&rate), "200 deliveries in some 0.2 s are {rate} a second");
}

#[test]
fn what_is_lost_is_counted() {
    let turn = turn(|place| usize::from(place % 10 != 9));
    assert_eq!((turn.outcome.lost(), turn.outcome.duplicates), (25, 0), "{turn:?}");
}

#[test]
fn what_comes_twice_is_counted_and_makes_up_for_no_loss() {
    let turn = turn(|place| [2, 0, 1, 1, 1][place % 5]);
    assert_eq!((turn.outcome.lost(), turn.outcome.duplicates), (50, 50), "{turn:?}");
}
