//! The audit log: one event per change, in the same transaction, with who changed what, when and from
//! which address.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    database_dump::differences,
    operations::{Operation, example_call, operations},
    sql::execute,
    two_tenants::{RoleKey, TwoTenants, text},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        every_change_is_audited,
        a_change_that_cannot_be_audited_is_rolled_back,
        a_change_without_effect_is_not_audited,
        keys_see_the_events_of_their_scope,
        events_are_filtered_and_paged,
        trusted_proxies_determine_the_client_address,
        forwarding_headers_of_untrusted_peers_are_ignored,
        commands_are_audited_as_command_line,
    ]
}

/// The events of an operation, oldest first. Events in a workspace have the same names as in an
/// organization.
fn events_of(operation: &str) -> Vec<&str> {
    match operation {
        // With the first key of its administrator.
        "create_organization" => vec!["create_organization", "create_api_key"],
        "create_organization_api_key" | "create_workspace_api_key" => vec!["create_api_key"],
        "update_workspace_api_key" => vec!["update_api_key"],
        "delete_workspace_api_key" => vec!["delete_api_key"],
        "rotate_workspace_api_key" => vec!["rotate_api_key"],
        "put_organization_secret" => vec!["put_secret"],
        "delete_organization_secret" => vec!["delete_secret"],
        "put_workspace_provider_settings" => vec!["put_provider_settings"],
        "delete_workspace_provider_settings" => vec!["delete_provider_settings"],
        "delete_user" => vec!["deactivate_user"],
        // The same resource at other paths.
        own => vec![own.trim_end_matches("_platform").trim_end_matches("_compat")],
    }
}

/// The key that performs the operation.
fn permitted_key<'a>(tenants: &'a TwoTenants, operation: &Operation) -> &'a RoleKey {
    match operation.permissions.iter().any(|one| one == "organizations:write") {
        true => &tenants.platform,
        false => tenants.key("ORGANIZATION_ADMIN"),
    }
}

/// All events that the key sees, newest first.
async fn events(tenants: &TwoTenants, key: &RoleKey) -> Vec<Value> {
    let log =
        tenants.app.as_key(&key.key).get("/api/v1/audit-log?limit=200").await.expect(200).json();
    log["data"].as_array().unwrap().clone()
}

async fn every_change_is_audited(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    for operation in operations(&tenants).await.iter().filter(|operation| operation.writes()) {
        let key = permitted_key(&tenants, operation);
        let example = example_call(&tenants, operation).await;
        let before = events(&tenants, key).await;
        let client = tenants.app.as_key(&key.key).with_header("x-request-id", "the-callers-own");
        let began = chrono::Utc::now();
        let answer = client.send(example.request(operation)).await.expect(example.status);
        let ended = chrono::Utc::now();

        let after = events(&tenants, key).await;
        let mut new: Vec<&Value> = after
            .iter()
            .filter(|event| !before.iter().any(|old| old["id"] == event["id"]))
            .collect();
        new.reverse();
        let names: Vec<&str> = new.iter().filter_map(|event| event["operation"].as_str()).collect();
        assert_eq!(names, events_of(&operation.id), "{}", operation.id);
        for event in new {
            let id = &operation.id;
            assert_eq!(event["actor"]["api_key_id"], key.id, "{id}: {event}");
            assert_eq!(event["actor"]["scope"], key.role.scope, "{id}: {event}");
            assert_eq!(event["client_address"], "127.0.0.1", "{id}: {event}");
            assert_eq!(
                event["request_id"],
                answer.header("x-request-id").unwrap(),
                "{id}: {event}"
            );
            assert_eq!(event["client_request_id"], "the-callers-own", "{id}: {event}");
            let at: chrono::DateTime<chrono::Utc> = text(event, "created_at").parse().unwrap();
            assert!((began..=ended).contains(&at), "{id}: {began} {event} {ended}");
            let name = text(event, "operation");
            let (was, is) = (!event["before"].is_null(), !event["after"].is_null());
            match name.split('_').next().unwrap() {
                "create" => assert!(!was && is, "{id}: {event}"),
                "update" | "rotate" | "deactivate" => assert!(was && is, "{id}: {event}"),
                "delete" => assert!(was, "{id}: {event}"),
                _ => assert!(is, "{id}: {event}"),
            }
            // The event's `after` agrees with the answer.
            if answer.status != 204 && name.ends_with(event["resource_type"].as_str().unwrap()) {
                let shown = answer.json();
                for (field, value) in event["after"].as_object().unwrap() {
                    if name != "create_api_key" || operation.id != "create_organization" {
                        assert_eq!(&shown[field], value, "{id}: {field} of {event}");
                    }
                }
            }
        }
    }
}

async fn a_change_that_cannot_be_audited_is_rolled_back(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    for operation in operations(&tenants).await.iter().filter(|operation| operation.writes()) {
        let client = tenants.app.as_key(&permitted_key(&tenants, operation).key);
        let example = example_call(&tenants, operation).await;
        execute(&database, "ALTER TABLE audit_events RENAME TO audit_events_away").await;
        let before = database.dump().await;
        let answer = client.send(example.request(operation)).await;
        let changed = differences(&before, &database.dump().await);
        execute(&database, "ALTER TABLE audit_events_away RENAME TO audit_events").await;
        assert_eq!(answer.status, 500, "{}: {}", operation.id, answer.text());
        assert!(!answer.text().contains("audit_events"), "{}: {}", operation.id, answer.text());
        assert!(changed.is_empty(), "{} changed, unaudited: {changed:#?}", operation.id);
        // The same request succeeds afterwards.
        let answer = client.send(example.request(operation)).await;
        assert_eq!(answer.status, example.status, "{}: {}", operation.id, answer.text());
    }
}

async fn a_change_without_effect_is_not_audited(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let user = format!("/api/v1/users/{}", tenants.home.user_id);
    tenants.admin().delete(&user).await.expect(204);
    tenants.admin().delete(&user).await.expect(204);
    let filter = format!("/api/v1/audit-log?resource_id={}", tenants.home.user_id);
    let log = tenants.admin().get(&filter).await.expect(200).json();
    let operations: Vec<&str> = log["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["operation"].as_str())
        .collect();
    // The second request changed nothing.
    assert_eq!(operations, ["deactivate_user", "create_user"]);
}

async fn keys_see_the_events_of_their_scope(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let home = &tenants.home;
    for event in events(&tenants, tenants.key("WORKSPACE_ADMIN")).await {
        assert_eq!(event["workspace_id"], home.team.workspace_id, "{event}");
    }
    let whole = events(&tenants, tenants.key("ORGANIZATION_VIEWER")).await;
    assert!(whole.iter().all(|event| event["organization_id"] == home.organization_id.as_str()));
    let seen = |workspace: &str| whole.iter().any(|event| event["workspace_id"] == workspace);
    assert!(seen(&home.team.workspace_id) && seen(&tenants.sibling.team.workspace_id));
    for event in events(&tenants, &tenants.platform).await {
        let scope = event["actor"]["scope"].as_str();
        assert!(matches!(scope, Some("platform" | "command_line")), "{event}");
    }
    // A filter does not widen what a key sees.
    let other = format!("/api/v1/audit-log?workspace_id={}", tenants.sibling.team.workspace_id);
    let log = tenants.as_role("WORKSPACE_ADMIN").get(&other).await.expect(200).json();
    assert_eq!(log["data"], json!([]));
    let log = tenants.admin().get(&other).await.expect(200).json();
    assert!(!log["data"].as_array().unwrap().is_empty());
}

async fn events_are_filtered_and_paged(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let of = async |query: &str| {
        let log = admin.get(&format!("/api/v1/audit-log?limit=200&{query}")).await.expect(200);
        log.json()["data"].as_array().unwrap().clone()
    };
    let all = of("").await;
    assert!(all.len() > 20);
    let mut ids: Vec<&str> = all.iter().filter_map(|event| event["id"].as_str()).collect();
    assert!(ids.is_sorted_by(|newer, older| newer > older), "newest first");
    ids.dedup();
    assert_eq!(ids.len(), all.len());

    let secrets = of("operation=put_secret").await;
    assert!(!secrets.is_empty() && secrets.iter().all(|one| one["operation"] == "put_secret"));
    let users = of("resource_type=user").await;
    assert!(!users.is_empty() && users.iter().all(|one| one["resource_type"] == "user"));
    let me = admin.get("/api/v1/me").await.expect(200).json();
    let mine = of(&format!("actor={}", text(&me, "api_key_id"))).await;
    assert!(!mine.is_empty() && mine.len() < all.len());
    assert!(mine.iter().all(|one| one["actor"]["api_key_id"] == me["api_key_id"]));
    assert!(of(&format!("actor={}", tenants.stranger.keys[0].id)).await.is_empty());

    // `from` is inclusive, `to` exclusive.
    let at = text(&all[3], "created_at");
    let from = of(&format!("from={at}")).await;
    let to = of(&format!("to={at}")).await;
    assert_eq!(from.len() + to.len(), all.len());
    assert!(from.iter().any(|one| one["id"] == all[3]["id"]));

    assert_eq!(admin.get_pages("/api/v1/audit-log?limit=7").await, all);

    for (query, field) in [
        ("from=yesterday", "from"),
        ("actor=me", "actor"),
        ("limit=201", "limit"),
        ("cursor=AAAA", "cursor"),
        ("nothing=1", "nothing"),
        ("workspace_id=x", "workspace_id"),
    ] {
        let answer = admin.get(&format!("/api/v1/audit-log?{query}")).await;
        assert_eq!(answer.status, 422, "{query}: {}", answer.text());
        assert_eq!(answer.json()["errors"][0]["field"], field, "{query}: {}", answer.text());
    }
    let long = "x".repeat(129);
    for field in ["operation", "resource_type", "resource_id"] {
        let answer = admin.get(&format!("/api/v1/audit-log?{field}={long}")).await.expect(422);
        assert_eq!(answer.json()["errors"][0]["field"], field);
        let answer = admin.get(&format!("/api/v1/audit-log?{field}=a%00b")).await.expect(422);
        assert_eq!(answer.json()["errors"][0]["field"], field);
    }
}

async fn trusted_proxies_determine_the_client_address(database: Database) {
    let app = TestApp::with(&database, &["--trusted-proxies", "127.0.0.0/8,10.0.0.0/8"]).await;
    for (header, expected) in [
        (Some("198.51.100.7, 203.0.113.9"), "203.0.113.9"),
        (Some("198.51.100.7, 203.0.113.9, 10.1.2.3"), "203.0.113.9"),
        (Some("2001:db8::7"), "2001:db8::7"),
        (Some("nonsense"), "127.0.0.1"),
        (None, "127.0.0.1"),
    ] {
        assert_eq!(audited_address(&app, header).await, expected, "{header:?}");
    }
}

async fn forwarding_headers_of_untrusted_peers_are_ignored(database: Database) {
    let app = TestApp::with(&database, &["--trusted-proxies", "192.0.2.0/24"]).await;
    assert_eq!(audited_address(&app, Some("203.0.113.9")).await, "127.0.0.1");
}

/// The audited address of a change that was sent with this forwarding header.
async fn audited_address(app: &TestApp, header: Option<&str>) -> Value {
    let client = header.iter().fold(app.admin(), |client, header| {
        client.with_header("x-forwarded-for", header).with_header("forwarded", "for=192.0.2.9")
    });
    let handle = format!("from-{}", &uuid::Uuid::now_v7().simple().to_string()[16..]);
    let body = json!({"name": "From", "handle": handle});
    let made = client.post_json("/api/v1/workspaces", &body).await.expect(201).json();
    let query = format!("/api/v1/audit-log?resource_id={}", text(&made, "id"));
    let log = app.admin().get(&query).await.expect(200).json();
    log["data"][0]["client_address"].clone()
}

async fn commands_are_audited_as_command_line(database: Database) {
    let app = TestApp::start(&database).await;
    let log = app.platform().get("/api/v1/audit-log").await.expect(200).json();
    let mut operations: Vec<&str> = log["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["operation"].as_str())
        .collect();
    operations.reverse();
    assert_eq!(operations, ["create_organization", "create_api_key", "create_api_key"]);
    for event in log["data"].as_array().unwrap() {
        let nobody = json!({"scope": "command_line", "api_key_id": null, "user_id": null});
        assert_eq!(event["actor"], nobody);
        assert_eq!(event["client_address"], Value::Null);
    }
}
