//! Granting roles: no field or path creates or manages a key whose role the caller may not grant, and a
//! key is shown only once.

use serde_json::json;

use crate::support::{
    case::{Case, cases},
    database::Database,
    database_dump::differences,
    http::Request,
    problems::wrong_fields,
    two_tenants::{ROLES, Role, TwoTenants, text},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_key_creates_only_keys_it_may_grant,
        a_key_manages_only_keys_it_may_grant,
        no_field_moves_a_key_to_another_place,
        a_key_cannot_belong_to_another_organizations_user,
        a_key_is_shown_once,
    ]
}

/// Who may grant which role, as intended.
fn may_grant(granter: &Role, granted: &Role) -> bool {
    match granter.name {
        "PLATFORM_ADMIN" => true,
        "ORGANIZATION_ADMIN" => granted.scope != "platform",
        "WORKSPACE_ADMIN" => granted.scope == "workspace",
        _ => false,
    }
}

/// The paths for creating keys, with the scope of the created keys and the scopes that have access.
fn places(tenants: &TwoTenants) -> [(String, &'static str, &'static [&'static str]); 3] {
    [
        (tenants.home.team.path("api-keys"), "workspace", &["organization", "workspace"]),
        ("/api/v1/api-keys".to_owned(), "organization", &["organization"]),
        (
            format!("/api/v1/organizations/{}/api-keys", tenants.home.organization_id),
            "organization",
            &["platform"],
        ),
    ]
}

async fn a_key_creates_only_keys_it_may_grant(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    for granter in tenants.roles() {
        let client = tenants.app.as_key(&granter.key);
        for (path, scope, from) in places(&tenants) {
            for granted in &ROLES {
                let body = json!({"name": "Granted", "role": granted.name});
                let may = from.contains(&granter.role.scope)
                    && may_grant(&granter.role, granted)
                    && granted.scope == scope;
                let before = database.dump().await;
                let answer = client.post_json(&path, &body).await;
                let what = format!("{} {} at {path}", granter.role.name, granted.name);
                if may {
                    assert_eq!(answer.status, 201, "{what}: {}", answer.text());
                    let me =
                        tenants.app.as_key(&text(&answer.json(), "key")).get("/api/v1/me").await;
                    assert_eq!(me.expect(200).json()["role"], granted.name);
                } else {
                    assert!(matches!(answer.status, 403 | 404 | 422), "{what}: {}", answer.text());
                    let changed = differences(&before, &database.dump().await);
                    assert!(changed.is_empty(), "{what}: {changed:#?}");
                }
            }
        }
    }
    // Also not with a repeated or differently spelled field.
    let admin = tenants.as_role("WORKSPACE_ADMIN");
    let path = tenants.home.team.path("api-keys");
    for body in [
        r#"{"name":"x","role":"GATEWAY_CALLER","role":"ORGANIZATION_ADMIN"}"#,
        r#"{"name":"x","role":"GATEWAY_CALLER","Role":"ORGANIZATION_ADMIN"}"#,
        r#"{"name":"x","role":"organization_admin"}"#,
        r#"{"name":"x","role":["GATEWAY_CALLER"]}"#,
        r#"{"name":"x","role":"GATEWAY_CALLER","organization_id":null}"#,
        r#"{"name":"x","role":"GATEWAY_CALLER","workspace_id":null}"#,
        r#"{"name":"x","role":"GATEWAY_CALLER","scope":"organization"}"#,
        r#"{"name":"x","role":"GATEWAY_CALLER","permissions":["secrets:write"]}"#,
    ] {
        let request = Request::new("POST", &path).header("content-type", "application/json");
        let answer = admin.send(request.body(body)).await;
        assert_eq!(answer.status, 422, "{body}: {}", answer.text());
    }
}

async fn a_key_manages_only_keys_it_may_grant(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    for target in &ROLES {
        // A key to be managed.
        let id = match target.scope {
            "platform" => tenants.platform.id.clone(),
            "organization" => {
                let body = json!({"name": "Target", "role": target.name});
                text(&tenants.admin().post_json("/api/v1/api-keys", &body).await.json(), "id")
            }
            _ => tenants.home.team.key(target.name).await.0,
        };
        for manager in tenants.roles() {
            let client = tenants.app.as_key(&manager.key);
            for (path, scope, from) in places(&tenants) {
                if path.contains("organizations") {
                    continue;
                }
                let path = format!("{path}/{id}");
                let may = from.contains(&manager.role.scope)
                    && may_grant(&manager.role, target)
                    && target.scope == scope;
                let what = format!("{} on a {} at {path}", manager.role.name, target.name);
                let before = database.dump().await;
                let changed = [
                    client.patch(&path, &json!({"name": "Mine now", "disabled": false})).await,
                    client.post_json(&format!("{path}/rotate"), &json!({})).await,
                ];
                for answer in &changed {
                    if may {
                        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
                    } else {
                        assert!(matches!(answer.status, 403 | 404), "{what}: {}", answer.text());
                    }
                }
                if !may {
                    let answer = client.delete(&path).await;
                    assert!(matches!(answer.status, 403 | 404), "{what}: {}", answer.text());
                    let changed = differences(&before, &database.dump().await);
                    assert!(changed.is_empty(), "{what}: {changed:#?}");
                }
            }
        }
    }
}

async fn no_field_moves_a_key_to_another_place(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let path = tenants.home.team.path(&format!("api-keys/{}", tenants.home.team.caller_key_id));
    let before = database.dump().await;
    for client in [tenants.admin(), tenants.as_role("WORKSPACE_ADMIN")] {
        for (field, value) in [
            ("role", json!("WORKSPACE_ADMIN")),
            ("user_id", json!(tenants.home.user_id)),
            ("workspace_id", json!(tenants.sibling.team.workspace_id)),
            ("organization_id", json!(tenants.stranger.organization_id)),
            ("workspace_id", json!(null)),
            ("key", json!("tg_mine")),
            ("grace_seconds", json!(5)),
        ] {
            // Removing a fixed field is refused.
            let answer = client.patch(&path, &json!({"name": "y", field: value})).await;
            assert_eq!(wrong_fields(&answer), [field]);
        }
    }
    let changed = differences(&before, &database.dump().await);
    assert!(changed.is_empty(), "{changed:#?}");
    let before = tenants.admin().get(&path).await.expect(200).json();
    for (field, value) in [
        ("id", json!(tenants.sibling.team.caller_key_id)),
        ("short_key", json!("tg_mine")),
        ("created_by", json!(null)),
        ("created_at", json!("2020-01-01T00:00:00Z")),
        ("last_used_at", json!(null)),
    ] {
        let mut after =
            tenants.admin().patch(&path, &json!({field: value})).await.expect(200).json();
        after["updated_at"] = before["updated_at"].clone();
        assert_eq!(after, before, "{field} is passed over");
    }
}

async fn a_key_cannot_belong_to_another_organizations_user(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let theirs = &tenants.stranger.user_id;
    let body = json!({"name": "n", "role": "GATEWAY_CALLER", "user_id": theirs});
    let at_home = tenants.home.team.path("api-keys");
    for client in [tenants.admin(), tenants.as_role("WORKSPACE_ADMIN")] {
        let answer = client.post_json(&at_home, &body).await;
        assert_eq!(wrong_fields(&answer), ["user_id"]);
    }
    let body = json!({"name": "n", "role": "ORGANIZATION_VIEWER", "user_id": theirs});
    assert_eq!(
        wrong_fields(&tenants.admin().post_json("/api/v1/api-keys", &body).await),
        ["user_id"]
    );
    let path = format!("/api/v1/organizations/{}/api-keys", tenants.home.organization_id);
    assert_eq!(wrong_fields(&tenants.app.platform().post_json(&path, &body).await), ["user_id"]);
    let mine = tenants.admin().get(&format!("/api/v1/api-keys?user_id={theirs}")).await.expect(200);
    assert_eq!(mine.json()["data"], json!([]));
}

async fn a_key_is_shown_once(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let path = tenants.home.team.path("api-keys");
    let body = json!({"name": "Once", "role": "GATEWAY_CALLER"});
    let made = tenants.admin().post_json(&path, &body).await.expect(201);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let id = text(&made.json(), "id");
    assert_eq!(made.header("location"), Some(format!("{path}/{id}").as_str()));
    let rotated =
        tenants.admin().post_json(&format!("{path}/{id}/rotate"), &json!({})).await.expect(200);
    assert_eq!(rotated.header("cache-control"), Some("no-store"));
    let first = text(&made.json(), "key");
    let second = text(&rotated.json(), "key");
    let created = json!({"name": tenants.fresh("Tenant ")});
    let tenant =
        tenants.app.platform().post_json("/api/v1/organizations", &created).await.expect(201);
    let third = text(&tenant.json(), "admin_key");
    tenants.admin().patch(&format!("{path}/{id}"), &json!({"disabled": true})).await.expect(200);

    let secrets: Vec<String> = [first, second, third]
        .iter()
        .map(|key| key.rsplit_once('_').unwrap().1.to_owned())
        .collect();
    for key in tenants.roles() {
        let client = tenants.app.as_key(&key.key);
        for path in [
            path.clone(),
            format!("{path}/{id}"),
            "/api/v1/api-keys".to_owned(),
            "/api/v1/audit-log?limit=200".to_owned(),
            "/api/v1/organizations".to_owned(),
            "/api/v1/me".to_owned(),
        ] {
            let answer = client.get(&path).await.text();
            for secret in &secrets {
                assert!(!answer.contains(secret.as_str()), "{} {path}: {answer}", key.role.name);
                assert!(!answer.contains("secret_hash") && !answer.contains("argon2"), "{answer}");
            }
        }
    }
    // The database does not contain it either.
    let dump = format!("{:?}", database.dump().await);
    for secret in &secrets {
        assert!(!dump.contains(secret.as_str()));
    }
}
