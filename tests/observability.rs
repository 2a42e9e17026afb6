//! What an operator sees: log lines of management requests, metrics of the process, labels.

use serde_json::{Value, json};

use crate::support::{
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows::Rates,
    openai,
    policies::make,
    process::ChildProcess,
    script::Script,
    server_process::ServerProcess,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_management_request_is_one_log_line,
        a_proxied_request_is_one_log_line,
        a_proxied_request_has_the_address_that_a_trusted_proxy_forwards,
        a_refused_request_does_not_read_like_a_success,
        probes_and_libraries_are_not_logged,
        malformed_requests_and_broken_answers_do_not_fill_the_log,
        metrics_measure_the_process_and_name_routes_plainly,
    ]
}

/// The log lines of requests to this route.
async fn lines_of(process: &ChildProcess, message: &str, request_id: &str) -> Vec<Value> {
    let is_it = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let is_it = line["request_id"] == request_id && line["message"] == message;
        is_it.then_some(())
    };
    process.line(message, is_it).await;
    let lines = process.lines();
    let parsed = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed.filter(|line| line["request_id"] == request_id).collect()
}

async fn a_management_request_is_one_log_line(database: Database) {
    let served = ServerProcess::start(&database, &[]).await;
    let team = served.workspace().await;
    let request = Request::get(&team.path("secrets")).header("x-request-id", "mine-1");
    let answer = served.admin().send(request).await.expect(200);
    let id = answer.header("x-request-id").expect("an id");
    let lines = lines_of(&served.process, "management request completed", id).await;
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let line = &lines[0];
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["client_request_id"], "mine-1");
    assert_eq!(line["client_address"], "127.0.0.1");
    assert_eq!(line["method"], "GET");
    assert_eq!(line["route"], "/api/v1/workspaces/{workspace_id}/secrets");
    assert_eq!(line["status"], 200);
    assert_eq!(line["workspace_id"], team.workspace_id);
    for field in ["organization_id", "key_id"] {
        assert!(line[field].is_string(), "{field} in {line}");
    }
    assert!(line["duration_ms"].is_number(), "{line}");
}

/// The one line of a proxied request.
async fn line_of(served: &ServerProcess, message: &str, answer: &Answer) -> Value {
    let id = answer.header("x-request-id").expect("an id");
    let mut lines = lines_of(&served.process, message, id).await;
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.remove(0)
}

async fn a_proxied_request_is_one_log_line(database: Database) {
    let served = ServerProcess::start(&database, &[]).await;
    let team = served.workspace().await;
    team.set_price(Rates {
        input: 10,
        cached_input: 10,
        output: 10,
        reasoning: 10,
        request: 1_000,
    })
    .await;
    let mut usage = openai::Usage::USUAL.chat();
    usage["prompt_tokens_details"]["audio_tokens"] = json!(3);
    let mut body = openai::chat_object("Good morning.", openai::Usage::USUAL);
    body["usage"] = usage;
    team.upstream.push(Script::json(200, &body));
    let answer = team.caller().send(Fixture::chat()).await.expect(200);
    let line = line_of(&served, "proxy request completed", &answer).await;
    assert_eq!((&line["level"], &line["status"]), (&json!("INFO"), &json!(200)));
    assert_eq!(line["workspace_id"], team.workspace_id);
    assert_eq!(line["other_tokens"], "audio_input=3");
    let cost: f64 = line["cost_usd"].as_str().expect("a decimal").parse().unwrap();
    assert!(cost > 0.0 && line["estimated"].is_null() && line["code"].is_null(), "{line}");

    // An error that is passed on does not read like a success.
    team.upstream.push(Script::json(500, &json!({"error": {"message": "Out of order."}})));
    let answer = team.caller().send(Fixture::chat()).await.expect(500);
    let message = "proxy request answered with an error by its upstream";
    let line = line_of(&served, message, &answer).await;
    let shown = (&line["level"], &line["status"], &line["outcome"]);
    assert_eq!(shown, (&json!("WARN"), &json!(500), &json!("completed")), "{line}");

    // A stream that is cut off is charged by an estimate.
    let events = openai::chat_events(&["Good ", "morning."], openai::Usage::USUAL, false);
    team.upstream.push(Script::sse_head().chunks(events[..2].to_vec()).reset());
    let answer = team.caller().send(Fixture::chat_stream()).await;
    let line = line_of(&served, "proxy request cut off by its upstream", &answer).await;
    assert_eq!((&line["level"], &line["estimated"]), (&json!("WARN"), &json!(true)), "{line}");

    let whose = [("workspace_id", team.workspace_id.as_str())];
    let config = json!({"window": "daily", "limit_usd": 0});
    let cap = make(&served.admin(), ("spend_cap", "None"), &whose, config).await;
    let answer = team.caller().send(Fixture::chat()).await.expect(402);
    let line = line_of(&served, "proxy request refused", &answer).await;
    assert_eq!((&line["level"], &line["status"]), (&json!("WARN"), &json!(402)), "{line}");
    assert_eq!((&line["code"], &line["policies"]), (&json!("spend_cap_exceeded"), &cap["id"]));
}

async fn a_proxied_request_has_the_address_that_a_trusted_proxy_forwards(database: Database) {
    let served = ServerProcess::start(&database, &[("--trusted-proxies", "127.0.0.0/8")]).await;
    let team = served.workspace().await;
    for (forwarded, expected) in [("198.51.100.7, 203.0.113.9", "203.0.113.9"), ("", "127.0.0.1")] {
        let request = Fixture::chat().header("x-forwarded-for", forwarded);
        let answer = team.caller().send(request).await.expect(200);
        let id = answer.header("x-request-id").expect("an id");
        let lines = lines_of(&served.process, "proxy request completed", id).await;
        assert_eq!(lines[0]["client_address"], expected, "{}", lines[0]);
    }
}

async fn a_refused_request_does_not_read_like_a_success(database: Database) {
    let served = ServerProcess::start(&database, &[]).await;
    let unknown = "/api/v1/workspaces/018f3a9e-0000-7000-8000-000000000000";
    for (client, path, status, code) in [
        (served.anonymous(), "/api/v1/me", 401, "missing_api_key"),
        (served.admin(), unknown, 404, "not_found"),
        (served.admin(), "/nowhere", 404, "not_found"),
    ] {
        let answer = client.get(path).await.expect(status);
        let id = answer.header("x-request-id").expect("an id");
        let lines = lines_of(&served.process, "management request refused", id).await;
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert_eq!(lines[0]["status"], status);
        assert_eq!(lines[0]["code"], code, "{}", lines[0]);
    }
}

async fn probes_and_libraries_are_not_logged(database: Database) {
    let mut served = ServerProcess::start(&database, &[]).await;
    for path in ["/healthz", "/readyz", "/version"] {
        served.anonymous().get(path).await.expect(200);
    }
    served.platform().get("/metrics").await.expect(200);
    served.stop().await;
    for line in served.process.lines() {
        let line: Value = serde_json::from_str(&line).expect("a JSON line");
        let target = line["target"].as_str().unwrap_or_default();
        assert!(target.starts_with("tollgate"), "{line}");
        assert!(line["route"].is_null(), "{line}");
    }
}

async fn malformed_requests_and_broken_answers_do_not_fill_the_log(database: Database) {
    use std::io::{Read as _, Write as _};

    let served = ServerProcess::start(&database, &[("--log-filter", "info")]).await;
    for bytes in ["GARBAGE\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n"] {
        let mut connection = std::net::TcpStream::connect(served.address()).unwrap();
        connection.write_all(bytes.as_bytes()).unwrap();
        // Until the answer and the end of the connection.
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    }
    let team = served.workspace().await;
    let events = openai::chat_events(&["Good ", "morning."], openai::Usage::USUAL, false);
    team.upstream.push(Script::sse_head().chunks(events[..2].to_vec()).reset());
    let answer = team.caller().send(Fixture::chat_stream()).await;
    line_of(&served, "proxy request cut off by its upstream", &answer).await;
    let lines = served.process.lines();
    assert!(!lines.iter().any(|line| line.contains("actix_http")), "{lines:#?}");
}

async fn metrics_measure_the_process_and_name_routes_plainly(database: Database) {
    let served = ServerProcess::start(&database, &[]).await;
    served.anonymous().get("/docs/").await;
    let text = served.platform().get("/metrics").await.expect(200).text();
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    ] {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value: f64 = line.unwrap_or_else(|| panic!("no {name}:\n{text}")).parse().unwrap();
        assert!(value.is_finite() && value >= 0.0, "{name} {value}");
    }
    assert!(text.contains("route=\"/docs/{_}\""), "{text}");
    assert!(!text.contains(":.*"), "{text}");
}
