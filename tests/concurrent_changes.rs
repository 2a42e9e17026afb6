//! Concurrent changes: of changes that exclude each other, exactly one succeeds.

use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use crate::support::{
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::Client,
    sql::texts,
    two_tenants::{TwoTenants, text},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        one_of_twenty_concurrent_creations_of_a_name_succeeds,
        no_configuration_uses_a_deleted_secret,
        nothing_is_added_to_a_deleted_workspace,
        no_key_is_added_to_a_deactivated_user,
        one_of_several_concurrent_renames_to_a_name_succeeds,
        one_of_twenty_concurrent_chains_has_the_alias,
    ]
}

/// Sends it twenty times concurrently: one 201, nineteen 409 with this code.
async fn one_of_twenty(client: &Client, path: &str, body: &Value, code: &str) {
    let answers = join_all((0..20).map(|_| client.post_json(path, body))).await;
    let mut made = 0;
    for answer in answers {
        match answer.status {
            201 => made += 1,
            409 => assert_eq!(answer.json()["code"], code, "{path}"),
            _ => panic!("{path}: {} {}", answer.status, answer.text()),
        }
    }
    assert_eq!(made, 1, "{path}");
}

async fn one_of_twenty_concurrent_creations_of_a_name_succeeds(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let team = json!({"name": "Same", "handle": "same"});
    one_of_twenty(&admin, "/api/v1/workspaces", &team, "handle_taken").await;
    let person = json!({"name": "Same", "email": "same@example.com"});
    one_of_twenty(&admin, "/api/v1/users", &person, "email_taken").await;
    let tenant = json!({"name": "Same"});
    one_of_twenty(&tenants.app.platform(), "/api/v1/organizations", &tenant, "name_taken").await;
    let configuration = json!({
        "name": "same", "base_url": tenants.home.team.upstream.base_url(), "model": "m",
        "api_key_name": Fixture::SECRET,
    });
    let path = tenants.home.team.path("model-configurations");
    one_of_twenty(&admin, &path, &configuration, "already_exists").await;
}

async fn no_configuration_uses_a_deleted_secret(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (admin, team) = (tenants.admin(), &tenants.home.team);
    let mut outcomes = Vec::new();
    for round in 0..12 {
        let name = format!("RACED_{round}");
        team.put_secret(&name, "sk-raced-value").await;
        let (path, secret) =
            (team.path("model-configurations"), team.path(&format!("secrets/{name}")));
        let body = json!({
            "name": name, "base_url": team.upstream.base_url(), "model": "m",
            "extra_headers": {"x-raced": format!("{{{{secret:{name}}}}}")},
        });
        let (made, gone) = match round % 2 {
            0 => join(admin.post_json(&path, &body), admin.delete(&secret)).await,
            _ => {
                let (gone, made) = join(admin.delete(&secret), admin.post_json(&path, &body)).await;
                (made, gone)
            }
        };
        match (made.status, gone.status) {
            (201, 409) => admin.get(&secret).await.expect(200),
            (422, 204) => admin.get(&secret).await.expect(404),
            other => panic!("{other:?}: {} {}", made.text(), gone.text()),
        };
        outcomes.push(made.status);
    }
    assert_eq!(outcomes.len(), 12);
}

async fn nothing_is_added_to_a_deleted_workspace(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    for round in 0..6 {
        let body = json!({"name": "Racing", "handle": format!("racing-{round}")});
        let made = admin.post_json("/api/v1/workspaces", &body).await.expect(201).json();
        let path = format!("/api/v1/workspaces/{}", text(&made, "id"));
        let (keys, secret) = (format!("{path}/api-keys"), format!("{path}/secrets/NEW"));
        let key = json!({"name": "Late", "role": "WORKSPACE_ADMIN"});
        let value = json!({"value": "sk-late-value"});
        let forced = format!("{path}?force=true");
        let ((key, secret), gone) = join(
            join(admin.post_json(&keys, &key), admin.put(&secret, &value)),
            admin.delete(&forced),
        )
        .await;
        gone.expect(204);
        assert!(matches!(key.status, 201 | 404), "{}", key.text());
        assert!(matches!(secret.status, 201 | 404), "{}", secret.text());
        if key.status == 201 {
            let key = text(&key.json(), "key");
            tenants.app.as_key(&key).get("/api/v1/me").await.expect(401);
        }
        let left = format!(
            "SELECT name AS value FROM secrets WHERE workspace_id = '{}'",
            text(&made, "id")
        );
        assert_eq!(texts(&database, &left).await, Vec::<String>::new());
    }
}

async fn no_key_is_added_to_a_deactivated_user(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    for round in 0..6 {
        let body = json!({"name": "Racing", "email": format!("racing{round}@example.com")});
        let made = admin.post_json("/api/v1/users", &body).await.expect(201).json();
        let user = format!("/api/v1/users/{}", text(&made, "id"));
        let key = json!({"name": "Late", "role": "GATEWAY_CALLER", "user_id": made["id"]});
        let path = tenants.home.team.path("api-keys");
        let (key, gone) = join(admin.post_json(&path, &key), admin.delete(&user)).await;
        gone.expect(204);
        match key.status {
            201 => {
                let caller = tenants.app.as_key(&text(&key.json(), "key"));
                caller.send(Fixture::chat()).await.expect(401);
            }
            status => assert_eq!(status, 422, "{}", key.text()),
        }
    }
}

async fn one_of_several_concurrent_renames_to_a_name_succeeds(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (admin, team) = (tenants.admin(), &tenants.home.team);
    let mut paths = Vec::new();
    for number in 0..8 {
        let id = team.configure(&format!("c{number}"), json!({})).await;
        paths.push(team.path(&format!("model-configurations/{id}")));
    }
    let body = json!({"name": "the one"});
    let answers = join_all(paths.iter().map(|path| admin.patch(path, &body))).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
}

async fn one_of_twenty_concurrent_chains_has_the_alias(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (admin, team) = (tenants.admin(), &tenants.home.team);
    let bodies = (0..20).map(|number| {
        json!({"name": format!("chain {number}"), "policy_type": "model_fallback",
            "subject_matchers": [{"key": "workspace_id", "value": team.workspace_id}],
            "config": {"chain": {
                "selector": {"type": "alias", "alias": "same"},
                "candidates": [{"type": "model_config", "model_config_id": team.configuration_id}]}}})
    });
    let bodies: Vec<Value> = bodies.collect();
    let answers =
        join_all(bodies.iter().map(|body| admin.post_json("/api/v1/gateway-policies", body))).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 19, "{statuses:?}");
}
