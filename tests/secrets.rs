//! Provider secrets: values are never returned, and an encrypted value can only be decrypted where it was
//! stored.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    operations::{example_call, operations},
    problems::{problem, wrong_fields},
    secrets::register,
    sql::{execute, texts},
    two_tenants::{TwoTenants, text},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_secret_is_stored_described_and_deleted,
        names_values_and_descriptions_are_limited,
        values_are_never_returned,
        values_in_headers_must_be_valid_header_values,
        a_secret_in_use_cannot_be_deleted,
        a_moved_ciphertext_cannot_be_decrypted,
        an_earlier_ciphertext_cannot_be_decrypted,
        versions_count_every_write,
    ]
}

async fn a_secret_is_stored_described_and_deleted(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (admin, path) = (tenants.admin(), tenants.home.team.path("secrets/UPSTREAM_KEY"));
    let body = json!({"value": "sk-first-value", "description": "For tests"});
    let made = admin.put(&path, &body).await.expect(201);
    assert_eq!(made.header("location"), Some(path.as_str()));
    let made = made.json();
    assert_eq!(made["name"], "UPSTREAM_KEY");
    assert_eq!(made["description"], "For tests");
    assert_eq!(made["version"], 1);
    assert_eq!(made["used_by"], json!([]));
    assert!(made.get("value").is_none());
    assert_eq!(admin.get(&path).await.expect(200).json(), made);

    // Equal values have equal fingerprints in a workspace, but not in another.
    let same = admin.put(&path, &json!({"value": "sk-first-value"})).await.expect(200).json();
    assert_eq!((&same["version"], &same["fingerprint"]), (&json!(2), &made["fingerprint"]));
    assert_eq!(same["description"], "For tests", "left out, it stays");
    let other = json!({"value": "sk-other-value", "description": null});
    let other = admin.put(&path, &other).await.expect(200).json();
    assert_ne!(other["fingerprint"], made["fingerprint"]);
    assert_eq!(other["description"], Value::Null);
    assert_eq!(other["created_at"], made["created_at"]);
    let elsewhere = tenants.sibling.team.path("secrets/UPSTREAM_KEY");
    let elsewhere = admin.put(&elsewhere, &json!({"value": "sk-first-value"})).await.expect(201);
    assert_ne!(elsewhere.json()["fingerprint"], made["fingerprint"]);

    admin.delete(&path).await.expect(204);
    problem(&admin.get(&path).await, 404, "not_found");
    problem(&admin.delete(&path).await, 404, "not_found");
    let again = admin.put(&path, &json!({"value": "sk-third-value"})).await.expect(201).json();
    assert_eq!(again["version"], 1);
}

async fn names_values_and_descriptions_are_limited(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let admin = app.admin();
    let put = async |name: &str, body: Value| {
        admin.put(&team.path(&format!("secrets/{name}")), &body).await
    };
    for name in ["9A", "A-B", "A%20B", "A.B", "%C3%A9", &"A".repeat(129)] {
        let answer = put(name, json!({"value": "sk-some-value"})).await;
        assert_eq!(wrong_fields(&answer), ["name"], "{name}");
    }
    put(&"A".repeat(128), json!({"value": "sk-some-value"})).await.expect(201);
    put("_", json!({"value": "x"})).await.expect(201);
    put("LARGE", json!({"value": "x".repeat(64 * 1024)})).await.expect(201);
    // The maximum size, with every byte escaped.
    put("ESCAPED", json!({"value": "\u{1}".repeat(64 * 1024)})).await.expect(201);
    for (body, field) in [
        (json!({"value": ""}), "value"),
        (json!({"value": "x".repeat(64 * 1024 + 1)}), "value"),
        (json!({"value": "é".repeat(32 * 1024 + 1)}), "value"),
        (json!({"value": null}), "value"),
        (json!({"value": 5}), "value"),
        (json!({}), "value"),
        (json!({"value": "sk-some-value", "description": "x".repeat(1025)}), "description"),
        (json!({"value": "sk-some-value", "name": "B"}), "name"),
        (json!({"value": "sk-some-value", "version": 7}), "version"),
    ] {
        assert_eq!(wrong_fields(&put("A", body.clone()).await), [field]);
    }
    put("A", json!({"value": "x", "description": "é".repeat(1024)})).await.expect(201);
}

async fn values_are_never_returned(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let value = "sk-never-comes-out-4b1d";
    register(value);
    let path = tenants.home.team.path(&format!("secrets/{}", Fixture::SECRET));
    for secret in [value, "sk-not-this-one-either", value] {
        admin.put(&path, &json!({"value": secret, "description": "Rotated"})).await.expect(200);
    }
    let spare = tenants.home.team.path("secrets/SPARE");
    let created = admin.put(&spare, &json!({"value": value})).await.expect(201);
    let mut answers = vec![created.text()];
    let headers = json!({"extra_headers": {"x-spare": "a {{secret:SPARE}}"}});
    tenants.home.team.configure("spare", headers).await;
    tenants.home.team.caller().send(Fixture::chat()).await.expect(200);
    let used = format!("Bearer {value}");
    assert_eq!(
        tenants.home.team.upstream.last_request().header("authorization"),
        Some(used.as_str())
    );
    answers.push(admin.delete(&spare).await.text());
    for operation in operations(&tenants).await {
        if operation.method != "GET" && operation.id != "check_model_configuration" {
            continue;
        }
        let example = example_call(&tenants, &operation).await;
        for key in tenants.roles() {
            let client = tenants.app.as_key(&key.key);
            answers.push(client.send(example.request(&operation)).await.text());
        }
    }
    assert!(answers.len() > 150, "{}", answers.len());
    for answer in answers {
        assert!(!answer.contains(value), "{answer}");
    }
    let dump = format!("{:?}", database.dump().await);
    let hex = value.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(!dump.contains(value) && !dump.to_lowercase().contains(&hex));
}

async fn values_in_headers_must_be_valid_header_values(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let admin = app.admin();
    let used = team.path(&format!("secrets/{}", Fixture::SECRET));
    let free = team.path("secrets/ACCOUNT");
    for unfit in ["two\nlines", "nül-value", " before", "after ", "tab\there\u{7f}"] {
        let answer = admin.put(&used, &json!({"value": unfit})).await;
        assert_eq!(wrong_fields(&answer), ["value"], "{unfit:?}");
        admin.put(&free, &json!({"value": unfit})).await.success();
        let path = team.path("model-configurations");
        let body = json!({
            "name": "unfit", "base_url": team.upstream.base_url(), "model": "m",
            "api_key_name": "ACCOUNT",
        });
        assert_eq!(
            wrong_fields(&admin.post_json(&path, &body).await),
            ["api_key_name"],
            "{unfit:?}"
        );
    }
    team.caller().send(Fixture::chat()).await.expect(200);
}

async fn a_secret_in_use_cannot_be_deleted(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let admin = app.admin();
    let path = team.path(&format!("secrets/{}", Fixture::SECRET));
    let second = team.configure("second/one", json!({})).await;
    let read = admin.get(&path).await.expect(200).json();
    let names: Vec<&str> =
        read["used_by"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, [Fixture::CONFIGURATION, "second/one"]);
    let document = problem(&admin.delete(&path).await, 409, "secret_in_use");
    assert!(text(&document, "detail").contains("second/one"), "{document}");
    assert!(text(&document, "detail").contains(Fixture::CONFIGURATION), "{document}");
    // It can be deleted when no configuration uses it.
    let first = team.configuration_path();
    admin.patch(&first, &json!({"api_key_name": null})).await.expect(200);
    problem(&admin.delete(&path).await, 409, "secret_in_use");
    admin.delete(&team.path(&format!("model-configurations/{second}"))).await.expect(204);
    admin.delete(&path).await.expect(204);
}

/// Fails the test unless a call fails because this secret cannot be decrypted.
async fn assert_unavailable(team: &Fixture, name: &str) {
    let seen = team.upstream.seen().requests.len();
    let answer = team.caller().send(Fixture::chat()).await.expect(503);
    let document = answer.json();
    assert_eq!(document["error"]["code"], "secret_unavailable", "{document}");
    assert!(text(&document["error"], "message").contains(name), "{document}");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(team.upstream.seen().requests.len(), seen, "nothing went upstream");
}

/// Makes the gateway reload its caches, by an unrelated change.
async fn invalidate_caches(team: &Fixture) {
    team.put_secret("UNRELATED", "sk-unrelated-value").await;
}

async fn a_moved_ciphertext_cannot_be_decrypted(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (home, sibling) = (&tenants.home.team, &tenants.sibling.team);
    home.put_secret("OTHER", "sk-another-secret-here").await;
    home.caller().send(Fixture::chat()).await.expect(200);
    execute(&database, "CREATE TABLE kept AS SELECT id, sealed, version, data_key_id FROM secrets")
        .await;
    let id = async |workspace: &str, name: &str| {
        let query = format!(
            "SELECT id AS value FROM secrets WHERE workspace_id = '{workspace}' AND name = '{name}'"
        );
        texts(&database, &query).await[0].clone()
    };
    let target = id(&home.workspace_id, Fixture::SECRET).await;
    let restore = format!(
        "UPDATE secrets SET
            sealed = (SELECT sealed FROM kept WHERE id = '{target}'),
            version = (SELECT version FROM kept WHERE id = '{target}'),
            data_key_id = (SELECT data_key_id FROM kept WHERE id = '{target}')
         WHERE id = '{target}'"
    );
    // From another row, from another workspace, from there with version and key, and with a changed
    // version.
    let from = |source: &str, columns: &[&str]| {
        let columns: Vec<String> = columns
            .iter()
            .map(|column| format!("{column} = (SELECT {column} FROM kept WHERE id = '{source}')"))
            .collect();
        format!("UPDATE secrets SET {} WHERE id = '{target}'", columns.join(", "))
    };
    let near = id(&home.workspace_id, "OTHER").await;
    let far = id(&sibling.workspace_id, Fixture::SECRET).await;
    for tampering in [
        from(&near, &["sealed"]),
        from(&far, &["sealed"]),
        from(&far, &["sealed", "version", "data_key_id"]),
        format!("UPDATE secrets SET version = version + 1 WHERE id = '{target}'"),
    ] {
        execute(&database, &tampering).await;
        invalidate_caches(home).await;
        assert_unavailable(home, Fixture::SECRET).await;
        // Other secrets are not affected.
        sibling.caller().send(Fixture::chat()).await.expect(200);
        execute(&database, &restore).await;
        invalidate_caches(home).await;
        home.caller().send(Fixture::chat()).await.expect(200);
    }
    // A moved data key decrypts nothing.
    let (own, other) = (&home.workspace_id, &sibling.workspace_id);
    execute(&database, "CREATE TABLE kept_keys AS SELECT workspace_id, wrapped FROM data_keys")
        .await;
    let moved = |from: &str| {
        format!(
            "UPDATE data_keys SET wrapped = (SELECT wrapped FROM kept_keys WHERE workspace_id = \
             '{from}') WHERE workspace_id = '{own}'"
        )
    };
    execute(&database, &moved(other)).await;
    invalidate_caches(sibling).await;
    assert_unavailable(home, Fixture::SECRET).await;
    execute(&database, &moved(own)).await;
    invalidate_caches(sibling).await;
    home.caller().send(Fixture::chat()).await.expect(200);
}

async fn an_earlier_ciphertext_cannot_be_decrypted(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let only = format!("workspace_id = '{}' AND name = '{}'", team.workspace_id, Fixture::SECRET);
    execute(&database, &format!("CREATE TABLE kept AS SELECT sealed FROM secrets WHERE {only}"))
        .await;
    team.put_secret(Fixture::SECRET, "sk-the-newer-value").await;
    team.caller().send(Fixture::chat()).await.expect(200);
    execute(
        &database,
        &format!("UPDATE secrets SET sealed = (SELECT sealed FROM kept) WHERE {only}"),
    )
    .await;
    invalidate_caches(&team).await;
    assert_unavailable(&team, Fixture::SECRET).await;
    // It works again when stored again.
    team.put_secret(Fixture::SECRET, "sk-the-newest-value").await;
    team.caller().send(Fixture::chat()).await.expect(200);
    let sent = team.upstream.last_request();
    assert_eq!(sent.header("authorization"), Some("Bearer sk-the-newest-value"));
}

async fn versions_count_every_write(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let (admin, path) = (app.admin(), team.path("secrets/RACED"));
    let put = async |number: usize| {
        let answer = admin.put(&path, &json!({"value": format!("sk-raced-{number}")})).await;
        (answer.status, answer.success().json()["version"].as_i64().unwrap())
    };
    let mut answers = join_all((0..20).map(put)).await;
    answers.sort_by_key(|(_, version)| *version);
    let versions: Vec<i64> = answers.iter().map(|(_, version)| *version).collect();
    assert_eq!(versions, (1..=20).collect::<Vec<i64>>());
    let made: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!((made[0], made.iter().filter(|status| **status == 201).count()), (201, 1));
}
