//! The process between two networks.

use std::{
    io::{BufRead as _, Write as _},
    net::IpAddr,
    process::Command,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tappers::{Interface, Tun};

use super::{Counts, Order, SERVER, SUBSCRIBERS, enter, path::Path};

/// It begins in the subscribers' network, and serves until its standard input ends.
pub(super) fn run() -> Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let order: Order = serde_json::from_str(&lines.next().context("no order came")??)?;
    let congestion = order.link.tcp_congestion.as_deref();
    let near = Arc::new(device("subscribers", SUBSCRIBERS, SERVER, congestion)?);
    ip(&["link", "set", "lo", "up"])?;
    // A device stays in the network in which it was made; only the thread goes there.
    let far = {
        let (server, congestion) = (order.server.clone(), order.link.tcp_congestion.clone());
        let made = std::thread::spawn(move || {
            enter(&server)?;
            device("server", SERVER, SUBSCRIBERS, congestion.as_deref())
        });
        Arc::new(made.join().map_err(|_| anyhow::anyhow!("the device can't be made"))??)
    };
    let down = direction("down", &far, &near, Path::new(&order.link, order.seed))?;
    let up = direction("up", &near, &far, Path::new(&order.link, order.seed ^ u64::MAX))?;
    let counted = |path: &Mutex<Path>| path.lock().unwrap_or_else(PoisonError::into_inner).counts();
    let mut out = std::io::stdout().lock();
    for line in lines {
        line?;
        serde_json::to_writer(&mut out, &Counts { down: counted(&down), up: counted(&up) })?;
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}

/// A device in this thread's network, with its address and the way to the other.
fn device(name: &str, own: IpAddr, other: IpAddr, congestion: Option<&str>) -> Result<Tun> {
    let interface = Interface::new(name).context("the name of a device")?;
    let tun = Tun::new_named(interface).with_context(|| format!("can't make the device {name}"))?;
    ip(&["addr", "add", &own.to_string(), "peer", &other.to_string(), "dev", name])?;
    ip(&["link", "set", name, "mtu", MTU, "txqueuelen", "10000", "up"])?;
    if let Some(congestion) = congestion {
        // By route, since only the first network may choose any for all of its sockets.
        ip(&["route", "replace", &other.to_string(), "dev", name, "src", &own.to_string(), "congctl", congestion])?;
    }
    Ok(tun)
}

fn ip(arguments: &[&str]) -> Result<()> {
    let out = Command::new("ip").args(arguments).output().context("can't run ip")?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "ip {}: {}", arguments.join(" "), said.trim());
    Ok(())
}

/// Two threads: one takes packets as they come, the other puts each out when its time has come. Their order stays.
fn direction(name: &str, from: &Arc<Tun>, to: &Arc<Tun>, path: Path) -> Result<Arc<Mutex<Path>>> {
    let path = Arc::new(Mutex::new(path));
    let begun = Instant::now();
    // The path itself drops what waits too long; so many are never under way.
    let (send, take) = mpsc::sync_channel::<(Duration, Vec<u8>)>(UNDER_WAY_MAX);
    let (from, counted) = (from.clone(), path.clone());
    std::thread::Builder::new().name(format!("{name} in")).spawn(move || {
        let mut buffer = [0; BUFFER_BYTES];
        while let Ok(bytes) = from.recv(&mut buffer) {
            let at = counted.lock().unwrap_or_else(PoisonError::into_inner).put(begun.elapsed(), bytes);
            let Some(at) = at else { continue };
            if send.send((at, buffer[..bytes].to_vec())).is_err() {
                return;
            }
        }
    })?;
    let to = to.clone();
    std::thread::Builder::new().name(format!("{name} out")).spawn(move || {
        for (at, packet) in take {
            wait(at.saturating_sub(begun.elapsed()));
            // What the other side doesn't take, as while it is set up, is lost as on any network.
            let _ = to.send(&packet);
        }
    })?;
    Ok(path)
}

#[expect(clippy::disallowed_methods, reason = "no connection lives on this thread")]
fn wait(time: Duration) {
    if !time.is_zero() {
        std::thread::sleep(time);
    }
}

const MTU: &str = "1500";
const BUFFER_BYTES: usize = 2_048;
const UNDER_WAY_MAX: usize = 100_000;
