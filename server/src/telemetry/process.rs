//! What the system says of this process, under the names that Prometheus' own clients give it.

use std::fs;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

/// Asks the system each time.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let max = rlimit::getrlimit(rlimit::Resource::NOFILE).ok().map(|(soft, _)| soft);
        let gauges = [
            ("process_resident_memory_bytes", "Memory of this process", resident_bytes()),
            ("process_open_fds", "Descriptors that are open", open_descriptors().map(|count| count as u64)),
            ("process_max_fds", "Descriptors that may be open", max),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
            }
        }
        Ok(())
    }
}

/// How many descriptors are open now.
pub fn open_descriptors() -> Option<usize> {
    // One of them is the directory's own.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
