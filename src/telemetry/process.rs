//! The `process_*` metrics that Prometheus' client libraries agree on, read from `/proc` (proc(5)).
//! Where a file is missing, as on systems without `/proc`, its metrics are left out.

use std::fmt;
use std::fs::{read_dir, read_to_string};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// `USER_HZ`, the unit of times in `/proc`: 100 on every architecture that Linux supports today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the metrics of this process at each scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut encode = |name: &str, help: &str, value: &dyn EncodeMetric| {
            value.encode(encoder.encode_descriptor(name, help, None, value.metric_type())?)
        };
        if let Some(times) = Times::read() {
            let help = "CPU time of all threads, user and system, in seconds.";
            encode("process_cpu_seconds", help, &ConstCounter::new(times.cpu_seconds))?;
            if let Some(boot) = boot_time() {
                let help = "Start of the process, in seconds since the Unix epoch.";
                let started = ConstGauge::new(boot + times.started_seconds_after_boot);
                encode("process_start_time_seconds", help, &started)?;
            }
        }
        let status = read_to_string("/proc/self/status").unwrap_or_default();
        for (name, help, line) in [
            ("process_resident_memory_bytes", "Memory in RAM, in bytes.", "VmRSS:"),
            ("process_virtual_memory_bytes", "Size of the address space, in bytes.", "VmSize:"),
        ] {
            if let Some(kibibytes) = number_after(&status, line) {
                encode(name, help, &ConstGauge::new(kibibytes * 1024.0))?;
            }
        }
        if let Ok(open) = read_dir("/proc/self/fd") {
            // One of them is the directory that is being read.
            let open = open.count().saturating_sub(1) as f64;
            encode("process_open_fds", "Open file descriptors.", &ConstGauge::new(open))?;
        }
        let limits = read_to_string("/proc/self/limits").unwrap_or_default();
        if let Some(limit) = number_after(&limits, "Max open files") {
            let help = "Open file descriptors that the soft limit allows.";
            encode("process_max_fds", help, &ConstGauge::new(limit))?;
        }
        Ok(())
    }
}

struct Times {
    cpu_seconds: f64,
    started_seconds_after_boot: f64,
}

impl Times {
    fn read() -> Option<Self> {
        let stat = read_to_string("/proc/self/stat").ok()?;
        // The second field, in parentheses, is the program's name and may hold anything. `utime`,
        // `stime` and `starttime` are fields 14, 15 and 22.
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let seconds = |at: usize| Some(fields.get(at)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
        Some(Self {
            cpu_seconds: seconds(11)? + seconds(12)?,
            started_seconds_after_boot: seconds(19)?,
        })
    }
}

fn boot_time() -> Option<f64> {
    number_after(&read_to_string("/proc/stat").ok()?, "btime")
}

/// The first number of the line that begins with `name`.
fn number_after(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
