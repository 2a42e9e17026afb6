//! Organizations, workspaces and users: names, changes, and what is deleted with them.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    problems::{problem, wrong_fields},
    sql::texts,
    two_tenants::{TwoTenants, text},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_new_organization_has_a_working_key,
        only_permitted_keys_change_organizations,
        a_workspace_is_created_changed_and_deleted,
        a_workspace_with_working_keys_is_not_deleted,
        deleting_a_workspace_deletes_its_contents,
        a_user_is_created_found_and_deactivated,
    ]
}

async fn a_new_organization_has_a_working_key(database: Database) {
    let app = TestApp::start(&database).await;
    let path = "/api/v1/organizations";
    let made = app.platform().post_json(path, &json!({"name": "Zoë & Söhne"})).await.expect(201);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let made = made.json();
    let id = text(&made, "id");
    assert_eq!((&made["name"], &made["status"]), (&json!("Zoë & Söhne"), &json!("active")));
    let me = app.as_key(&text(&made, "admin_key")).get("/api/v1/me").await.expect(200).json();
    assert_eq!(me["role"], "ORGANIZATION_ADMIN");
    assert_eq!(me["organization_id"], id);
    assert_eq!(me["api_key_id"], made["admin_key_id"]);
    let read = app.platform().get(&format!("{path}/{id}")).await.expect(200).json();
    assert!(read.get("admin_key").is_none());
    let again = app.platform().post_json(path, &json!({"name": "Zoë & Söhne"})).await;
    problem(&again, 409, "name_taken");
    for name in
        [json!(""), json!("   "), json!("x".repeat(129)), json!("a\tb"), json!(null), json!([])]
    {
        let answer = app.platform().post_json(path, &json!({"name": name})).await;
        assert_eq!(wrong_fields(&answer), ["name"], "{name}");
    }
    app.platform().post_json(path, &json!({"name": "é".repeat(128)})).await.expect(201);
}

async fn only_permitted_keys_change_organizations(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let path = format!("/api/v1/organizations/{}", tenants.home.organization_id);
    let (platform, admin) = (tenants.app.platform(), tenants.admin());
    assert_eq!(
        admin.patch(&path, &json!({"name": "Ours"})).await.expect(200).json()["name"],
        "Ours"
    );
    let suspended = admin.patch(&path, &json!({"status": "suspended"})).await;
    problem(&suspended, 403, "platform_key_needed");
    problem(&admin.patch(&path, &json!({"name": "Strangers"})).await, 409, "name_taken");
    assert_eq!(wrong_fields(&platform.patch(&path, &json!({"status": "gone"})).await), ["status"]);
    assert_eq!(wrong_fields(&platform.patch(&path, &json!({"status": null})).await), ["status"]);
    assert_eq!(wrong_fields(&platform.patch(&path, &json!({"ids": "x"})).await), ["ids"]);
    let mine = admin.get("/api/v1/organizations").await.expect(200).json();
    assert_eq!(mine["data"].as_array().unwrap().len(), 1);
    assert_eq!(mine["data"][0]["id"], tenants.home.organization_id);
    let all = platform.get("/api/v1/organizations").await.expect(200).json();
    assert_eq!(all["data"].as_array().unwrap().len(), 2);
}

async fn a_workspace_is_created_changed_and_deleted(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (admin, path) = (tenants.admin(), "/api/v1/workspaces");
    let made = admin.post_json(path, &json!({"name": "R&D / Berlin"})).await.expect(201);
    let one = made.header("location").unwrap().to_owned();
    let made = made.json();
    assert_eq!(made["handle"], "r-d-berlin");
    assert_eq!(made["organization_id"], tenants.home.organization_id);
    assert_eq!(admin.get(&one).await.expect(200).json(), made);
    let body = json!({"name": "Other", "handle": "r-d-berlin"});
    problem(&admin.post_json(path, &body).await, 409, "handle_taken");
    tenants.app.as_key(&tenants.stranger.admin_key).post_json(path, &body).await.expect(201);
    for (body, field) in [
        (json!({"name": "名前"}), "handle"),
        (json!({"name": "n", "handle": "Upper"}), "handle"),
        (json!({"name": "n", "handle": "-a"}), "handle"),
        (json!({"name": "n", "handle": "a".repeat(64)}), "handle"),
        (json!({"name": ""}), "name"),
        (json!({"handle": "a"}), "name"),
        (
            json!({"name": "n", "organization_id": tenants.stranger.organization_id}),
            "organization_id",
        ),
    ] {
        assert_eq!(wrong_fields(&admin.post_json(path, &body).await), [field], "{body}");
    }
    let changed = admin.patch(&one, &json!({"name": "Renamed"})).await.expect(200).json();
    assert_eq!((&changed["name"], &changed["handle"]), (&json!("Renamed"), &json!("r-d-berlin")));
    let home = admin.get(&tenants.home.team.path("").replace("//", "/")).await;
    assert_eq!(home.status, 404, "a trailing slash is another path");
    assert_eq!(wrong_fields(&admin.patch(&one, &json!({"handle": null})).await), ["handle"]);
    let moved = json!({"organization_id": tenants.stranger.organization_id});
    let moved = admin.patch(&one, &moved).await.expect(200).json();
    assert_eq!(moved["organization_id"], tenants.home.organization_id, "it stays where it is");
    admin.delete(&one).await.expect(204);
    problem(&admin.get(&one).await, 404, "not_found");
    problem(&admin.delete(&one).await, 404, "not_found");
    admin.post_json(path, &json!({"name": "Again", "handle": "r-d-berlin"})).await.expect(201);
}

async fn a_workspace_with_working_keys_is_not_deleted(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let admin = app.admin();
    let path = format!("/api/v1/workspaces/{}", team.workspace_id);
    for query in ["", "?force=false"] {
        let document =
            problem(&admin.delete(&format!("{path}{query}")).await, 409, "workspace_in_use");
        assert!(text(&document, "detail").contains("force"), "{document}");
    }
    assert_eq!(wrong_fields(&admin.delete(&format!("{path}?force=maybe")).await), ["force"]);
    team.caller().send(Fixture::chat()).await.expect(200);
    admin.delete(&team.path(&format!("api-keys/{}", team.caller_key_id))).await.expect(204);
    admin.delete(&path).await.expect(204);
}

async fn deleting_a_workspace_deletes_its_contents(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (admin, team) = (tenants.admin(), &tenants.home.team);
    team.caller().send(Fixture::chat()).await.expect(200);
    let path = format!("/api/v1/workspaces/{}", team.workspace_id);
    admin.delete(&format!("{path}?force=true")).await.expect(204);
    team.caller().send(Fixture::chat()).await.expect(401);
    for key in tenants.home.keys.iter().filter(|key| key.role.scope == "workspace") {
        let answer = tenants.app.as_key(&key.key).get("/api/v1/me").await;
        problem(&answer, 401, "revoked_api_key");
    }
    for rest in ["secrets", "model-configurations", "api-keys", "secrets/PROVIDER_KEY"] {
        problem(&admin.get(&team.path(rest)).await, 404, "not_found");
    }
    let create = json!({"name": "Late", "role": "GATEWAY_CALLER"});
    problem(&admin.post_json(&team.path("api-keys"), &create).await, 404, "not_found");
    let put = admin.put(&team.path("secrets/LATE"), &json!({"value": "sk-late-value"})).await;
    problem(&put, 404, "not_found");
    for table in ["secrets", "data_keys"] {
        let query =
            format!("SELECT id AS value FROM {table} WHERE workspace_id = '{}'", team.workspace_id);
        assert_eq!(texts(&database, &query).await, Vec::<String>::new(), "{table}");
    }
    let query =
        format!("/api/v1/audit-log?operation=delete_workspace&workspace_id={}", team.workspace_id);
    let log = admin.get(&query).await.expect(200).json();
    assert_eq!(log["data"][0]["after"]["deleted"]["secrets"], 1, "{log}");
    // Another workspace is not affected.
    tenants.sibling.team.caller().send(Fixture::chat()).await.expect(200);
}

async fn a_user_is_created_found_and_deactivated(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (admin, path) = (tenants.admin(), "/api/v1/users");
    let body = json!({"email": "ada@example.com", "name": "Ada"});
    let made = admin.post_json(path, &body).await.expect(201);
    let one = made.header("location").unwrap().to_owned();
    let made = made.json();
    assert_eq!(made["status"], "active");
    assert_eq!(admin.get(&one).await.expect(200).json(), made);
    problem(&admin.post_json(path, &body).await, 409, "email_taken");
    tenants.app.as_key(&tenants.stranger.admin_key).post_json(path, &body).await.expect(201);
    for (body, field) in [
        (json!({"email": "no-address", "name": "n"}), "email"),
        (json!({"email": format!("{}@x", "a".repeat(254)), "name": "n"}), "email"),
        (json!({"email": "a b@example.com", "name": "n"}), "email"),
        (json!({"email": "a@example.com"}), "name"),
        (json!({"email": "a@example.com", "name": "n", "status": "active"}), "status"),
    ] {
        assert_eq!(wrong_fields(&admin.post_json(path, &body).await), [field], "{body}");
    }
    let of = async |query: &str| -> Vec<Value> {
        let list = admin.get(&format!("{path}?limit=200&{query}")).await.expect(200).json();
        list["data"].as_array().unwrap().clone()
    };
    assert_eq!(of("email=ada%40example.com").await, vec![made.clone()]);
    assert!(of("status=deactivated").await.is_empty());
    let taken = json!({"email": "home@example.com"});
    problem(&admin.patch(&one, &taken).await, 409, "email_taken");
    let changed = admin.patch(&one, &json!({"name": "Ada L."})).await.expect(200).json();
    assert_eq!(
        (&changed["name"], &changed["email"]),
        (&json!("Ada L."), &json!("ada@example.com"))
    );
    admin.delete(&one).await.expect(204);
    let gone = admin.get(&one).await.expect(200).json();
    assert_eq!(gone["status"], "deactivated");
    assert_eq!(of("status=deactivated").await, [gone]);
    assert_eq!(wrong_fields(&admin.get(&format!("{path}?status=gone")).await), ["status"]);
    assert_eq!(wrong_fields(&admin.get(&format!("{path}?email=x")).await), ["email"]);
}
