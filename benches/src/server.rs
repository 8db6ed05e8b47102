//! A server's process: what is measured.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    net::{IpAddr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};

/// A server that runs, until it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    complaints: Arc<Mutex<Vec<String>>>,
    state: Option<tempfile::TempDir>,
}

/// Where a hub listens.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// `http://127.0.0.1:PORT`
    pub http: String,
    /// `https://127.0.0.1:PORT`
    pub https: String,
}

/// What a server's process has used and holds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Time on a processor, of all its threads and child processes, in user space and in the kernel.
    pub cpu_seconds: f64,
    /// Resident memory of all its processes.
    pub resident_kib: u64,
}

impl Server {
    /// Starts a process, and waits for its first lines, as many as there are `wanted` words in them: gives the word that begins with each.
    pub fn start(program: &Path, arguments: &[impl AsRef<OsStr>], wanted: &[&str]) -> Result<(Self, Vec<String>)> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            // It is to run as the arguments say.
            if name.to_str().is_some_and(|name| name.starts_with("FANWIRE_")) {
                command.env_remove(name);
            }
        }
        let mut child = command.spawn().with_context(|| format!("can't run {}", program.display()))?;
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let (out, err) = (child.stdout.take().context("piped")?, child.stderr.take().context("piped")?);
        let kept = complaints.clone();
        let server = Self { child, complaints, state: None };
        std::thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if is_complaint(&line) && kept.len() < COMPLAINTS_MAX {
                    kept.push(line);
                }
            }
        });
        let mut out = BufReader::new(out).lines();
        let mut words = vec![None; wanted.len()];
        while words.iter().any(Option::is_none) {
            let Some(line) = out.next().transpose()? else {
                let said = server.complaints().join("; ");
                anyhow::bail!("{} ended before it said where it listens: {said}", program.display());
            };
            for word in line.split_whitespace() {
                for (wanted, found) in wanted.iter().zip(&mut words) {
                    if found.is_none() && word.starts_with(wanted) {
                        *found = Some(word.trim_end_matches('/').to_owned());
                    }
                }
            }
        }
        std::thread::spawn(move || out.for_each(drop));
        Ok((server, words.into_iter().flatten().collect()))
    }

    /// Starts a hub at this address, with these arguments besides.
    pub fn hub(binary: &Path, address: IpAddr, arguments: &[String]) -> Result<(Self, Addresses)> {
        let state = tempfile::tempdir()?;
        let identity = state.path().to_str().context("the directory for temporary files has a name that isn't text")?;
        let listen = SocketAddr::new(address, 0).to_string();
        let mut all: Vec<&str> = vec!["serve", "--no-demo", "--http", &listen, "--https", &listen];
        if !address.is_loopback() {
            // Nobody else is in that network.
            all.push("--allow-anonymous");
        }
        all.extend(["--dev-identity-dir", identity]);
        all.extend(arguments.iter().map(String::as_str));
        let (mut server, words) = Self::start(binary, &all, &["http://", "https://"])?;
        server.keep(state);
        let mut words = words.into_iter();
        let (http, https) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Ok((server, Addresses { http, https }))
    }

    /// Keeps a directory until the server has ended.
    pub fn keep(&mut self, state: tempfile::TempDir) {
        self.state = Some(state);
    }

    /// What its processes have used so far.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for pid in family(self.child.id()) {
            let one = of_process(pid).with_context(|| format!("the server's process {pid} can't be looked at"))?;
            usage.cpu_seconds += one.cpu_seconds;
            usage.resident_kib += one.resident_kib;
        }
        Ok(usage)
    }

    /// What it said at WARN or above, or in a panic.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its subscribers are gone, and nobody is to wait for a drain. A server of several processes ends them all when it is asked.
        if family(self.child.id()).len() > 1 {
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn is_complaint(line: &str) -> bool {
    [" WARN ", " ERROR ", "panicked", "[emerg]", "[error]", "[alert]", "fanwire:", "Error:"]
        .iter()
        .any(|sign| line.contains(sign))
}

/// A process and its children, and theirs.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        next += 1;
    }
    all
}

fn of_process(pid: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    ensure!(fields.len() > 12, "/proc/{pid}/stat is too short");
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(Usage {
        // utime and stime, the 14th and 15th of all, in ticks of which Linux has 100 a second.
        cpu_seconds: (fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS_PER_SECOND,
        resident_kib: resident.trim().trim_end_matches("kB").trim().parse()?,
    })
}

const TICKS_PER_SECOND: f64 = 100.0;
const COMPLAINTS_MAX: usize = 100;
