//! Metrics whose values are kept elsewhere and read at each scrape.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// A metric that is kept elsewhere.
pub(super) struct WatchedMetric {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) read: Read,
}

/// Reads its value.
pub(super) enum Read {
    Counter(Box<dyn Fn() -> u64 + Send + Sync>),
    Gauge(Box<dyn Fn() -> f64 + Send + Sync>),
}

impl fmt::Debug for WatchedMetric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "WatchedMetric({})", self.name)
    }
}

impl Collector for WatchedMetric {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // The registry ends the help of its own metrics with a full stop, too.
        let help = format!("{}.", self.help);
        let mut encode = |value: &dyn EncodeMetric| {
            value.encode(encoder.encode_descriptor(self.name, &help, None, value.metric_type())?)
        };
        match &self.read {
            Read::Counter(read) => encode(&ConstCounter::new(read())),
            Read::Gauge(read) => encode(&ConstGauge::new(read())),
        }
    }
}
