//! Handlers in one process, from the front door of the plane to an embedded database.

mod resources;

use actix_web::body::BoxBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::{App, Error, HttpRequest, HttpResponse, HttpServer, test, web};
use serde_json::{Value, json};

use super::*;

use crate::accounting::estimate::Estimator;
use crate::accounting::journal::JournalOptions;
use crate::accounting::ledger::{Ledger, LedgerParts};
use crate::audit::Actor;
use crate::auth::Scope;
use crate::auth::issue::{NewKey, issue_key};
use crate::crypto::{KeyDigester, Keyring, system_random};
use crate::db::{Concerns, Conn, Location};
use crate::directory::DirectoryOptions;
use crate::domain::names::DisplayName;
use crate::domain::permissions::Role;
use crate::domain::scope::WorkspaceScope;
use crate::llm::limits::AssumedLimits;
use crate::policy::admission::Admission;
use crate::policy::child_queue::ChildQueue;
use crate::policy::limits::Counters;
use crate::telemetry::request_reporter::RequestReporter;
use crate::upstream::{UpstreamClient, UpstreamSettings, tls_config};

const SECRET: &str = "sk-for-the-upstream";

struct Plane {
    management: web::Data<Management>,
    workspace: String,
    admin: String,
    editor: String,
    platform: String,
    _folder: tempfile::TempDir,
}

async fn plane() -> Plane {
    let folder = tempfile::tempdir().unwrap();
    let keyring = Keyring::generate(&mut system_random).unwrap();
    let keyring = KeyringHandle::create_file(&folder.path().join("keys"), &keyring).unwrap();
    let location = Location::Sqlite(folder.path().join("tollgate.db"));
    let database = Database::open(location, 2, std::time::Duration::from_secs(5)).unwrap();
    database.migrate().await.unwrap();
    let options = DirectoryOptions {
        capacity: 100,
        max_stale: std::time::Duration::from_secs(60),
        poll: std::time::Duration::from_secs(60),
    };
    let digester = KeyDigester::new(&mut system_random).unwrap();
    let directory =
        Directory::start(database.clone(), options, digester, Default::default()).await.unwrap();
    let clock = Clock::default();
    let (scope, keys) = populate(&database, &clock).await;
    let [admin, editor, platform] = keys;
    let accounting = accounting(&database, &directory, &clock, folder.path()).await;
    let management = Management {
        database,
        directory,
        keyring,
        accounting,
        clock,
        trusted_proxies: TrustedProxies::default(),
        egress: EgressRules::new(vec!["127.0.0.0/8".parse().unwrap()]),
        metrics: Metrics::new(),
        readiness: Readiness::default(),
    };
    Plane {
        management: web::Data::new(management),
        workspace: format!("/api/v1/workspaces/{}", scope.workspace_id),
        admin,
        editor,
        platform,
        _folder: folder,
    }
}

/// Accounting whose journal is in this folder.
async fn accounting(
    database: &Database,
    directory: &Directory,
    clock: &Clock,
    folder: &std::path::Path,
) -> Accounting {
    let metrics = Metrics::new();
    let parts = LedgerParts {
        database: database.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        readiness: Readiness::default(),
        retention_days: 0,
    };
    let options = JournalOptions::new(folder.join("journal"), 1 << 20);
    Accounting {
        admission: Admission::new(
            directory.clone(),
            database.clone(),
            Counters::in_memory(),
            ChildQueue::default(),
            clock.clone(),
            metrics.clone(),
            std::sync::Arc::new(|| Box::pin(async { Ok(()) })),
        ),
        ledger: Ledger::open(options, parts, async |_| {}).await.unwrap(),
        estimator: Estimator::default(),
        reporter: RequestReporter::start(metrics).unwrap(),
        clock: clock.clone(),
        assumed_limits: AssumedLimits { context_tokens: 128_000, output_tokens: 16_000 },
    }
}

async fn populate(database: &Database, clock: &Clock) -> (WorkspaceScope, [String; 3]) {
    use crate::db::organizations::{OrganizationRow, insert_organization};
    use crate::db::workspaces::{WorkspaceRow, insert_workspace};
    use crate::domain::names::Handle;

    let actor = Actor::command_line(clock);
    let scope = WorkspaceScope { organization_id: clock.new_id(), workspace_id: clock.new_id() };
    let keys = database
        .write(Concerns::Everybody, async move |conn: &mut Conn| {
            let now = actor.now.naive_utc();
            let organization = OrganizationRow {
                id: scope.organization_id,
                name: DisplayName::parse("o").unwrap(),
                status: "active".to_owned(),
                created_at: now,
                updated_at: now,
                deleted_at: None,
            };
            insert_organization(conn, organization).await?;
            let workspace = WorkspaceRow {
                id: scope.workspace_id,
                organization_id: scope.organization_id,
                name: DisplayName::parse("w").unwrap(),
                handle: Handle::parse("w").unwrap(),
                created_at: now,
                updated_at: now,
                deleted_at: None,
            };
            insert_workspace(conn, workspace).await?;
            let mut keys = Vec::new();
            for (role, scope) in [
                (Role::WorkspaceAdmin, Scope::Workspace(scope)),
                (Role::WorkspaceEditor, Scope::Workspace(scope)),
                (Role::PlatformAdmin, Scope::Platform),
            ] {
                let name = DisplayName::parse("k").unwrap();
                let new = NewKey { scope, role, name, user_id: None, expires_at: None };
                let issued = issue_key(conn, &actor, new).await.unwrap();
                keys.push(issued.text.expose().to_owned());
            }
            Ok::<_, crate::db::DbError>(keys)
        })
        .await
        .unwrap();
    (scope, keys.try_into().unwrap())
}

impl Plane {
    async fn serve(
        &self,
        exposure: Exposure,
    ) -> impl Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = Error> {
        let upstream = UpstreamSettings {
            egress: self.management.egress.clone(),
            tls: tls_config(None).unwrap(),
            idle_keep_alive: std::time::Duration::from_secs(1),
        };
        let app = App::new()
            .app_data(self.management.clone())
            .app_data(web::Data::new(UpstreamClient::new(&upstream)))
            .configure(|config| configure(config, exposure));
        test::init_service(app).await
    }
}

async fn call(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = Error>,
    request: &str,
    key: &str,
    body: Value,
) -> (StatusCode, Value) {
    let (method, path) = request.split_once(' ').unwrap();
    let mut request = test::TestRequest::with_uri(path).method(method.parse().unwrap());
    if !key.is_empty() {
        request = request.insert_header(("authorization", format!("Bearer {key}")));
    }
    if !body.is_null() {
        request = request.set_json(body);
    }
    let response = match test::try_call_service(app, request.to_request()).await {
        Ok(response) => response,
        Err(error) => panic!("{error}"),
    };
    let status = response.status();
    let bytes = test::read_body(response).await;
    assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "a value came out");
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

#[actix_web::test]
async fn a_secret_lives_and_is_used() {
    let plane = plane().await;
    let app = plane.serve(Exposure::Full).await;
    let (admin, w) = (&plane.admin, &plane.workspace);
    let secret = format!("{w}/secrets/KEY");
    let put = |value: &str| json!({"value": value, "description": "d"});

    // Who has no key hears of that alone, whatever else is wrong.
    let (status, problem) = call(&app, &format!("PUT {secret}"), "", json!("nonsense")).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("missing_api_key")));
    let (status, _) = call(&app, &format!("PUT {secret}"), &plane.editor, json!("x")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, _) = call(&app, &format!("PUT {secret}"), &plane.platform, put(SECRET)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);

    let (status, made) = call(&app, &format!("PUT {secret}"), admin, put(SECRET)).await;
    assert_eq!((status, &made["version"]), (StatusCode::CREATED, &json!(1)), "{made}");
    let (status, again) =
        call(&app, &format!("PUT {secret}"), admin, json!({"value": SECRET})).await;
    assert_eq!((status, &again["version"]), (StatusCode::OK, &json!(2)));
    assert_eq!(again["description"], "d");
    assert_eq!(again["fingerprint"], made["fingerprint"]);
    let (status, other) = call(&app, &format!("PUT {w}/secrets/9"), admin, put("x")).await;
    assert_eq!(
        (status, &other["errors"][0]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("name"))
    );

    // A configuration begins to use it.
    let fields = json!({
        "name": "a/b", "base_url": "http://127.0.0.1:1/v1", "model": "m", "api_key_name": "KEY",
        "extra_headers": {"X-Other": "{{secret:OTHER}}"},
    });
    let create = format!("POST {w}/model-configurations");
    let (status, problem) = call(&app, &create, admin, fields.clone()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["errors"][0]["field"], "extra_headers.X-Other", "{problem}");
    call(&app, &format!("PUT {w}/secrets/OTHER"), admin, put("two\nlines")).await;
    let (status, problem) = call(&app, &create, admin, fields.clone()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    call(&app, &format!("PUT {w}/secrets/OTHER"), admin, put("one line")).await;
    let (status, made) = call(&app, &create, admin, fields.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let (status, _) = call(&app, &create, admin, fields).await;
    assert_eq!(status, StatusCode::CONFLICT);

    // So it can't go, nor become what no header carries.
    let (status, problem) = call(&app, &format!("DELETE {secret}"), admin, Value::Null).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("secret_in_use")));
    assert!(problem["detail"].as_str().unwrap().contains("a/b"));
    let (status, _) = call(&app, &format!("PUT {w}/secrets/OTHER"), admin, put("a\nb")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (_, list) = call(&app, &format!("GET {w}/secrets?limit=1"), admin, Value::Null).await;
    assert_eq!(list["data"][0]["used_by"][0]["id"], made["id"]);
    assert!(list["next_cursor"].is_string());

    let id = made["id"].as_str().unwrap();
    let delete = format!("DELETE {w}/model-configurations/{id}");
    assert_eq!(call(&app, &delete, &plane.editor, Value::Null).await.0, StatusCode::FORBIDDEN);
    assert_eq!(call(&app, &delete, admin, Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(call(&app, &delete, admin, Value::Null).await.0, StatusCode::NOT_FOUND);
    let (status, _) = call(&app, &format!("DELETE {secret}"), admin, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = call(&app, &format!("GET {secret}"), admin, Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[actix_web::test]
async fn an_editor_changes_all_but_where_requests_go() {
    let plane = plane().await;
    let app = plane.serve(Exposure::Full).await;
    let (admin, editor, w) = (&plane.admin, &plane.editor, &plane.workspace);
    let fields = json!({"name": "c", "base_url": "https://192.0.2.1/v1", "model": "m"});
    let create = format!("POST {w}/model-configurations");
    let (status, problem) = call(&app, &create, admin, fields).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(problem["detail"].as_str().unwrap().contains("192.0.2.0/24"), "{problem}");
    let fields = json!({"name": "c", "base_url": "https://127.0.0.1/v1/", "model": "m"});
    let (status, _) = call(&app, &create, editor, fields.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, made) = call(&app, &create, admin, fields).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let patch = format!("PATCH {w}/model-configurations/{}", made["id"].as_str().unwrap());
    let same = json!({
        "base_url": "https://127.0.0.1:443/v1", "auth": "Bearer", "model": "n",
        "timeouts": {"idle_ms": 5}, "default_parameters": {"temperature": 0.5},
    });
    let (status, changed) = call(&app, &patch, editor, same).await;
    assert_eq!((status, &changed["model"]), (StatusCode::OK, &json!("n")), "{changed}");
    for forbidden in [
        json!({"base_url": "https://127.0.0.2/v1"}),
        json!({"api_key_name": "KEY"}),
        json!({"auth": "api-key"}),
        json!({"extra_headers": {"x-a": "b"}}),
        json!({"forward_headers": ["x-a"]}),
    ] {
        let (status, _) = call(&app, &patch, editor, forbidden.clone()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{forbidden}");
    }
    let (status, problem) = call(&app, &patch, editor, json!({"ids": "x"})).await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("ids"))
    );
    let (status, changed) =
        call(&app, &patch, admin, json!({"forward_headers": ["X-A"], "enabled": false})).await;
    assert_eq!((status, &changed["forward_headers"]), (StatusCode::OK, &json!(["x-a"])));
}

#[actix_web::test]
async fn a_check_tells_what_the_upstream_said() {
    async fn models(request: HttpRequest) -> HttpResponse {
        let key = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        if key != Some(&format!("Bearer {SECRET}")) {
            return HttpResponse::Unauthorized().body(format!("{key:?} is wrong"));
        }
        HttpResponse::Ok().json(json!({"data": [{"id": "m"}]}))
    }
    async fn token(body: web::Json<Value>) -> HttpResponse {
        assert_eq!(body["model"], "m");
        // As newer models do.
        if body.get("max_tokens").is_some() {
            return HttpResponse::BadRequest().finish();
        }
        HttpResponse::Ok().json(json!({"choices": []}))
    }
    let server = HttpServer::new(|| {
        App::new()
            .route("/v1/models", web::get().to(models))
            .route("/unlisted/chat/completions", web::post().to(token))
    })
    .workers(1)
    .disable_signals()
    .bind(("127.0.0.1", 0))
    .unwrap();
    let port = server.addrs()[0].port();
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);

    let plane = plane().await;
    let app = plane.serve(Exposure::Full).await;
    let (admin, w) = (&plane.admin, &plane.workspace);
    call(&app, &format!("PUT {w}/secrets/KEY"), admin, json!({"value": SECRET})).await;
    let fields = json!({
        "name": "c", "base_url": format!("http://127.0.0.1:{port}/v1"), "model": "m",
        "api_key_name": "KEY",
    });
    let (_, made) = call(&app, &format!("POST {w}/model-configurations"), admin, fields).await;
    let configuration = format!("{w}/model-configurations/{}", made["id"].as_str().unwrap());
    let check = format!("POST {configuration}/check");
    let patch = format!("PATCH {configuration}");

    let (status, found) = call(&app, &check, admin, Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{found}");
    assert_eq!((&found["ok"], &found["model_listed"]), (&json!(true), &json!(true)), "{found}");
    call(&app, &patch, admin, json!({"model": "other"})).await;
    let (_, found) = call(&app, &check, &plane.editor, Value::Null).await;
    assert_eq!((&found["ok"], &found["model_listed"]), (&json!(false), &json!(false)), "{found}");
    call(&app, &format!("PUT {w}/secrets/KEY"), admin, json!({"value": "wrong"})).await;
    let (_, found) = call(&app, &check, admin, Value::Null).await;
    assert_eq!((&found["reachable"], &found["status"]), (&json!(true), &json!(401)), "{found}");
    assert!(!found["message"].as_str().unwrap().contains("is wrong"));
    let unlisted = json!({"model": "m", "base_url": format!("http://127.0.0.1:{port}/unlisted")});
    call(&app, &patch, admin, unlisted).await;
    let (_, found) = call(&app, &check, admin, Value::Null).await;
    assert_eq!((&found["ok"], &found["model_listed"]), (&json!(true), &Value::Null), "{found}");
    call(&app, &patch, admin, json!({"base_url": "http://127.0.0.1:1/v1"})).await;
    let (_, found) = call(&app, &check, admin, Value::Null).await;
    assert_eq!((&found["reachable"], &found["status"]), (&json!(false), &Value::Null), "{found}");
    handle.stop(false).await;
}

#[actix_web::test]
async fn operations_and_what_is_not_there() {
    let plane = plane().await;
    let app = plane.serve(Exposure::Full).await;
    let none = Value::Null;
    for (request, key, expected) in [
        ("GET /healthz", "", 200),
        ("GET /version", "", 200),
        ("GET /openapi.json", "", 200),
        ("GET /api/v1/openapi.json", "", 200),
        ("GET /docs/", "", 200),
        ("GET /docs", "", 308),
        ("GET /nothing", "", 404),
        ("POST /healthz", "", 405),
        ("GET /readyz", "", 503),
        ("GET /metrics", "", 401),
        ("GET /metrics", plane.admin.as_str(), 403),
        ("GET /metrics", plane.platform.as_str(), 200),
        ("GET /api/v1/nothing", "", 401),
        ("GET /api/v1/nothing", plane.admin.as_str(), 404),
        ("DELETE /api/v1/me", plane.admin.as_str(), 405),
    ] {
        let (status, body) = call(&app, request, key, none.clone()).await;
        assert_eq!(status.as_u16(), expected, "{request}: {body}");
    }
    plane.management.readiness.set_ready();
    let (status, report) = call(&app, "GET /readyz", "", none.clone()).await;
    assert_eq!((status, &report["details"]), (StatusCode::OK, &none));
    let (_, report) = call(&app, "GET /readyz", &plane.platform, none.clone()).await;
    assert_eq!(report["details"]["database_reachable"], true, "{report}");
    plane.management.readiness.set_draining();
    let (status, _) = call(&app, "GET /readyz", "", none.clone()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);

    let callers = plane.serve(Exposure::HealthOnly).await;
    for (request, expected) in
        [("GET /healthz", 200), ("GET /metrics", 404), ("POST /api/v1/me", 404)]
    {
        let (status, _) = call(&callers, request, &plane.platform, none.clone()).await;
        assert_eq!(status.as_u16(), expected, "{request}");
    }
    let admins = plane.serve(Exposure::AdminPort).await;
    assert_eq!(call(&admins, "GET /metrics", "", none.clone()).await.0, StatusCode::OK);
    let (_, report) = call(&admins, "GET /readyz", "", none).await;
    assert!(report["details"].is_object());
}
