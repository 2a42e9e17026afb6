//! Errors of the management plane: unknown paths and ids, and what every answer says and does not say.

use serde_json::json;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    database_dump::differences,
    http::Request,
    operations::{example_call, operations, permitted_client},
    problems::problem,
    secrets,
    two_tenants::TwoTenants,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        malformed_and_unknown_ids_get_404,
        unknown_paths_get_404_and_wrong_methods_405,
        errors_do_not_quote_the_request,
        errors_carry_the_request_id,
    ]
}

async fn malformed_and_unknown_ids_get_404(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let absent = uuid::Uuid::now_v7().to_string();
    for operation in operations(&tenants).await {
        if operation.data_plane() || operation.public() {
            continue;
        }
        let example = example_call(&tenants, &operation).await;
        let client = permitted_client(&tenants, &operation);
        let before = database.dump().await;
        for (place, (name, _)) in example.parameters.iter().enumerate() {
            if *name == "name" && operation.method == "PUT" {
                continue;
            }
            let long = "9".repeat(3000);
            let quote = "' OR 1=1 --";
            for none in
                ["1", "no-id", absent.as_str(), &absent.to_uppercase(), &long, quote, "é", "a\0b"]
            {
                let mut other = example.clone();
                other.parameters[place].1 = none.to_owned();
                let answer = client.send(other.request(&operation)).await;
                assert_eq!(
                    answer.status,
                    404,
                    "{} {name} {none:?}: {}",
                    operation.id,
                    answer.text()
                );
                problem(&answer, 404, "not_found");
            }
        }
        let changed = differences(&before, &database.dump().await);
        assert!(changed.is_empty(), "{}: {changed:#?}", operation.id);
    }
}

async fn unknown_paths_get_404_and_wrong_methods_405(database: Database) {
    let app = TestApp::start(&database).await;
    let admin = app.admin();
    problem(&admin.get("/api/v1/nothing").await, 404, "not_found");
    problem(&admin.get("/api/v1").await, 404, "not_found");
    problem(&admin.get("/api/v1/workspaces/").await, 404, "not_found");
    problem(&admin.get("/api/v2/workspaces").await, 404, "not_found");
    problem(&app.anonymous().get("/nothing").await, 404, "not_found");
    problem(&app.anonymous().get("/api/v1/nothing").await, 401, "missing_api_key");

    let answer = admin.delete("/api/v1/workspaces").await;
    problem(&answer, 405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET, POST"));
    let answer = admin.put("/api/v1/me", &json!({})).await;
    problem(&answer, 405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET"));
    problem(&app.anonymous().delete("/healthz").await, 405, "method_not_allowed");
    for path in ["/docs", "/docs/", "/docs/index.html"] {
        for method in ["HEAD", "POST", "PUT", "OPTIONS", "DELETE"] {
            let answer = app.anonymous().send(Request::new(method, path)).await;
            assert_eq!(
                (answer.status, answer.header("allow")),
                (405, Some("GET")),
                "{method} {path}"
            );
        }
    }
    app.anonymous().get("/docs/").await.expect(200);
    assert_eq!(app.anonymous().get("/docs").await.header("location"), Some("/docs/"));
    for path in ["/healthz", "/readyz"] {
        let shown = app.anonymous().get(path).await.expect(200);
        let head = app.anonymous().send(Request::new("HEAD", path)).await.expect(200);
        assert_eq!(head.header("content-type"), shown.header("content-type"), "{path}");
        assert_eq!(head.header("content-length"), shown.header("content-length"), "{path}");
        assert!(head.body.is_empty(), "{path}");
    }
    // Not the methods of a path whose parameter would match, nor its operations.
    for (method, path, allow) in [
        ("PATCH", "/api/v1/model-prices/resolve", "GET"),
        ("DELETE", "/api/v1/model-prices/resolve", "GET"),
        ("OPTIONS", "/api/v1/model-prices/resolve", "GET"),
        ("GET", "/api/v1/gateway-policies/search", "POST"),
        ("PATCH", "/api/v1/platform/gateway-policies/search", "POST"),
        ("OPTIONS", "/v1/platform/gateway-policies/search", "POST"),
        ("POST", "/api/v1/users/no-id", "DELETE, GET, PATCH"),
        ("OPTIONS", "/api/v1/openapi.json", "GET"),
    ] {
        let request = Request::new(method, path).header("content-type", "text/plain").body("{");
        let answer = admin.send(request).await;
        problem(&answer, 405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
}

async fn errors_do_not_quote_the_request(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let secret = "sk-in-the-wrong-place-0123456789";
    secrets::register(secret);
    let admin = tenants.admin();
    let path = tenants.home.team.path("secrets/WRONG");
    for body in [
        json!(secret),
        json!([secret]),
        json!({"value": [secret]}),
        json!({"value": {"inner": secret}}),
        json!({"value": "fine value", "description": [secret]}),
        json!({"description": secret}),
    ] {
        let answer = admin.put(&path, &body).await;
        assert!(matches!(answer.status, 400 | 422), "{body}: {}", answer.text());
        assert!(!answer.text().contains(secret), "{body}: {}", answer.text());
    }
    let broken = format!("{{\"value\": \"{secret}\", }}");
    let request =
        Request::new("PUT", &path).header("content-type", "application/json").body(broken);
    let answer = admin.send(request).await;
    problem(&answer, 400, "malformed_request");
    assert!(!answer.text().contains(secret), "{}", answer.text());
    admin.get(&path).await.expect(404);
}

async fn errors_carry_the_request_id(database: Database) {
    let app = TestApp::start(&database).await;
    let client = app.admin().with_header("x-request-id", "chosen-by-the-caller");
    let answer = client.get("/api/v1/nothing").await;
    let document = problem(&answer, 404, "not_found");
    assert_ne!(document["request_id"], "chosen-by-the-caller");
    let other = client.get("/api/v1/nothing").await.json();
    assert_ne!(document["request_id"], other["request_id"]);
    let good = client.get("/api/v1/me").await.expect(200);
    assert!(good.header("x-request-id").is_some());
    assert_eq!(good.header("cache-control"), Some("no-store"));
    let nobody = app.anonymous().get("/api/v1/me").await;
    problem(&nobody, 401, "missing_api_key");
    assert!(nobody.header("www-authenticate").unwrap().starts_with("Bearer"));
}
