//! Which headers are passed on, in both directions.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::{Fixture, question},
    framing::HeaderList,
    http::{Client, Request},
    logs,
    openai::{self, Usage},
    script::Script,
    secrets, sql,
    upstream::RecordedRequest,
    wait::eventually,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        only_listed_headers_are_sent_upstream,
        a_model_list_request_sends_only_listed_headers,
        no_caller_credential_is_sent_upstream,
        a_configuration_forwards_and_adds_headers,
        an_older_configuration_forwards_no_account_and_no_address,
        the_credential_is_sent_as_configured,
        all_but_a_few_headers_are_returned,
        a_header_with_the_provider_key_is_not_returned,
        every_response_has_a_request_id,
    ]
}

/// The headers, sorted, without `date`, which the client library adds to every request.
fn sent_headers(request: &RecordedRequest) -> BTreeMap<String, Vec<String>> {
    let mut headers = sorted(&request.headers);
    assert_eq!(headers.remove("date").map(|dates| dates.len()), Some(1), "the one known extra");
    headers
}

fn sorted(headers: &HeaderList) -> BTreeMap<String, Vec<String>> {
    let mut sorted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        sorted.entry(name.to_ascii_lowercase()).or_default().push(value.clone());
    }
    sorted
}

fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
    sorted(&pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
}

/// Adds many headers, allowed or not.
fn talkative(request: Request) -> Request {
    [
        ("Accept", "application/json, text/event-stream"),
        ("Accept-Encoding", "gzip, br"),
        ("Accept-Language", "en"),
        ("Anthropic-Beta", "b1"),
        ("Anthropic-Version", "2023-06-01"),
        ("Connection", "keep-alive, X-Hop, OpenAI-Beta"),
        ("Cookie", "session=12345678"),
        ("Forwarded", "for=10.0.0.1"),
        ("Idempotency-Key", "idem-1"),
        ("Keep-Alive", "timeout=5"),
        ("OpenAI-Beta", "assistants=v2"),
        ("OpenAI-Organization", "org-x"),
        ("Origin", "https://example.org"),
        ("Proxy-Authorization", "Basic dGVzdDp0ZXN0"),
        ("TE", "trailers"),
        ("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("Tracestate", "a=b"),
        ("User-Agent", "OpenAI/Python 1.2.3"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Gateway-Project", "p"),
        ("X-Hop", "1"),
        ("X-Request-Id", "mine"),
        ("X-Stainless-Lang", "python"),
        ("X-Stainless-Retry-Count", "0"),
        ("X-Tollgate-Anything", "1"),
    ]
    .into_iter()
    .fold(request, |request, (name, value)| request.header(name, value))
}

async fn only_listed_headers_are_sent_upstream(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    team.caller().send(talkative(Fixture::chat())).await.expect(200);
    let request = team.upstream.last_request();
    let (host, length) = (team.upstream.address().to_string(), request.body.len().to_string());
    let credential = format!("Bearer {}", team.provider_key);
    let expected = expected(&[
        ("accept", "application/json, text/event-stream"),
        ("accept-encoding", "identity"),
        ("anthropic-beta", "b1"),
        ("anthropic-version", "2023-06-01"),
        ("authorization", &credential),
        ("content-length", &length),
        ("content-type", "application/json"),
        ("host", &host),
        ("idempotency-key", "idem-1"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=b"),
        ("user-agent", "OpenAI/Python 1.2.3"),
        ("x-stainless-lang", "python"),
        ("x-stainless-retry-count", "0"),
    ]);
    // OpenAI-Beta is on the list but is dropped because `Connection` names it.
    assert_eq!(sent_headers(&request), expected);
    team.caller().send(Fixture::chat().header("OpenAI-Beta", "assistants=v2")).await.expect(200);
    assert_eq!(team.upstream.last_request().header("openai-beta"), Some("assistants=v2"));
}

async fn a_model_list_request_sends_only_listed_headers(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    team.caller().get(&Fixture::route("models")).await.expect(200);
    let (host, credential) =
        (team.upstream.address().to_string(), format!("Bearer {}", team.provider_key));
    let expected = expected(&[
        ("accept-encoding", "identity"),
        ("authorization", &credential),
        ("host", &host),
    ]);
    assert_eq!(sent_headers(&team.upstream.last_request()), expected);
}

async fn no_caller_credential_is_sent_upstream(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let key = team.caller_key.as_str();
    let bearer = format!("Bearer {key}");
    let shouting = format!("BEARER {key}");
    let ways: [&[(&str, &str)]; 6] = [
        &[("authorization", &bearer)],
        &[("Authorization", &shouting)],
        &[("X-Api-Key", key)],
        &[("x-goog-api-key", key)],
        // Other credentials are ignored and not passed on.
        &[("authorization", "Bearer sk-somebody-elses"), ("x-api-key", key)],
        &[
            ("authorization", "Basic c29tZWJvZHk6ZWxzZQ=="),
            ("x-api-key", "sk-somebody-elses"),
            ("x-goog-api-key", key),
        ],
    ];
    for way in ways {
        let caller = way.iter().fold(Client::new(app.address()), |caller, (name, value)| {
            caller.with_header(name, value)
        });
        caller.send(Fixture::chat()).await.expect(200);
        let headers = sent_headers(&team.upstream.last_request());
        assert_eq!(headers["authorization"], [format!("Bearer {}", team.provider_key)]);
        let names: Vec<_> = headers.keys().map(String::as_str).collect();
        let usual = ["accept-encoding", "authorization", "content-length", "content-type", "host"];
        assert_eq!(names, usual, "{way:?}");
    }
}

async fn a_configuration_forwards_and_adds_headers(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let second = "second-secret-value";
    secrets::register(second);
    team.put_secret("SECOND", second).await;
    let fields = json!({
        "forward_headers": ["Origin", "X-Request-Id", "X-Plan"],
        "extra_headers": {"X-Account": "acct {{secret:SECOND}}", "x-plan": "ours"},
    });
    team.configure("more", fields).await;
    let route = "/providers/more/v1/chat/completions";
    let request = talkative(Request::post_json(route, &question(false)).header("x-plan", "theirs"));
    team.caller().send(request).await.expect(200);
    let headers = sent_headers(&team.upstream.last_request());
    for (name, value) in [
        ("origin", "https://example.org"),
        ("x-request-id", "mine"),
        ("x-account", "acct second-secret-value"),
        ("x-plan", "ours"),
    ] {
        assert_eq!(headers.get(name), Some(&vec![value.to_owned()]), "{name}");
    }
    assert!(!headers.contains_key("x-hop") && !headers.contains_key("accept-language"));
}

async fn an_older_configuration_forwards_no_account_and_no_address(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let id = team.configure("old", json!({"forward_headers": ["x-team"]})).await;
    let names = [
        "OpenAI-Organization",
        "openai-project",
        "x-goog-user-project",
        "x-amz-security-token",
        "forwarded",
        "x-forwarded-for",
        "x-real-ip",
        "via",
        "x-gateway-project",
        "x-tollgate-anything",
        "cookie",
        "x-team",
    ];
    // As an earlier version has stored it.
    let stored = json!(names.map(str::to_ascii_lowercase)).to_string();
    let stored =
        format!("UPDATE model_configurations SET forward_headers = '{stored}' WHERE name = 'old'");
    sql::execute(app.database(), &stored).await;
    let route = "/providers/old/v1/chat/completions";
    let request = Request::post_json(route, &question(false));
    let request = names.into_iter().fold(request, |request, name| request.header(name, "p"));
    team.caller().send(request).await.expect(200);
    let headers = sent_headers(&team.upstream.last_request());
    let sent: Vec<&str> =
        names.into_iter().filter(|name| headers.contains_key(&name.to_ascii_lowercase())).collect();
    assert_eq!(sent, ["x-team"]);
    let path = team.path(&format!("model-configurations/{id}"));
    let refused = app.admin().patch(&path, &json!({"description": "older"})).await.expect(422);
    assert_eq!(refused.json()["errors"][0]["field"], "forward_headers[0]", "{}", refused.text());
}

async fn the_credential_is_sent_as_configured(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    team.configure("azure", json!({"auth": "api-key"})).await;
    team.configure("open", json!({"api_key_name": null})).await;
    let call = async |name: &str| {
        let route = format!("/providers/{name}/v1/responses");
        team.caller().post_json(&route, &question(false)).await.expect(200);
        sent_headers(&team.upstream.last_request())
    };
    let headers = call("azure").await;
    assert_eq!(headers.get("api-key"), Some(&vec![team.provider_key.clone()]));
    assert_eq!(headers.get("authorization"), None);
    let headers = call("open").await;
    assert!(!headers.contains_key("authorization") && !headers.contains_key("api-key"));
}

async fn all_but_a_few_headers_are_returned(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let passed = [
        ("content-type", "application/json; charset=utf-8"),
        ("date", "Tue, 15 Nov 1994 08:12:31 GMT"),
        ("openai-processing-ms", "12"),
        ("retry-after-ms", "7"),
        ("server", "scripted"),
        ("vary", "a"),
        ("vary", "b"),
        ("www-authenticate", "Bearer realm=\"provider\""),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-should-retry", "true"),
    ];
    let kept = [
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Expose-Headers", "x"),
        ("Alt-Svc", "h3=\":443\""),
        ("Connection", "keep-alive, X-Hop"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("Set-Cookie", "a=b"),
        ("Strict-Transport-Security", "max-age=1"),
        ("Trailer", "x"),
        ("X-Hop", "1"),
        ("X-Tollgate-Error", "gateway"),
        ("X-Upstream-Request-Id", "forged"),
    ];
    let id = [("X-Request-Id", "req_upstream")];
    let all: Vec<_> = passed.iter().chain(&kept).chain(&id).copied().collect();
    for (status, framed) in [(200, true), (200, false), (429, true)] {
        let script = match framed {
            true => Script::new().sized(status, &all, "{}"),
            false => Script::new().chunked_head(status, &all).chunk("{}").end(),
        };
        team.upstream.push(script);
        let answer = team.caller().send(Fixture::chat()).await.expect(status);
        assert_eq!(answer.text(), "{}");
        let mut headers = sorted(&answer.headers);
        let ours = headers.remove("x-request-id").unwrap();
        assert_eq!(ours.len(), 1);
        assert_ne!(ours, ["req_upstream"]);
        // The framing may differ.
        let framing = headers.remove("content-length").or(headers.remove("transfer-encoding"));
        assert!(framing.is_some_and(|values| values == ["2"] || values == ["chunked"]));
        let mut expected = expected(&passed);
        expected.insert("x-upstream-request-id".into(), vec!["req_upstream".into()]);
        assert_eq!(headers, expected, "{status}");
    }
}

async fn a_header_with_the_provider_key_is_not_returned(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let echo = format!("got Bearer {}!", team.provider_key);
    for status in [200, 403] {
        let headers = [("x-echo", echo.as_str()), ("x-other", "stays")];
        team.upstream.push(Script::new().sized(status, &headers, "{}"));
        let answer = team.caller().send(Fixture::chat()).await.expect(status);
        assert_eq!(answer.header("x-echo"), None);
        assert_eq!(answer.header("x-other"), Some("stays"));
    }
}

async fn every_response_has_a_request_id(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    team.upstream.push(openai::chat_completion("hello", Usage::USUAL));
    let mine = format!("caller-{}", uuid::Uuid::now_v7().simple());
    let request = || Fixture::chat().header("x-request-id", &mine);
    let answers = [
        team.caller().send(request()).await.expect(200),
        app.anonymous().send(request()).await.expect(401),
        team.caller().send(Request::get("/providers/x").header("x-request-id", &mine)).await,
    ];
    let mut ids: Vec<_> =
        answers.iter().map(|answer| answer.header("x-request-id").unwrap().to_owned()).collect();
    assert!(!ids.contains(&mine));
    for id in &ids {
        let client_request_id = format!("client_request_id={mine}");
        eventually("the caller's id is logged beside ours", async || {
            logs::lines_with(id).iter().any(|line| line.contains(&client_request_id))
        })
        .await;
    }
    ids.dedup();
    assert_eq!(ids.len(), answers.len());
    assert_eq!(team.upstream.last_request().header("x-request-id"), None);
}
