//! The resources of this room, called in process on an embedded database.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::Method;
use actix_web::{App, Error, test, web};
use serde_json::{Value, json};

use crate::api::client_address::TrustedProxies;
use crate::api::{Exposure, Management, bootstrap, configure};
use crate::clock::Clock;
use crate::crypto::{KeyDigester, Keyring, KeyringHandle, system_random};
use crate::db::{Database, Location};
use crate::directory::{Directory, DirectoryOptions};
use crate::domain::names::DisplayName;

struct Plane {
    management: web::Data<Management>,
    platform: String,
    admin: String,
    organization: String,
    _directory: tempfile::TempDir,
}

async fn plane() -> Plane {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(
        Location::Sqlite(directory.path().join("t.db")),
        2,
        std::time::Duration::from_secs(5),
    )
    .unwrap();
    database.migrate().await.unwrap();
    let options = DirectoryOptions {
        capacity: 100,
        max_stale: std::time::Duration::from_secs(3600),
        poll: std::time::Duration::from_secs(1),
    };
    let digester = KeyDigester::new(&mut system_random).unwrap();
    let keyring = Keyring::generate(&mut system_random).unwrap();
    let clock = Clock::default();
    let name = DisplayName::parse("First").unwrap();
    let first = bootstrap::bootstrap(&database, &clock, name.clone()).await.unwrap();
    assert!(bootstrap::bootstrap(&database, &clock, name).await.is_err());
    let live =
        Directory::start(database.clone(), options, digester, Default::default()).await.unwrap();
    let accounting = super::accounting(&database, &live, &clock, directory.path()).await;
    let management = Management {
        directory: live,
        database,
        accounting,
        keyring: KeyringHandle::create_file(&directory.path().join("m.key"), &keyring).unwrap(),
        clock,
        trusted_proxies: TrustedProxies::default(),
        egress: crate::upstream::EgressRules::default(),
        metrics: crate::telemetry::Metrics::default(),
        readiness: crate::telemetry::readiness::Readiness::default(),
    };
    Plane {
        management: web::Data::new(management),
        platform: first.platform_key.expose().to_owned(),
        admin: first.admin_key.expose().to_owned(),
        organization: first.organization_id.to_string(),
        _directory: directory,
    }
}

impl Plane {
    async fn app(
        &self,
    ) -> impl Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = Error> {
        let app = App::new()
            .app_data(self.management.clone())
            .configure(|config| configure(config, Exposure::Full));
        test::init_service(app).await
    }
}

async fn call<S, B>(app: &S, key: &str, line: &str, body: Value) -> (u16, Value)
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = test::TestRequest::default()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(&format!("/api/v1/{path}"))
        .insert_header(("x-api-key", key));
    if !body.is_null() {
        let text = body.to_string();
        request = request
            .insert_header(("content-length", text.len().to_string()))
            .insert_header(("content-type", "application/json"))
            .set_payload(text);
    }
    let response = test::call_service(app, request.to_request()).await;
    let status = response.status().as_u16();
    let bytes = test::read_body(response).await;
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}")).to_owned()
}

#[actix_web::test]
async fn platform_runs_organizations_and_nothing_inside() {
    let plane = plane().await;
    let app = plane.app().await;
    let (status, made) =
        call(&app, &plane.platform, "POST organizations", json!({"name": "Second"})).await;
    assert_eq!(status, 201, "{made}");
    let (second, its_admin) = (text(&made, "id"), text(&made, "admin_key"));
    let (status, taken) =
        call(&app, &plane.platform, "POST organizations", json!({"name": "Second"})).await;
    assert_eq!((status, text(&taken, "code").as_str()), (409, "name_taken"));
    let (_, all) = call(&app, &plane.platform, "GET organizations", Value::Null).await;
    assert_eq!(all["data"].as_array().unwrap().len(), 2);
    let (_, own) = call(&app, &its_admin, "GET organizations", Value::Null).await;
    assert_eq!(own["data"].as_array().unwrap().len(), 1);
    assert_eq!(own["data"][0]["id"], json!(second));
    assert_eq!(call(&app, &its_admin, "POST organizations", json!({"name": "Third"})).await.0, 403);
    let other = format!("organizations/{}", plane.organization);
    assert_eq!(call(&app, &its_admin, &format!("GET {other}"), Value::Null).await.0, 404);
    assert_eq!(
        call(&app, &its_admin, &format!("PATCH {other}"), json!({"name": "x"})).await.0,
        404
    );
    let own = format!("organizations/{second}");
    let patch = format!("PATCH {own}");
    let (status, after) = call(&app, &its_admin, &patch, json!({"name": "Renamed"})).await;
    assert_eq!((status, text(&after, "name").as_str()), (200, "Renamed"));
    assert_eq!(call(&app, &its_admin, &patch, json!({"status": "suspended"})).await.0, 403);
    assert_eq!(call(&app, &plane.platform, &patch, json!({"status": "suspended"})).await.0, 200);
    let (status, problem) = call(&app, &its_admin, "GET me", Value::Null).await;
    assert_eq!((status, text(&problem, "code").as_str()), (403, "organization_suspended"));
    assert_eq!(call(&app, &plane.platform, &patch, json!({"status": "active"})).await.0, 200);
    assert_eq!(call(&app, &its_admin, "GET me", Value::Null).await.0, 200);
    assert_eq!(call(&app, &plane.platform, "GET workspaces", Value::Null).await.0, 403);
    let keys = format!("POST {own}/api-keys");
    let viewer = json!({"name": "v", "role": "ORGANIZATION_VIEWER"});
    let (status, viewer_key) = call(&app, &plane.platform, &keys, viewer).await;
    assert_eq!(status, 201, "{viewer_key}");
    let viewer_key = text(&viewer_key, "key");
    assert_eq!(call(&app, &viewer_key, &format!("GET {own}"), Value::Null).await.0, 200);
    assert_eq!(call(&app, &viewer_key, &patch, json!({"name": "No"})).await.0, 403);
    for (role, status) in [("GATEWAY_CALLER", 422), ("PLATFORM_ADMIN", 422)] {
        let body = json!({"name": "x", "role": role});
        assert_eq!(call(&app, &plane.platform, &keys, body).await.0, status, "{role}");
    }
    let (_, log) = call(&app, &plane.platform, "GET audit-log", Value::Null).await;
    let operations: Vec<&str> = log["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["operation"].as_str().unwrap())
        .collect();
    // What the organization's own keys did is theirs to read.
    assert_eq!(operations.iter().filter(|one| **one == "update_organization").count(), 2);
    assert_eq!(operations.iter().filter(|one| **one == "create_organization").count(), 2);
    assert!(!log.to_string().contains(&plane.admin[..20]));
}

#[actix_web::test]
async fn keys_are_granted_within_scope_and_rotated_in_place() {
    let plane = plane().await;
    let app = plane.app().await;
    let (_, workspace) =
        call(&app, &plane.admin, "POST workspaces", json!({"name": "Search team"})).await;
    assert_eq!(text(&workspace, "handle"), "search-team");
    let keys = format!("workspaces/{}/api-keys", text(&workspace, "id"));
    let issue = |role: &str| json!({"name": role, "role": role});
    let create = format!("POST {keys}");
    let (status, lead) = call(&app, &plane.admin, &create, issue("WORKSPACE_ADMIN")).await;
    assert_eq!(status, 201, "{lead}");
    let (lead_id, lead) = (text(&lead, "id"), text(&lead, "key"));
    let (_, me) = call(&app, &lead, "GET me", Value::Null).await;
    assert_eq!(
        (me["scope"].as_str(), me["api_key_id"].as_str()),
        (Some("workspace"), Some(&*lead_id))
    );

    // No role outside the workspace, by any path.
    assert_eq!(call(&app, &lead, &create, issue("ORGANIZATION_ADMIN")).await.0, 403);
    assert_eq!(call(&app, &lead, "POST api-keys", issue("WORKSPACE_ADMIN")).await.0, 403);
    assert_eq!(call(&app, &plane.admin, &create, issue("ORGANIZATION_ADMIN")).await.0, 422);
    assert_eq!(call(&app, &plane.admin, "POST api-keys", issue("PLATFORM_ADMIN")).await.0, 403);
    let (_, editor) = call(&app, &lead, &create, issue("WORKSPACE_EDITOR")).await;
    let editor = text(&editor, "key");
    let itself = format!("{keys}/{lead_id}");
    for line in
        [format!("PATCH {itself}"), format!("DELETE {itself}"), format!("POST {itself}/rotate")]
    {
        assert_eq!(call(&app, &editor, &line, json!({})).await.0, 403, "{line}");
    }
    // An organization's key is not found in a workspace.
    let (_, admin) = call(&app, &plane.admin, "GET me", Value::Null).await;
    let admin_id = text(&admin, "api_key_id");
    assert_eq!(call(&app, &lead, &format!("GET {keys}/{admin_id}"), Value::Null).await.0, 404);

    // The old credential works for the grace, then no more; the id stays.
    let rotate = format!("POST {itself}/rotate");
    let (status, rotated) = call(&app, &lead, &rotate, json!({"grace_seconds": 60})).await;
    assert_eq!((status, text(&rotated, "id")), (200, lead_id.clone()));
    let newer = text(&rotated, "key");
    assert_eq!(call(&app, &lead, "GET me", Value::Null).await.0, 200);
    assert_eq!(call(&app, &newer, "GET me", Value::Null).await.0, 200);
    plane.management.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(call(&app, &lead, "GET me", Value::Null).await.0, 401);
    let (status, newest) = call(&app, &newer, &rotate, Value::Null).await;
    assert_eq!(status, 200, "{newest}");
    assert_eq!(call(&app, &newer, "GET me", Value::Null).await.0, 401);
    let mut newest = text(&newest, "key");
    for turn in 0..9 {
        let (status, next) = call(&app, &newest, &rotate, json!({"grace_seconds": 900})).await;
        if turn < 7 {
            newest = text(&next, "key");
        } else {
            assert_eq!((status, text(&next, "code").as_str()), (409, "too_many_credentials"));
        }
    }
    let too_long = json!({"grace_seconds": 2_592_001});
    assert_eq!(call(&app, &newest, &rotate, too_long).await.0, 422);

    // Ends and switches.
    let patch = format!("PATCH {itself}");
    let past = json!({"expires_at": "2020-01-01T00:00:00Z"});
    assert_eq!(call(&app, &newest, &patch, past).await.0, 422);
    let soon = json!({"expires_at": "2999-01-01T00:00:00Z", "name": "Lead"});
    let (status, after) = call(&app, &newest, &patch, soon).await;
    assert_eq!((status, text(&after, "name").as_str()), (200, "Lead"));
    let (_, after) = call(&app, &newest, &patch, json!({"expires_at": null})).await;
    assert!(after["expires_at"].is_null());
    let role = json!({"role": "ORGANIZATION_ADMIN"});
    assert_eq!(call(&app, &newest, &patch, role).await.0, 422);
    assert_eq!(call(&app, &plane.admin, &patch, json!({"disabled": true})).await.0, 200);
    assert_eq!(call(&app, &newest, "GET me", Value::Null).await.0, 401);

    // The workspace goes with all its keys, and only if told to.
    let gone = format!("DELETE workspaces/{}", text(&workspace, "id"));
    let (status, problem) = call(&app, &plane.admin, &gone, Value::Null).await;
    assert_eq!((status, text(&problem, "code").as_str()), (409, "workspace_in_use"));
    assert_eq!(call(&app, &plane.admin, &format!("{gone}?force=true"), Value::Null).await.0, 204);
    assert_eq!(call(&app, &editor, "GET me", Value::Null).await.0, 401);
    assert_eq!(call(&app, &plane.admin, &format!("GET {keys}"), Value::Null).await.0, 404);
    let (_, log) = call(&app, &plane.admin, "GET audit-log?limit=1", Value::Null).await;
    assert_eq!(log["data"][0]["operation"], "delete_workspace");
    assert_eq!(log["data"][0]["after"]["deleted"]["api_keys"], 2);
    let again = json!({"name": "Search team"});
    assert_eq!(call(&app, &plane.admin, "POST workspaces", again).await.0, 201);
}

#[actix_web::test]
async fn a_user_takes_their_keys_along() {
    let plane = plane().await;
    let app = plane.app().await;
    let ada = json!({"email": "ada@example.com", "name": "Ada"});
    let (status, user) = call(&app, &plane.admin, "POST users", ada.clone()).await;
    assert_eq!(status, 201, "{user}");
    let (status, taken) = call(&app, &plane.admin, "POST users", ada).await;
    assert_eq!((status, text(&taken, "code").as_str()), (409, "email_taken"));
    let id = text(&user, "id");
    let body = json!({"name": "Ada's", "role": "ORGANIZATION_VIEWER", "user_id": id});
    let (status, key) = call(&app, &plane.admin, "POST api-keys", body.clone()).await;
    assert_eq!(status, 201, "{key}");
    let key = text(&key, "key");
    assert_eq!(call(&app, &key, "GET users", Value::Null).await.0, 200);
    for _ in 0..2 {
        let delete = format!("DELETE users/{id}");
        assert_eq!(call(&app, &plane.admin, &delete, Value::Null).await.0, 204);
    }
    assert_eq!(call(&app, &key, "GET users", Value::Null).await.0, 401);
    assert_eq!(call(&app, &plane.admin, "POST api-keys", body).await.0, 422);
    let patch = format!("PATCH users/{id}");
    assert_eq!(call(&app, &plane.admin, &patch, json!({"status": "active"})).await.0, 200);
    assert_eq!(call(&app, &key, "GET users?status=active", Value::Null).await.0, 200);
    let line = format!("GET audit-log?resource_type=user&resource_id={id}&limit=2");
    let (_, first) = call(&app, &plane.admin, &line, Value::Null).await;
    let cursor = text(&first, "next_cursor");
    let (_, last) = call(&app, &plane.admin, &format!("{line}&cursor={cursor}"), Value::Null).await;
    let operations: Vec<Value> = [&first, &last]
        .into_iter()
        .flat_map(|page| page["data"].as_array().unwrap())
        .map(|event| event["operation"].clone())
        .collect();
    assert_eq!(operations, ["update_user", "deactivate_user", "create_user"]);
    let none = "GET audit-log?from=2999-01-01T00:00:00Z";
    let (_, none) = call(&app, &plane.admin, none, Value::Null).await;
    assert!(none["data"].as_array().unwrap().is_empty());
}

#[actix_web::test]
async fn strangers_learn_nothing_from_their_bodies() {
    let plane = plane().await;
    let app = plane.app().await;
    let stranger = crate::crypto::ApiKeyText::generate(&mut system_random).unwrap();
    let lines = [
        "POST organizations",
        "PATCH organizations/x",
        "POST users",
        "POST workspaces",
        "DELETE workspaces/x?wrong=1",
    ];
    for line in lines {
        let (status, _) = call(&app, stranger.text.expose(), line, json!({"wrong": 1})).await;
        assert_eq!(status, 401, "{line}");
    }
    let viewer = json!({"name": "v", "role": "ORGANIZATION_VIEWER"});
    let (_, viewer) = call(&app, &plane.admin, "POST api-keys", viewer).await;
    plane.management.clock.advance(std::time::Duration::from_secs(1));
    for line in lines {
        let (status, _) = call(&app, &text(&viewer, "key"), line, json!({"wrong": 1})).await;
        assert!(status == 403 || status == 404, "{line} {status}");
    }
    let (status, problem) = call(&app, &plane.admin, "GET users?limit=0x", Value::Null).await;
    assert_eq!((status, problem["errors"][0]["field"].as_str()), (422, Some("limit")));
}
