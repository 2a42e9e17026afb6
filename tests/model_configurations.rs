//! Model configurations: fields, patches, and who may change where they point to.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    database_dump::differences,
    fixture::Fixture,
    problems::{problem, wrong_fields},
    two_tenants::{TwoTenants, text},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        omitted_fields_have_defaults,
        a_patch_changes_only_what_it_names,
        every_wrong_field_is_named,
        names_are_unique_among_undeleted_configurations,
        an_editor_cannot_change_where_requests_go,
        a_disabled_configuration_gets_404,
    ]
}

async fn omitted_fields_have_defaults(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let (admin, path) = (app.admin(), team.path("model-configurations"));
    let base = team.upstream.base_url();
    let body = json!({"name": "bare", "base_url": format!("{base}/"), "model": "m"});
    let made = admin.post_json(&path, &body).await.expect(201);
    let id = text(&made.json(), "id");
    assert_eq!(made.header("location"), Some(format!("{path}/{id}").as_str()));
    let mut made = made.json();
    assert_eq!(admin.get(&format!("{path}/{id}")).await.expect(200).json(), made);
    assert_eq!(made["created_at"], made["updated_at"]);
    for field in ["id", "created_at", "updated_at"] {
        made.as_object_mut().unwrap().remove(field);
    }
    let expected = json!({
        "name": "bare", "base_url": base, "model": "m", "provider": "openai_compatible",
        "description": null, "api_key_name": null, "auth": "bearer", "extra_headers": {},
        "forward_headers": [], "default_parameters": {}, "stream_usage": "inject", "timeouts": {},
        "max_concurrent_requests": null, "enabled": true,
        "price": null, "context_window": null, "max_output_tokens": null, "oauth": null, "strict_conversion": false,
    });
    assert_eq!(made, expected);
}

async fn a_patch_changes_only_what_it_names(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    team.put_secret("TEAM", "sk-team-value").await;
    let full = json!({
        "description": "Before", "extra_headers": {"x-a": "1", "x-b": "{{secret:TEAM}}"},
        "forward_headers": ["x-trace"], "default_parameters": {"temperature": 0.5, "top_p": 1},
        "timeouts": {"connect_ms": 1000, "idle_ms": 2000}, "max_concurrent_requests": 5,
    });
    let id = team.configure("patched", full).await;
    let (admin, path) = (app.admin(), team.path(&format!("model-configurations/{id}")));
    let before = admin.get(&path).await.expect(200).json();
    let same = |left: &Value, right: &Value, but: &[&str]| {
        for (field, value) in left.as_object().unwrap() {
            if field != "updated_at" && !but.contains(&field.as_str()) {
                assert_eq!(value, &right[field], "{field}");
            }
        }
    };
    let after = admin.patch(&path, &json!({})).await.expect(200).json();
    same(&before, &after, &[]);
    let patch = json!({"extra_headers": {"x-a": null, "x-c": "3"}, "timeouts": {"idle_ms": null}});
    let after = admin.patch(&path, &patch).await.expect(200).json();
    same(&before, &after, &["extra_headers", "timeouts"]);
    assert_eq!(after["extra_headers"], json!({"x-b": "{{secret:TEAM}}", "x-c": "3"}));
    assert_eq!(after["timeouts"], json!({"connect_ms": 1000}));
    let patch = json!({
        "description": null, "max_concurrent_requests": null, "forward_headers": ["x-other"],
        "default_parameters": {"temperature": null, "seed": 1},
    });
    let after = admin.patch(&path, &patch).await.expect(200).json();
    assert_eq!(after["description"], Value::Null);
    assert_eq!(after["max_concurrent_requests"], Value::Null);
    assert_eq!(after["forward_headers"], json!(["x-other"]), "lists are replaced");
    assert_eq!(after["default_parameters"], json!({"top_p": 1, "seed": 1}));
    // Removing a missing key is allowed in a map, but not in a structure.
    admin.patch(&path, &json!({"extra_headers": {"x-never": null}})).await.expect(200);
    for (patch, field) in [
        (json!({"name": null}), "name"),
        (json!({"base_url": null}), "base_url"),
        (json!({"made_at": null}), "made_at"),
        (json!({"extra_header": null}), "extra_header"),
        (json!({"timeouts": {"idel_ms": null}}), "timeouts.idel_ms"),
        (json!({"timeouts": {"idel_ms": 1}}), "timeouts.idel_ms"),
        (json!({"timeouts": {"idle_ms": "1"}}), "timeouts.idle_ms"),
    ] {
        assert_eq!(wrong_fields(&admin.patch(&path, &patch).await), [field], "{patch}");
    }
}

async fn every_wrong_field_is_named(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let (admin, path) = (app.admin(), team.path("model-configurations"));
    let existing = format!("{path}/{}", team.configuration_id);
    let before = database.dump().await;
    for (field, value, named) in [
        ("name", json!(".."), "name"),
        ("name", json!("a\u{7f}"), "name"),
        ("name", json!("x".repeat(129)), "name"),
        ("provider", json!("other"), "provider"),
        ("base_url", json!("ftp://example.com"), "base_url"),
        ("base_url", json!("https://u:p@example.com/"), "base_url"),
        ("base_url", json!("https://example.com/#f"), "base_url"),
        ("base_url", json!("http://169.254.169.254/v1"), "base_url"),
        ("base_url", json!("https://10.0.0.1/v1"), "base_url"),
        ("base_url", json!("https://[::ffff:10.0.0.1]/v1"), "base_url"),
        ("base_url", json!("https://167772161/v1"), "base_url"),
        ("base_url", json!("http://8.8.8.8/v1"), "base_url"),
        ("base_url", json!("https://example.com/v1/chat/completions"), "base_url"),
        ("base_url", json!("https://example.com/v1/responses/?a=b"), "base_url"),
        ("base_url", json!("https://example.com/v1/messages"), "base_url"),
        ("base_url", json!("https://example.com/v1/CHAT/Completions"), "base_url"),
        ("base_url", json!("https://example.com/v1/responses/compact"), "base_url"),
        ("base_url", json!("https://example.com/v1/embeddings"), "base_url"),
        ("base_url", json!("https://example.com/v1/completions"), "base_url"),
        ("base_url", json!("https://example.com/v1/models"), "base_url"),
        ("base_url", json!("https://example.com/v1/models/g:generateContent"), "base_url"),
        ("base_url", json!("https://example.com/model/x/converse"), "base_url"),
        ("model", json!(""), "model"),
        ("model", json!("x".repeat(257)), "model"),
        ("api_key_name", json!("NO_SUCH"), "api_key_name"),
        ("api_key_name", json!("9"), "api_key_name"),
        ("auth", json!("host"), "auth"),
        ("auth", json!("x y"), "auth"),
        ("extra_headers", json!({"x-a": "a\r\nb: c"}), "extra_headers.x-a"),
        ("extra_headers", json!({"x-a": "{{secret:NO_SUCH}}"}), "extra_headers.x-a"),
        ("extra_headers", json!({"x-tollgate-a": "b"}), "extra_headers.x-tollgate-a"),
        ("extra_headers", json!({"authorization": "b"}), "extra_headers.authorization"),
        ("forward_headers", json!(["x-api-key"]), "forward_headers[0]"),
        ("forward_headers", json!(["x-team", "OpenAI-Organization"]), "forward_headers[1]"),
        ("forward_headers", json!(["X-Amz-Date"]), "forward_headers[0]"),
        ("forward_headers", json!(["x-gateway-project"]), "forward_headers[0]"),
        ("forward_headers", json!(["x-forwarded-for"]), "forward_headers[0]"),
        ("default_parameters", json!({"model": "x"}), "default_parameters.model"),
        ("default_parameters", json!({"a": "x".repeat(17_000)}), "default_parameters"),
        ("stream_usage", json!("sometimes"), "stream_usage"),
        ("timeouts", json!({"connect_ms": 0}), "timeouts.connect_ms"),
        ("timeouts", json!({"idle_ms": 3_600_001}), "timeouts.idle_ms"),
        ("timeouts", json!({"total_ms": 1}), "timeouts.total_ms"),
        ("max_concurrent_requests", json!(0), "max_concurrent_requests"),
        ("max_concurrent_requests", json!(-1), "max_concurrent_requests"),
        ("max_concurrent_requests", json!(100_001), "max_concurrent_requests"),
        ("enabled", json!("yes"), "enabled"),
        ("price", json!({"input": 1}), "price.output"),
        ("price", json!({"input": -1, "output": 1}), "price.input"),
        ("price", json!({"input": 1, "output": 1, "cached": 1}), "price.cached"),
        ("price", json!({"input": 1, "output": 1_000_001}), "price.output"),
        ("context_window", json!(0), "context_window"),
        ("max_output_tokens", json!(1_000_000_001_u64), "max_output_tokens"),
        ("description", json!("x".repeat(1025)), "description"),
    ] {
        let mut body = json!({
            "name": "new", "base_url": team.upstream.base_url(), "model": "m",
            "api_key_name": Fixture::SECRET,
        });
        body[field] = value.clone();
        assert_eq!(wrong_fields(&admin.post_json(&path, &body).await), [named], "{field} {value}");
        let patch = json!({field: value});
        assert_eq!(wrong_fields(&admin.patch(&existing, &patch).await), [named], "{patch}");
    }
    let several =
        json!({"name": "n", "base_url": "ftp://x", "model": "", "timeouts": {"idle_ms": 0}});
    let answer = admin.post_json(&path, &several).await;
    assert_eq!(wrong_fields(&answer), ["base_url", "model", "timeouts.idle_ms"]);
    // What only the network and the database know is named with the rest, and before a taken name.
    let taken = json!({
        "name": Fixture::CONFIGURATION, "base_url": "http://10.0.0.1/v1", "model": "m",
        "api_key_name": "NO_SUCH", "extra_headers": {"x-a": "{{secret:NOR_THIS}}"},
        "timeouts": {"connect_ms": 0, "idle_ms": 0},
    });
    let all = [
        "api_key_name",
        "base_url",
        "extra_headers.x-a",
        "timeouts.connect_ms",
        "timeouts.idle_ms",
    ];
    assert_eq!(wrong_fields(&admin.post_json(&path, &taken).await), all);
    assert_eq!(wrong_fields(&admin.patch(&existing, &taken).await), all);
    let mut unnamed = taken.clone();
    unnamed["name"] = json!("");
    let with_name = [&all[..3], &["name"], &all[3..]].concat();
    assert_eq!(wrong_fields(&admin.post_json(&path, &unnamed).await), with_name);
    assert_eq!(wrong_fields(&admin.patch(&existing, &unnamed).await), with_name);
    // An example stands in for what can't be read, and is not checked itself.
    let unread = json!({
        "name": "n", "base_url": 1, "model": "m", "api_key_name": 1, "timeouts": {"idle_ms": -1},
    });
    let answer = admin.post_json(&path, &unread).await;
    assert_eq!(wrong_fields(&answer), ["api_key_name", "base_url", "timeouts.idle_ms"]);
    let words = answer.text();
    assert!(words.contains("must be a whole number from 1 to 3600000"), "{words}");
    let refused = json!({"name": "n", "base_url": "https://10.0.0.1/v1", "model": "m"});
    let problem = problem(&admin.post_json(&path, &refused).await, 422, "invalid_fields");
    assert!(text(&problem, "detail").contains("10.0.0.0/8"), "the rule is named: {problem}");
    let changed = differences(&before, &database.dump().await);
    assert!(changed.is_empty(), "{changed:#?}");
}

async fn names_are_unique_among_undeleted_configurations(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (admin, team) = (tenants.admin(), &tenants.home.team);
    let path = team.path("model-configurations");
    let first = team.configure("50% of/ünïque?", json!({})).await;
    let second = team.configure("other", json!({})).await;
    let body =
        json!({"name": "50% of/ünïque?", "base_url": team.upstream.base_url(), "model": "m"});
    problem(&admin.post_json(&path, &body).await, 409, "already_exists");
    let rename = json!({"name": "50% of/ünïque?"});
    problem(&admin.patch(&format!("{path}/{second}"), &rename).await, 409, "already_exists");
    admin.patch(&format!("{path}/{first}"), &rename).await.expect(200);
    admin.post_json(&tenants.sibling.team.path("model-configurations"), &body).await.expect(201);
    admin.delete(&format!("{path}/{first}")).await.expect(204);
    problem(&admin.get(&format!("{path}/{first}")).await, 404, "not_found");
    problem(&admin.patch(&format!("{path}/{first}"), &rename).await, 404, "not_found");
    admin.post_json(&path, &body).await.expect(201);
}

async fn an_editor_cannot_change_where_requests_go(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (team, editor) = (&tenants.home.team, tenants.as_role("WORKSPACE_EDITOR"));
    team.put_secret("OTHER", "sk-another-value").await;
    let headers = json!({"extra_headers": {"x-a": "1"}, "forward_headers": ["x-trace"]});
    let id = team.configure("guarded", headers).await;
    let path = team.path(&format!("model-configurations/{id}"));
    let before = database.dump().await;
    for patch in [
        json!({"base_url": "https://evil.example/v1"}),
        json!({"base_url": format!("{}/more", team.upstream.base_url())}),
        json!({"base_url": format!("{}?api-version=1", team.upstream.base_url())}),
        json!({"api_key_name": "OTHER"}),
        json!({"api_key_name": null}),
        json!({"auth": "api-key"}),
        json!({"extra_headers": {"x-a": "2"}}),
        json!({"extra_headers": {"x-a": null}}),
        json!({"extra_headers": {"x-b": "{{secret:OTHER}}"}}),
        json!({"extra_headers": null}),
        json!({"forward_headers": []}),
        json!({"forward_headers": null}),
        json!({"model": "allowed", "auth": "api-key"}),
        // A policy may use the new name for another configuration.
        json!({"name": "another"}),
        json!({"default_parameters": {"models": ["dear"], "route": "fallback"}}),
        json!({"default_parameters": {"extra_body": {"model": "dear"}}}),
        json!({"default_parameters": {"tools": [{"type": "web_search", "model": "dear"}]}}),
    ] {
        let answer = editor.patch(&path, &patch).await;
        assert_eq!(answer.status, 403, "{patch}: {}", answer.text());
        problem(&answer, 403, "permission_denied");
    }
    // An unknown provider is refused before permissions are checked.
    editor.patch(&path, &json!({"provider": "other"})).await.expect(422);
    let changed = differences(&before, &database.dump().await);
    assert!(changed.is_empty(), "{changed:#?}");
    let rest = json!({
        "description": "By an editor", "model": "n", "enabled": false,
        "default_parameters": {"seed": 1}, "stream_usage": "leave", "timeouts": {"idle_ms": 9},
        "strict_conversion": true,
        "max_concurrent_requests": 3, "base_url": team.upstream.base_url(), "auth": "BEARER",
    });
    let after = editor.patch(&path, &rest).await.expect(200).json();
    assert_eq!((&after["model"], &after["enabled"]), (&json!("n"), &json!(false)));
    let chosen = json!({"name": "tuned", "default_parameters": {"seed": 1, "models": ["dear"]}});
    let after = tenants.app.admin().patch(&path, &chosen).await.expect(200).json();
    editor.patch(&path, &json!({"default_parameters": {"seed": 2}})).await.expect(200);
    assert_eq!(
        (&after["name"], &after["default_parameters"]),
        (&chosen["name"], &chosen["default_parameters"])
    );
}

async fn a_disabled_configuration_gets_404(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let path = team.configuration_path();
    team.caller().send(Fixture::chat()).await.expect(200);
    app.admin().patch(&path, &json!({"enabled": false})).await.expect(200);
    let answer = team.caller().send(Fixture::chat()).await.expect(404);
    assert_eq!(answer.json()["error"]["code"], "configuration_disabled");
    app.admin().patch(&path, &json!({"enabled": true, "model": "another"})).await.expect(200);
    team.caller().send(Fixture::chat()).await.expect(200);
    assert_eq!(team.upstream.last_request().json()["model"], "another");
    app.admin().delete(&path).await.expect(204);
    let answer = team.caller().send(Fixture::chat()).await.expect(404);
    assert_eq!(answer.json()["error"]["code"], "unknown_configuration");
}
