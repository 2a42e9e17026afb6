//! A resource can be read, changed and sent back whole: fields that only the gateway sets are ignored.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    gateway_policies::{PATH, cap, make, matcher},
    support::{
        app::TestApp,
        case::{Case, cases},
        database::Database,
        http::Client,
        policies::rates,
        problems::{problem, wrong_fields},
        two_tenants::{TwoTenants, text},
    },
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_policy_can_be_patched_with_itself,
        a_policy_can_be_posted_with_itself,
        every_resource_can_be_patched_with_itself,
        fixed_fields_of_a_key_cannot_be_changed,
    ]
}

/// The fields of a policy that only the gateway sets.
const OF_POLICY: [&str; 8] = [
    "id",
    "organization_id",
    "created_at",
    "updated_at",
    "created_by",
    "is_system_generated",
    "parent_policy_id",
    "current_spend_usd",
];

/// The same with some fields replaced.
fn with(whole: &Value, changes: Value) -> Value {
    let mut whole = whole.clone();
    for (field, value) in changes.as_object().unwrap() {
        whole[field] = value.clone();
    }
    whole
}

/// Fails the test if the two differ in other fields than these.
#[track_caller]
fn assert_same_except(before: &Value, after: &Value, fields: &[&str]) {
    for (field, value) in before.as_object().unwrap() {
        if !fields.contains(&field.as_str()) {
            assert_eq!(&after[field], value, "{field}");
        }
    }
    assert_eq!(before.as_object().unwrap().len(), after.as_object().unwrap().len());
}

async fn a_policy_can_be_patched_with_itself(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let made = make(&admin, &cap("Cap", &[matcher("team", "a")])).await;
    for place in [PATH, "/api/v1/platform/gateway-policies", "/v1/platform/gateway-policies"] {
        let one = format!("{place}/{}", text(&made, "id"));
        let read = admin.get(&one).await.expect(200).json();
        assert!(OF_POLICY.iter().all(|field| read.get(field).is_some()), "{read}");
        assert_eq!(admin.patch(&one, &read).await.expect(200).json(), read, "nothing changes");
        let renamed = with(&read, json!({"name": format!("Cap at {place}")}));
        let after = admin.patch(&one, &renamed).await.expect(200).json();
        assert_same_except(&renamed, &after, &["updated_at"]);
        let odd = OF_POLICY.map(|field| (field.to_owned(), json!({"any": ["thing"]})));
        let odd = with(&read, Value::Object(odd.into_iter().collect()));
        assert_same_except(
            &read,
            &admin.patch(&one, &odd).await.expect(200).json(),
            &["updated_at"],
        );
        let nulls = OF_POLICY.map(|field| (field.to_owned(), Value::Null));
        let nulls = Value::Object(nulls.into_iter().collect());
        assert_same_except(
            &read,
            &admin.patch(&one, &nulls).await.expect(200).json(),
            &["updated_at"],
        );
        for (changes, field) in [
            (json!({"policy_type": "default_spend_cap"}), "policy_type"),
            (json!({"current_spend": 1}), "current_spend"),
            (json!({"matchers_key": null}), "matchers_key"),
            (json!({"config": {"window": "daily", "limit_usd": 1, "id": 1}}), "config.id"),
        ] {
            let answer = admin.patch(&one, &with(&read, changes.clone())).await;
            assert_eq!(wrong_fields(&answer), [field], "{changes}");
        }
    }
}

async fn a_policy_can_be_posted_with_itself(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let made = make(&admin, &cap("Cap", &[matcher("team", "a")])).await;
    let one = format!("{PATH}/{}", text(&made, "id"));
    let read = admin.get(&one).await.expect(200).json();
    let enlarged = with(&read, json!({"config": {"window": "monthly", "limit_usd": 3}}));
    assert_same_except(&enlarged, &make(&admin, &enlarged).await, &["updated_at"]);
    // With another type it is another policy, which takes over none of the gateway's fields.
    let rate = json!({"policy_type": "rate_limit", "config": rates(&[("requests", "hour", 5)])});
    let other = make(&admin, &with(&read, rate)).await;
    assert_ne!(other["id"], read["id"]);
    let lie = json!({"is_system_generated": true, "parent_policy_id": read["id"]});
    let plain = make(&admin, &with(&other, lie)).await;
    assert_eq!(
        (&plain["is_system_generated"], &plain["parent_policy_id"]),
        (&false.into(), &Value::Null)
    );
    for (changes, field) in [
        (json!({"matchers_key": 1}), "matchers_key"),
        (json!({"config": {"window": "daily", "limit_usd": 1, "id": 1}}), "config.id"),
        (
            json!({"subject_matchers": [{"key": "team", "value": "a", "id": 1}]}),
            "subject_matchers[0].id",
        ),
    ] {
        let answer = admin.post_json(PATH, &with(&read, changes.clone())).await;
        assert_eq!(wrong_fields(&answer), [field], "{changes}");
    }
}

async fn every_resource_can_be_patched_with_itself(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (admin, home) = (tenants.admin(), &tenants.home);
    let price = json!({"provider": "*", "model": "m*", "price": {"input": 1.25, "output": 10}});
    let price = admin.post_json("/api/v1/model-prices", &price).await.expect(201).json();
    let key = json!({"name": "One", "role": "ORGANIZATION_VIEWER", "user_id": home.user_id});
    let key = admin.post_json("/api/v1/api-keys", &key).await.expect(201).json();
    let organization = format!("/api/v1/organizations/{}", home.organization_id);
    let configuration = format!("model-configurations/{}", home.team.configuration_id);
    let team_key = format!("api-keys/{}", home.team.caller_key_id);
    for (path, field, value) in [
        (format!("/api/v1/workspaces/{}", home.team.workspace_id), "name", json!("Renamed")),
        (format!("/api/v1/users/{}", home.user_id), "name", json!("Renamed")),
        (format!("/api/v1/api-keys/{}", text(&key, "id")), "disabled", json!(true)),
        (home.team.path(&team_key), "expires_at", json!("2999-01-01T00:00:00Z")),
        (home.team.path(&configuration), "max_concurrent_requests", json!(7)),
        (format!("/api/v1/model-prices/{}", text(&price, "id")), "model", json!("n*")),
        (organization.clone(), "name", json!("Renamed")),
    ] {
        patch_with_itself(&admin, &path, field, &value).await;
    }
    let read = admin.get(&organization).await.expect(200).json();
    let suspended = with(&read, json!({"status": "suspended"}));
    problem(&admin.patch(&organization, &suspended).await, 403, "platform_key_needed");
}

async fn patch_with_itself(admin: &Client, path: &str, field: &str, value: &Value) {
    let read = admin.get(path).await.expect(200).json();
    let changed = with(&read, json!({field: value}));
    let after = admin.patch(path, &changed).await.expect(200).json();
    assert_same_except(&changed, &after, &["updated_at", "version"]);
    // The gateway's fields are ignored; unknown fields are refused.
    let odd = with(&changed, json!({"id": "x", "created_at": {"y": 1}, "updated_at": null}));
    let after = admin.patch(path, &odd).await.expect(200).json();
    assert_same_except(&changed, &after, &["updated_at", "version"]);
    let unknown = with(&changed, json!({"deleted_at": null}));
    assert_eq!(wrong_fields(&admin.patch(path, &unknown).await), ["deleted_at"], "{path}");
}

async fn fixed_fields_of_a_key_cannot_be_changed(database: Database) {
    let tenants = TwoTenants::make(TestApp::with_stopped_clock(&database, &[]).await).await;
    let (admin, home) = (tenants.admin(), &tenants.home);
    let soon = tenants.app.now() + chrono::TimeDelta::seconds(60);
    let body = json!({
        "name": "One", "role": "WORKSPACE_VIEWER", "user_id": home.user_id, "expires_at": soon,
    });
    let key = admin.post_json(&home.team.path("api-keys"), &body).await.expect(201).json();
    let one = home.team.path(&format!("api-keys/{}", text(&key, "id")));
    let read = admin.get(&one).await.expect(200).json();
    for (changes, field) in [
        (json!({"role": "WORKSPACE_ADMIN"}), "role"),
        (json!({"role": null}), "role"),
        (json!({"user_id": null}), "user_id"),
        (json!({"user_id": home.organization_id}), "user_id"),
        (json!({"organization_id": tenants.stranger.organization_id}), "organization_id"),
        (json!({"workspace_id": tenants.sibling.team.workspace_id}), "workspace_id"),
    ] {
        let answer = admin.patch(&one, &with(&read, changes.clone())).await;
        assert_eq!(wrong_fields(&answer), [field], "{changes}");
    }
    // An expired key can be changed.
    tenants.app.advance(Duration::from_secs(120));
    let renamed = with(&read, json!({"name": "Two"}));
    let after = admin.patch(&one, &renamed).await.expect(200).json();
    assert_same_except(&renamed, &after, &["updated_at"]);
}
