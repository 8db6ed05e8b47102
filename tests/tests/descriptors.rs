//! A hub that may open few files: who comes too late is told so, and those who were there don't notice.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

#[test]
fn a_hub_without_descriptors_tells_newcomers_and_keeps_the_old() {
    let identity = tempfile::tempdir().unwrap();
    let hub = Hub::start(identity.path(), "-n 256", &[]);
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(hub.http.as_str()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let feed = "GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n";
    let mut feeds = vec![];
    let refused = loop {
        let mut reader = BufReader::new(ask(&format!("{feed}\r\n")));
        let mut status = String::new();
        reader.read_line(&mut status).unwrap();
        if !status.starts_with("HTTP/1.1 200") {
            break rest(reader);
        }
        feeds.push(reader);
        assert!(feeds.len() < 256);
    };
    assert!(feeds.len() > 64, "{} feeds", feeds.len());
    assert!(refused.contains("retry-after: 2") && refused.contains("too_many_connections"), "{refused}");
    let browser = rest(ask(&format!("{feed}Sec-Fetch-Dest: empty\r\n\r\n")));
    assert!(browser.starts_with("HTTP/1.1 200") && browser.ends_with("retry: 2000\n\n"), "{browser}");
    // More than can be told anything, and none of them says a word.
    let flood: Vec<_> = (0..400).filter_map(|_| TcpStream::connect(hub.http.as_str()).ok()).collect();
    let metrics = {
        let mut stream = TcpStream::connect(hub.metrics.as_str()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        rest(stream)
    };
    let number = |name: &str| -> usize {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{metrics}"));
        line.trim().parse().unwrap()
    };
    assert!(number("process_open_fds ") < number("process_max_fds "), "{metrics}");
    assert_eq!(number("fanwire_feeds{transport=\"sse-h1\"} "), feeds.len());
    assert!(number("fanwire_limits_reached_total{limit=\"descriptors\"} ") >= 2);
    drop(flood);
    // There is room for a publisher where a feed ends, and the others get its event.
    feeds.pop();
    let post = "POST /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded";
    let published = (0..100).find(|_| {
        let answer = rest(ask(&format!("{post}\r\nContent-Length: 14\r\n\r\ntopic=a&data=x")));
        answer.starts_with("HTTP/1.1 200")
    });
    assert!(published.is_some(), "there is no room");
    for feed in &mut feeds {
        let mut line = String::new();
        while line != "data: x\n" {
            line.clear();
            assert!(feed.read_line(&mut line).unwrap() > 0, "a feed has ended");
        }
    }
}

#[test]
fn one_address_leaves_descriptors_to_others() {
    let identity = tempfile::tempdir().unwrap();
    let keys = ["--resource", "r", "--token-issuer", "i", "--token-secret", "0123456789abcdef0123456789abcdef"];
    let hub = Hub::start(identity.path(), "-n 256", &[&keys[..], &["--allow-anonymous"]].concat());
    let ask = |host: u8| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
        socket.connect(&hub.http.parse::<SocketAddr>().unwrap().into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut status = String::new();
        reader.read_line(&mut status).unwrap();
        (status, reader)
    };
    let mut feeds = vec![];
    let mut takes_all_it_gets = |host| {
        let before = feeds.len();
        loop {
            let (status, reader) = ask(host);
            if !status.starts_with("HTTP/1.1 200") {
                return (feeds.len() - before, status, rest(reader));
            }
            feeds.push(reader);
            assert!(feeds.len() < 256);
        }
    };
    let (first, status, refused) = takes_all_it_gets(1);
    assert!(status.starts_with("HTTP/1.1 429") && refused.contains("too_many_connections"), "{status}{refused}");
    assert!(first > 32, "{first} feeds");
    let (second, ..) = takes_all_it_gets(2);
    assert_eq!(second, first, "an address is as good as another");
    let (third, status, _) = takes_all_it_gets(3);
    assert!(status.starts_with("HTTP/1.1 503"), "now the descriptors are taken: {status}");
    assert!(third > 0 && third < first, "{third} of {first}");
}

#[test]
fn a_hub_takes_as_many_descriptors_as_it_may() {
    let identity = tempfile::tempdir().unwrap();
    let hub = Hub::start(identity.path(), "-Sn 256; ulimit -Hn 1024", &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", hub.child.id())).unwrap();
    let line =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_else(|| panic!("{limits}"));
    let soft_and_hard: Vec<&str> = line.split_whitespace().take(2).collect();
    assert_eq!(soft_and_hard, ["1024", "1024"], "{limits}");
}

/// What comes until the hub closes.
fn rest(mut stream: impl Read) -> String {
    let mut bytes = vec![];
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Hub {
    child: Child,
    http: String,
    metrics: String,
}

impl Hub {
    /// `limit`: of the files that it may open, as `ulimit` takes it.
    fn start(identity: &std::path::Path, limit: &str, arguments: &[&str]) -> Self {
        let binary = fanwire_tests::hub_binary();
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit {limit}; exec \"$0\" \"$@\"")])
            .arg(binary)
            .args(["serve", "--no-demo", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0"])
            .args(["--metrics", "127.0.0.1:0", "--shards", "2", "--dev-identity-dir"])
            .arg(identity)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut after = |word: &str| {
            let line = lines.find(|line| line.starts_with(word)).expect("an address");
            let at = line.find("http://").unwrap();
            line[at + 7..].split('/').next().unwrap().to_owned()
        };
        let http = after("page");
        let metrics = after("metrics");
        Self { child, http, metrics }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
