//! Bodies and query parameters of the management plane: what is refused, and which fields are named.

use serde_json::json;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    database_dump::differences,
    http::{Answer, Request},
    operations::{example_call, operations, permitted_client},
    problems::{problem, wrong_fields},
    two_tenants::TwoTenants,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        every_operation_rejects_bad_bodies,
        json_is_parsed_strictly,
        all_wrong_fields_are_named_at_once,
        invalid_instants_say_what_is_missing,
        the_example_of_every_body_is_valid,
    ]
}

async fn every_operation_rejects_bad_bodies(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let mut tried = 0;
    for operation in operations(&tenants).await {
        if !operation.body || operation.data_plane() {
            continue;
        }
        tried += 1;
        let example = example_call(&tenants, &operation).await;
        let (client, target) = (permitted_client(&tenants, &operation), example.target(&operation));
        let body = example.body.clone().unwrap();
        let before = database.dump().await;
        let request = Request::new(&operation.method, &target)
            .header("content-encoding", "identity")
            .body("{");
        problem(&client.send(request).await, 400, "malformed_request");
        let send = async |media: &str, body: String| {
            let request = Request::new(&operation.method, &target);
            client.send(request.header("content-type", media).body(body)).await
        };
        let id = &operation.id;

        let mut more = body.clone();
        more["no_such_field"] = json!(1);
        let answer = send("application/json", more.to_string()).await;
        assert_eq!(wrong_fields(&answer), ["no_such_field"], "{id}");

        for broken in ["{", "", "nul", &format!("{body} and more")] {
            let answer = send("application/json", broken.to_owned()).await;
            if broken.is_empty() && (id.starts_with("rotate") || id.starts_with("check")) {
                // This body is optional.
                continue;
            }
            assert_eq!(answer.status, 400, "{id} {broken:?}: {}", answer.text());
            problem(&answer, 400, "malformed_request");
        }
        for media in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
            let answer = send(media, body.to_string()).await;
            problem(&answer, 415, "unsupported_media_type");
        }
        for coding in ["gzip", "identity, ZSTD", "unknown"] {
            let request = Request::new(&operation.method, &target)
                .header("content-type", "application/json")
                .header("content-encoding", coding);
            let answer = client.send(request.body(body.to_string())).await;
            problem(&answer, 415, "unsupported_content_encoding");
            let named = coding.rsplit(' ').next().unwrap();
            let detail = answer.json()["detail"].to_string();
            assert!(
                detail.contains("Content-Encoding") && detail.contains(named),
                "{id}: {detail}"
            );
            assert_eq!(answer.header("accept-encoding"), Some("identity"), "{id}");
        }
        for wrong in ["[]", "1", "\"text\"", "null"] {
            let answer = send("application/json", wrong.to_owned()).await;
            if operation.method != "PATCH" {
                assert_eq!(wrong_fields(&answer), ["body"], "{id} {wrong}");
            }
            assert!(matches!(answer.status, 400 | 422), "{id} {wrong}: {}", answer.text());
        }
        let large = format!("{{\"name\": \"{}\"}}", "x".repeat(1024 * 1024));
        let answer = send("application/json", large).await;
        problem(&answer, 413, "body_too_large");
        let chunk = bytes::Bytes::from("x".repeat(64 * 1024));
        let request = Request::new(&operation.method, &target)
            .header("content-type", "application/json")
            .chunked(std::iter::once(bytes::Bytes::from("\"")).chain(vec![chunk; 17]));
        problem(&client.send(request).await, 413, "body_too_large");

        let changed = differences(&before, &database.dump().await);
        if !id.starts_with("rotate") {
            assert!(changed.is_empty(), "{id}: {changed:#?}");
        }
        // Parameters of the media type do not matter.
        let media = "Application/JSON; charset=utf-8";
        assert_eq!(send(media, body.to_string()).await.status, example.status, "{id}");
    }
    assert!(tried > 12, "{tried}");
}

async fn json_is_parsed_strictly(database: Database) {
    let app = TestApp::start(&database).await;
    let admin = app.admin();
    let send = async |body: String| {
        let request = Request::new("POST", "/api/v1/workspaces");
        admin.send(request.header("content-type", "application/json").body(body)).await
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(send(deep.clone()).await.status / 100, 4);
    assert_eq!(send(format!("{{\"name\": {deep}}}")).await.status / 100, 4);
    assert_eq!(send(format!("{{\"no\": {deep}}}")).await.status / 100, 4);
    let control = "{\"name\": \"\u{1}\"}".to_owned();
    problem(&send(control).await, 400, "malformed_request");
    let array = json!(["By position", "by-position"]).to_string();
    assert_eq!(wrong_fields(&send(array).await), ["body"]);
    let twice = r#"{"name": "one", "name": "two"}"#.to_owned();
    let answer = send(twice).await;
    assert_eq!(wrong_fields(&answer), ["name"]);
    let huge = format!("{{\"name\": {}}}", "9".repeat(5000));
    assert_eq!(send(huge).await.status / 100, 4);
    let broken =
        Request::new("POST", "/api/v1/workspaces").header("content-type", "application/json");
    problem(&admin.send(broken.body(vec![b'"', 0xff, b'"'])).await, 400, "malformed_request");
    let nul = send(json!({"name": "a\0b"}).to_string()).await;
    assert_eq!(wrong_fields(&nul), ["name"]);
}

async fn all_wrong_fields_are_named_at_once(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let configurations = tenants.home.team.path("model-configurations");
    let configuration = format!("{configurations}/{}", tenants.home.team.configuration_id);
    let wrong = json!({
        "name": "..", "base_url": "https://example.com/v1/messages", "provider": "other", "model": "",
        "auth": "host", "timeouts": {"idle_ms": "1", "total_ms": 1}, "no_such": 1,
        "max_concurrent_requests": 0, "price": {"input": "much"},
    });
    let fields = [
        "auth",
        "base_url",
        "max_concurrent_requests",
        "model",
        "name",
        "no_such",
        "price.input",
        "price.output",
        "provider",
        "timeouts.idle_ms",
        "timeouts.total_ms",
    ];
    let answer = admin.post_json(&configurations, &wrong).await;
    assert_eq!(wrong_fields(&answer), fields);
    let answer = admin.patch(&configuration, &wrong).await;
    assert_eq!(wrong_fields(&answer), fields);
    let (key, _) = tenants.home.team.key("GATEWAY_CALLER").await;
    for (method, path, body, fields) in [
        (
            "POST",
            "/api/v1/users".to_owned(),
            json!({"email": "a", "nam": "x"}),
            vec!["email", "nam", "name"],
        ),
        (
            "POST",
            "/api/v1/workspaces".to_owned(),
            json!({"name": "", "handle": "A"}),
            vec!["handle", "name"],
        ),
        (
            "POST",
            "/api/v1/api-keys".to_owned(),
            json!({"role": "GATEWAY_CALLER", "expires_at": "2001-01-01T00:00:00Z", "user_id": 1}),
            vec!["expires_at", "name", "role", "user_id"],
        ),
        (
            "PATCH",
            tenants.home.team.path(&format!("api-keys/{key}")),
            json!({"name": "", "role": "WORKSPACE_ADMIN", "expires_at": "2001-01-01"}),
            vec!["expires_at", "name", "role"],
        ),
        (
            "PUT",
            tenants.home.team.path("secrets/9"),
            json!({"value": "", "description": 1}),
            vec!["description", "name", "value"],
        ),
        (
            "POST",
            "/api/v1/model-prices".to_owned(),
            json!({"provider": "A b", "model": "", "price": {"input": -1}}),
            vec!["model", "price.input", "price.output", "provider"],
        ),
        (
            "POST",
            "/api/v1/model-prices".to_owned(),
            json!({"provider": "openai", "price": {}}),
            vec!["model", "price.input", "price.output"],
        ),
        ("PATCH", configuration.clone(), json!({"price": {}}), vec!["price.input", "price.output"]),
        (
            "POST",
            "/api/v1/gateway-policies".to_owned(),
            json!({"name": "", "policy_type": "spend_cap", "config": {"window": "x"},
                "subject_matchers": [], "priority": "high"}),
            vec!["config.limit_usd", "config.window", "name", "priority", "subject_matchers"],
        ),
    ] {
        let answer = admin.send(Request::new(method, &path).json(&body)).await;
        assert_eq!(wrong_fields(&answer), fields, "{method} {path}");
    }
    for (query, fields) in [
        ("/api/v1/users?limit=x&status=gone&no=1", vec!["limit", "no", "status"]),
        ("/api/v1/users?limit=0&status=gone", vec!["limit", "status"]),
        ("/api/v1/audit-log?limit=0&from=x&to=20000-01-01", vec!["from", "limit", "to"]),
        ("/api/v1/model-prices/resolve", vec!["model", "provider"]),
        ("/api/v1/usage?group_by=x&interval=year&to=1", vec!["group_by", "interval", "to"]),
    ] {
        assert_eq!(wrong_fields(&admin.get(query).await), fields, "{query}");
    }
}

async fn invalid_instants_say_what_is_missing(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let says = |answer: &Answer, field: &str, part: &str| {
        let problem = problem(answer, 422, "invalid_fields");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        let message = problem["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(part) && !message.contains("input"), "{problem}");
    };
    let date = "such as 2099-12-31T00:00:00Z";
    let body = json!({"name": "k", "role": "ORGANIZATION_VIEWER", "expires_at": "2099-12-31"});
    says(&admin.post_json("/api/v1/api-keys", &body).await, "expires_at", date);
    let (id, _) = tenants.home.team.key("GATEWAY_CALLER").await;
    let key = tenants.home.team.path(&format!("api-keys/{id}"));
    let patch = json!({"expires_at": "2099-12-31T08:00"});
    says(&admin.patch(&key, &patch).await, "expires_at", "such as 2099-12-31T08:00:00Z");
    let rows = tenants.home.team.path("requests");
    for list in ["/api/v1/audit-log", "/api/v1/usage", &rows] {
        for field in ["from", "to"] {
            says(&admin.get(&format!("{list}?{field}=2099-12-31")).await, field, date);
            let unescaped = format!("{list}?{field}=2099-12-31T08:00:00+02:00");
            says(&admin.get(&unescaped).await, field, "%2B");
            let none = format!("{list}?{field}=");
            says(&admin.get(&none).await, field, "RFC 3339");
        }
    }
}

async fn the_example_of_every_body_is_valid(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let document = tenants.app.anonymous().get("/openapi.json").await.expect(200).json();
    tenants.home.team.put_secret("OPENAI_KEY", "sk-of-an-example").await;
    let mut tried = 0;
    for operation in operations(&tenants).await {
        if !operation.body || operation.method == "PATCH" {
            continue;
        }
        tried += 1;
        let described = &document["paths"][&operation.path][operation.method.to_lowercase()];
        let content = &described["requestBody"]["content"]["application/json"];
        let schema = match content["schema"]["$ref"].as_str() {
            Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
            None => &content["schema"]["oneOf"],
        };
        let mut examples = vec![content["example"].clone(), schema["example"].clone()];
        for (_, one) in content["examples"].as_object().into_iter().flatten() {
            examples.push(one["value"].clone());
        }
        examples.retain(|example| example.is_object());
        if operation.id.starts_with("rotate") {
            examples.push(json!({"grace_seconds": 3600}));
        }
        assert!(!examples.is_empty(), "{} has no example: {content}", operation.id);
        let mut statuses = Vec::new();
        for example in &examples {
            let call = example_call(&tenants, &operation).await;
            let client = match operation.data_plane() {
                true => tenants.home.team.caller(),
                false => permitted_client(&tenants, &operation),
            };
            let mut example = example.clone();
            if example["base_url"].is_string() {
                // Not a name that this machine would resolve.
                example["base_url"] = json!(tenants.home.team.upstream.base_url());
            }
            if operation.id.ends_with("of_any_model") {
                // One that this workspace has.
                example["model"] = call.body.as_ref().unwrap()["model"].clone();
            }
            let target = call.target(&operation);
            let answer = client.send(Request::new(&operation.method, &target).json(&example)).await;
            statuses.push(answer.status);
        }
        // Of several examples, one may be for another scope.
        let good = |status: &u16| matches!(status, 200 | 201 | 409);
        assert!(statuses.iter().any(good), "{} {examples:?}: {statuses:?}", operation.id);
    }
    assert!(tried > 15, "{tried}");
}
