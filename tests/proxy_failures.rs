//! Failures between the gateway and an upstream.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    proxy_routes::gateway_error,
    support::{
        app::TestApp,
        case::{Case, cases},
        connection::{BodyEnd, ReadError},
        database::Database,
        fixture::{Fixture, question},
        http::Request,
        ledger_rows,
        openai::{self, Usage},
        script::{Pause, Script},
        upstream::Seen,
        wait::{DEADLINE, eventually, within},
    },
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        an_upstream_429_is_passed_on_with_its_headers,
        an_upstream_500_with_html_is_passed_on,
        every_upstream_error_is_passed_on_with_its_status,
        a_refused_credential_gets_502_with_the_secrets_name,
        a_redirect_gets_502_without_its_location,
        a_304_is_passed_on_only_for_a_conditional_get,
        the_provider_key_is_redacted_from_errors,
        a_break_before_the_head_gets_502,
        a_break_after_the_head_breaks_the_connection,
        an_incomplete_body_breaks_the_connection,
        an_answer_that_is_not_http_gets_502,
        an_unreachable_upstream_gets_502,
        an_unresolvable_name_gets_502,
        a_refused_address_is_not_connected_to,
        a_request_on_a_connection_that_just_closed_is_retried_once,
        a_failure_on_a_new_connection_is_not_retried,
        a_failure_after_the_first_byte_is_not_retried,
        a_failed_retry_is_not_retried,
        idle_upstream_connections_are_closed_in_time,
        each_kind_of_bad_key_has_its_own_code,
        postgres a_secret_that_cannot_be_decrypted_gets_503_with_its_name,
    ]
}

async fn an_upstream_429_is_passed_on_with_its_headers(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let body = r#"{"error":{"message":"slow down","type":"requests","param":null,"code":"x"}}"#;
    let headers = [
        ("content-type", "application/json"),
        ("retry-after", "17"),
        ("x-ratelimit-reset-requests", "17s"),
    ];
    team.upstream.push(Script::new().sized(429, &headers, body));
    let answer = team.caller().send(Fixture::chat()).await.expect(429);
    assert_eq!(answer.text(), body);
    for (name, value) in headers {
        assert_eq!(answer.header(name), Some(value));
    }
    assert_eq!(answer.header("x-tollgate-error"), None, "no error of ours");
    team.settled_once().await.says(&[
        ("status", "429"),
        ("outcome", "completed"),
        ("attempts", "1"),
    ]);
}

async fn an_upstream_500_with_html_is_passed_on(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let html = "<html><body>oops \u{1f4a5}</body></html>";
    let headers = [("content-type", "text/html; charset=utf-8")];
    for request in [Fixture::chat(), Fixture::chat_stream()] {
        team.upstream.push(Script::new().chunked_head(500, &headers).chunk(html).end());
        let answer = team.caller().send(request).await.expect(500);
        assert_eq!(answer.text(), html);
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(answer.header("x-tollgate-error"), None);
    }
    assert_eq!(team.upstream.seen().requests.len(), 2, "an answer is no reason to try again");
}

async fn every_upstream_error_is_passed_on_with_its_status(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    for status in [400, 403, 404, 409, 413, 418, 422, 500, 502, 503, 504, 529] {
        team.upstream.push(openai::error(status, "some_error", "its_code", "in its words"));
        let answer = team.caller().send(Fixture::chat()).await.expect(status);
        assert_eq!(answer.json()["error"]["code"], "its_code");
        assert_eq!(answer.header("x-tollgate-error"), None);
    }
}

async fn a_refused_credential_gets_502_with_the_secrets_name(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    team.upstream.push(openai::error(401, "some_error", "its_code", "in its words"));
    let answer = team.caller().send(Fixture::chat()).await;
    gateway_error(&answer, 502, "provider_credential_refused");
    assert!(answer.text().contains(Fixture::SECRET) && !answer.text().contains("its words"));
    let line = team.settled_once().await;
    line.says(&[
        ("code", "provider_credential_refused"),
        ("status", "502"),
        ("outcome", "refused"),
    ]);
    // Without a credential of ours there is nothing else to say.
    team.configure("open", json!({"api_key_name": null})).await;
    team.upstream.push(openai::error(401, "some_error", "its_code", "in its words"));
    let request = Request::post_json("/providers/open/v1/chat/completions", &question(false));
    let answer = team.caller().send(request).await.expect(401);
    assert_eq!(answer.json()["error"]["code"], "its_code");
}

async fn a_redirect_gets_502_without_its_location(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let location = ("location", "https://elsewhere.example/v1/chat/completions");
    for status in [300, 301, 302, 303, 305, 307, 308, 399] {
        for request in
            [Fixture::chat(), Fixture::chat_stream(), Request::get(&Fixture::route("models"))]
        {
            team.upstream.push(Script::new().sized(status, &[location], "moved"));
            let answer = team.caller().send(request).await;
            gateway_error(&answer, 502, "upstream_redirect");
            assert_eq!(answer.header("location"), None, "{status}");
            assert!(!answer.text().contains("elsewhere"), "{status}");
            assert!(answer.text().contains("base_url"), "{status}");
        }
    }
    assert_eq!(team.upstream.seen().requests.len(), 24, "none is followed");
    let lines = team.settled(&team.configuration_id, 24).await;
    for line in lines {
        line.says(&[("code", "upstream_redirect"), ("status", "502"), ("outcome", "refused")]);
    }
    // Listings are no attempts of the ledger.
    let rows = ledger_rows::rows_at_least(app.database(), 16).await;
    assert!(rows.iter().all(|row| row.outcome == "failed" && row.cost == Some(0)), "{rows:?}");
}

async fn a_304_is_passed_on_only_for_a_conditional_get(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    team.configure("conditional", json!({"forward_headers": ["if-none-match"]})).await;
    let models = || Request::get("/providers/conditional/v1/models");
    team.upstream.push(Script::new().raw("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"));
    let conditional = models().header("if-none-match", "\"a\"");
    let answer = team.caller().send(conditional).await.expect(304);
    assert_eq!(answer.header("etag"), Some("\"a\""));
    team.upstream.push(Script::new().raw("HTTP/1.1 304 Not Modified\r\n\r\n"));
    gateway_error(&team.caller().send(models()).await, 502, "upstream_redirect");
    team.upstream.push(Script::new().raw("HTTP/1.1 304 Not Modified\r\n\r\n"));
    let chat = "/providers/conditional/v1/chat/completions";
    let post = Request::post_json(chat, &question(false)).header("if-none-match", "\"a\"");
    gateway_error(&team.caller().send(post).await, 502, "upstream_redirect");
}

async fn the_provider_key_is_redacted_from_errors(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let key = &team.provider_key;
    let escaped = key.replace('-', "\\u002d");
    let quoted = format!("{{\"error\":{{\"message\":\"Incorrect key {key}, {escaped}.\"}}}}");
    let expected = "{\"error\":{\"message\":\"Incorrect key [redacted], [redacted].\"}}";
    team.upstream.push(Script::new().sized(403, &[], quoted.clone()));
    let halves: Vec<_> = quoted.as_bytes().chunks(23).map(<[u8]>::to_vec).collect();
    team.upstream.push(Script::new().chunked_head(403, &[]).chunks(halves).end());
    for _ in 0..2 {
        let answer = team.caller().send(Fixture::chat()).await.expect(403);
        assert_eq!(answer.text(), expected);
    }
    // An incomplete body with part of the key is cut before it.
    let half = format!("Incorrect key {}", &key[..key.len() / 2]);
    team.upstream.push(Script::new().sized_head(403, &[], 500).raw(half).close());
    let answer = team.caller().send(Fixture::chat()).await;
    assert_eq!((answer.status, answer.text().as_str()), (403, "Incorrect key "));
    assert!(matches!(answer.ending, BodyEnd::Broken(_)), "{:?}", answer.ending);
    // Only as much as is searched is passed on.
    let filler = "x".repeat(64 * 1024 - 20);
    team.upstream.push(Script::new().sized(500, &[], [&filler, key.as_str(), "more"].concat()));
    let answer = team.caller().send(Fixture::chat()).await;
    assert_eq!(answer.status, 500);
    let rest = answer.text().trim_start_matches('x').to_owned();
    assert!(!rest.contains("sk-test-"), "not even a part of the key: {rest}");
}

async fn a_break_before_the_head_gets_502(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    for (count, script) in [
        Script::new().close(),
        Script::new().reset(),
        Script::new().raw("HTTP/1.1 200 OK\r\ncontent-").close(),
        Script::new().informational(103, &[]).close(),
    ]
    .into_iter()
    .enumerate()
    {
        team.upstream.push(script);
        let answer = team.caller().send(Fixture::chat()).await;
        gateway_error(&answer, 502, "upstream_closed");
        assert_eq!(answer.json()["error"]["type"], "upstream_error");
        assert_eq!(answer.header("x-should-retry"), None, "a retry may help");
        assert_eq!(team.upstream.seen().requests.len(), count + 1, "a fresh one is not retried");
    }
    for settled in team.settled(&team.configuration_id, 4).await {
        settled.says(&[("status", "502"), ("outcome", "refused"), ("attempts", "1")]);
    }
}

async fn a_break_after_the_head_breaks_the_connection(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    for script in [
        Script::new().sized_head(200, &[("content-type", "application/json")], 100).close(),
        Script::new().sized_head(200, &[("content-type", "application/json")], 100).reset(),
        Script::new().chunked_head(200, &[("content-type", "application/json")]).close(),
        Script::new().chunked_head(500, &[("content-type", "text/html")]).chunk("<ht").close(),
    ] {
        team.upstream.push(script);
        let answer = team.caller().try_send(Fixture::chat()).await;
        // The head may have been sent or lost, but the answer is never complete.
        if let Ok(answer) = answer {
            assert!(matches!(answer.ending, BodyEnd::Broken(_)), "{:?}", answer.ending);
        }
    }
    for settled in team.settled(&team.configuration_id, 4).await {
        settled.says(&[("outcome", "upstream_broke")]);
    }
}

async fn an_incomplete_body_breaks_the_connection(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let json = [("content-type", "application/json")];
    for (how, script) in [
        ("sized", Script::new().sized_head(200, &json, 100).raw("{\"half\":").close()),
        ("chunked", Script::new().chunked_head(200, &json).chunk("{\"half\":").close()),
        ("in a chunk", Script::new().chunked_head(200, &json).raw("20\r\n{\"half\":").close()),
        (
            "before 0",
            Script::new().chunked_head(200, &json).chunk("{\"half\":").raw("0\r\n").close(),
        ),
    ] {
        team.upstream.push(script);
        let (head, mut connection) = team.caller().stream(Fixture::chat()).await;
        assert_eq!(head.status, 200, "{how}");
        let (pieces, ending) = connection.rest().await;
        let text: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        assert!(matches!(ending, BodyEnd::Broken(_)), "{how}: {ending:?}");
        assert_eq!(text, b"{\"half\":", "{how}: what came is passed on first");
    }
    // An invalid chunk is noticed before or after the head is sent.
    team.upstream.push(Script::new().chunked_head(200, &json).chunk("{\"half\":").raw("zz\r\n"));
    let answer = team.caller().send(Fixture::chat()).await;
    match answer.status {
        200 => assert!(matches!(answer.ending, BodyEnd::Broken(_)), "{:?}", answer.ending),
        _ => gateway_error(&answer, 502, "upstream_invalid_response"),
    }
    // A body that ends with the connection is complete when it closes.
    let script = Script::new().head(200, &json).raw("{}").close();
    team.upstream.push(script);
    let answer = team.caller().send(Fixture::chat()).await.expect(200);
    assert_eq!(answer.text(), "{}");
}

async fn an_answer_that_is_not_http_gets_502(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    for raw in [
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
    ] {
        team.upstream.push(Script::new().raw(raw).keep_open());
        let caller = team.caller();
        let answer = within(DEADLINE, raw, caller.send(Fixture::chat())).await;
        gateway_error(&answer, 502, "upstream_invalid_response");
    }
    // None of these connections is reused.
    team.caller().send(Fixture::chat()).await.expect(200);
    assert_eq!(team.upstream.seen().accepted(), 6);
}

async fn an_unreachable_upstream_gets_502(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    team.configure("gone", json!({"base_url": base})).await;
    let answer =
        team.caller().post_json("/providers/gone/v1/chat/completions", &question(true)).await;
    gateway_error(&answer, 502, "upstream_unreachable");
}

async fn an_unresolvable_name_gets_502(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    // RFC 6761 reserves this name.
    team.configure("nowhere", json!({"base_url": "https://nowhere.invalid/v1"})).await;
    let answer =
        team.caller().post_json("/providers/nowhere/v1/chat/completions", &question(false)).await;
    gateway_error(&answer, 502, "upstream_unresolved");
}

async fn a_refused_address_is_not_connected_to(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let port = team.upstream.address().port();
    let named = format!("http://localhost:{port}/v1");
    team.configure("named", json!({"base_url": named})).await;
    team.caller().post_json("/providers/named/v1/responses", &question(false)).await.expect(200);
    let before = team.upstream.seen().accepted();

    // A replica whose rules do not allow the saved base URL.
    let strict = app.replica_with_only(&["--egress-allow", ""]).await;
    let caller = team.caller_at(strict.address());
    for name in ["main", "named"] {
        let route = format!("/providers/{name}/v1/chat/completions");
        let answer = caller.post_json(&route, &question(false)).await;
        gateway_error(&answer, 502, "egress_refused");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert!(!answer.text().contains("127.0.0.1"), "addresses are for the log");
    }
    assert_eq!(team.upstream.seen().accepted(), before);
}

/// Answers, and closes the idle connection when the pause is released.
fn then_closes(pause: &Pause) -> Script {
    openai::chat_completion("first", Usage::USUAL).wait(pause).close()
}

async fn a_request_on_a_connection_that_just_closed_is_retried_once(database: Database) {
    // One worker has one pool, so the second request reuses the first connection, however slow the test is.
    let options = ["--workers", "1", "--upstream-keep-alive", "60s"];
    let app = TestApp::with(&database, &options).await;
    let team = app.workspace().await;
    team.caller().send(Fixture::chat()).await.expect(200);
    // The connection is closed without an answer.
    team.upstream.push(Script::new().close());
    team.caller().send(Fixture::chat()).await.expect(200);
    let seen = team.upstream.seen();
    let connections: Vec<_> = seen.requests.iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 0, 1], "reused, then tried once more on a fresh one");
    assert_eq!(seen.requests[1].body, seen.requests[2].body);
    let settled = team.settled(&team.configuration_id, 2).await;
    settled[1].says(&[("attempts", "2"), ("status", "200"), ("outcome", "completed")]);

    // A closed idle connection is noticed before it is used.
    let pause = Pause::new();
    team.upstream.push(then_closes(&pause));
    team.caller().send(Fixture::chat()).await.expect(200);
    pause.release_all();
    let closed = |seen: &Seen| seen.connections[1].closed.is_some();
    team.upstream.wait_for("the idle connection is closed", closed).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    assert_eq!(team.upstream.last_request().connection, 2);
}

async fn a_failure_on_a_new_connection_is_not_retried(database: Database) {
    let app = TestApp::with(&database, &["--workers", "1"]).await;
    let team = app.workspace().await;
    team.upstream.push(Script::new().reset());
    gateway_error(&team.caller().send(Fixture::chat()).await, 502, "upstream_closed");
    assert_eq!(team.upstream.seen().requests.len(), 1);
    team.settled_once().await.says(&[("attempts", "1")]);
}

async fn a_failure_after_the_first_byte_is_not_retried(database: Database) {
    let app = TestApp::with(&database, &["--workers", "1"]).await;
    let team = app.workspace().await;
    for script in [
        Script::new().raw("HTTP/1.1 2").close(),
        // Later than a stale connection would fail.
        Script::new().delay(Duration::from_millis(1_300)).close(),
    ] {
        team.caller().send(Fixture::chat()).await.expect(200);
        let calls = team.upstream.seen().requests.len();
        team.upstream.push(script);
        gateway_error(&team.caller().send(Fixture::chat()).await, 502, "upstream_closed");
        let seen = team.upstream.seen();
        assert_eq!(seen.requests.len(), calls + 1);
        let [.., first, second] = seen.requests.as_slice() else { panic!("two requests") };
        assert_eq!(first.connection, second.connection, "it was a reused one");
    }
}

async fn a_failed_retry_is_not_retried(database: Database) {
    let app = TestApp::with(&database, &["--workers", "1"]).await;
    let team = app.workspace().await;
    team.caller().send(Fixture::chat()).await.expect(200);
    team.upstream.push(Script::new().close());
    team.upstream.push(Script::new().close());
    gateway_error(&team.caller().send(Fixture::chat()).await, 502, "upstream_closed");
    assert_eq!(team.upstream.seen().requests.len(), 3);
    team.settled(&team.configuration_id, 2).await[1].says(&[("attempts", "2")]);
}

async fn idle_upstream_connections_are_closed_in_time(database: Database) {
    let app = TestApp::with(&database, &["--workers", "1", "--upstream-keep-alive", "300ms"]).await;
    let team = app.workspace().await;
    team.caller().send(Fixture::chat()).await.expect(200);
    team.upstream.left_within(DEADLINE, 0).await;
    team.caller().send(Fixture::chat()).await.expect(200);
    assert_eq!(team.upstream.last_request().connection, 1);
    team.settled(&team.configuration_id, 2).await[1].says(&[("attempts", "1")]);
}

async fn each_kind_of_bad_key_has_its_own_code(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let admin = app.admin();
    let none = app.anonymous().send(Fixture::chat()).await;
    gateway_error(&none, 401, "missing_api_key");
    let challenge = none.header("www-authenticate").unwrap().to_ascii_lowercase();
    assert!(challenge.starts_with("bearer realm=\"tollgate\""), "{challenge}");
    assert_eq!(none.header("x-should-retry"), Some("false"));
    for wrong in ["tg_", "tg_nothing", "tg_aaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"] {
        let answer = app.as_key(wrong).send(Fixture::chat()).await;
        gateway_error(&answer, 401, "invalid_api_key");
        assert!(answer.header("www-authenticate").is_some());
    }
    let (disabled_id, disabled) = team.key("GATEWAY_CALLER").await;
    let path = team.path(&format!("api-keys/{disabled_id}"));
    admin.patch(&path, &json!({"disabled": true})).await.success();
    let answer = app.as_key(&disabled).send(Fixture::chat()).await;
    gateway_error(&answer, 401, "disabled_api_key");
    admin.delete(&path).await.success();
    let answer = app.as_key(&disabled).send(Fixture::chat()).await;
    gateway_error(&answer, 401, "revoked_api_key");
    // Expiry is checked at each request.
    let soon = (chrono::Utc::now() + chrono::TimeDelta::seconds(2)).to_rfc3339();
    let short = json!({"name": "short-lived", "role": "GATEWAY_CALLER", "expires_at": soon});
    let made = admin.post_json(&team.path("api-keys"), &short).await.success().json();
    let short = app.as_key(made["key"].as_str().unwrap());
    eventually("the key expires", async || short.send(Fixture::chat()).await.status == 401).await;
    gateway_error(&short.send(Fixture::chat()).await, 401, "expired_api_key");

    let person = json!({"email": "person@example.org", "name": "A Person"});
    let user = admin.post_json("/api/v1/users", &person).await.success().json();
    let theirs = json!({"name": "theirs", "role": "GATEWAY_CALLER", "user_id": user["id"]});
    let made = admin.post_json(&team.path("api-keys"), &theirs).await.success().json();
    let theirs = app.as_key(made["key"].as_str().unwrap());
    theirs.send(Fixture::chat()).await.expect(200);
    let path = format!("/api/v1/users/{}", user["id"].as_str().unwrap());
    admin.delete(&path).await.success();
    gateway_error(&theirs.send(Fixture::chat()).await, 401, "user_deactivated");
    // The answer arrives although the body is not read, and the connection stays in sync or is closed.
    let mut connection = app
        .as_key(&disabled)
        .open(Request::new("POST", &Fixture::route("responses")).body(vec![b' '; 1 << 20]))
        .await
        .unwrap();
    let head = within(DEADLINE, "an answer", connection.head()).await.unwrap();
    assert_eq!(head.status, 401);
    let (_, ending) = connection.rest().await;
    assert_eq!(ending, BodyEnd::Complete);
    connection.request(&Fixture::chat().bearer(&team.caller_key)).await.ok();
    match connection.head().await {
        Ok(head) => assert_eq!(head.status, 200, "the rest of a body was taken for a request"),
        Err(cut) => assert!(matches!(cut, ReadError::Closed | ReadError::Reset), "{cut:?}"),
    }

    let organization = format!("/api/v1/organizations/{}", app.keys().organization_id);
    app.platform().patch(&organization, &json!({"status": "suspended"})).await.success();
    let answer = team.caller().send(Fixture::chat()).await;
    gateway_error(&answer, 403, "organization_suspended");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
}

async fn a_secret_that_cannot_be_decrypted_gets_503_with_its_name(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let spoil = "UPDATE secrets SET sealed = set_byte(sealed, length(sealed) - 1, \
                 get_byte(sealed, length(sealed) - 1) # 1)";
    assert_eq!(database.connect().await.execute(spoil, &[]).await.unwrap(), 1);
    // A replica that has not cached it yet.
    let replica = app.replica().await;
    let answer = team.caller_at(replica.address()).send(Fixture::chat()).await;
    gateway_error(&answer, 503, "secret_unavailable");
    assert!(answer.header("retry-after").is_some());
    assert!(answer.text().contains(Fixture::SECRET), "{}", answer.text());
    assert_eq!(answer.json()["error"]["type"], "server_error");
    assert_eq!(team.upstream.seen().accepted(), 0);
}
