//! Metrics for Prometheus, all named `tollgate_`, counters `_total`. Labels come from fixed sets
//! (`&'static str`) or are bounded here, so that neither tenants nor upstreams can create series
//! without limit. Recording during a request takes a read lock and an atomic addition, and allocates
//! nothing once a label set exists.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::metric_labels::{
    ChainLabels, ConversionLabels, GuardLabels, HttpLabels, KindLabel, OperationLabel,
    OutcomeLabel, ProxyLabels, ReasonLabel, ResultLabel, VerdictLabel,
};
use super::polled_metrics::{Read, WatchedMetric};
use super::process::ProcessCollector;
use super::series::{BoundedCounters, ConfigurationLabel, WordCounters, is_within_bound};
use crate::domain::money::NanoUsd;
use crate::domain::provider::UpstreamId;
use crate::domain::tokens::TokenUsage;

/// Content type of [`Metrics::encode`].
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Configurations with series of their own; further ones are counted together as `other`.
const MAX_CONFIGURATIONS: usize = 1_000;
/// Series of proxied requests: an upstream may answer with any status.
const MAX_PROXY_SERIES: usize = 20_000;
/// Series of the management plane; routes and statuses are few.
const MAX_HTTP_SERIES: usize = 5_000;

/// In seconds: from a model listing to a reasoning model that takes ten minutes.
const BUCKETS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
];

type Histograms = Family<OperationLabel, Histogram>;

struct Inner {
    /// Has the prefix `tollgate_`.
    registry: RwLock<Registry>,
    /// The `process_*` metrics.
    process: Registry,
    http_requests: BoundedCounters<HttpLabels>,
    proxy_requests: BoundedCounters<ProxyLabels>,
    configurations: RwLock<HashSet<UpstreamId>>,
    proxy_duration: Histograms,
    proxy_first_byte: Histograms,
    open_streams: Gauge,
    upstream_errors: Family<ReasonLabel, Counter>,
    upstream_retries: Counter,
    chain_attempts: Family<ChainLabels, Counter>,
    fallbacks: Family<ReasonLabel, Counter>,
    conversions: Family<ConversionLabels, Counter>,
    directory_lookups: WordCounters<ResultLabel>,
    model_listings: WordCounters<ResultLabel>,
    key_verifications: WordCounters<ResultLabel>,
    usage_tokens: Family<KindLabel, Counter>,
    cost: Counter,
    admissions: WordCounters<VerdictLabel>,
    unknown_prices: Counter,
    guard_findings: Family<GuardLabels, Counter>,
    presidio_calls: Family<OutcomeLabel, Counter>,
    presidio_duration: Histogram,
    counter_calls: Family<OutcomeLabel, Counter>,
    counters_up: Gauge,
    counter_corrections_queued: Gauge,
    counter_corrections_dropped: Counter,
}

/// The metrics of one application. Cheap to clone.
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
    /// Metrics that are all zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("tollgate");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of this program", build);
        let r = &mut registry;
        let mut process = Registry::default();
        process.register_collector(Box::new(ProcessCollector));
        let inner = Inner {
            http_requests: bounded(
                r,
                "http_requests",
                "Requests outside the data plane, by route; status 0 beyond the bound on series",
                MAX_HTTP_SERIES,
            ),
            proxy_requests: bounded(
                r,
                "proxy_requests",
                "Proxied requests by the status that the caller got; status 0 beyond the bound on \
                 series",
                MAX_PROXY_SERIES,
            ),
            configurations: RwLock::default(),
            proxy_duration: histograms(
                r,
                "proxy_duration",
                "Time from a proxied request's arrival to the end of its answer",
            ),
            proxy_first_byte: histograms(
                r,
                "proxy_first_byte",
                "Time from a proxied request's arrival to the head of its answer",
            ),
            open_streams: register(r, "open_streams", "Streams that are open"),
            upstream_errors: register(
                r,
                "upstream_errors",
                "Attempts that got no complete answer, by reason",
            ),
            upstream_retries: register(
                r,
                "upstream_retries",
                "Further attempts of requests: sent again, or to the next target of a chain",
            ),
            chain_attempts: register(
                r,
                "chain_attempts",
                "Attempts at targets of fallback chains, by outcome: answered, failed",
            ),
            fallbacks: register(
                r,
                "fallbacks",
                "Requests that were sent to the next target of their chain, by the reason",
            ),
            conversions: register(
                r,
                "conversions",
                "Requests that were put into the format of a target, by the two formats and the result",
            ),
            directory_lookups: WordCounters::new(
                register(r, "directory_lookups", "Lookups of keys and configurations, by result"),
                |result| ResultLabel { result },
            ),
            model_listings: WordCounters::new(
                register(
                    r,
                    "model_listings",
                    "Lists of models requested from providers, by result",
                ),
                |result| ResultLabel { result },
            ),
            key_verifications: WordCounters::new(
                register(r, "key_verifications", "API keys presented, by result"),
                |result| ResultLabel { result },
            ),
            usage_tokens: register(r, "usage_tokens", "Tokens that upstreams reported, by kind"),
            cost: register(r, "cost_nano_usd", "Cost of attempts, in nano-dollars (1e-9 USD)"),
            admissions: WordCounters::new(
                register(r, "admissions", "Requests by the verdict of the policies"),
                |verdict| VerdictLabel { verdict },
            ),
            unknown_prices: register(
                r,
                "unknown_prices",
                "Requests admitted although their model has no price",
            ),
            guard_findings: register(
                r,
                "guard_findings",
                "Values that guards found in requests and answers, by category and what became of them: report, redact, mask, block",
            ),
            presidio_calls: register(
                r,
                "presidio_calls",
                "Calls to Presidio, by outcome: answered, failed, late, not_called",
            ),
            presidio_duration: histogram(r, "presidio_duration", "Time of a call to Presidio"),
            counter_calls: register(r, "counter_calls", "Calls to Redis, by outcome"),
            counters_up: register(r, "counters_up", "1 while Redis answers, else 0"),
            counter_corrections_queued: register(
                r,
                "counter_corrections_queued",
                "Settlements that wait to be sent to Redis",
            ),
            counter_corrections_dropped: register(
                r,
                "counter_corrections_dropped",
                "Settlements that could not be sent to Redis; their requests stay charged as reserved",
            ),
            process,
            registry: RwLock::new(registry),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Counts a request outside the data plane. `route` is the pattern that matched, never the path.
    pub fn http_request(&self, plane: &'static str, route: &str, status: u16) {
        let labels = HttpLabels { plane, route: route.to_owned(), status };
        self.inner.http_requests.count(&labels, || HttpLabels {
            plane,
            route: "other".to_owned(),
            status: 0,
        });
    }

    /// Counts a proxied request that has ended, with the status that its caller got.
    pub fn proxy_request(
        &self,
        operation: &'static str,
        status: u16,
        upstream: Option<UpstreamId>,
        duration: Duration,
    ) {
        let configuration_id = upstream.map_or(ConfigurationLabel::None, |id| self.label_of(id));
        let labels = ProxyLabels { operation, status, configuration_id };
        self.inner.proxy_requests.count(&labels, || ProxyLabels {
            operation,
            status: 0,
            configuration_id: ConfigurationLabel::Other,
        });
        let labels = OperationLabel { operation };
        self.inner.proxy_duration.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    fn label_of(&self, upstream: UpstreamId) -> ConfigurationLabel {
        match is_within_bound(&self.inner.configurations, &upstream, MAX_CONFIGURATIONS) {
            true => ConfigurationLabel::Id(upstream),
            false => ConfigurationLabel::Other,
        }
    }

    /// Counts an attempt at a target of a fallback chain: `answered`, `failed`.
    pub fn chain_attempt(&self, upstream: UpstreamId, outcome: &'static str) {
        let labels = ChainLabels { configuration_id: self.label_of(upstream), outcome };
        self.inner.chain_attempts.get_or_create(&labels).inc();
    }

    /// Counts a request that is sent to the next target of its chain, by a reason of a fixed set.
    pub fn fallback(&self, reason: &'static str) {
        self.inner.fallbacks.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a request that was to be put into another format: `converted`, `refused`.
    pub fn conversion(&self, from: &'static str, to: &'static str, result: &'static str) {
        let labels = ConversionLabels { from, to, result };
        self.inner.conversions.get_or_create(&labels).inc();
    }

    /// Records the time from a request's arrival to the head of its answer.
    pub fn proxy_first_byte(&self, operation: &'static str, time: Duration) {
        let labels = OperationLabel { operation };
        self.inner.proxy_first_byte.get_or_create(&labels).observe(time.as_secs_f64());
    }

    /// Counts a stream as open until the returned value is dropped.
    pub fn open_stream(&self) -> OpenStream {
        self.inner.open_streams.inc();
        OpenStream { gauge: self.inner.open_streams.clone() }
    }

    /// The number of open streams.
    pub fn open_streams(&self) -> i64 {
        self.inner.open_streams.get()
    }

    /// Counts an attempt that failed, by a reason of a fixed set.
    pub fn upstream_error(&self, reason: &'static str) {
        self.inner.upstream_errors.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a further attempt of a request.
    pub fn upstream_retry(&self) {
        self.inner.upstream_retries.inc();
    }

    /// Counts a lookup in the directory: `hit`, `miss`, `stale`, `unknown`, `unavailable`.
    pub fn directory_lookup(&self, result: &'static str) {
        self.inner.directory_lookups.count(result);
    }

    /// Counts a list of models that a provider was asked for: `fetched`, `failed`.
    pub fn model_listing(&self, result: &'static str) {
        self.inner.model_listings.count(result);
    }

    /// Counts a presented key: `cached`, `verified`, `wrong`, `limited`.
    pub fn key_verification(&self, result: &'static str) {
        self.inner.key_verifications.count(result);
    }

    /// Counts the tokens that an answer reported.
    pub fn usage_tokens(&self, usage: &TokenUsage) {
        for (kind, tokens) in TokenUsage::NAMES.iter().copied().zip(usage.counts()) {
            if let Some(tokens) = tokens {
                self.inner.usage_tokens.get_or_create(&KindLabel { kind }).inc_by(tokens);
            }
        }
    }

    /// Adds the cost of an attempt.
    pub fn cost(&self, cost: NanoUsd) {
        self.inner.cost.inc_by(u64::try_from(cost.nanos()).unwrap_or(0));
    }

    /// Counts a request by the verdict of the policies: `unmatched`, `admitted`, or why it was
    /// blocked.
    pub fn admission(&self, verdict: &'static str) {
        self.inner.admissions.count(verdict);
    }

    /// Counts a request that was admitted without a known price.
    pub fn unknown_price(&self) {
        self.inner.unknown_prices.inc();
    }

    /// Counts values that guards found: their category, and what became of them: `report`, `redact`,
    /// `block`, or, in answers, `mask`.
    pub fn guard_findings(&self, category: &'static str, action: &'static str, count: u64) {
        self.inner.guard_findings.get_or_create(&GuardLabels { category, action }).inc_by(count);
    }

    /// Counts a call to Presidio: `answered`, `failed`, `late` (the deadline came first), `not_called` (the
    /// breaker is open).
    pub fn presidio_call(&self, outcome: &'static str) {
        self.inner.presidio_calls.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Records how long a call to Presidio took, whatever its outcome.
    pub fn presidio_duration(&self, time: Duration) {
        self.inner.presidio_duration.observe(time.as_secs_f64());
    }

    /// Counts a call to Redis: `ok`, `unavailable` (not sent, or failed), `deadline`.
    pub fn counter_call(&self, outcome: &'static str) {
        self.inner.counter_calls.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Shows whether Redis answers; while it does not, the breaker is open.
    pub fn counters_up(&self, up: bool) {
        self.inner.counters_up.set(i64::from(up));
    }

    /// Shows how many settlements wait to be sent to Redis.
    pub fn counter_corrections_queued(&self, waiting: usize) {
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.inner.counter_corrections_queued.set(waiting);
    }

    /// Counts a settlement that the queue had no room for, or that Redis refused.
    pub fn counter_correction_dropped(&self) {
        self.inner.counter_corrections_dropped.inc();
    }

    /// Shows a counter that is kept elsewhere; `read` is called at each scrape. Its name gets the
    /// prefix `tollgate_` and the suffix `_total`.
    pub fn watch_counter(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.watch(WatchedMetric { name, help, read: Read::Counter(Box::new(read)) });
    }

    /// The same for a gauge; its name gets the prefix `tollgate_`.
    pub fn watch_gauge(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.watch(WatchedMetric { name, help, read: Read::Gauge(Box::new(read)) });
    }

    fn watch(&self, watched: WatchedMetric) {
        let mut registry = self.inner.registry.write().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(watched));
    }

    /// All metrics as text, of the type [`METRICS_CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        let registry = self.inner.registry.read().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String does not fail.
        let _ = encode_registry(&mut text, &registry)
            .and_then(|()| encode_registry(&mut text, &self.inner.process))
            .and_then(|()| encode_eof(&mut text));
        text
    }
}

/// Makes a metric and names it. Counters get the suffix `_total` when encoded.
fn register<M: Metric + Clone + Default>(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn bounded<L>(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
    max_series: usize,
) -> BoundedCounters<L>
where
    L: Clone + Hash + Eq + EncodeLabelSet + fmt::Debug + Send + Sync + 'static,
{
    BoundedCounters::new(register(registry, name, help), max_series)
}

fn histograms(registry: &mut Registry, name: &'static str, help: &'static str) -> Histograms {
    let family = Histograms::new_with_constructor(|| Histogram::new(BUCKETS));
    registry.register_with_unit(name, help, Unit::Seconds, family.clone());
    family
}

fn histogram(registry: &mut Registry, name: &'static str, help: &'static str) -> Histogram {
    let histogram = Histogram::new(BUCKETS);
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
