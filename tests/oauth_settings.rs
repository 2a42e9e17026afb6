//! OAuth clients of model configurations: what can be saved, and by whom.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    database_dump::differences,
    fixture::Fixture,
    problems::{problem, wrong_fields},
    two_tenants::{TwoTenants, text},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_client_is_shown_as_it_was_saved,
        every_wrong_field_of_a_client_is_named,
        the_key_of_a_configuration_with_a_client_is_for_its_fallback,
        the_secret_of_a_client_is_in_use,
        an_editor_cannot_change_the_client,
    ]
}

fn client(more: &Value) -> Value {
    let mut client = json!({"token_url": "https://id.example.com/token", "client_id": "gateway",
        "client_secret": Fixture::SECRET});
    for (field, value) in more.as_object().into_iter().flatten() {
        client[field] = value.clone();
    }
    client
}

fn configuration(team: &Fixture, oauth: &Value) -> Value {
    json!({"name": "with a client", "base_url": team.upstream.base_url(), "model": "m",
        "provider": "anthropic_compatible", "oauth": oauth})
}

async fn a_client_is_shown_as_it_was_saved(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let (admin, path) = (app.admin(), team.path("model-configurations"));
    let made = admin.post_json(&path, &configuration(&team, &client(&json!({})))).await;
    let made = made.expect(201).json();
    let shown = json!({"token_url": "https://id.example.com/token", "client_id": "gateway",
        "client_secret": Fixture::SECRET, "auth_method": "basic", "scope": null, "parameters": {},
        "headers": {}, "fall_back_to_api_key": false});
    assert_eq!(made["oauth"], shown);
    // Tokens go up as bearer tokens, also to APIs whose keys do not.
    assert_eq!(made["auth"], "bearer");
    let path = format!("{path}/{}", text(&made, "id"));
    let full = json!({
        "token_url": "HTTPS://Id.Example.com:443/o/token/?tenant=1", "client_id": "gateway 2",
        "client_secret": Fixture::SECRET, "auth_method": "post", "scope": "a b",
        "parameters": {"audience": "x", "resource": ["y", "z"]}, "headers": {"X-A": "1"},
        "fall_back_to_api_key": true,
    });
    let patch = json!({"api_key_name": Fixture::SECRET, "oauth": full});
    let mut shown = full.clone();
    shown["token_url"] = json!("https://id.example.com/o/token/?tenant=1");
    shown["headers"] = json!({"x-a": "1"});
    assert_eq!(admin.patch(&path, &patch).await.expect(200).json()["oauth"], shown);
    assert_eq!(admin.get(&path).await.expect(200).json()["oauth"], shown);
    let patch = json!({"oauth": {"scope": null, "parameters": {"resource": null, "audience": ["q"]},
        "headers": {"x-a": null}}});
    let after = admin.patch(&path, &patch).await.expect(200).json();
    shown["scope"] = Value::Null;
    shown["parameters"] = json!({"audience": ["q"]});
    shown["headers"] = json!({});
    assert_eq!(after["oauth"], shown);
    let after = admin.patch(&path, &json!({"oauth": null})).await.expect(200).json();
    assert_eq!(after["oauth"], Value::Null);
}

async fn every_wrong_field_of_a_client_is_named(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let (admin, path) = (app.admin(), team.path("model-configurations"));
    let before = database.dump().await;
    let many: Value = (0..33).map(|n| (format!("x-{n}"), json!("1"))).collect();
    for (field, value, named) in [
        ("token_url", json!("ftp://id.example.com"), "token_url"),
        ("token_url", json!("https://u:p@id.example.com/"), "token_url"),
        ("token_url", json!("https://id.example.com/#f"), "token_url"),
        ("token_url", json!("https://10.0.0.1/token"), "token_url"),
        ("token_url", json!("https://169.254.169.254/token"), "token_url"),
        ("token_url", json!("http://8.8.8.8/token"), "token_url"),
        ("token_url", json!(7), "token_url"),
        ("client_id", json!(""), "client_id"),
        ("client_id", json!("a\nb"), "client_id"),
        ("client_id", json!("é"), "client_id"),
        ("client_id", json!("x".repeat(1025)), "client_id"),
        ("client_secret", json!("NO_SUCH"), "client_secret"),
        ("client_secret", json!("9"), "client_secret"),
        ("auth_method", json!("none"), "auth_method"),
        ("scope", json!(""), "scope"),
        ("scope", json!("a  b"), "scope"),
        ("scope", json!("a\"b"), "scope"),
        ("scope", json!("x".repeat(4097)), "scope"),
        ("parameters", json!({"grant_type": "password"}), "parameters.grant_type"),
        ("parameters", json!({"Client_ID": "x"}), "parameters.Client_ID"),
        ("parameters", json!({"client_secret": ["x"]}), "parameters.client_secret"),
        ("parameters", json!({"scope": "x"}), "parameters.scope"),
        ("parameters", json!({"": "x"}), "parameters."),
        ("parameters", json!({"audience": []}), "parameters.audience"),
        ("parameters", json!({"audience": 7}), "parameters.audience"),
        ("parameters", json!({"audience": "x".repeat(17_000)}), "parameters"),
        ("headers", json!({"Authorization": "x"}), "headers.Authorization"),
        ("headers", json!({"host": "x"}), "headers.host"),
        ("headers", json!({"Connection": "x"}), "headers.Connection"),
        ("headers", json!({"content-type": "x"}), "headers.content-type"),
        ("headers", json!({"Content-Language": "x"}), "headers.Content-Language"),
        ("headers", json!({"x-a": "a\r\nb: c"}), "headers.x-a"),
        ("headers", json!({"x-a": "{{secret:A}}"}), "headers.x-a"),
        ("headers", json!({"x-a": "x".repeat(4097)}), "headers.x-a"),
        ("headers", json!({"X-A": "1", "x-a": "2"}), "headers.x-a"),
        ("headers", many, "headers"),
        ("fall_back_to_api_key", json!(true), "fall_back_to_api_key"),
        ("fall_back_to_api_key", json!("yes"), "fall_back_to_api_key"),
        ("audience", json!("x"), "audience"),
    ] {
        let body = configuration(&team, &client(&json!({field: value})));
        let answer = admin.post_json(&path, &body).await;
        assert_eq!(wrong_fields(&answer), [format!("oauth.{named}")], "{field} {value}");
        let body = json!({"api_key_name": null, "oauth": client(&json!({field: value}))});
        let answer = admin.patch(&team.configuration_path(), &body).await;
        assert_eq!(wrong_fields(&answer), [format!("oauth.{named}")], "{field} {value}");
    }
    let answer = admin.post_json(&path, &configuration(&team, &json!({}))).await;
    let required = ["oauth.client_id", "oauth.client_secret", "oauth.token_url"];
    assert_eq!(wrong_fields(&answer), required);
    let mut taken = configuration(&team, &client(&json!({})));
    taken["extra_headers"] = json!({"Authorization": "x"});
    let answer = admin.post_json(&path, &taken).await;
    assert_eq!(wrong_fields(&answer), ["extra_headers.Authorization"]);
    let changed = differences(&before, &database.dump().await);
    assert!(changed.is_empty(), "{changed:#?}");
}

async fn the_key_of_a_configuration_with_a_client_is_for_its_fallback(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let (admin, path) = (app.admin(), team.configuration_path());
    let answer = admin.patch(&path, &json!({"oauth": client(&json!({}))})).await;
    assert_eq!(wrong_fields(&answer), ["api_key_name"]);
    let fall_back = json!({"oauth": client(&json!({"fall_back_to_api_key": true}))});
    admin.patch(&path, &fall_back).await.expect(200);
    let answer = admin.patch(&path, &json!({"api_key_name": null})).await;
    assert_eq!(wrong_fields(&answer), ["oauth.fall_back_to_api_key"]);
}

async fn the_secret_of_a_client_is_in_use(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    team.put_secret("CLIENT", "a-client-secret").await;
    let admin = app.admin();
    let oauth = client(&json!({"client_secret": "CLIENT"}));
    let patch = json!({"api_key_name": null, "oauth": oauth});
    admin.patch(&team.configuration_path(), &patch).await.expect(200);
    let secret = team.path("secrets/CLIENT");
    let shown = admin.get(&secret).await.expect(200).json();
    assert_eq!(shown["used_by"][0]["id"], team.configuration_id.as_str(), "{shown}");
    problem(&admin.delete(&secret).await, 409, "secret_in_use");
    admin.delete(&team.path(&format!("secrets/{}", Fixture::SECRET))).await.expect(204);
    admin.patch(&team.configuration_path(), &json!({"oauth": null})).await.expect(200);
    admin.delete(&secret).await.expect(204);
}

async fn an_editor_cannot_change_the_client(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (team, editor) = (&tenants.home.team, tenants.as_role("WORKSPACE_EDITOR"));
    let path = team.configuration_path();
    let fall_back = json!({"oauth": client(&json!({"fall_back_to_api_key": true}))});
    problem(&editor.patch(&path, &fall_back).await, 403, "permission_denied");
    let before = tenants.admin().patch(&path, &fall_back).await.expect(200).json();
    for patch in [
        json!({"oauth": null}),
        json!({"oauth": {"token_url": "https://evil.example/token"}}),
        json!({"oauth": {"scope": "more"}}),
        json!({"oauth": {"parameters": {"audience": "x"}}}),
        json!({"oauth": {"headers": {"x-a": "1"}}}),
    ] {
        problem(&editor.patch(&path, &patch).await, 403, "permission_denied");
    }
    let same = json!({"description": "By an editor", "oauth": before["oauth"]});
    let after = editor.patch(&path, &same).await.expect(200).json();
    assert_eq!(after["oauth"], before["oauth"]);
}
