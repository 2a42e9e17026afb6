//! Metrics for Prometheus. Labels come from fixed sets (`&'static str`) or are bounded here, so that
//! no tenant and no upstream can make series without end. Recording on a request's way takes a read
//! lock and an atomic addition, and allocates nothing once a label set has been seen.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use uuid::Uuid;

use crate::domain::money::NanoUsd;
use crate::domain::tokens::TokenUsage;

use super::series::{BoundedCounters, ConfigurationLabel, admit};

/// Content type of what [`Metrics::encode`] gives.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Configurations told apart; further ones are counted together as `other`.
const MOST_CONFIGURATIONS: usize = 1_000;
/// Series of proxied requests: an upstream may answer with any status.
const MOST_PROXY_SERIES: usize = 20_000;
/// Series of the management plane; routes and statuses are few.
const MOST_HTTP_SERIES: usize = 5_000;

/// Seconds: from a listing answered nearby to a reasoning model that thinks for ten minutes.
const BUCKETS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    plane: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProxyLabels {
    operation: &'static str,
    status: u16,
    configuration_id: ConfigurationLabel,
}

macro_rules! label_sets {
    ($($name:ident { $label:ident })+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name {
            $label: &'static str,
        }
    )+};
}

label_sets! {
    OperationLabel { operation }
    ReasonLabel { reason }
    ResultLabel { result }
    KindLabel { kind }
    VerdictLabel { verdict }
    OutcomeLabel { outcome }
}

type Histograms = Family<OperationLabel, Histogram>;

struct Inner {
    registry: RwLock<Registry>,
    http_requests: BoundedCounters<HttpLabels>,
    proxy_requests: BoundedCounters<ProxyLabels>,
    configurations: RwLock<HashSet<Uuid>>,
    proxy_duration: Histograms,
    proxy_first_byte: Histograms,
    open_streams: Gauge,
    upstream_errors: Family<ReasonLabel, Counter>,
    upstream_retries: Counter,
    directory_lookups: Family<ResultLabel, Counter>,
    key_verifications: Family<ResultLabel, Counter>,
    usage_tokens: Family<KindLabel, Counter>,
    cost: Counter,
    admissions: Family<VerdictLabel, Counter>,
    unknown_prices: Counter,
    counter_calls: Family<OutcomeLabel, Counter>,
    counters_up: Gauge,
    counter_corrections_queued: Gauge,
    counter_corrections_dropped: Counter,
}

/// All metrics of a process, or of one application in a test. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Metrics(..)")
    }
}

impl Metrics {
    /// Metrics that all stand at zero.
    pub fn new() -> Self {
        let histograms =
            || Histograms::new_with_constructor(|| Histogram::new(BUCKETS.iter().copied()));
        let inner = Inner {
            registry: RwLock::default(),
            http_requests: BoundedCounters::new(MOST_HTTP_SERIES),
            proxy_requests: BoundedCounters::new(MOST_PROXY_SERIES),
            configurations: RwLock::default(),
            proxy_duration: histograms(),
            proxy_first_byte: histograms(),
            open_streams: Gauge::default(),
            upstream_errors: Family::default(),
            upstream_retries: Counter::default(),
            directory_lookups: Family::default(),
            key_verifications: Family::default(),
            usage_tokens: Family::default(),
            cost: Counter::default(),
            admissions: Family::default(),
            unknown_prices: Counter::default(),
            counter_calls: Family::default(),
            counters_up: Gauge::default(),
            counter_corrections_queued: Gauge::default(),
            counter_corrections_dropped: Counter::default(),
        };
        let registry = registry_of(&inner);
        *inner.registry.write().unwrap_or_else(PoisonError::into_inner) = registry;
        Self { inner: Arc::new(inner) }
    }

    /// A request outside the data plane. `route` is the pattern that matched, never the path.
    pub fn http_request(&self, plane: &'static str, route: &str, status: u16) {
        let labels = HttpLabels { plane, route: route.to_owned(), status };
        self.inner.http_requests.count(&labels, || HttpLabels {
            plane,
            route: "other".to_owned(),
            status: 0,
        });
    }

    /// A proxied request that has been answered to its end, with the status that its caller saw.
    pub fn proxy_request(
        &self,
        operation: &'static str,
        status: u16,
        configuration_id: Option<Uuid>,
        duration: Duration,
    ) {
        let configuration_id = match configuration_id {
            None => ConfigurationLabel::None,
            Some(id) if admit(&self.inner.configurations, &id, MOST_CONFIGURATIONS) => {
                ConfigurationLabel::Id(id)
            }
            Some(_) => ConfigurationLabel::Other,
        };
        let labels = ProxyLabels { operation, status, configuration_id };
        self.inner.proxy_requests.count(&labels, || ProxyLabels {
            operation,
            status: 0,
            configuration_id: ConfigurationLabel::Other,
        });
        let labels = OperationLabel { operation };
        self.inner.proxy_duration.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// Time from the request's arrival to the first byte of its answer.
    pub fn proxy_first_byte(&self, operation: &'static str, time: Duration) {
        let labels = OperationLabel { operation };
        self.inner.proxy_first_byte.get_or_create(&labels).observe(time.as_secs_f64());
    }

    /// A stream has begun; it has ended when the returned value is dropped.
    pub fn open_stream(&self) -> OpenStream {
        self.inner.open_streams.inc();
        OpenStream { gauge: self.inner.open_streams.clone() }
    }

    /// Streams open now.
    pub fn open_streams(&self) -> i64 {
        self.inner.open_streams.get()
    }

    /// An attempt that failed, by a reason of a fixed set.
    pub fn upstream_error(&self, reason: &'static str) {
        self.inner.upstream_errors.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A second attempt after a reused connection turned out closed.
    pub fn upstream_retry(&self) {
        self.inner.upstream_retries.inc();
    }

    /// A look into the directory: `hit`, `miss`, `stale`, `unknown` or what else there is.
    pub fn directory_lookup(&self, result: &'static str) {
        self.inner.directory_lookups.get_or_create(&ResultLabel { result }).inc();
    }

    /// A presented key: `cached`, `verified`, `wrong`, `limited` or what else there is.
    pub fn key_verification(&self, result: &'static str) {
        self.inner.key_verifications.get_or_create(&ResultLabel { result }).inc();
    }

    /// Tokens that an answer reported.
    pub fn usage_tokens(&self, usage: &TokenUsage) {
        for (kind, tokens) in TokenUsage::NAMES.iter().copied().zip(usage.counts()) {
            if let Some(tokens) = tokens {
                self.inner.usage_tokens.get_or_create(&KindLabel { kind }).inc_by(tokens);
            }
        }
    }

    /// What an attempt cost.
    pub fn cost(&self, cost: NanoUsd) {
        self.inner.cost.inc_by(u64::try_from(cost.nanos()).unwrap_or(0));
    }

    /// A request that asked to be let through: `unmatched`, `admitted`, or why it was not.
    pub fn admission(&self, verdict: &'static str) {
        self.inner.admissions.get_or_create(&VerdictLabel { verdict }).inc();
    }

    /// A request that was let through although nobody knows what it costs.
    pub fn unknown_price(&self) {
        self.inner.unknown_prices.inc();
    }

    /// A question to the counters in Redis: `ok`, `unavailable` (not asked, or it failed), `deadline`.
    pub fn counter_call(&self, outcome: &'static str) {
        self.inner.counter_calls.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Whether the counters in Redis are reached; while they are not, the breaker is open.
    pub fn counters_up(&self, up: bool) {
        self.inner.counters_up.set(i64::from(up));
    }

    /// So many corrections wait for Redis.
    pub fn counter_corrections_queued(&self, waiting: usize) {
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.inner.counter_corrections_queued.set(waiting);
    }

    /// A correction found no room to wait in, or Redis would not have it.
    pub fn counter_correction_dropped(&self) {
        self.inner.counter_corrections_dropped.inc();
    }

    /// Shows a counter that another room keeps, read at each scrape. `name` stands between
    /// `tollgate_` and `_total`.
    pub fn watch_counter(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.watch(Watched { name, help, read: Read::Counter(Box::new(read)) });
    }

    /// The same for what goes up and down. `name` stands after `tollgate_`.
    pub fn watch_gauge(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.watch(Watched { name, help, read: Read::Gauge(Box::new(read)) });
    }

    fn watch(&self, watched: Watched) {
        let mut registry = self.inner.registry.write().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(watched));
    }

    /// Everything as text, of the type [`METRICS_CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        let registry = self.inner.registry.read().unwrap_or_else(PoisonError::into_inner);
        // Only a String that refuses text could fail this.
        let _ = encode(&mut text, &registry);
        text
    }
}

/// Says what each metric is called and means. Counters get their `_total` when encoded.
fn registry_of(inner: &Inner) -> Registry {
    let mut registry = Registry::with_prefix("tollgate");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The program that runs", build);
    registry.register(
        "http_requests",
        "Requests outside the data plane, by route",
        inner.http_requests.family.clone(),
    );
    registry.register(
        "proxy_requests",
        "Proxied requests by the status that the caller saw; status 0 beyond the bound on series",
        inner.proxy_requests.family.clone(),
    );
    registry.register_with_unit(
        "proxy_duration",
        "Time from a proxied request's arrival to the end of its answer",
        Unit::Seconds,
        inner.proxy_duration.clone(),
    );
    registry.register_with_unit(
        "proxy_first_byte",
        "Time from a proxied request's arrival to the first byte of its answer",
        Unit::Seconds,
        inner.proxy_first_byte.clone(),
    );
    registry.register("open_streams", "Streams open now", inner.open_streams.clone());
    registry.register(
        "upstream_errors",
        "Attempts that failed, by reason",
        inner.upstream_errors.clone(),
    );
    registry.register(
        "upstream_retries",
        "Second attempts after a reused connection turned out closed",
        inner.upstream_retries.clone(),
    );
    registry.register(
        "directory_lookups",
        "Looks into the directory, by result",
        inner.directory_lookups.clone(),
    );
    registry.register(
        "key_verifications",
        "API keys presented, by result",
        inner.key_verifications.clone(),
    );
    registry.register(
        "usage_tokens",
        "Tokens that answers reported, by kind",
        inner.usage_tokens.clone(),
    );
    registry.register(
        "cost_nano_usd",
        "What attempts cost, in nano-dollars (1e-9 USD)",
        inner.cost.clone(),
    );
    registry.register(
        "admissions",
        "Requests that asked the policies, by verdict",
        inner.admissions.clone(),
    );
    registry.register(
        "unknown_prices",
        "Requests let through although their model has no price",
        inner.unknown_prices.clone(),
    );
    registry.register(
        "counter_calls",
        "Calls to the counters in Redis, by outcome",
        inner.counter_calls.clone(),
    );
    registry.register(
        "counters_up",
        "Whether the counters in Redis are reached",
        inner.counters_up.clone(),
    );
    registry.register(
        "counter_corrections_queued",
        "Corrections that wait for Redis",
        inner.counter_corrections_queued.clone(),
    );
    registry.register(
        "counter_corrections_dropped",
        "Corrections that Redis was never told",
        inner.counter_corrections_dropped.clone(),
    );
    registry
}

/// Counts as an open stream until it is dropped.
#[derive(Debug)]
pub struct OpenStream {
    gauge: Gauge,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

struct Watched {
    name: &'static str,
    help: &'static str,
    read: Read,
}

enum Read {
    Counter(Box<dyn Fn() -> u64 + Send + Sync>),
    Gauge(Box<dyn Fn() -> f64 + Send + Sync>),
}

impl fmt::Debug for Watched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Watched({})", self.name)
    }
}

impl Collector for Watched {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // What the registry does by itself for its own: end the sentence.
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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
