//! Errors of the management plane: their form, and what every operation says to a request that it
//! can't read. Walks the OpenAPI document, so a new operation is held to the same.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    eventually::eventually,
    fixture::Fixture,
    http::{Answer, Request},
    operations::{Operation, operations, sample},
    tables::differences,
    world::World,
};

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![
        every_body_is_checked_alike,
        ids_that_are_none_name_nothing,
        every_list_is_paged_alike,
        paths_and_methods_that_are_not_there,
        what_was_sent_is_not_quoted,
        problems_are_told_with_the_requests_id,
        json_is_read_strictly,
        an_instant_says_what_it_lacks,
    ]
}

/// Checks an error's form, and returns it.
#[track_caller]
pub(crate) fn problem(answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    let mut fields: Vec<&str> = problem.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let all = ["code", "detail", "errors", "request_id", "status", "title", "type"];
    assert_eq!(fields, all, "{problem}");
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["status"], status, "{problem}");
    assert_eq!(problem["type"], format!("urn:tollgate:problem:{code}"), "{problem}");
    assert!(!problem["title"].as_str().unwrap().is_empty(), "{problem}");
    assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"), "{problem}");
    assert!(answer.header("x-request-id").is_some());
    let named = problem["errors"].as_array().unwrap();
    assert_eq!(code == "invalid_fields", !named.is_empty(), "{problem}");
    problem
}

/// The fields that a 422 names, sorted.
#[track_caller]
pub(crate) fn wrong_fields(answer: &Answer) -> Vec<String> {
    let problem = problem(answer, 422, "invalid_fields");
    let errors = problem["errors"].as_array().unwrap().clone();
    let mut fields: Vec<String> = errors
        .iter()
        .map(|error| {
            assert!(!error["message"].as_str().unwrap().is_empty(), "{error}");
            assert_eq!(error.as_object().unwrap().len(), 2, "{error}");
            error["field"].as_str().unwrap().to_owned()
        })
        .collect();
    fields.sort();
    fields
}

/// The key that may do it.
fn doer(world: &World, operation: &Operation) -> crate::support::http::Client {
    match operation.permissions.iter().any(|one| one == "organizations:write") {
        true => world.app.platform(),
        false => world.admin(),
    }
}

async fn every_body_is_checked_alike(database: Database) {
    let world = World::make(TestApp::start(&database).await).await;
    let mut tried = 0;
    for operation in operations(&world).await {
        if !operation.body || operation.data_plane() {
            continue;
        }
        tried += 1;
        let sample = sample(&world, &operation).await;
        let (client, target) = (doer(&world, &operation), sample.target(&operation));
        let body = sample.body.clone().unwrap();
        let before = database.dump().await;
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
            if broken.is_empty() && id.starts_with("rotate") {
                // The one body that may be left out: checked below.
                continue;
            }
            assert_eq!(answer.status, 400, "{id} {broken:?}: {}", answer.text());
            problem(&answer, 400, "malformed_request");
        }
        for media in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
            let answer = send(media, body.to_string()).await;
            problem(&answer, 415, "unsupported_media_type");
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
        // With a parameter, the media type is the same one.
        let media = "Application/JSON; charset=utf-8";
        assert_eq!(send(media, body.to_string()).await.status, sample.status, "{id}");
    }
    assert!(tried > 12, "{tried}");
}

async fn ids_that_are_none_name_nothing(database: Database) {
    let world = World::make(TestApp::start(&database).await).await;
    let absent = uuid::Uuid::now_v7().to_string();
    for operation in operations(&world).await {
        if operation.data_plane() || operation.public() {
            continue;
        }
        let sample = sample(&world, &operation).await;
        let client = doer(&world, &operation);
        let before = database.dump().await;
        for (place, (name, _)) in sample.parameters.iter().enumerate() {
            if *name == "name" && operation.method == "PUT" {
                continue;
            }
            let long = "9".repeat(3000);
            let quote = "' OR 1=1 --";
            for none in
                ["1", "no-id", absent.as_str(), &absent.to_uppercase(), &long, quote, "é", "a\0b"]
            {
                let mut other = sample.clone();
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

async fn every_list_is_paged_alike(database: Database) {
    let world = World::make(TestApp::start(&database).await).await;
    for name in ["P1", "P2", "P3", "P4"] {
        world.home.team.put_secret(name, "sk-paged-value").await;
        world.home.team.configure(name, json!({})).await;
        world.home.team.key("WORKSPACE_VIEWER").await;
        let person = json!({"name": name, "email": format!("{name}@example.com")});
        world.admin().post_json("/api/v1/users", &person).await.expect(201);
        let team = json!({"name": name, "handle": name.to_lowercase()});
        world.admin().post_json("/api/v1/workspaces", &team).await.expect(201);
        let spare = json!({"name": name, "role": "ORGANIZATION_VIEWER"});
        world.admin().post_json("/api/v1/api-keys", &spare).await.expect(201);
        for provider in ["openai", "*"] {
            let price = json!({"input": 1, "output": 2});
            let price = json!({"provider": provider, "model": name, "price": price});
            world.admin().post_json("/api/v1/model-prices", &price).await.expect(201);
        }
        let tenant = json!({"name": name});
        world.app.platform().post_json("/api/v1/organizations", &tenant).await.expect(201);
    }
    for _ in 0..5 {
        world.home.team.caller().send(Fixture::chat_stream()).await.expect(200);
    }
    let rows = format!("/api/v1/workspaces/{}/requests", world.home.team.workspace_id);
    eventually("the calls are in the ledger", async || {
        let page = world.admin().get(&rows).await.expect(200).json();
        page["data"].as_array().is_some_and(|rows| rows.len() == 5)
    })
    .await;
    let mut tried = 0;
    for operation in operations(&world).await {
        // A plain array, in the form of the API that it is modelled on.
        let plain = operation.id.starts_with("list_gateway_policies");
        if !operation.id.starts_with("list_") || operation.data_plane() || plain {
            continue;
        }
        tried += 1;
        let id = &operation.id;
        let sample = sample(&world, &operation).await;
        let (client, target) = (doer(&world, &operation), sample.target(&operation));
        let all = client.get(&format!("{target}?limit=200")).await.expect(200).json();
        let whole = all["data"].as_array().unwrap().clone();
        assert_eq!(all["next_cursor"], Value::Null, "{id}");
        assert!(whole.len() >= 5, "{id}: {all}");
        for limit in [1, 3, whole.len() - 1, whole.len()] {
            let mut paged = Vec::new();
            let mut next = format!("{target}?limit={limit}");
            loop {
                let page = client.get(&next).await.expect(200).json();
                let data = page["data"].as_array().unwrap();
                paged.extend(data.clone());
                match page["next_cursor"].as_str() {
                    Some(cursor) => {
                        assert_eq!(data.len(), limit, "{id}");
                        next = format!("{target}?limit={limit}&cursor={cursor}");
                    }
                    None => break,
                }
                assert!(paged.len() < whole.len(), "{id}: a page after the last");
            }
            assert_eq!(paged.len(), whole.len(), "{id} by {limit}");
            for (paged, whole) in paged.iter().zip(&whole) {
                assert_eq!(paged["id"], whole["id"], "{id} by {limit}");
                assert_eq!(paged["name"], whole["name"], "{id} by {limit}");
            }
        }
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=-1", "limit"),
            ("limit=many", "limit"),
            ("limit=70000", "limit"),
            ("cursor=", "cursor"),
            ("cursor=nonsense", "cursor"),
            ("cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAA", "cursor"),
            ("no_such=1", "no_such"),
        ] {
            let answer = client.get(&format!("{target}?{query}")).await;
            assert_eq!(wrong_fields(&answer), [field], "{id}?{query}");
        }
        // A cursor that was never given out is a place like any other.
        let answer = client.get(&format!("{target}?cursor=AAAAAAAAAAAAAAAAAAAAAA")).await;
        answer.expect(200);
    }
    assert_eq!(tried, 10);
}

async fn paths_and_methods_that_are_not_there(database: Database) {
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
}

async fn what_was_sent_is_not_quoted(database: Database) {
    let world = World::make(TestApp::start(&database).await).await;
    let secret = "sk-in-the-wrong-place-0123456789";
    crate::support::secrets::register(secret);
    let admin = world.admin();
    let path = world.home.team.path("secrets/WRONG");
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

async fn problems_are_told_with_the_requests_id(database: Database) {
    let app = TestApp::start(&database).await;
    let client = app.admin().with_header("x-request-id", "chosen-by-the-caller");
    let answer = client.get("/api/v1/nothing").await;
    let told = problem(&answer, 404, "not_found");
    assert_ne!(told["request_id"], "chosen-by-the-caller");
    let other = client.get("/api/v1/nothing").await.json();
    assert_ne!(told["request_id"], other["request_id"]);
    let good = client.get("/api/v1/me").await.expect(200);
    assert!(good.header("x-request-id").is_some());
    assert_eq!(good.header("cache-control"), Some("no-store"));
    let nobody = app.anonymous().get("/api/v1/me").await;
    problem(&nobody, 401, "missing_api_key");
    assert!(nobody.header("www-authenticate").unwrap().starts_with("Bearer"));
}

async fn an_instant_says_what_it_lacks(database: Database) {
    let world = World::make(TestApp::start(&database).await).await;
    let admin = world.admin();
    let says = |answer: &Answer, field: &str, part: &str| {
        let problem = problem(answer, 422, "invalid_fields");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        let message = problem["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(part) && !message.contains("input"), "{problem}");
    };
    let date = "such as 2099-12-31T00:00:00Z";
    let body = json!({"name": "k", "role": "ORGANIZATION_VIEWER", "expires_at": "2099-12-31"});
    says(&admin.post_json("/api/v1/api-keys", &body).await, "expires_at", date);
    let (id, _) = world.home.team.key("GATEWAY_CALLER").await;
    let key = world.home.team.path(&format!("api-keys/{id}"));
    let patch = json!({"expires_at": "2099-12-31T08:00"});
    says(&admin.patch(&key, &patch).await, "expires_at", "such as 2099-12-31T08:00:00Z");
    let rows = world.home.team.path("requests");
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

async fn json_is_read_strictly(database: Database) {
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
