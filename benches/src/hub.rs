//! The hub's process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

#[derive(Debug)]
pub(crate) struct Hub {
    child: Child,
    url: String,
    complaints: JoinHandle<Vec<String>>,
    _state: tempfile::TempDir,
}

impl Hub {
    /// Starts a hub with these arguments besides its addresses.
    pub(crate) async fn start(binary: Option<&Path>, arguments: &[&str]) -> Result<Self> {
        let binary = match binary {
            Some(binary) => binary.to_owned(),
            None => crate::hub_beside_this_one()?,
        };
        let state = tempfile::tempdir()?;
        let mut child = Command::new(&binary)
            .args(["serve", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dev-identity-dir"])
            .arg(state.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't run {}; build it with the same profile first", binary.display()))?;
        let mut said = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
        let first = said.next_line().await?.context("the hub ended before it said where it listens")?;
        let at = first.find("http://").with_context(|| format!("no address in {first:?}"))?;
        let url = format!("{}/events", first[at..].trim_end_matches('/'));
        let mut log = BufReader::new(child.stderr.take().context("its log is piped")?).lines();
        let complaints = tokio::spawn(async move {
            let mut complaints = Vec::new();
            while let Ok(Some(line)) = log.next_line().await {
                if line.contains(" WARN ") || line.contains(" ERROR ") || line.contains("panicked") {
                    complaints.push(line);
                }
            }
            complaints
        });
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        Ok(Self { child, url, complaints, _state: state })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn resident_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(self.proc("status")?)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(self.proc("stat")?)?;
        let after_name = stat.rsplit(')').next().context("no fields")?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        // utime and stime, the 14th and 15th of all, in ticks of which Linux has 100 a second.
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
    }

    /// Stops the hub, and tells what it had to complain about.
    pub(crate) async fn stop(&mut self) -> Result<Vec<String>> {
        let pid = self.child.id().context("the hub has ended by itself")?;
        let killed = Command::new("kill").arg(pid.to_string()).status().await?;
        ensure!(killed.success(), "the hub can't be told to stop");
        let status = self.child.wait().await?;
        ensure!(status.success(), "the hub ended with {status}");
        Ok((&mut self.complaints).await?)
    }

    fn proc(&self, file: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/{file}", self.child.id().context("the hub has ended by itself")?)))
    }
}
