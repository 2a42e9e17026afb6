//! Endpoints of providers that are passed through although nothing there is metered: only where the
//! organization's settings say so, and not past what policies are for.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows,
    policies::{self, rate_limit, spend_cap},
    script::Script,
    upstream::ScriptedUpstream,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        nothing_is_passed_through_by_default,
        a_listed_endpoint_is_passed_through_as_it_is,
        only_the_listed_method_and_path_are_served,
        administration_is_never_passed_through,
        an_inherited_secret_is_not_used,
        caps_and_model_access_refuse_it,
        rate_limits_count_it,
        bodies_are_streamed_within_their_limit,
        a_caller_that_leaves_is_not_waited_for,
    ]
}

const SETTINGS: &str = "/api/v1/provider-settings/openai";

async fn start(database: &Database, endpoints: Value) -> (TestApp, Fixture) {
    let upstream = ScriptedUpstream::start().await;
    let origin = upstream.origin();
    let options =
        ["--provider-origin", &format!("openai={origin}"), "--max-unmetered-body-bytes", "1MiB"];
    let app = TestApp::with(database, &options).await;
    let team = Fixture::before(&app.admin(), app.address(), upstream).await;
    team.put_secret("OPENAI_API_KEY", "sk-of-the-workspace").await;
    app.admin().put(SETTINGS, &json!({"unmetered_endpoints": endpoints})).await.expect(200);
    (app, team)
}

fn files() -> Value {
    json!([
        {"method": "POST", "path": "/files"},
        {"method": "GET", "path": "/files/*/content"},
        {"method": "DELETE", "path": "/files/*"},
    ])
}

#[track_caller]
fn code(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("x-tollgate-error"), Some("gateway"));
    answer.json()["error"]["code"].as_str().unwrap().to_owned()
}

async fn nothing_is_passed_through_by_default(database: Database) {
    let (app, team) = start(&database, json!([])).await;
    let answer = team.caller().send(upload("/openai/v1/files")).await;
    assert_eq!(code(&answer, 501), "unmetered_not_allowed");
    assert!(answer.text().contains("PUT /api/v1/provider-settings/openai"), "{}", answer.text());
    assert_eq!(team.upstream.seen().requests.len(), 0);
    assert_eq!(ledger_rows::rows(app.database()).await.len(), 0);
}

/// An upload as SDKs send it.
fn upload(path: &str) -> Request {
    Request::new("POST", path)
        .header("content-type", "multipart/form-data; boundary=b")
        .body("--b\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b--\r\n")
}

async fn a_listed_endpoint_is_passed_through_as_it_is(database: Database) {
    let (app, team) = start(&database, files()).await;
    team.upstream.push(Script::json(200, &json!({"id": "file-1", "object": "file"})));
    let request = upload("/openai/v1/files?purpose=batch").header("x-other", "1");
    let answer = team.caller().send(request).await.expect(200);
    assert_eq!(answer.json()["id"], "file-1");
    let sent = team.upstream.last_request();
    assert_eq!((sent.path(), sent.query()), ("/v1/files", Some("purpose=batch")));
    assert_eq!(sent.header("content-type"), Some("multipart/form-data; boundary=b"));
    assert_eq!(sent.header("authorization"), Some("Bearer sk-of-the-workspace"));
    assert_eq!(sent.header("x-other"), None);
    assert!(sent.body.starts_with(b"--b\r\ncontent-disposition"), "{:?}", sent.body);

    // What is compressed stays so, and says so.
    team.upstream.push(Script::json(200, &json!({"id": "file-2", "object": "file"})));
    let request = upload("/openai/v1/files").header("content-encoding", "gzip");
    team.caller().send(request).await.expect(200);
    let sent = team.upstream.last_request();
    assert_eq!(sent.header("content-encoding"), Some("gzip"));
    assert!(sent.body.starts_with(b"--b\r\ncontent-disposition"), "{:?}", sent.body);

    let binary = Bytes::from((0..=255_u8).cycle().take(100_000).collect::<Vec<u8>>());
    let head = [("content-type", "application/octet-stream")];
    team.upstream.push(Script::new().sized(200, &head, binary.clone()));
    let answer = team.caller().get("/openai/files/file-1/content").await.expect(200);
    assert_eq!(answer.body, binary);
    let sent = team.upstream.last_request();
    assert_eq!((sent.path(), sent.body.len()), ("/v1/files/file-1/content", 0));

    team.upstream.push(Script::json(404, &json!({"error": {"message": "No such file"}})));
    let answer = team.caller().delete("/openai/v1/files/file-9").await;
    assert_eq!((answer.status, answer.header("x-tollgate-error")), (404, None));

    ledger_rows::rows_at_least(app.database(), 4).await;
    let listed = app.admin().get(&team.path("requests")).await.expect(200).json();
    let shown: Vec<Value> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|row| json!([row["route"], row["model"], row["cost_usd"], row["status"]]))
        .collect();
    assert_eq!(
        shown,
        [
            json!(["unmetered", "POST /files", null, 200]),
            json!(["unmetered", "POST /files", null, 200]),
            json!(["unmetered", "GET /files/*/content", null, 200]),
            // Providers do not charge for errors.
            json!(["unmetered", "DELETE /files/*", 0, 404]),
        ]
    );
    let report = app.admin().get("/api/v1/usage?provider=openai").await.expect(200).json();
    assert_eq!(report["total"]["requests"], 4, "{report}");
}

async fn only_the_listed_method_and_path_are_served(database: Database) {
    let (_app, team) = start(&database, files()).await;
    for (method, path) in [
        ("GET", "/openai/v1/files"),
        ("POST", "/openai/v1/files/a"),
        ("DELETE", "/openai/v1/files/a/content"),
        ("POST", "/openai/v1/batches"),
        ("PUT", "/openai/v1/files"),
    ] {
        let answer = team.caller().send(Request::new(method, path)).await;
        assert_eq!(code(&answer, 501), "unmetered_not_allowed", "{method} {path}");
    }
    for (method, path) in [
        ("POST", "/openai/v1/files//"),
        ("POST", "/openai/v1//files"),
        ("DELETE", "/openai/v1/files/%2e%2e"),
        ("DELETE", "/openai/v1/files/a%2Fb"),
        ("DELETE", "/openai/v1/files/.."),
        ("OPTIONS", "/openai/v1/files"),
    ] {
        let answer = team.caller().send(Request::new(method, path)).await;
        assert_eq!(code(&answer, 501), "not_served", "{method} {path}");
    }
    let answer = team.caller().send(upload("/openai/v1/files?key=stolen")).await;
    assert_eq!(code(&answer, 400), "credential_in_query");
    // A path of the list is exact below configurations, too.
    let answer = team.caller().send(upload("/providers/main/v1/files")).await;
    assert_eq!(code(&answer, 501), "not_served");
    assert_eq!(team.upstream.seen().requests.len(), 0);
}

async fn administration_is_never_passed_through(database: Database) {
    let (app, team) = start(&database, files()).await;
    for path in ["/organization/**", "/admin/x", "/api-keys", "/projects/*/users"] {
        let endpoints = json!({"unmetered_endpoints": [{"method": "GET", "path": path}]});
        app.admin().put(SETTINGS, &endpoints).await.expect(422);
    }
    let answer = team.caller().get("/openai/v1/organization/api_keys").await;
    assert_eq!(code(&answer, 501), "unmetered_not_allowed");
}

async fn an_inherited_secret_is_not_used(database: Database) {
    let (app, team) = start(&database, files()).await;
    app.admin().delete(&team.path("secrets/OPENAI_API_KEY")).await.expect(204);
    let value = json!({"value": "sk-of-the-organization"});
    app.admin().put("/api/v1/secrets/OPENAI_API_KEY", &value).await.expect(201);
    let answer = team.caller().send(upload("/openai/v1/files")).await;
    assert_eq!(code(&answer, 403), "own_secret_required");
    assert_eq!(team.upstream.seen().requests.len(), 0);
}

async fn caps_and_model_access_refuse_it(database: Database) {
    let (app, team) = start(&database, files()).await;
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    spend_cap(&app.admin(), "monthly", &workspace, ("monthly", 1_000_000_000)).await;
    let answer = team.caller().send(upload("/openai/v1/files")).await;
    assert_eq!(code(&answer, 402), "price_unknown");
    assert!(answer.text().contains("despite_policies"), "{}", answer.text());
    assert_eq!(team.upstream.seen().requests.len(), 0);
    let despite = json!([{"method": "POST", "path": "/files", "despite_policies": true}]);
    app.admin().put(SETTINGS, &json!({"unmetered_endpoints": despite})).await.expect(200);
    team.upstream.push(Script::json(200, &json!({"id": "file-1"})));
    team.caller().send(upload("/openai/v1/files")).await.expect(200);
    // Nothing says which model a file is for.
    let allowed = json!({"providers": [{"provider": "openai", "models": ["gpt-4o-mini"]}]});
    policies::make(&app.admin(), ("model_access", "one"), &workspace, allowed).await;
    let answer = team.caller().send(upload("/openai/v1/files")).await;
    assert_eq!(code(&answer, 403), "model_access_denied");
    assert_eq!(team.upstream.seen().requests.len(), 1);
}

async fn rate_limits_count_it(database: Database) {
    let (app, team) = start(&database, files()).await;
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    rate_limit(&app.admin(), "one", &workspace, &[("requests", "minute", 1)]).await;
    team.upstream.push(Script::json(200, &json!({"id": "file-1"})));
    team.caller().send(upload("/openai/v1/files")).await.expect(200);
    let answer = team.caller().send(upload("/openai/v1/files")).await;
    assert_eq!(code(&answer, 429), "rate_limit_exceeded");
    assert!(answer.header("retry-after").is_some());
}

async fn bodies_are_streamed_within_their_limit(database: Database) {
    let (_app, team) = start(&database, files()).await;
    let whole = vec![b'x'; 1024 * 1024];
    for request in [
        Request::new("POST", "/openai/v1/files").body(whole.clone()),
        Request::new("POST", "/openai/v1/files")
            .chunked(whole.chunks(10_000).map(Bytes::copy_from_slice)),
    ] {
        team.upstream.push(Script::json(200, &json!({"id": "file-1"})));
        team.caller().send(request).await.expect(200);
        assert_eq!(team.upstream.last_request().body.len(), whole.len());
    }
    let seen = team.upstream.seen().requests.len();
    let declared = Request::new("POST", "/openai/v1/files").promising(whole.len() + 1);
    assert_eq!(code(&team.caller().send(declared).await, 413), "body_too_large");
    assert_eq!(team.upstream.seen().requests.len(), seen);
    let longer = whole.iter().chain(b"y").copied().collect::<Vec<u8>>();
    let chunked = Request::new("POST", "/openai/v1/files")
        .chunked(longer.chunks(10_000).map(Bytes::copy_from_slice));
    assert_eq!(code(&team.caller().send(chunked).await, 413), "body_too_large");
}

async fn a_caller_that_leaves_is_not_waited_for(database: Database) {
    let (app, team) = start(&database, files()).await;
    let promised = Request::new("POST", "/openai/v1/files").promising(1000);
    let connection = team.caller().open(promised).await.unwrap();
    team.upstream.wait_for("it is sent on", |seen| seen.accepted() == 1).await;
    drop(connection);
    let rows = ledger_rows::rows_at_least(app.database(), 1).await;
    // Whichever is noticed first: that the body is cut, or that nobody waits for the answer.
    assert!(["caller_left", "failed"].contains(&rows[0].outcome.as_str()), "{rows:?}");
    team.upstream.wait_for("the upload is given up", |seen| seen.open() == 0).await;
}
