//! What an attack costs in memory.

use std::fs;

/// What this process held at a moment: the hub, and everybody who is at it.
pub(crate) struct Memory {
    before: usize,
}

impl Memory {
    /// From here on the peak counts.
    pub(crate) fn now() -> Self {
        // Resets VmHWM. [proc_pid_clear_refs(5)]
        fs::write("/proc/self/clear_refs", "5").expect("Linux");
        Self { before: status_bytes("VmRSS:") }
    }

    /// How many bytes more it has held since, at the most, and prints that.
    pub(crate) fn grew_within(&self, what: &str, bytes_max: usize) {
        let grown = status_bytes("VmHWM:").saturating_sub(self.before);
        eprintln!("MEMORY {:.1} MiB: {what}", grown as f64 / (1 << 20) as f64);
        assert!(grown < bytes_max, "{what} took {grown} bytes, more than {bytes_max}");
    }
}

/// A line of this process's status, in bytes.
fn status_bytes(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a size");
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}
