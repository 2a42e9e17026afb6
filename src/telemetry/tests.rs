//! Metrics as they are exported.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

fn id(number: u128) -> UpstreamId {
    UpstreamId::Configuration(uuid::Uuid::from_u128(number).into())
}

#[track_caller]
fn assert_line(metrics: &Metrics, line: &str) {
    let text = metrics.encode();
    assert!(text.lines().any(|one| one == line), "no `{line}` in\n{text}");
}

#[test]
fn each_metric_has_its_name_and_labels() {
    let metrics = Metrics::new();
    metrics.http_request("management", "/api/v1/me", 200);
    metrics.proxy_request("chat_completions", 429, Some(id(7)), Duration::from_millis(30));
    metrics.proxy_request("responses", 404, None, Duration::from_millis(1));
    metrics.proxy_first_byte("chat_completions", Duration::from_millis(20));
    metrics.upstream_error("connect");
    metrics.upstream_retry();
    metrics.directory_lookup("hit");
    metrics.key_verification("cached");
    metrics.usage_tokens(&TokenUsage { input: Some(12), ..TokenUsage::default() });
    let database = Arc::new(AtomicU64::new(3));
    let read = Arc::clone(&database);
    metrics.watch_counter("database_request_transactions", "Transactions", move || {
        read.load(Ordering::Relaxed)
    });

    for line in [
        "tollgate_http_requests_total{plane=\"management\",route=\"/api/v1/me\",status=\"200\"} 1",
        "tollgate_proxy_requests_total{operation=\"chat_completions\",status=\"429\",\
         configuration_id=\"00000000-0000-0000-0000-000000000007\"} 1",
        "tollgate_proxy_requests_total{operation=\"responses\",status=\"404\",\
         configuration_id=\"none\"} 1",
        "tollgate_proxy_duration_seconds_count{operation=\"chat_completions\"} 1",
        "tollgate_proxy_first_byte_seconds_bucket{le=\"0.025\",operation=\"chat_completions\"} 1",
        "tollgate_open_streams 0",
        "tollgate_upstream_errors_total{reason=\"connect\"} 1",
        "tollgate_upstream_retries_total 1",
        "tollgate_directory_lookups_total{result=\"hit\"} 1",
        "tollgate_key_verifications_total{result=\"cached\"} 1",
        "tollgate_usage_tokens_total{kind=\"input\"} 12",
        "tollgate_database_request_transactions_total 3",
        "# EOF",
    ] {
        assert_line(&metrics, line);
    }
    assert!(metrics.encode().contains("tollgate_build_info{version="));
    database.store(4, Ordering::Relaxed);
    assert_line(&metrics, "tollgate_database_request_transactions_total 4");
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_measured() {
    let text = Metrics::new().encode();
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    };
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_max_fds") >= value("process_open_fds"));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let started = value("process_start_time_seconds");
    assert!((now - 86_400.0..now + 1.0).contains(&started), "{started}, {now}");
}

#[test]
fn streams_are_open_until_dropped() {
    let metrics = Metrics::new();
    let first = metrics.open_stream();
    let second = metrics.clone().open_stream();
    assert_eq!(metrics.open_streams(), 2);
    drop((first, second));
    assert_line(&metrics, "tollgate_open_streams 0");
}

#[test]
fn configurations_beyond_the_bound_are_counted_together() {
    let metrics = Metrics::new();
    for number in 0..MAX_CONFIGURATIONS as u128 + 5 {
        metrics.proxy_request("responses", 200, Some(id(number)), Duration::ZERO);
    }
    metrics.proxy_request("responses", 200, Some(id(0)), Duration::ZERO);
    assert_line(
        &metrics,
        "tollgate_proxy_requests_total{operation=\"responses\",status=\"200\",\
         configuration_id=\"other\"} 5",
    );
    assert_line(
        &metrics,
        "tollgate_proxy_requests_total{operation=\"responses\",status=\"200\",\
         configuration_id=\"00000000-0000-0000-0000-000000000000\"} 2",
    );
}

#[test]
fn statuses_and_routes_do_not_create_series_without_limit() {
    let metrics = Metrics::new();
    for status in 0..60 {
        for number in 0..500 {
            metrics.proxy_request("responses", status, Some(id(number)), Duration::ZERO);
        }
    }
    for number in 0..MAX_HTTP_SERIES + 10 {
        metrics.http_request("management", &format!("/{number}"), 200);
    }
    let text = metrics.encode();
    let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert!(series("tollgate_proxy_requests_total{") <= MAX_PROXY_SERIES + 1);
    assert!(series("tollgate_http_requests_total{") <= MAX_HTTP_SERIES + 1);
    assert_line(
        &metrics,
        "tollgate_http_requests_total{plane=\"management\",route=\"other\",status=\"0\"} 10",
    );
}
