//! Runs error paths that handle secrets, and checks that callers see none. What the paths log is searched
//! at the end of the run.

use serde_json::json;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::Request,
    script::Script,
    secrets,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_provider_key_in_an_answer_is_not_logged,
        secrets_in_bad_requests_are_not_logged,
        malformed_credentials_are_not_logged,
    ]
}

async fn a_provider_key_in_an_answer_is_not_logged(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let key = &team.provider_key;
    let json = json!({"error": {"message": format!("Incorrect API key provided: {key}.")}});
    let scripts = [
        Script::json(401, &json),
        Script::json(500, &json),
        Script::new().sized(
            500,
            &[("content-type", "text/html")],
            format!("<h1>Authorization: Bearer {key}</h1>"),
        ),
        Script::new().sized(200, &[("x-debug", key.as_str())], "{}"),
        // Invalid HTTP in several places.
        Script::new().raw(format!("{key}\r\n\r\n")).close(),
        Script::new().raw(format!("HTTP/1.1 200 OK\r\nbad header {key}\r\n\r\n")).close(),
        Script::new().raw(format!("HTTP/1.1 200 {key}\r\ncontent-length: {key}\r\n\r\n")).close(),
        Script::new()
            .raw(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{key}\r\n"))
            .close(),
        Script::new().raw(format!("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{key}")).close(),
        Script::new().raw(format!(
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/?k={key}\r\ncontent-length: 0\r\n\r\n"
        )),
    ];
    let count = scripts.len();
    for script in scripts {
        team.upstream.push(script);
        // Some of these never become an answer.
        if let Ok(answer) = team.caller().try_send(Fixture::chat()).await
            && answer.status != 200
        {
            assert!(!answer.text().contains(key.as_str()), "the caller sees the key");
            assert!(!format!("{:?}", answer.headers).contains(key.as_str()));
        }
    }
    assert!(team.upstream.seen().requests.len() >= count);
    let check = format!("{}/check", team.configuration_path());
    team.upstream.push(Script::json(401, &json));
    let checked = app.admin().post_json(&check, &json!({})).await.success();
    assert!(!checked.text().contains(key.as_str()), "the check shows the key");
}

async fn secrets_in_bad_requests_are_not_logged(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let value = "sk-a-value-that-nobody-may-quote";
    secrets::register(value);
    let put = |name: &str, body: String| {
        Request::new("PUT", &team.path(&format!("secrets/{name}")))
            .header("content-type", "application/json")
            .body(body)
    };
    for request in [
        put("9-no-name", json!({"value": value}).to_string()),
        put("GOOD", format!("{{\"value\": \"{value}\"")),
        put("GOOD", format!("{{\"value\": {{\"nested\": \"{value}\"}}}}")),
        put("GOOD", format!("{{\"value\": \"{value}\", \"value\": \"{value}\"}}")),
        put("GOOD", format!("{{\"valu\": \"{value}\"}}")),
        put("GOOD", format!("\"{value}\"")),
        put("GOOD", format!("[\"{value}\"")),
        put("GOOD", json!({"value": value, "description": 7}).to_string()),
        put(Fixture::SECRET, json!({"value": format!("{value}\nbroken")}).to_string()),
        put(Fixture::SECRET, json!({"value": value.repeat(4_000)}).to_string()),
    ] {
        let answer = app.admin().send(request).await;
        assert!((400..500).contains(&answer.status), "{} {}", answer.status, answer.text());
        assert!(!answer.text().contains(value), "{} quotes the value", answer.status);
    }
}

async fn malformed_credentials_are_not_logged(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let (lookup, secret) = team.caller_key.rsplit_once('_').expect("two parts");
    let (start, end) = secret.split_at(secret.len() - 1);
    let other = if end == "A" { "B" } else { "A" };
    for credential in [
        format!("{lookup}_{start}{other}"),
        format!("{lookup}_{start}"),
        format!("{lookup}-{secret}"),
        format!("TG_{secret}"),
        format!("{}{}", team.caller_key, team.caller_key),
    ] {
        for header in ["x-api-key", "x-goog-api-key", "api-key", "cookie", "x-anything"] {
            let request = Fixture::chat().header(header, &credential);
            app.anonymous().send(request).await.expect(401);
        }
        let request = Fixture::chat().header("authorization", &format!("Basic {credential}"));
        app.anonymous().send(request).await.expect(401);
    }
    // A key in the query, where some clients put it, is ignored.
    let target = format!("{}?key={}", Fixture::route("chat/completions"), team.caller_key);
    let request = Request::post_json(&target, &json!({"messages": []}));
    app.anonymous().send(request).await.expect(401);
    let request = Request::get(&format!("/api/v1/workspaces?key={}", team.caller_key));
    app.anonymous().send(request).await.expect(401);
}
