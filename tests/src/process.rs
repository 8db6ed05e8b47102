//! A hub in a process of its own, to be killed, stopped and started again at the same addresses.

use std::{
    ffi::{OsStr, OsString},
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use fanwire_client::{Options, Trust};

use crate::Way;

/// A hub's process. Dropping it kills it.
#[derive(Debug)]
pub struct HubProcess {
    arguments: Vec<String>,
    environment: Vec<(&'static str, OsString)>,
    http: SocketAddr,
    https: SocketAddr,
    /// None while it is down.
    child: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
    _identity: tempfile::TempDir,
}

impl HubProcess {
    /// Starts a hub on a data directory, with these arguments besides.
    ///
    /// # Panics
    /// If it doesn't serve.
    pub fn start(data_dir: &Path, arguments: &[&str]) -> Self {
        Self::try_start(data_dir, arguments).expect("a hub that starts")
    }

    /// The same; if it doesn't serve, what it said.
    pub fn try_start(data_dir: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_in(data_dir, arguments, vec![])
    }

    /// The same, with more in its environment.
    pub fn start_in(data_dir: &Path, arguments: &[&str], environment: Vec<(&'static str, OsString)>) -> Result<Self> {
        let identity = tempfile::tempdir()?;
        let (http, https) = (free_address(), free_address());
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        let mut all = vec!["serve".to_owned(), "--no-demo".to_owned()];
        all.extend(["--log", "info,quinn=error,h3=error"].map(str::to_owned));
        all.extend(["--http".to_owned(), http.to_string(), "--https".to_owned(), https.to_string()]);
        all.extend(["--dev-identity-dir".to_owned(), text(identity.path())]);
        all.extend(["--data-dir".to_owned(), text(data_dir)]);
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let mut hub =
            Self { arguments: all, environment, http, https, child: None, log: Arc::default(), _identity: identity };
        hub.try_again()?;
        Ok(hub)
    }

    /// Starts it again, where it was.
    ///
    /// # Panics
    /// If it doesn't serve.
    pub fn again(&mut self) {
        self.try_again().expect("a hub that comes back");
    }

    /// The same; if it doesn't serve, what it said.
    pub fn try_again(&mut self) -> Result<()> {
        assert!(self.child.is_none(), "it is running");
        let mut child = command(&self.arguments)
            .envs(self.environment.clone())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let said = BufReader::new(child.stderr.take().context("its log is piped")?);
        let log = self.log.clone();
        // Ends with the process.
        let reader = std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let mut said = BufReader::new(child.stdout.take().context("its output is piped")?);
        let mut line = String::new();
        said.read_line(&mut line)?;
        if line.is_empty() {
            let status = child.wait()?;
            let _ = reader.join();
            bail!("{status}\n{}", self.log().join("\n"));
        }
        // Its few lines fit into the pipe.
        std::thread::spawn(move || said.read_to_end(&mut Vec::new()));
        self.child = Some(child);
        Ok(())
    }

    /// Ends it at once, as a crash would. It may be shutting down.
    ///
    /// # Panics
    /// If it was down.
    pub fn crash(&mut self) {
        let mut child = self.child.take().expect("it is running");
        child.kill().expect("it can be killed");
        child.wait().expect("it is dead");
    }

    /// Asks it to shut down, and doesn't wait.
    pub fn terminate(&self) {
        let id = self.id().to_string();
        let sent = Command::new("kill").arg(id).status().expect("kill");
        assert!(sent.success(), "it is running");
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// If that takes longer than 20 s.
    pub async fn ended(&mut self) -> ExitStatus {
        let begin = Instant::now();
        let child = self.child.as_mut().expect("it was running");
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                self.child = None;
                return status;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "it doesn't end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it is down.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// The most memory that it has held, in KiB, since its start.
    pub fn resident_peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// What it has logged so far, over all its runs.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line of its log that has all of these in it.
    ///
    /// # Panics
    /// If it doesn't come in 5 s.
    pub async fn logs(&self, all: &[&str]) {
        let begin = Instant::now();
        while !self.log().iter().any(|line| all.iter().all(|one| line.contains(one))) {
            assert!(begin.elapsed() < Duration::from_secs(5), "no {all:?} in {:#?}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `http://…/events`
    pub fn http_url(&self) -> String {
        format!("http://{}/events", self.http)
    }

    /// Options of a client that comes over this way, and is quick to find out that the hub is gone.
    pub fn options(&self, way: Way) -> Options {
        let url = if way.is_cleartext() { self.http_url() } else { format!("https://{}/events", self.https) };
        let mut options = Options::new(&url).expect("a URL").trust(Trust::Insecure);
        options.connect_timeout = Duration::from_secs(3);
        // Over QUIC only silence tells of a death: two heartbeats of it.
        options.heartbeat = Some(Duration::from_secs(1));
        options.retry.base = Duration::from_millis(100);
        options.retry.max = Duration::from_millis(500);
        options
    }
}

impl Drop for HubProcess {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            eprintln!("the hub's last words:\n{}", log[log.len().saturating_sub(30)..].join("\n"));
        }
    }
}

/// Runs the binary to its end: what it said on standard error, and how it ended.
///
/// # Panics
/// If that takes longer than 20 s.
pub fn run<S: AsRef<OsStr>>(arguments: &[S]) -> (ExitStatus, String) {
    let mut child = command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary");
    let mut stderr = child.stderr.take().expect("it is piped");
    let reader = std::thread::spawn(move || {
        let mut said = String::new();
        stderr.read_to_string(&mut said).map(|_| said)
    });
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return (status, reader.join().expect("a reader").expect("text"));
        }
        if begin.elapsed() > Duration::from_secs(20) {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it doesn't end: {:?}", reader.join());
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// The binary beside the tests', without what this process's environment says of hubs.
fn command<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(hub_binary());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FANWIRE_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The hub's program.
///
/// # Panics
/// If it isn't built.
pub fn hub_binary() -> PathBuf {
    let deps = std::env::current_exe().expect("this test's path");
    let binary: PathBuf = deps.parent().and_then(Path::parent).expect("target/…/deps").join("fanwire");
    assert!(binary.exists(), "{} isn't built: cargo build -p fanwire", binary.display());
    binary
}

/// An address that nobody has now, for TCP and UDP. It is below the ports that the system gives to clients, so that none of them
/// takes it while the hub is down.
fn free_address() -> SocketAddr {
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(10_000..32_000)));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
