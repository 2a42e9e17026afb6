//! A provider that refuses the gateway's credential: the caller is told which secret it is, on every path.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::{Fixture, question},
    http::Request,
    ledger_rows, openai, policies,
    script::Script,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_403_about_the_credential_names_the_secret_on_every_path,
        a_403_about_something_else_is_the_callers,
        a_compressed_or_broken_403_is_the_callers,
    ]
}

async fn start(database: &Database) -> (TestApp, Fixture) {
    let providers = ["openai", "anthropic", "gemini", "azure"];
    let (app, team) = TestApp::in_place_of(database, &providers).await;
    for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "AZURE_FOUNDRY_API_KEY"] {
        team.put_secret(name, &format!("key-in-{name}")).await;
    }
    team.put_secret("AZURE_FOUNDRY_RESOURCE_NAME", "foundry-of-the-team").await;
    (app, team)
}

fn of_openai() -> Value {
    json!({"error": {"message": "You have insufficient permissions for this operation. Missing scopes: model.request.",
        "type": "invalid_request_error", "param": null, "code": "missing_scope"}})
}

fn of_anthropic() -> Value {
    json!({"type": "error", "error": {"type": "permission_error",
        "message": "Your API key does not have permission to use the specified resource."}})
}

fn of_google(status: u16, name: &str, reason: &str) -> Value {
    json!({"error": {"code": status, "message": "Blocked.", "status": name,
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]}})
}

fn of_azure() -> Value {
    json!({"error": {"code": "AuthenticationTypeDisabled",
        "message": "Key based authentication is disabled for this resource."}})
}

async fn a_403_about_the_credential_names_the_secret_on_every_path(database: Database) {
    let (app, team) = start(&database).await;
    let endpoints = json!({"unmetered_endpoints": [{"method": "POST", "path": "/files"}]});
    app.admin().put("/api/v1/provider-settings/openai", &endpoints).await.expect(200);
    let target = json!({"model_config_id": team.configuration_id});
    let route = json!({"strategy": "priority_fallback", "triggers": {"status_codes": [503]},
        "fallbacks": [{"model_configs": [target]}]});
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    policies::make(&app.admin(), ("route_config", "spare"), &workspace, route).await;
    let mut chat = question(false);
    chat["model"] = "m".into();
    let mut message = chat.clone();
    message["max_tokens"] = 10.into();
    let contents = json!({"contents": [{"parts": [{"text": "Hello"}]}]});
    let generate = "/gemini/v1beta/models/m:generateContent";
    let cases = [
        ("/openai/v1/chat/completions", &chat, 403, of_openai(), "OPENAI_API_KEY"),
        ("/openai/v1/files", &chat, 403, of_openai(), "OPENAI_API_KEY"),
        ("/anthropic/v1/messages", &message, 403, of_anthropic(), "ANTHROPIC_API_KEY"),
        (
            generate,
            &contents,
            403,
            of_google(403, "PERMISSION_DENIED", "API_KEY_SERVICE_BLOCKED"),
            "GOOGLE_API_KEY",
        ),
        // Google's answer to a key that it does not know.
        (
            generate,
            &contents,
            400,
            of_google(400, "INVALID_ARGUMENT", "API_KEY_INVALID"),
            "GOOGLE_API_KEY",
        ),
        ("/azure/openai/v1/chat/completions", &chat, 403, of_azure(), "AZURE_FOUNDRY_API_KEY"),
        ("/providers/main/v1/chat/completions", &chat, 403, of_openai(), Fixture::SECRET),
        ("/routes/spare/v1/chat/completions", &chat, 403, of_openai(), Fixture::SECRET),
    ];
    for (place, (path, body, status, refusal, secret)) in cases.into_iter().enumerate() {
        team.upstream.push(Script::json(status, &refusal));
        let answer = team.caller().post_json(path, body).await.expect(502);
        assert_eq!(answer.header("x-tollgate-error"), Some("gateway"), "{path}");
        let text = answer.text();
        assert!(text.contains("provider_credential_refused"), "{path}: {text}");
        assert!(text.contains(&format!("'{secret}'")), "{path}: {text}");
        let rows = ledger_rows::rows_at_least(app.database(), place + 1).await;
        let row = rows.last().unwrap();
        let end = (row.status, row.outcome.as_str(), row.cost);
        assert_eq!(end, (Some(i64::from(status)), "failed", Some(0)), "{path}: {row:?}");
    }
    team.upstream.push(Script::json(403, &of_openai()));
    let listing = team.caller().get("/openai/v1/models").await.expect(502);
    assert_eq!(listing.json()["error"]["code"], "provider_credential_refused");
}

async fn a_403_about_something_else_is_the_callers(database: Database) {
    let (_app, team) = start(&database).await;
    let denied = |code: &str, message: &str| openai::error(403, "some_error", code, message);
    for (script, said) in [
        (denied("model_not_found", "The project does not have access to the model."), "project"),
        (denied("flagged", "Your input was flagged by moderation of this API key."), "flagged"),
        (denied("403", "Access denied due to Virtual Network/Firewall rules."), "Virtual"),
    ] {
        team.upstream.push(script);
        let answer = team.caller().send(Fixture::chat()).await.expect(403);
        assert_eq!(answer.header("x-tollgate-error"), None);
        assert!(answer.text().contains(said), "{}", answer.text());
    }
    // What only Google says with a 400.
    let unknown = of_google(400, "INVALID_ARGUMENT", "API_KEY_INVALID");
    team.upstream.push(Script::json(400, &unknown));
    let answer = team.caller().send(Fixture::chat()).await.expect(400);
    assert_eq!(answer.json(), unknown);
    // Without a credential of the gateway's there is nothing else to say.
    team.configure("open", json!({"api_key_name": null})).await;
    team.upstream.push(Script::json(403, &of_openai()));
    let request = Request::post_json("/providers/open/v1/chat/completions", &question(false));
    assert_eq!(team.caller().send(request).await.expect(403).json(), of_openai());
}

async fn a_compressed_or_broken_403_is_the_callers(database: Database) {
    let (_app, team) = start(&database).await;
    let compressed = [("content-type", "application/json"), ("content-encoding", "gzip")];
    team.upstream.push(Script::new().sized(403, &compressed, "permission_error"));
    let answer = team.caller().send(Fixture::chat()).await.expect(403);
    assert_eq!(answer.json()["error"]["code"], "upstream_error_unreadable");
    let begun = Script::new().sized_head(403, &[], 1_000).raw(r#"{"error":{"code":"#).close();
    team.upstream.push(begun);
    let (head, mut body) = team.caller().stream(Fixture::chat()).await;
    assert_eq!(head.status, 403);
    let (pieces, _) = body.rest().await;
    let relayed: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
    assert_eq!(relayed, br#"{"error":{"code":"#);
}
