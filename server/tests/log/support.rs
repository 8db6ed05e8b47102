//! Hubs and `fanwire log` in processes of their own.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// A directory for logs and whatever else a test makes.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `fanwire log` on the log `name`.
    pub(crate) fn log(&self, name: &str, arguments: &[&str]) -> Output {
        run(command(&["log", "--data-dir"]).arg(self.path(name)).args(arguments), "")
    }

    /// The same, which has to succeed and to say nothing on standard error.
    pub(crate) fn ok(&self, name: &str, arguments: &[&str]) -> String {
        ok(self.log(name, arguments))
    }

    pub(crate) fn stat(&self, name: &str) -> Value {
        serde_json::from_str(&self.ok(name, &["stat", "--json"])).unwrap()
    }

    pub(crate) fn export(&self, name: &str, arguments: &[&str]) -> Vec<Value> {
        events(&self.ok(name, &[&["export"], arguments].concat()))
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }
}

/// A hub that keeps its log in a directory.
pub(crate) struct Hub {
    pub(crate) child: Child,
    /// `http://…/events`
    pub(crate) url: String,
}

impl Hub {
    pub(crate) fn start(data_dir: &Path, arguments: &[&str]) -> Self {
        let mut command = command(&["serve", "--http", "127.0.0.1:0", "--https", "off", "--no-demo", "--data-dir"]);
        let mut child =
            command.arg(data_dir).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = said.next().expect("the hub says where it listens").unwrap();
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
        Self { child, url: format!("{url}events") }
    }

    /// Publishes lines of JSON; their ids.
    pub(crate) fn publish(&self, lines: &str) -> Vec<String> {
        ok(run(&mut command(&["pub", &self.url, "--ndjson"]), lines)).lines().map(str::to_owned).collect()
    }

    pub(crate) fn publish_numbers(&self, topic: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
        let lines: String = numbers.map(|n| format!("{{\"topic\": \"{topic}\", \"data\": \"{n}\"}}\n")).collect();
        self.publish(&lines)
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
        assert!(wait(&mut self.child));
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary, without what this process's environment says of hubs.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanwire"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FANWIRE_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    // It may end without reading, or write before it has read everything.
    let writer = thread::spawn(move || _ = stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

pub(crate) fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout)
}

/// It has failed, and says why in one line.
pub(crate) fn one_line(output: &Output, said: &str) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}: {error}");
    assert!(error.starts_with("fanwire: ") && error.ends_with('\n') && error.lines().count() == 1, "{said}: {error}");
    assert!(error.contains(said), "{said}: {error}");
    assert_eq!(text(&output.stdout), "");
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Lines of JSON.
pub(crate) fn events(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The same events without what an import changes.
pub(crate) fn without_cursors(events: &[Value]) -> Vec<Value> {
    let mut events = events.to_vec();
    events.iter_mut().for_each(|event| _ = event.as_object_mut().unwrap().remove("cursor"));
    events
}

/// Reads a feed until it has `count` events: the SSE ids, and the reasons of the gaps, in order.
pub(crate) fn feed(url: &str, query: &str, count: usize) -> Vec<String> {
    let rest = url.strip_prefix("http://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /{path}?{query}&control=1 HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let (mut told, mut events, mut id) = (vec![], 0, String::new());
    let mut lines = BufReader::new(stream.take(u64::MAX)).lines();
    while events < count {
        let line = lines.next().expect("the feed goes on").unwrap();
        if let Some(value) = line.strip_prefix("id:") {
            id = value.trim().split([';', ' ']).next().unwrap().to_owned();
        } else if let Some(data) = line.strip_prefix("data:") {
            match serde_json::from_str::<Value>(data) {
                Ok(control) if control.get("gap").is_some() => told.push(format!("gap {}", control["gap"])),
                Ok(control) if control.get("hello").is_some() || control.get("ping").is_some() => {}
                _ => {
                    told.push(id.clone());
                    events += 1;
                }
            }
        }
    }
    told
}

/// Waits for the end: whether it was a success.
pub(crate) fn wait(child: &mut Child) -> bool {
    until("the process ends", || child.try_wait().unwrap()).success()
}

pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
