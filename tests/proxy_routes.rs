//! Which routes the data plane serves, in which order it checks requests, and where it sends them.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    connection::Head,
    database::Database,
    fixture::{Fixture, question},
    http::{Answer, Request},
    ledger_rows,
    wait::{DEADLINE, within},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        served_routes_reach_the_upstream,
        models_is_a_synonym_of_providers,
        other_routes_get_501_without_reading_the_body,
        head_requests_and_websockets_get_501,
        checks_run_in_order,
        a_name_is_one_segment_decoded_once,
        a_model_id_keeps_its_encoding,
        a_model_id_with_dot_segments_gets_400,
        query_parameters_of_the_base_url_win,
    ]
}

/// Fails the test unless the answer is the gateway's own error in the API's form.
#[track_caller]
pub(crate) fn gateway_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["error"]["code"], code, "{body}");
    assert!(body["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    assert!(body["error"]["type"].is_string() && body["error"].get("param").is_some(), "{body}");
    assert_eq!(answer.header("x-tollgate-error"), Some("gateway"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("x-request-id").is_some());
}

async fn served_routes_reach_the_upstream(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let caller = team.caller();
    let served = [
        ("POST", "chat/completions"),
        ("POST", "responses"),
        ("GET", "models"),
        ("GET", "models/gpt-test"),
    ];
    for (count, (method, rest)) in served.into_iter().enumerate() {
        let request = match method {
            "POST" => Request::post_json(&Fixture::route(rest), &question(false)),
            _ => Request::get(&Fixture::route(rest)),
        };
        caller.send(request).await.expect(200);
        let received = team.upstream.request(count).await;
        assert_eq!(
            (received.method.as_str(), received.target.clone()),
            (method, format!("/v1/{rest}"))
        );
        if method == "GET" {
            assert!(received.body.is_empty() && received.header("transfer-encoding").is_none());
        } else {
            assert_eq!(received.json()["model"], Fixture::MODEL);
        }
    }
    let listing = caller.get(&Fixture::route("models")).await.expect(200).json();
    assert_eq!(listing["data"][1]["id"], "org/other model", "listings are relayed as they are");
}

/// `/models/{name}` is another spelling of `/providers/{name}`.
async fn models_is_a_synonym_of_providers(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let caller = team.caller();
    for (number, scope) in ["providers", "models"].into_iter().enumerate() {
        let path = format!("/{scope}/main/v1/chat/completions");
        caller.post_json(&path, &question(false)).await.expect(200);
        assert_eq!(team.upstream.last_request().target, "/v1/chat/completions");
        assert_eq!(team.upstream.last_request().json()["model"], Fixture::MODEL);
        let rows = ledger_rows::rows_at_least(app.database(), number + 1).await;
        assert_eq!(rows.last().unwrap().configuration, "main");
        let page = app.admin().get(&team.path("requests")).await.expect(200).json();
        assert_eq!(page["data"][0]["route"], "chat_completions");
    }
    gateway_error(
        &caller.post_json("/models/none/v1/responses", &question(false)).await,
        404,
        "unknown_configuration",
    );
    gateway_error(
        &caller.post_json("/models/main/v1/images", &question(false)).await,
        501,
        "not_served",
    );
    gateway_error(&caller.get("/models").await, 501, "not_served");
    let unknown = app.anonymous().post_json("/models/main/v1/responses", &question(false)).await;
    gateway_error(&unknown, 401, "missing_api_key");
}

async fn other_routes_get_501_without_reading_the_body(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    for (method, path) in [
        ("GET", "/providers/main/v1/chat/completions"),
        ("PUT", "/providers/main/v1/chat/completions"),
        ("PATCH", "/providers/main/v1/responses"),
        ("DELETE", "/providers/main/v1/models/gpt-test"),
        ("OPTIONS", "/providers/main/v1/chat/completions"),
        ("POST", "/providers/main/v1/models"),
        ("POST", "/providers/main/v1/chat/completions/"),
        ("POST", "/providers/main/chat/completions"),
        ("POST", "/providers/main/v1/images/generations"),
        ("GET", "/providers/main/v1/embeddings"),
        ("POST", "/providers/main/v1//chat/completions"),
        ("POST", "/providers/main//v1/chat/completions"),
        ("POST", "/providers/main/v1/chat%2Fcompletions"),
        ("POST", "/providers/main/v1/chat/./completions"),
        ("POST", "/providers/main/V1/chat/completions"),
        ("POST", "/providers/main/v2/chat/completions"),
        ("POST", "/providers/main"),
        ("POST", "/providers/main/"),
        ("GET", "/providers/main/v1/models/"),
        ("GET", "/providers/main/v1/models/org/model"),
        ("GET", "/providers/main/v1/models%0A"),
        ("POST", "/providers/a%0Ab/v1/images/generations"),
    ] {
        // The body is declared but never sent.
        let request = Request::new(method, path)
            .header("origin", "https://example.org")
            .header("access-control-request-method", "POST")
            .promising(1000);
        let exchange = async {
            let (head, mut connection) = team.caller().stream(request).await;
            let (pieces, ending) = connection.rest().await;
            let body: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
            let Head { status, headers } = head;
            let answer = Answer { status, headers, body: body.into(), ending };
            gateway_error(&answer, 501, "not_served");
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            assert_eq!(answer.header("connection"), Some("close"), "{method} {path}");
            let cors = |(name, _): &(String, String)| name.starts_with("access-control-");
            assert!(!answer.headers.iter().any(cors), "no browser calls us");
            connection.closed().await;
        };
        within(DEADLINE, &format!("{method} {path} is answered"), exchange).await;
    }
    assert_eq!(team.upstream.seen().accepted(), 0);
}

async fn head_requests_and_websockets_get_501(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let head = Request::new("HEAD", &Fixture::route("models"));
    let upgrade = Request::get(&Fixture::route("models"))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    for request in [head, upgrade] {
        let (head, mut connection) = team.caller().stream(request).await;
        assert_eq!((head.status, head.header("x-tollgate-error")), (501, Some("gateway")));
        assert_eq!(head.header("x-should-retry"), Some("false"));
        within(DEADLINE, "the connection is closed", connection.closed()).await;
    }
    assert_eq!(team.upstream.seen().accepted(), 0);
    // An offer to upgrade to HTTP/2 is ignored.
    let offer = Request::get(&Fixture::route("models"))
        .header("connection", "Upgrade, HTTP2-Settings")
        .header("upgrade", "h2c")
        .header("http2-settings", "AAMAAABkAAQAAP__");
    team.caller().send(offer).await.expect(200);
}

async fn checks_run_in_order(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    team.configure("off", json!({"enabled": false})).await;
    let unknown = "/providers/nobody/v1/chat/completions";
    let broken = |path: &str| Request::new("POST", path).body("{");
    let wrong = |path: &str| Request::new("PUT", path).body("{");

    let anonymous = app.anonymous();
    gateway_error(&anonymous.send(wrong(unknown)).await, 401, "missing_api_key");
    let stranger = app.as_key(&format!("{}x", team.caller_key));
    gateway_error(&stranger.send(wrong(unknown)).await, 401, "invalid_api_key");
    gateway_error(&app.admin().send(wrong(unknown)).await, 403, "workspace_key_required");
    let (_, viewer) = team.key("WORKSPACE_VIEWER").await;
    gateway_error(&app.as_key(&viewer).send(wrong(unknown)).await, 403, "permission_denied");
    let caller = team.caller();
    gateway_error(&caller.send(wrong(unknown)).await, 501, "not_served");
    gateway_error(&caller.send(broken(unknown)).await, 404, "unknown_configuration");
    let off = broken("/providers/off/v1/chat/completions");
    gateway_error(&caller.send(off).await, 404, "configuration_disabled");
    let body = broken("/providers/main/v1/chat/completions");
    gateway_error(&caller.send(body).await, 400, "invalid_json");
    assert_eq!(team.upstream.seen().accepted(), 0);
}

async fn a_name_is_one_segment_decoded_once(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let caller = team.caller();
    let call = async |segment: &str| {
        caller
            .post_json(&format!("/providers/{segment}/v1/chat/completions"), &question(false))
            .await
    };
    let names =
        ["team/gpt", "a b", "50%", "a+b", "what?", "名前 ☕", "%2F", "...", "v1", "a;b#c&d"];
    for (number, name) in names.into_iter().enumerate() {
        let model = format!("model-{number}");
        team.configure(name, json!({"model": model})).await;
        let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
        call(&encoded).await.expect(200);
        assert_eq!(team.upstream.last_request().json()["model"], model.as_str(), "{name}");
    }
    call("a+b").await.expect(200);
    assert_eq!(team.upstream.last_request().json()["model"], "model-3", "a plus is no space");
    let calls = team.upstream.seen().requests.len();
    for segment in ["team%252Fgpt", "MAIN", "a%2520b", "%FF", "%00", "a%0Ab", "main%0A", "."] {
        gateway_error(&call(segment).await, 404, "unknown_configuration");
    }
    assert_eq!(team.upstream.seen().requests.len(), calls);
}

async fn a_model_id_keeps_its_encoding(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    for (number, id) in
        ["org%2Fother%20model", "ft:gpt-4o:acme::x1", "a+b", "%e2%98%95", "...", "a%3Fb", "@cf/"]
            .into_iter()
            .enumerate()
    {
        let id = id.trim_end_matches('/');
        team.caller().get(&Fixture::route(&format!("models/{id}"))).await.expect(200);
        assert_eq!(team.upstream.request(number).await.target, format!("/v1/models/{id}"));
    }
}

async fn a_model_id_with_dot_segments_gets_400(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    for id in [".", "..", "%2e", "%2E%2e", ".%2e", "%252e%252e", "..%2Fadmin", "a%2f..", "..%5cx"] {
        let answer = team.caller().get(&Fixture::route(&format!("models/{id}"))).await;
        gateway_error(&answer, 400, "invalid_model_id");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    assert_eq!(team.upstream.seen().accepted(), 0);
}

async fn query_parameters_of_the_base_url_win(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let origin = format!("http://{}", team.upstream.address());
    let base = format!("{origin}/openai/deployments/x/?api-version=2024-10-21&k=v%20w");
    team.configure("azure", json!({"base_url": base})).await;
    team.configure("bare", json!({"base_url": origin})).await;
    let caller = team.caller();
    for (number, (route, target)) in [
        ("azure/v1/models", "/openai/deployments/x/models?api-version=2024-10-21&k=v%20w"),
        (
            "azure/v1/models?API-Version=9&limit=2&api%2Dversion=1&x=%20y&k",
            "/openai/deployments/x/models?api-version=2024-10-21&k=v%20w&limit=2&x=%20y",
        ),
        ("bare/v1/models", "/models"),
        ("bare/v1/models?after=a%2Fb&after=c", "/models?after=a%2Fb&after=c"),
        ("bare/v1/models?", "/models"),
    ]
    .into_iter()
    .enumerate()
    {
        caller.get(&format!("/providers/{route}")).await;
        assert_eq!(team.upstream.request(number).await.target, target);
    }
    let route = "/providers/azure/v1/chat/completions?api-version=1&beta=true";
    caller.post_json(route, &question(false)).await;
    let target = "/openai/deployments/x/chat/completions?api-version=2024-10-21&k=v%20w&beta=true";
    assert_eq!(team.upstream.last_request().target, target);
    let host = team.upstream.address().to_string();
    assert_eq!(team.upstream.last_request().header("host"), Some(host.as_str()));
}
