//! The binary, as people run it.

#![allow(clippy::disallowed_methods, reason = "there is no shard in this thread")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, UdpSocket},
    path::Path,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

const TRANSPORTS: [&str; 4] = ["webtransport", "sse-h1", "sse-h2", "sse-h3"];

#[test]
fn what_is_published_is_received_over_every_transport() {
    let hub = Hub::start(&["--no-demo"]);
    let subscribers: Vec<Subscriber> = TRANSPORTS
        .into_iter()
        .flat_map(|transport| [(transport, &hub.http), (transport, &hub.https)])
        .map(|(transport, url)| Subscriber::start(url, &["--transport", transport, "--topic", "news", "-n", "6"]))
        .collect();
    for subscriber in &subscribers {
        subscriber.told("connected over");
    }
    let one = ok(fanwire(&["pub", &hub.https, "--insecure", "-t", "news", "-d", "one", "--id", "mine"], ""));
    assert_eq!(one, "mine\n");
    let lines = ok(fanwire(&["pub", &hub.http, "-t", "news"], "two\nthree\n\nfour"));
    let ids: Vec<&str> = lines.lines().collect();
    assert_eq!(ids.len(), 4, "an empty line is an event without data");
    let events = "{\"topic\": \"news\", \"data\": {\"a\": 1}}\n\n{\"data\": \"x\", \"topic\": \"other\"}\n";
    let last = ok(fanwire(&["pub", &hub.http, "--ndjson"], events));
    let expected: Vec<&str> = ["mine"].into_iter().chain(ids).chain(last.lines().take(1)).collect();
    for subscriber in subscribers {
        let (status, lines) = subscriber.finish();
        assert!(status.success());
        let ids: Vec<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected);
        let data: Vec<&str> = lines.iter().map(|line| line["data"].as_str().unwrap()).collect();
        assert_eq!(data, ["one", "two", "three", "", "four", "{\"a\": 1}"]);
        assert!(lines.iter().all(|line| line["topic"] == "news"));
    }
}

#[test]
fn what_is_refused_is_said_and_fails() {
    let hub = Hub::start(&["--no-demo"]);
    let events = "{\"topic\": \"a\"}\ngarbage\n{\"topic\": \"*\"}\n{\"topic\": \"b\"}\n";
    let output = fanwire(&["pub", &hub.http, "--ndjson"], events);
    assert!(!output.status.success());
    assert_eq!(text(&output.stdout).lines().count(), 2, "the good ones are published");
    let said = text(&output.stderr);
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].starts_with("fanwire: refused: malformed: "), "{said:?}");
    assert!(said[1].starts_with("fanwire: refused: reserved_topic: "), "{said:?}");
    assert_eq!(said[2], "fanwire: 2 of the lines were refused");
    one_line(&fanwire(&["pub", &hub.http, "-t", "*", "-d", "x"], ""), "reserved_topic");
    one_line(&fanwire(&["pub", &hub.http, "-d", "x"], ""), "--topic");
    one_line(&fanwire(&["pub", &hub.https, "-t", "a", "-d", "x"], ""), "--insecure");
    one_line(&fanwire(&["sub", &hub.http], ""), "--topic");
    one_line(&fanwire(&["sub", "ftp://localhost/", "-t", "a"], ""), "ftp");
    one_line(&fanwire(&["sub", &hub.https, "-t", "a", "--transport", "sse-h1"], ""), "--insecure");
}

#[test]
fn a_subscriber_outlives_its_hub_and_is_told_of_the_gap() {
    let mut hub = Hub::start(&["--no-demo", "--retry", "100ms"]);
    // Over QUIC nothing but silence tells of a death: two heartbeats of it.
    let arguments = ["--topic", "news", "-n", "2", "--heartbeat", "1", "--transport"];
    let subscribers: Vec<Subscriber> = TRANSPORTS
        .into_iter()
        .map(|transport| Subscriber::start(&hub.https, &[&arguments[..], &[transport]].concat()))
        .collect();
    for subscriber in &subscribers {
        subscriber.told("connected over");
    }
    ok(fanwire(&["pub", &hub.http, "-t", "news", "-d", "before"], ""));
    for subscriber in &subscribers {
        assert_eq!(subscriber.line()["data"], "before");
    }
    hub.child.kill().unwrap();
    hub.child.wait().unwrap();
    let (http, https) = (address(&hub.http), address(&hub.https));
    let hub = hub.again(&["--no-demo", "--http", &http, "--https", &https]);
    for subscriber in &subscribers {
        subscriber.told("connected over");
        subscriber.told("gap: ");
    }
    ok(fanwire(&["pub", &hub.http, "-t", "news", "-d", "after"], ""));
    for subscriber in subscribers {
        assert_eq!(subscriber.line()["data"], "after");
        assert!(subscriber.finish().0.success());
    }
}

#[test]
fn lines_are_published_once_though_the_hub_is_killed_in_between() {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().to_str().unwrap().to_owned();
    let mut hub = Hub::start(&["--no-demo", "--data-dir", &directory]);
    let mut publisher =
        command(&["pub", &hub.http, "-t", "news"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, ids) = (publisher.stdin.take().unwrap(), lines(publisher.stdout.take().unwrap()));
    let mut told = vec![];
    for round in 0..3 {
        writeln!(input, "{round}/first").unwrap();
        told.push(ids.recv_timeout(Duration::from_secs(20)).unwrap());
        let http = address(&hub.http);
        hub.child.kill().unwrap();
        hub.child.wait().unwrap();
        writeln!(input, "{round}/second").unwrap();
        hub = hub.again(&["--no-demo", "--http", &http, "--data-dir", &directory]);
        told.push(ids.recv_timeout(Duration::from_secs(20)).unwrap());
    }
    drop(input);
    assert!(publisher.wait().unwrap().success());
    let kept = Subscriber::start(&hub.http, &["-t", "news", "--last-event-id", "earliest", "-n", "6"]).finish().1;
    let kept: Vec<(&str, &str)> =
        kept.iter().map(|line| (line["id"].as_str().unwrap(), line["data"].as_str().unwrap())).collect();
    let data = ["0/first", "0/second", "1/first", "1/second", "2/first", "2/second"];
    assert_eq!(kept, told.iter().map(String::as_str).zip(data).collect::<Vec<_>>());
}

#[test]
fn a_signal_drains_and_tells_the_subscribers() {
    for signal in ["TERM", "INT"] {
        let mut hub = Hub::start(&["--no-demo", "--drain-deadline", "10s"]);
        let subscribers: Vec<Subscriber> = TRANSPORTS
            .into_iter()
            .map(|transport| Subscriber::start(&hub.https, &["--transport", transport, "--topic", "news"]))
            .collect();
        for subscriber in &subscribers {
            subscriber.told("connected over");
        }
        let begin = Instant::now();
        let id = hub.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        for subscriber in &subscribers {
            subscriber.told("bye: the hub is shutting down");
        }
        let status = wait(&mut hub.child);
        assert!(status.success(), "{signal}: {status}");
        assert!(begin.elapsed() < Duration::from_secs(10), "all of them went by themselves");
    }
}

#[test]
fn a_subscriber_that_is_stopped_tells_the_hub() {
    for signal in ["TERM", "INT"] {
        let mut hub = Hub::start(&["--no-demo", "--drain-deadline", "10s"]);
        for transport in TRANSPORTS {
            let subscriber = Subscriber::start(&hub.https, &["--transport", transport, "--topic", "news"]);
            subscriber.told("connected over");
            let id = subscriber.child.id().to_string();
            assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
            assert!(subscriber.finish().0.success(), "{signal}, {transport}");
        }
        let (begin, id) = (Instant::now(), hub.child.id().to_string());
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        assert!(wait(&mut hub.child).success());
        assert!(begin.elapsed() < Duration::from_secs(8), "{signal}: nobody is there to be waited for");
    }
}

#[test]
fn a_hub_whose_output_nobody_reads_serves() {
    let directory = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let arguments =
        ["--http", &free, "--https", "127.0.0.1:0", "--no-demo", "--dev-identity-dir", path(directory.path())];
    let mut hub = command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    drop(hub.stdout.take());
    // A first request isn't tried again: it is answered once the hub listens.
    let url = format!("http://{free}/events");
    let answered = (0..500).any(|_| fanwire(&["pub", &url, "--topic", "a", "--data", "x"], "").status.success());
    let running = hub.try_wait().unwrap().is_none();
    hub.kill().unwrap();
    hub.wait().unwrap();
    assert!(answered && running);
}

#[test]
fn tokens_are_made_taken_and_withdrawn() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fanwire.toml");
    let write = |secret: &str| {
        let issuer = format!("[[issuer]]\niss = 'https://app.example'\nsecret = '{secret}'\n");
        fs::write(&file, format!("resource = 'https://hub.example'\n{issuer}")).unwrap();
    };
    let (secret, other) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    write(secret);
    let hub = Hub::start(&["--no-demo", "--config", path(&file)]);
    let token = |secret: &str| {
        let (resource, issuer) = ("https://hub.example", "https://app.example");
        let who = ["token", "--resource", resource, "--issuer", issuer, "--secret", secret];
        ok(fanwire(&[&who[..], &["--publish", "*", "--subscribe", "news"]].concat(), "")).trim().to_owned()
    };
    let good = token(secret);
    let subscribers: Vec<Subscriber> = TRANSPORTS
        .into_iter()
        .map(|transport| {
            let arguments = ["--transport", transport, "--topic", "news", "--token", &good];
            Subscriber::start(&hub.https, &arguments)
        })
        .collect();
    for subscriber in &subscribers {
        subscriber.told("connected over");
    }
    let publish = |token: &[&str]| fanwire(&[&["pub", &hub.http, "-t", "news", "-d", "x"], token].concat(), "");
    one_line(&publish(&[]), "no_token");
    one_line(&publish(&["--token", &token(other)]), "invalid_token");
    ok(publish(&["--token", &good]));
    for subscriber in &subscribers {
        assert_eq!(subscriber.line()["data"], "x");
    }
    // What can't be read changes nothing.
    fs::write(&file, "nonsense").unwrap();
    let hang_up = || {
        let id = hub.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "HUP", &id]).status().unwrap().success());
    };
    hang_up();
    ok(publish(&["--token", &good]));
    write(other);
    hang_up();
    for subscriber in subscribers {
        subscriber.told("bye: what had let this feed in was withdrawn");
        assert!(!subscriber.finish().0.success());
    }
    one_line(&publish(&["--token", &good]), "invalid_token");
    ok(publish(&["--token", &token(other)]));
}

#[test]
fn tokens_of_mercure_0x_are_made_and_taken() {
    let secret = "0123456789abcdef0123456789abcdef";
    let hub = Hub::start(&[
        "--no-demo",
        "--mercure-0x",
        "http",
        "--token-mercure-0x",
        "publish,subscribe",
        "--token-secret",
        secret,
    ]);
    let token = |more: &[&str]| {
        ok(fanwire(&[&["token", "--mercure-0x", "--secret", secret][..], more].concat(), "")).trim().to_owned()
    };
    let old = format!("{}.well-known/mercure", hub.http);
    let publish = |topic: &str, token: &str| fanwire(&["pub", &old, "-t", topic, "-d", "x", "--token", token], "");
    let good = token(&["--publish", "news/{id}"]);
    ok(publish("news/1", &good));
    one_line(&publish("other", &good), "insufficient_scope");
    one_line(&publish("news/1", &token(&[])), "insufficient_scope");
    one_line(&publish("news/1", &token(&["--publish", "*", "--life", "0s"])), "invalid_token");
    // Those of 1.0 say more.
    one_line(&fanwire(&["pub", &hub.http, "-t", "news/1", "-d", "x", "--token", &good], ""), "invalid_token");
    let wrong = fanwire(&["token", "--secret", secret], "");
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("--resource <URL>"));
    let wrong = fanwire(&["token", "--mercure-0x", "--secret", secret, "--publish-pattern", "/:a"], "");
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("cannot be used with"));
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| {
        fs::write(path(name), text).unwrap();
        path(name)
    };
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy_tcp = busy.local_addr().unwrap().to_string();
    let busy = UdpSocket::bind("127.0.0.1:0").unwrap();
    let busy_udp = busy.local_addr().unwrap().to_string();
    let identity = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let cert = write(&format!("{name}.pem"), &made.cert.pem());
        (cert, write(&format!("{name}.key"), &made.signing_key.serialize_pem()))
    };
    let ((cert, key), (_, other_key)) = (identity("one"), identity("two"));
    let empty = write("empty", "");
    let missing = path("missing");
    for (arguments, said) in [
        (vec!["--config", &write("a.toml", "htp = 'x'")], "unknown field `htp`"),
        (vec!["--config", &write("b.toml", "http = ")], "b.toml, line 1: "),
        (vec!["--config", &missing], "missing"),
        (vec!["--http", "nowhere"], "http = \"nowhere\" is no address"),
        (vec!["--http", "127.0.0.1:99999"], "is no address"),
        (vec!["--http", "192.0.2.1:0", "--allow-anonymous"], "can't listen on 192.0.2.1:0"),
        (vec!["--http", "0.0.0.0:0"], "--allow-anonymous"),
        (vec!["--http", "off", "--https", "off"], "nothing to serve"),
        (vec!["--http", &busy_tcp], "choose another with --http"),
        (vec!["--https", &busy_tcp], "choose another with --https"),
        (vec!["--https", &busy_udp], "choose another with --https"),
        (vec!["--cert", &cert], "cert is given without key"),
        (vec!["--cert", &missing, "--key", &key], "missing"),
        (vec!["--cert", &cert, "--key", &missing], "missing"),
        (vec!["--cert", &empty, "--key", &key], "empty"),
        (vec!["--cert", &cert, "--key", &empty], "empty"),
        (vec!["--cert", &cert, "--key", &other_key], "key"),
        (vec!["--dev-identity-dir", &format!("{empty}/below")], "below"),
        (vec!["--heartbeat", "1h"], "heartbeat is from"),
        (vec!["--log", "=;"], "log = "),
        (vec!["--allowed-origins", "app.example"], "allowed_origins"),
    ] {
        let mut all = vec!["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dev-identity-dir", &*empty];
        let directory = path("identity");
        all[5] = &directory;
        // A flag that is given twice is an error of its own.
        for flag in arguments.iter().filter(|argument| argument.starts_with("--")) {
            if let Some(at) = all.iter().position(|other| other == flag) {
                all.drain(at..at + 2);
            }
        }
        all.extend(arguments.iter().copied());
        one_line(&fanwire(&all, ""), said);
    }
    // The command line's own errors are the parser's.
    let output = fanwire(&["--no-such-flag"], "");
    assert!(!output.status.success() && text(&output.stderr).contains("--no-such-flag"));
    let mut command = command(&["--http", "127.0.0.1:0", "--https", "off"]);
    one_line(&command.env("FANWIRE_HTPP", "x").output().unwrap(), "FANWIRE_HTPP is unknown");
    let mut command = self::command(&["--https", "off", "--dev-identity-dir", &empty]);
    one_line(&command.env("FANWIRE_HTTP", "nowhere").output().unwrap(), "nowhere");
}

#[test]
fn the_development_identity_stays_the_same() {
    let hub = Hub::start(&["--no-demo"]);
    let first = hub.certificate_hash();
    let hub = hub.stop().again(&["--no-demo", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0"]);
    assert_eq!(hub.certificate_hash(), first);
    // And it is the one that is served.
    let arguments = ["pub", &hub.https, "--cert-hash", &first, "-t", "a", "-d", "x"];
    ok(fanwire(&arguments, ""));
    let stranger = "00".repeat(32);
    one_line(&fanwire(&["pub", &hub.https, "--cert-hash", &stranger, "-t", "a", "-d", "x"], ""), "trusted");
}

#[test]
fn there_is_live_input_unless_it_is_turned_off() {
    let hub = Hub::start(&[]);
    assert!(hub.said.iter().any(|line| line.contains("host/")), "{:?}", hub.said);
    let begin = Instant::now();
    let subscriber = Subscriber::start(&hub.http, &["--transport", "sse-h1", "--topic", "host/cpu", "-n", "10"]);
    let (status, lines) = subscriber.finish();
    assert!(status.success());
    assert_eq!(lines.len(), 10);
    assert!(begin.elapsed() < Duration::from_secs(8), "ten times a second");
    let quiet = Hub::start(&["--no-demo"]);
    assert!(!quiet.said.iter().any(|line| line.contains("host/")), "{:?}", quiet.said);
    let subscriber = Subscriber::start(&quiet.http, &["--transport", "sse-h1", "--topic", "*", "-n", "1"]);
    subscriber.told("connected over");
    ok(fanwire(&["pub", &quiet.http, "-t", "mine", "-d", "first"], ""));
    assert_eq!(subscriber.line()["seq"], 1, "nothing was published before");
}

/// A hub in a process of its own.
struct Hub {
    child: Child,
    /// `http://…`
    http: String,
    /// `https://…`
    https: String,
    said: Vec<String>,
    directory: tempfile::TempDir,
}

impl Hub {
    fn start(arguments: &[&str]) -> Self {
        let all = [&["--http", "127.0.0.1:0", "--https", "127.0.0.1:0"], arguments].concat();
        Self::start_in(tempfile::tempdir().unwrap(), &all)
    }

    fn start_in(directory: tempfile::TempDir, arguments: &[&str]) -> Self {
        let mut command = command(&["serve", "--dev-identity-dir", path(directory.path())]);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut said = vec![];
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let last = line.starts_with(if arguments.contains(&"--no-demo") { "publish: " } else { "live input " });
            said.push(line);
            if last {
                break;
            }
        }
        let url = |scheme: &str| {
            let found = said.iter().find_map(|line| line.split_whitespace().find(|word| word.starts_with(scheme)));
            found.unwrap_or_else(|| panic!("no {scheme} in {said:?}")).to_owned()
        };
        let (http, https) = (url("http://"), url("https://"));
        Self { child, http, https, said, directory }
    }

    fn stop(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self
    }

    /// Another hub with the same identity, when this one is dead.
    fn again(mut self, arguments: &[&str]) -> Self {
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        Self::start_in(directory, arguments)
    }

    /// The certificate's hash, as the hub tells it to browsers.
    fn certificate_hash(&self) -> String {
        let mut stream = std::net::TcpStream::connect(address(&self.http)).unwrap();
        stream.write_all(b"GET /.well-known/fanwire HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let offer: Value = serde_json::from_str(body).unwrap();
        offer["webtransport"]["certificate_hashes"][0]["value"].as_str().unwrap().to_owned()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `fanwire sub --json` in a process of its own.
struct Subscriber {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: mpsc::Receiver<String>,
}

impl Subscriber {
    fn start(url: &str, arguments: &[&str]) -> Self {
        let mut command = command(&["sub", url, "--json", "--insecure"]);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout: ChildStdout = child.stdout.take().unwrap();
        let stderr: ChildStderr = child.stderr.take().unwrap();
        Self { child, lines: lines(stdout), said: lines(stderr) }
    }

    /// Waits for a line on standard error.
    fn told(&self, text: &str) {
        let mut before = vec![];
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return,
                Ok(line) => before.push(line),
                Err(error) => panic!("{error}: no {text:?} in {before:?}"),
            }
        }
    }

    /// The next event.
    fn line(&self) -> Value {
        serde_json::from_str(&self.lines.recv_timeout(PATIENCE).expect("a line")).expect("JSON")
    }

    /// Waits for its end; gives the events that weren't taken.
    fn finish(mut self) -> (ExitStatus, Vec<Value>) {
        let status = wait(&mut self.child);
        (status, self.lines.iter().map(|line| serde_json::from_str(&line).expect("JSON")).collect())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(output: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// The binary, without what this process's environment says of hubs.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanwire"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FANWIRE_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
fn fanwire(arguments: &[&str], input: &str) -> Output {
    let mut command = command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin: ChildStdin = child.stdin.take().unwrap();
    // It may end without reading.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let status = wait(&mut child);
    let (mut stdout, mut stderr) = (vec![], vec![]);
    child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    Output { status, stdout, stderr }
}

fn wait(child: &mut Child) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begin.elapsed() > PATIENCE {
            child.kill().unwrap();
            let mut said = String::new();
            let _ = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
            panic!("it doesn't end: {said}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout)
}

/// It has failed, and says why in one line.
fn one_line(output: &Output, said: &str) {
    let error = text(&output.stderr);
    assert!(!output.status.success(), "{said}: {error}");
    assert!(error.starts_with("fanwire: ") && error.ends_with('\n') && error.lines().count() == 1, "{said}: {error}");
    assert!(error.contains(said), "{said}: {error}");
    assert_eq!(text(&output.stdout), "");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// `host:port` of a URL.
fn address(url: &str) -> String {
    url.split("://").nth(1).expect("a URL").trim_end_matches('/').to_owned()
}

const PATIENCE: Duration = Duration::from_secs(20);
