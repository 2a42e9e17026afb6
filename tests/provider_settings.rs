//! What organizations and workspaces set for built-in providers.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::{Fixture, question},
    http::{Answer, Request},
    problems::{problem, wrong_fields},
    script::Script,
    secrets,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        defaults_need_no_setting,
        a_secret_is_renamed_and_headers_are_added,
        a_provider_is_disabled,
        secrets_and_settings_of_two_owners_are_not_mixed,
        wrong_settings_are_named,
        settings_are_read_changed_and_reset,
        a_deleted_workspace_takes_its_settings_along,
    ]
}

const CHAT: &str = "/openai/v1/chat/completions";

async fn start(database: &Database) -> (TestApp, Fixture) {
    TestApp::in_place_of(database, &["openai"]).await
}

fn asks(path: &str) -> Request {
    let mut body = question(false);
    body["model"] = "gpt-4o-mini".into();
    Request::post_json(path, &body)
}

/// The code of the gateway's refusal, or the headers that the upstream got.
async fn call(team: &Fixture) -> Result<[Option<String>; 2], String> {
    let before = team.upstream.seen().requests.len();
    team.upstream.push(Script::json(
        200,
        &json!({"id": "c", "object": "chat.completion", "model": "gpt-4o-mini",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}}),
    ));
    let answer = team.caller().send(asks(CHAT)).await;
    if answer.status != 200 {
        assert_eq!(team.upstream.seen().requests.len(), before);
        return Err(refusal(&answer));
    }
    let sent = team.upstream.last_request();
    Ok(["authorization", "x-team"].map(|name| sent.header(name).map(str::to_owned)))
}

fn refusal(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap().to_owned()
}

fn sent(bearer: &str, team: Option<&str>) -> Result<[Option<String>; 2], String> {
    Ok([Some(format!("Bearer {bearer}")), team.map(str::to_owned)])
}

async fn defaults_need_no_setting(database: Database) {
    let (app, team) = start(&database).await;
    let list = app.admin().get(&team.path("provider-settings")).await.expect(200).json();
    let openai = list.as_array().unwrap().iter().find(|one| one["provider"] == "openai").unwrap();
    assert_eq!(
        openai,
        &json!({"provider": "openai", "enabled": true, "secret_name": null, "secret_names": {},
            "extra_headers": {}, "models": {}, "connection": {"region": null, "project": null, "resource": null, "tenant_id": null, "client_id": null},
            "unmetered_endpoints": [], "subscription_pass_through": false, "updated_at": null,
            "credential": {"secret_name": "OPENAI_API_KEY", "owner": null}})
    );
    let names: Vec<&Value> = list.as_array().unwrap().iter().map(|one| &one["provider"]).collect();
    assert!(names.contains(&&json!("anthropic")) && names.contains(&&json!("gemini")), "{names:?}");
    team.put_secret("OPENAI_API_KEY", "sk-of-the-workspace").await;
    let path = team.path("provider-settings/openai");
    let shown = app.admin().get(&path).await.expect(200).json();
    assert_eq!(shown["credential"]["owner"], "workspace");
    assert_eq!(call(&team).await, sent("sk-of-the-workspace", None));
}

async fn a_secret_is_renamed_and_headers_are_added(database: Database) {
    let (app, team) = start(&database).await;
    team.put_secret("OPENAI_API_KEY", "sk-of-the-usual-name").await;
    let settings = json!({"secret_name": "SPARE_KEY", "extra_headers": {"X-Team": "blue"}});
    let path = team.path("provider-settings/openai");
    let shown = app.admin().put(&path, &settings).await.expect(200).json();
    assert_eq!(shown["credential"], json!({"secret_name": "SPARE_KEY", "owner": null}));
    let refused = team.caller().send(asks(CHAT)).await;
    assert_eq!((refused.status, refusal(&refused).as_str()), (400, "provider_secret_missing"));
    assert!(refused.text().contains("SPARE_KEY"), "{}", refused.text());
    team.put_secret("SPARE_KEY", "sk-spare").await;
    assert_eq!(call(&team).await, sent("sk-spare", Some("blue")));
    app.admin().delete(&path).await.expect(204);
    assert_eq!(call(&team).await, sent("sk-of-the-usual-name", None));
}

async fn a_provider_is_disabled(database: Database) {
    let (app, team) = start(&database).await;
    team.put_secret("OPENAI_API_KEY", "sk-of-the-workspace").await;
    let (off, on) = (json!({"enabled": false}), json!({"enabled": true}));
    let own = team.path("provider-settings/openai");
    app.admin().put("/api/v1/provider-settings/openai", &off).await.expect(200);
    assert_eq!(call(&team).await, Err("provider_disabled".to_owned()));
    // What the organization disables, a workspace does not enable.
    app.admin().put(&own, &on).await.expect(200);
    assert_eq!(call(&team).await, Err("provider_disabled".to_owned()));
    app.admin().put("/api/v1/provider-settings/openai", &on).await.expect(200);
    assert_eq!(call(&team).await, sent("sk-of-the-workspace", None));
    app.admin().put(&own, &off).await.expect(200);
    let refused = team.caller().send(asks(CHAT)).await;
    assert_eq!((refused.status, refusal(&refused).as_str()), (403, "provider_disabled"));
    let other = app.workspace().await;
    let answer = other.caller().send(asks(CHAT)).await;
    assert_eq!(refusal(&answer), "provider_secret_missing", "only this workspace's is disabled");
}

async fn secrets_and_settings_of_two_owners_are_not_mixed(database: Database) {
    let (app, team) = start(&database).await;
    for value in ["sk-of-the-organization", "sk-of-the-workspace"] {
        secrets::register(value);
    }
    let organization = json!({"secret_name": "SHARED_KEY", "extra_headers": {"x-team": "all"}});
    app.admin().put("/api/v1/provider-settings/openai", &organization).await.expect(200);
    let value = json!({"value": "sk-of-the-organization"});
    app.admin().put("/api/v1/secrets/SHARED_KEY", &value).await.expect(201);
    assert_eq!(call(&team).await, sent("sk-of-the-organization", Some("all")));
    let own = team.path("provider-settings/openai");
    let shown = app.admin().get(&own).await.expect(200).json();
    assert_eq!(shown["credential"], json!({"secret_name": "SHARED_KEY", "owner": "organization"}));
    // A header of the workspace's would choose something at the organization's account.
    app.admin().put(&own, &json!({"extra_headers": {"x-team": "mine"}})).await.expect(200);
    assert_eq!(call(&team).await, Err("provider_secret_missing".to_owned()));
    team.put_secret("OPENAI_API_KEY", "sk-of-the-workspace").await;
    assert_eq!(call(&team).await, sent("sk-of-the-workspace", Some("mine")));
    app.admin().delete(&own).await.expect(204);
    assert_eq!(call(&team).await, sent("sk-of-the-workspace", None));
    app.admin().delete(&team.path("secrets/OPENAI_API_KEY")).await.expect(204);
    assert_eq!(call(&team).await, sent("sk-of-the-organization", Some("all")));
}

async fn wrong_settings_are_named(database: Database) {
    let (app, team) = start(&database).await;
    let admin = app.admin();
    let own = team.path("provider-settings/openai");
    for (settings, fields) in [
        (json!({"secret_name": "no name"}), vec!["secret_name"]),
        (json!({"nonsense": 1}), vec!["nonsense"]),
        (
            json!({"extra_headers": {"authorization": "Bearer x"}, "connection": {"region": "eu"}}),
            vec!["connection.region", "extra_headers.authorization"],
        ),
        (
            json!({"unmetered_endpoints": [{"method": "GET", "path": "/files"}]}),
            vec!["unmetered_endpoints"],
        ),
        (json!({"subscription_pass_through": true}), vec!["subscription_pass_through"]),
        (json!({"enabled": "yes"}), vec!["enabled"]),
    ] {
        let answer = admin.put(&own, &settings).await;
        let mut wrong = wrong_fields(&answer);
        wrong.sort();
        assert_eq!(wrong, fields, "{settings}");
    }
    let organization = "/api/v1/provider-settings/openai";
    let endpoints = json!({"unmetered_endpoints": [
        {"method": "GET", "path": "/files/*"}, {"method": "GET", "path": "/organization/costs"},
        {"method": "GET", "path": "files"}]});
    assert_eq!(
        wrong_fields(&admin.put(organization, &endpoints).await),
        ["unmetered_endpoints[1].path", "unmetered_endpoints[2].path"]
    );
    for path in [
        team.path("provider-settings/nobody"),
        "/api/v1/provider-settings/openai_compatible".to_owned(),
    ] {
        problem(&admin.put(&path, &json!({})).await, 404, "not_found");
        problem(&admin.get(&path).await, 404, "not_found");
    }
}

async fn settings_are_read_changed_and_reset(database: Database) {
    let (app, team) = start(&database).await;
    let admin = app.admin();
    let path = team.path("provider-settings/openai");
    let mut shown = admin.get(&path).await.expect(200).json();
    shown["extra_headers"] = json!({"x-team": "red"});
    // What was read can be sent back as it is.
    let put = admin.put(&path, &shown).await.expect(200).json();
    assert_eq!(put["extra_headers"], json!({"x-team": "red"}));
    assert!(put["updated_at"].is_string(), "{put}");
    assert_eq!(admin.get(&path).await.expect(200).json(), put);
    admin.delete(&path).await.expect(204);
    admin.delete(&path).await.expect(204);
    assert_eq!(admin.get(&path).await.expect(200).json()["extra_headers"], json!({}));
    let (_, editor) = team.key("WORKSPACE_EDITOR").await;
    let editor = app.as_key(&editor);
    editor.get(&path).await.expect(200);
    problem(&editor.put(&path, &json!({})).await, 403, "permission_denied");
    let (_, key) = team.key("WORKSPACE_ADMIN").await;
    let workspace = app.as_key(&key);
    workspace.put(&path, &json!({"extra_headers": {"x-team": "own"}})).await.expect(200);
    let organization = "/api/v1/provider-settings/openai";
    problem(&workspace.get(organization).await, 403, "organization_key_needed");
    problem(&workspace.put(organization, &json!({})).await, 403, "organization_key_needed");
    let log =
        admin.get("/api/v1/audit-log?operation=put_provider_settings").await.expect(200).json();
    let event = &log["data"][0];
    assert_eq!(
        (&event["resource_type"], &event["resource_id"], &event["after"]["extra_headers"]),
        (&json!("provider_settings"), &json!("openai"), &json!({"x-team": "own"})),
        "{log}"
    );
}

async fn a_deleted_workspace_takes_its_settings_along(database: Database) {
    let (app, team) = start(&database).await;
    let path = team.path("provider-settings/openai");
    app.admin().put(&path, &json!({"enabled": false})).await.expect(200);
    let workspace = format!("/api/v1/workspaces/{}", team.workspace_id);
    app.admin().delete(&format!("{workspace}?force=true")).await.expect(204);
    problem(&app.admin().get(&path).await, 404, "not_found");
    let count =
        crate::support::sql::texts(app.database(), "SELECT id AS value FROM provider_settings")
            .await;
    assert_eq!(count.len(), 0);
}
