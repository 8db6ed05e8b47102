//! A link between the server and its subscribers that loses and delays packets.
//!
//! Both have a network namespace of their own, with a TUN device each. A process in between ([`relay`]) takes the packets from one and puts them into
//! the other, as a line of some rate with a queue in front of it would. Packets are what they are on an Ethernet: 1,500 bytes at most, as TUN offloads nothing.

mod path;
mod relay;

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::wire;

/// What a link does to packets, the same in both directions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// How many are lost at random, in percent.
    pub loss_percent: f64,
    /// How long one takes there and back where none waits, in milliseconds.
    pub round_trip_ms: f64,
    /// Millions of bits a second.
    pub megabits: f64,
    /// How long one may wait for those before it, in milliseconds; a longer queue is cut off at its end.
    pub queue_ms: f64,
    /// The congestion control of TCP; none: the system's. QUIC's is each server's own.
    pub tcp_congestion: Option<String>,
}

/// Links that a scenario is measured on, one after the other: every loss with every round trip and every congestion control.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Links {
    /// [`Link::loss_percent`] of each.
    pub loss_percent: Vec<f64>,
    /// [`Link::round_trip_ms`] of each.
    pub round_trip_ms: Vec<f64>,
    /// [`Link::megabits`] of all.
    pub megabits: f64,
    /// [`Link::queue_ms`] of all.
    pub queue_ms: f64,
    /// [`Link::tcp_congestion`] of each; `default` is the system's.
    pub tcp_congestion: Vec<String>,
}

/// What went over a link so far, from the server to the subscribers or back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Direction {
    /// Packets that were put in.
    pub packets: u64,
    /// Their bytes, with the headers of IP and what is in it.
    pub bytes: u64,
    /// Those that were lost at random.
    pub lost: u64,
    /// Those for which the queue had no room.
    pub overflowed: u64,
}

/// Both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// From the server.
    pub down: Direction,
    /// To the server.
    pub up: Direction,
}

/// A link that runs, until it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    ask: ChildStdin,
    hear: BufReader<ChildStdout>,
}

/// What the process in between is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    link: Link,
    /// Where the server is.
    server: PathBuf,
    seed: u64,
}

impl Links {
    /// Each link by itself.
    pub fn each(&self) -> Vec<Link> {
        let mut all = Vec::new();
        for congestion in &self.tcp_congestion {
            for round_trip_ms in &self.round_trip_ms {
                all.extend(self.loss_percent.iter().map(|loss_percent| Link {
                    loss_percent: *loss_percent,
                    round_trip_ms: *round_trip_ms,
                    megabits: self.megabits,
                    queue_ms: self.queue_ms,
                    tcp_congestion: (congestion != SYSTEMS).then(|| congestion.clone()),
                }));
            }
        }
        all
    }

    /// What doesn't go together.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(!self.each().is_empty(), "a link has a loss, a round trip and a congestion control at least");
        ensure!(self.loss_percent.iter().all(|loss| (0.0..=50.0).contains(loss)), "a link loses from 0 to 50 percent");
        ensure!(
            self.round_trip_ms.iter().all(|time| (0.0..=5_000.0).contains(time)),
            "a round trip takes from 0 to 5,000 ms"
        );
        ensure!(self.megabits > 0.0 && self.queue_ms > 0.0, "megabits and queue_ms are above 0");
        Ok(())
    }
}

impl Link {
    /// In a few words.
    pub fn about(&self) -> String {
        let Self { loss_percent, round_trip_ms, megabits, .. } = self;
        format!(
            "{loss_percent} % lost, {round_trip_ms} ms there and back, {megabits} Mbit/s, TCP with {}",
            self.congestion()
        )
    }

    /// The name of TCP's congestion control on it.
    pub fn congestion(&self) -> String {
        self.tcp_congestion.clone().unwrap_or_else(|| {
            let systems = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
            systems.map_or_else(|_| "the system's own".to_owned(), |name| format!("{}, the system's own", name.trim()))
        })
    }

    /// Why this machine can't have one, if it can't.
    pub fn impossible() -> Option<&'static str> {
        if !wire::is_own() {
            return Some("it needs network namespaces, and so root");
        }
        (!Path::new(DEVICE).exists()).then_some("there is no /dev/net/tun")
    }

    /// Sets it up. `program`: this one, which is started again to be in between.
    pub(crate) fn start(&self, program: &Path, seed: u64) -> Result<Running> {
        if let Some(why) = Self::impossible() {
            bail!("a link that loses packets can't be had: {why}");
        }
        let mut child = Command::new("unshare")
            .arg("--net")
            .arg(program)
            .arg(RELAY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("can't run unshare")?;
        let ask = child.stdin.take().context("piped")?;
        let hear = BufReader::new(child.stdout.take().context("piped")?);
        let mut running = Running { child, ask, hear };
        let server = PathBuf::from(format!("/proc/{}/ns/net", std::process::id()));
        let order = Order { link: self.clone(), server, seed };
        running.say(&serde_json::to_string(&order)?)?;
        running.counts()?;
        Ok(running)
    }
}

impl Running {
    /// What went over it so far.
    pub fn counts(&mut self) -> Result<Counts> {
        self.say("counts")?;
        let mut line = String::new();
        ensure!(self.hear.read_line(&mut line)? > 0, "the link has ended: see what it said above");
        Ok(serde_json::from_str(&line)?)
    }

    /// Where the subscribers are: their network namespace.
    pub fn subscribers(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.child.id()).into()
    }

    fn say(&mut self, line: &str) -> Result<()> {
        writeln!(self.ask, "{line}")
            .and_then(|()| self.ask.flush())
            .context("the link has ended: see what it said above")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Counts {
    /// What went since an earlier count.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self { down: self.down.since(&before.down), up: self.up.since(&before.up) }
    }

    /// Bytes in both directions.
    pub fn bytes(&self) -> u64 {
        self.down.bytes + self.up.bytes
    }
}

impl Direction {
    fn since(&self, before: &Self) -> Self {
        Self {
            packets: self.packets - before.packets,
            bytes: self.bytes - before.bytes,
            lost: self.lost - before.lost,
            overflowed: self.overflowed - before.overflowed,
        }
    }

    /// The part that never came, for whatever reason, in percent.
    pub fn loss_percent(&self) -> f64 {
        (self.lost + self.overflowed) as f64 / self.packets.max(1) as f64 * 100.0
    }
}

/// The process in between, for as long as somebody asks it.
pub fn relay() -> Result<()> {
    relay::run()
}

/// This thread goes on in another network. Others of its process stay where they are.
pub(crate) fn enter(network: &Path) -> Result<()> {
    let file = File::open(network).with_context(|| format!("the network {}", network.display()))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("can't enter the network {}", network.display()))
}

/// The hidden command that makes a program the process in between.
pub const RELAY: &str = "bench-link";
/// Where the server listens, and whence its subscribers come: RFC 2544 keeps these addresses for benchmarks.
pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
const SUBSCRIBERS: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2));
const DEVICE: &str = "/dev/net/tun";
const SYSTEMS: &str = "default";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_is_with_every_round_trip() {
        let links = Links {
            loss_percent: vec![0.0, 5.0],
            round_trip_ms: vec![20.0, 100.0],
            megabits: 10.0,
            queue_ms: 50.0,
            tcp_congestion: vec!["cubic".to_owned(), SYSTEMS.to_owned()],
        };
        links.check().unwrap();
        let all = links.each();
        assert_eq!(all.len(), 8);
        assert_eq!(all[3].about(), "5 % lost, 100 ms there and back, 10 Mbit/s, TCP with cubic");
        assert!(all[4].about().ends_with("the system's own"));
        assert!(Links { loss_percent: vec![90.0], ..links }.check().is_err());
    }
}
