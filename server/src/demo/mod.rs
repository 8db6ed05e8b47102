//! Live input without any set-up: the host's own vital signs, ten times a second, for trying.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fanwire_protocol::{Data, Draft, Topic};
use serde_json::{Value, json};
use sysinfo::{
    CpuRefreshKind, MemoryRefreshKind, Networks, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System,
};

use crate::hub::{Hub, Publication};

/// What the topics begin with.
pub const TOPIC_PREFIX: &str = "host/";

/// Publishes until the hub drains.
pub async fn publish(hub: Arc<Hub>) {
    let mut vitals = match Vitals::new() {
        Ok(vitals) => vitals,
        Err(error) => return tracing::warn!(%error, "the host's vital signs can't be read: no live input"),
    };
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while !hub.is_draining() {
        interval.tick().await;
        let signs = vitals.sample().into_iter().filter_map(|(name, value)| publication(name, &value));
        if let Err(refused) = hub.publish("", signs.collect()).await {
            tracing::debug!(code = refused.code, "the live input was refused");
        }
    }
}

fn publication(name: &str, value: &Value) -> Option<Publication> {
    let topic = Topic::new(&format!("{TOPIC_PREFIX}{name}")).ok()?;
    let draft = Draft::new(vec![topic], Data::text(&value.to_string())).ok()?;
    Some(Publication { draft, key: None })
}

struct Vitals {
    system: System,
    networks: Networks,
    process: Option<Pid>,
    sampled: Instant,
    cpu: Option<Value>,
    cpu_sampled: Instant,
    own_cpu: OwnCpu,
}

/// The process's CPU time, as a share of one core over the last second: its counter moves in steps of some 10 ms.
#[derive(Default)]
struct OwnCpu {
    since: Option<(Instant, u64)>,
    percent: f64,
}

impl OwnCpu {
    fn update(&mut self, used_ms: u64) -> f64 {
        match self.since {
            None => self.since = Some((Instant::now(), used_ms)),
            Some((then, before)) if then.elapsed() >= CPU_WINDOW => {
                let elapsed_ms = then.elapsed().as_secs_f64() * 1000.0;
                self.percent = used_ms.saturating_sub(before) as f64 / elapsed_ms * 100.0;
                self.since = Some((Instant::now(), used_ms));
            }
            Some(_) => {}
        }
        (self.percent * 10.0).round() / 10.0
    }
}

impl Vitals {
    fn new() -> Result<Self, sysinfo::Error> {
        let cpu = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_usage());
        Ok(Self {
            system: System::new_with_specifics(cpu)?,
            networks: Networks::new_with_refreshed_list()?,
            process: sysinfo::get_current_pid().ok(),
            sampled: Instant::now(),
            cpu: None,
            cpu_sampled: Instant::now(),
            own_cpu: OwnCpu::default(),
        })
    }

    /// The signs by name. The CPU's are means over at least 200 ms, below which the kernel's counters say nothing: they are new
    /// every second or third time.
    fn sample(&mut self) -> Vec<(&'static str, Value)> {
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        self.networks.refresh(false);
        let seconds = self.sampled.elapsed().as_secs_f64().max(0.001);
        self.sampled = Instant::now();
        let (received, sent) = self.networks.iter().fold((0, 0), |(received, sent), (_, network)| {
            (received + network.received(), sent + network.transmitted())
        });
        let mut signs = vec![
            (
                "memory",
                json!({
                    "total": self.system.total_memory(),
                    "used": self.system.used_memory(),
                    "available": self.system.available_memory(),
                }),
            ),
            (
                "network",
                json!({
                    "received_per_s": (received as f64 / seconds).round(),
                    "sent_per_s": (sent as f64 / seconds).round(),
                }),
            ),
        ];
        let load = System::load_average().ok();
        signs.extend(load.map(|load| ("load", json!({ "one": load.one, "five": load.five, "fifteen": load.fifteen }))));
        signs.extend(self.cores().map(|value| ("cpu", value)));
        signs.extend(self.own_process().map(|value| ("process", value)));
        signs
    }

    /// Each core and their mean, all over the same interval; none before there is one.
    fn cores(&mut self) -> Option<Value> {
        if self.cpu_sampled.elapsed() >= sysinfo::MINIMUM_CPU_UPDATE_INTERVAL {
            self.system.refresh_cpu_usage();
            self.cpu_sampled = Instant::now();
            let usage: Vec<f32> = self.system.cpus().iter().map(|cpu| cpu.usage()).collect();
            let total = usage.iter().sum::<f32>() / usage.len().max(1) as f32;
            let cores: Vec<_> = usage.into_iter().map(tenth).collect();
            self.cpu = Some(json!({ "cores": cores, "total": tenth(total) }));
        }
        self.cpu.clone()
    }

    fn own_process(&mut self) -> Option<Value> {
        let pid = self.process?;
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().with_tasks();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, kind);
        let process = self.system.process(pid)?;
        Some(json!({
            "cpu": self.own_cpu.update(process.accumulated_cpu_time()),
            "memory": process.memory(),
            "uptime_s": process.run_time(),
            "threads": 1 + process.tasks().map_or(0, |tasks| tasks.len()),
        }))
    }
}

fn tenth(percent: f32) -> f64 {
    (f64::from(percent) * 10.0).round() / 10.0
}

const INTERVAL: Duration = Duration::from_millis(100);
const CPU_WINDOW: Duration = Duration::from_secs(1);
