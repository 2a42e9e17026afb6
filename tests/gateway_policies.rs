//! Gateway policies as a resource: their fields, which ids they may name, and what happens to a second
//! policy for the same subject.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    http::{Client, Request},
    problems::{problem, wrong_fields},
    sql::execute,
    two_tenants::{TwoTenants, text},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_policy_is_created_read_changed_and_deleted,
        three_paths_serve_the_same_policies,
        invalid_fields_are_named,
        matchers_accept_only_the_own_organizations_ids,
        posting_the_same_matchers_updates_the_policy,
        concurrent_posts_for_a_subject_make_one_policy,
        a_patch_changes_only_what_it_names,
        lists_are_sorted_and_filtered,
        a_search_accepts_hundreds_of_values,
        the_number_of_policies_is_limited,
    ]
}

pub(crate) const PATH: &str = "/api/v1/gateway-policies";

pub(crate) fn matcher(key: &str, value: &str) -> Value {
    json!({"key": key, "value": value})
}

/// The body of a spend cap.
pub(crate) fn cap(name: &str, matchers: &[Value]) -> Value {
    json!({
        "name": name, "policy_type": "spend_cap", "subject_matchers": matchers,
        "config": {"window": "daily", "limit_usd": 10},
    })
}

/// Creates the policy.
pub(crate) async fn make(client: &Client, body: &Value) -> Value {
    client.post_json(PATH, body).await.expect(201).json()
}

pub(crate) async fn names(client: &Client, query: &str) -> Vec<String> {
    let list = client.get(&format!("{PATH}?{query}")).await.expect(200).json();
    list.as_array().unwrap().iter().map(|policy| text(policy, "name")).collect()
}

async fn a_policy_is_created_read_changed_and_deleted(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let own = &tenants.home.organization_id;
    let body = json!({
        "name": "Everybody", "description": "For a start", "policy_type": "spend_cap",
        "subject_matchers": [matcher("organization_id", own)],
        "config": {"version": 2, "limits": [{"window": "monthly", "limit_usd": 12.50}]},
    });
    let posted = body.to_string().replace("12.5", "12.50");
    let request = Request::new("POST", PATH).header("content-type", "application/json");
    let answer = admin.send(request.body(posted)).await.expect(201);
    let one = answer.header("location").unwrap().to_owned();
    let made = answer.json();
    assert_eq!(one, format!("{PATH}/{}", text(&made, "id")));
    for field in ["name", "description", "policy_type", "subject_matchers"] {
        assert_eq!(made[field], body[field], "{field}");
    }
    assert!(answer.text().contains("12.50"), "as it was posted: {}", answer.text());
    for (field, value) in [
        ("organization_id", json!(own)),
        ("action", json!("block")),
        ("enabled", json!(true)),
        ("priority", json!(100)),
        ("is_system_generated", json!(false)),
        ("parent_policy_id", json!(null)),
        ("current_spend_usd", json!(0)),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    let me = admin.get("/api/v1/me").await.expect(200).json();
    assert_eq!(made["created_by"], me["api_key_id"]);
    assert_eq!(admin.get(&one).await.expect(200).json(), made);
    let changed = admin.patch(&one, &json!({"enabled": false})).await.expect(200).json();
    assert_eq!((&changed["enabled"], &changed["name"]), (&json!(false), &json!("Everybody")));
    admin.delete(&one).await.expect(204);
    problem(&admin.get(&one).await, 404, "not_found");
    problem(&admin.patch(&one, &json!({"enabled": true})).await, 404, "not_found");
    problem(&admin.delete(&one).await, 404, "not_found");
    let query = format!("/api/v1/audit-log?resource_id={}", text(&made, "id"));
    let log = admin.get(&query).await.expect(200).json();
    let events: Vec<String> =
        log["data"].as_array().unwrap().iter().map(|event| text(event, "operation")).collect();
    assert_eq!(events, ["delete_gateway_policy", "update_gateway_policy", "create_gateway_policy"]);
    // A deleted policy does not block a new one.
    let again = make(&admin, &body).await;
    assert_ne!(again["id"], made["id"]);
}

async fn three_paths_serve_the_same_policies(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let by_header = tenants.app.anonymous().with_header("x-api-key", &tenants.home.admin_key);
    let places = [PATH, "/api/v1/platform/gateway-policies", "/v1/platform/gateway-policies"];
    for (index, place) in places.into_iter().enumerate() {
        let body = cap("Cap", &[matcher("team", &index.to_string())]);
        let answer = by_header.post_json(place, &body).await.expect(201);
        let one = answer.header("location").unwrap().to_owned();
        assert!(one.starts_with(place), "{one}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        for elsewhere in places {
            let there = format!("{elsewhere}/{}", text(&answer.json(), "id"));
            assert_eq!(tenants.admin().get(&there).await.expect(200).json(), answer.json());
        }
        let listed = by_header.get(place).await.expect(200).json();
        assert_eq!(listed.as_array().unwrap().len(), index + 1);
        let search = json!({"subject_matcher_key": "team", "subject_matcher_values": ["0"]});
        let found = by_header.post_json(&format!("{place}/search"), &search).await.expect(200);
        assert_eq!(found.json().as_array().unwrap().len(), 1);
        // As plain JSON, which scripts send.
        let patch = Request::new("PATCH", &one).json(&json!({"priority": 7}));
        assert_eq!(by_header.send(patch).await.expect(200).json()["priority"], 7);
        problem(&tenants.app.anonymous().get(place).await, 401, "missing_api_key");
        problem(&tenants.app.platform().get(place).await, 403, "permission_denied");
        problem(&tenants.as_role("WORKSPACE_ADMIN").get(place).await, 403, "permission_denied");
        let stranger = tenants.app.as_key(&tenants.stranger.admin_key);
        problem(&stranger.get(&one).await, 404, "not_found");
        problem(&stranger.delete(&one).await, 404, "not_found");
        assert_eq!(stranger.get(place).await.expect(200).json(), json!([]));
    }
    problem(&by_header.get("/v1/platform/nothing").await, 404, "not_found");
}

async fn invalid_fields_are_named(database: Database) {
    let app = TestApp::start(&database).await;
    let admin = app.admin();
    let good = cap("Cap", &[matcher("team", "a")]);
    let with = |changes: Value| {
        let mut body = good.clone();
        for (field, value) in changes.as_object().unwrap() {
            body[field] = value.clone();
        }
        body
    };
    let limit = json!({"window": "daily", "limit_usd": 1});
    for (changes, fields) in [
        (json!({"name": ""}), vec!["name"]),
        (json!({"policy_type": "guards"}), vec!["policy_type"]),
        (json!({"action": "warn"}), vec!["action"]),
        (json!({"priority": 10_000_000_000_i64}), vec!["priority"]),
        (json!({"description": "x".repeat(1025)}), vec!["description"]),
        (json!({"ids": "x"}), vec!["ids"]),
        (json!({"subject_matchers": []}), vec!["subject_matchers"]),
        (json!({"subject_matchers": [{"key": "team"}]}), vec!["subject_matchers[0].value"]),
        (
            json!({"subject_matchers": [matcher("user_email", "a")]}),
            vec!["subject_matchers[0].key"],
        ),
        (
            json!({"subject_matchers": [matcher("user_id", "ada")]}),
            vec!["subject_matchers[0].value"],
        ),
        (json!({"config": {"window": "yearly", "limit_usd": 1}}), vec!["config.window"]),
        (json!({"config": {"window": "daily", "limit_usd": -1}}), vec!["config.limit_usd"]),
        (
            json!({"config": {"version": 2, "limits": [limit, limit]}, "priority": -2_000_000_000}),
            vec!["config.limits[1].window", "priority"],
        ),
        (
            json!({"policy_type": "rate_limit"}),
            vec!["config.limit_usd", "config.limits", "config.version", "config.window"],
        ),
        (json!({"policy_type": "default_spend_cap"}), vec!["subject_matchers[0].value"]),
    ] {
        let answer = admin.post_json(PATH, &with(changes.clone())).await;
        assert_eq!(wrong_fields(&answer), fields, "{changes}");
    }
    for (query, field) in [
        ("policy_type=guards", "policy_type"),
        ("subject_matcher_value=x", "subject_matcher_key"),
        ("subject_matcher_key=user_email", "subject_matcher_key"),
        ("limit=0", "limit"),
        ("limit=20001", "limit"),
        ("cursor=x", "cursor"),
    ] {
        assert_eq!(wrong_fields(&admin.get(&format!("{PATH}?{query}")).await), [field], "{query}");
    }
    let many = vec!["x"; 1_001];
    let search = json!({"subject_matcher_key": "team", "subject_matcher_values": many});
    let answer = admin.post_json(&format!("{PATH}/search"), &search).await;
    assert_eq!(wrong_fields(&answer), ["subject_matcher_values"]);
}

async fn matchers_accept_only_the_own_organizations_ids(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let nobody = uuid::Uuid::now_v7().to_string();
    let (home, other) = (&tenants.home, &tenants.stranger);
    for (key, own, theirs) in [
        ("organization_id", &home.organization_id, &other.organization_id),
        ("workspace_id", &home.team.workspace_id, &other.team.workspace_id),
        ("user_id", &home.user_id, &other.user_id),
        ("api_key_id", &home.team.caller_key_id, &other.team.caller_key_id),
    ] {
        for foreign in [theirs, &nobody] {
            let both = [matcher(key, own), matcher(key, foreign)];
            problem(&admin.post_json(PATH, &cap("Cap", &both)).await, 404, "not_found");
        }
        let upper = own.to_uppercase();
        let made = make(&admin, &cap("Cap", &[matcher(key, &upper), matcher(key, own)])).await;
        assert_eq!(made["subject_matchers"], json!([matcher(key, own)]));
        let one = format!("{PATH}/{}", text(&made, "id"));
        let patch = json!({"subject_matchers": [matcher(key, theirs)]});
        problem(&admin.patch(&one, &patch).await, 404, "not_found");
    }
    assert_eq!(names(&admin, "").await.len(), 4);
    // A matcher of something deleted since does not prevent other changes.
    let key = &home.keys.iter().find(|key| key.role.name == "WORKSPACE_VIEWER").unwrap().id;
    let made = make(&admin, &cap("Of one who left", &[matcher("api_key_id", key)])).await;
    admin.delete(&home.team.path(&format!("api-keys/{key}"))).await.expect(204);
    let one = format!("{PATH}/{}", text(&made, "id"));
    admin.patch(&one, &json!({"enabled": false})).await.expect(200);
}

async fn posting_the_same_matchers_updates_the_policy(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let user = matcher("user_id", &tenants.home.user_id);
    let made = make(&admin, &cap("One", &[user.clone(), matcher("team", "a")])).await;
    let mut again = cap("Two", &[matcher("X-Gateway-Team", "a"), user.clone(), user.clone()]);
    again["config"] = json!({"window": "hourly", "limit_usd": 1});
    again["enabled"] = json!(false);
    let updated = make(&admin, &again).await;
    for field in ["id", "created_at", "created_by", "is_system_generated"] {
        assert_eq!(updated[field], made[field], "{field}");
    }
    assert_eq!((&updated["name"], &updated["enabled"]), (&json!("Two"), &json!(false)));
    assert_eq!(updated["config"], again["config"]);
    // Another family or subject makes another policy.
    let mut rate = again.clone();
    rate["policy_type"] = json!("rate_limit");
    rate["config"] =
        json!({"version": 1, "limits": [{"metric": "requests", "window": "hour", "value": 5}]});
    let rate = make(&admin, &rate).await;
    assert_ne!(rate["id"], made["id"]);
    assert!(rate.get("current_spend_usd").is_none(), "{rate}");
    let other = make(&admin, &cap("Three", &[user])).await;
    assert_eq!(names(&admin, "").await.len(), 3);
    // A patch does not replace another policy.
    let one = format!("{PATH}/{}", text(&other, "id"));
    let patch = json!({"subject_matchers": updated["subject_matchers"]});
    problem(&admin.patch(&one, &patch).await, 409, "already_exists");
}

async fn concurrent_posts_for_a_subject_make_one_policy(database: Database) {
    let app = TestApp::start(&database).await;
    let admin = app.admin();
    for round in 0..5 {
        let subject = [matcher("team", &round.to_string())];
        let bodies: Vec<Value> =
            (0..4).map(|writer| cap(&format!("By {writer}"), &subject)).collect();
        let answers =
            futures_util::future::join_all(bodies.iter().map(|body| admin.post_json(PATH, body)));
        let mut ids: Vec<String> =
            answers.await.into_iter().map(|one| text(&one.expect(201).json(), "id")).collect();
        ids.dedup();
        assert_eq!(ids.len(), 1, "{ids:?}");
    }
    assert_eq!(names(&admin, "").await.len(), 5);
}

async fn a_patch_changes_only_what_it_names(database: Database) {
    let app = TestApp::start(&database).await;
    let admin = app.admin();
    let mut body = cap("Cap", &[matcher("team", "a")]);
    body["description"] = json!("A note");
    let made = make(&admin, &body).await;
    let one = format!("{PATH}/{}", text(&made, "id"));
    let patch = async |patch: Value| admin.patch(&one, &patch).await;
    assert_eq!(patch(json!({})).await.expect(200).json(), made, "nothing changes");
    assert_eq!(
        patch(json!({"policy_type": "spend_cap"})).await.expect(200).json()["updated_at"],
        made["updated_at"]
    );
    let answer = patch(json!({"policy_type": "default_spend_cap"})).await;
    assert_eq!(wrong_fields(&answer), ["policy_type"]);
    let after = patch(json!({"description": null, "priority": 1})).await.expect(200).json();
    assert_eq!((&after["description"], &after["priority"]), (&json!(null), &json!(1)));
    assert_eq!(after["config"], made["config"]);
    // A partial configuration is merged; a complete one replaces it.
    let part = patch(json!({"config": {"limit_usd": 2.5}})).await.expect(200).json();
    assert_eq!(part["config"], json!({"window": "daily", "limit_usd": 2.5}));
    let v2 = json!({"version": 2, "limits": [{"window": "hourly", "limit_usd": 1}]});
    let whole = patch(json!({"config": v2})).await.expect(200).json();
    assert_eq!(whole["config"], v2);
    let back = json!({"window": "weekly", "limit_usd": 3});
    assert_eq!(patch(json!({"config": back})).await.expect(200).json()["config"], back);
    for (wrong, field) in [
        (json!({"name": null}), "name"),
        (json!({"made_by": null}), "made_by"),
        (json!({"config": null}), "config"),
        (json!({"config": {"limit_usd": -1}}), "config.limit_usd"),
        (json!({"config": {"limits": []}}), "config.limits"),
        (json!({"subject_matchers": []}), "subject_matchers"),
    ] {
        let fields = wrong_fields(&patch(wrong.clone()).await);
        assert!(fields.iter().any(|one| one == field), "{wrong}: {fields:?}");
    }
    let moved = patch(json!({"subject_matchers": [matcher("team", "b")]})).await.expect(200).json();
    assert_eq!(moved["id"], made["id"]);
    assert_eq!(moved["subject_matchers"], json!([matcher("team", "b")]));
    assert_ne!(make(&admin, &body).await["id"], made["id"], "the old subject is free again");
}

async fn lists_are_sorted_and_filtered(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let user = tenants.home.user_id.as_str();
    for (name, priority, kind, matchers) in [
        ("late", 200, "spend_cap", vec![matcher("team", "a")]),
        ("first", 100, "spend_cap", vec![matcher("team", "b"), matcher("team", "c")]),
        ("second", 100, "spend_cap", vec![matcher("user_id", user), matcher("team", "b")]),
        ("early", -5, "default_spend_cap", vec![matcher("user_id", "")]),
    ] {
        let mut body = cap(name, &matchers);
        body["priority"] = json!(priority);
        body["policy_type"] = json!(kind);
        make(&admin, &body).await;
    }
    let upper = user.to_uppercase();
    for (query, expected) in [
        ("", vec!["early", "second", "first", "late"]),
        ("policy_type=spend_cap", vec!["second", "first", "late"]),
        ("policy_type=model_access", vec![]),
        ("subject_matcher_key=team", vec!["second", "first", "late"]),
        ("subject_matcher_key=X-Gateway-Team&subject_matcher_value=b", vec!["second", "first"]),
        (&format!("subject_matcher_key=user_id&subject_matcher_value={upper}"), vec!["second"]),
        ("subject_matcher_key=user_id&subject_matcher_value=", vec!["early"]),
        ("subject_matcher_key=user_id&subject_matcher_value=nobody", vec![]),
        ("limit=2&offset=1", vec!["second", "first"]),
        ("offset=9", vec![]),
    ] {
        assert_eq!(names(&admin, query).await, expected, "{query}");
    }
    let answer = admin.get(&format!("{PATH}?limit=1")).await.expect(200);
    assert_eq!(answer.header("x-total-count"), Some("4"));
}

async fn a_search_accepts_hundreds_of_values(database: Database) {
    let app = TestApp::start(&database).await;
    let admin = app.admin();
    for team in ["1", "400", "800"] {
        make(&admin, &cap(team, &[matcher("team", team)])).await;
    }
    let search = async |body: Value| -> Vec<String> {
        let found = admin.post_json(&format!("{PATH}/search"), &body).await.expect(200).json();
        found.as_array().unwrap().iter().map(|policy| text(policy, "name")).collect()
    };
    let values: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    let by_team = json!({"subject_matcher_key": "team", "subject_matcher_values": values});
    assert_eq!(search(by_team.clone()).await, ["400", "1"]);
    let mut of_type = by_team;
    of_type["policy_type"] = json!("rate_limit");
    assert!(search(of_type).await.is_empty());
    // Without values, all subjects match.
    let none = json!({"subject_matcher_key": "team", "subject_matcher_values": []});
    assert_eq!(search(none).await.len(), 3);
    assert_eq!(search(json!({})).await.len(), 3);
}

async fn the_number_of_policies_is_limited(database: Database) {
    let app = TestApp::start(&database).await;
    let admin = app.admin();
    let first = make(&admin, &cap("Cap", &[matcher("team", "0")])).await;
    let mut statements = String::new();
    for number in 1..1_000 {
        statements.push_str(&format!(
            "INSERT INTO gateway_policies (id, organization_id, name, policy_type, family,
                subject_matchers, matchers_key, config, action, enabled, priority,
                is_system_generated, detached, epochs, created_at, updated_at)
             SELECT '{}', organization_id, name, policy_type, family, subject_matchers, '{number}',
                config, action, enabled, priority, is_system_generated, detached, epochs,
                created_at, updated_at
             FROM gateway_policies WHERE id = '{}';",
            uuid::Uuid::now_v7(),
            text(&first, "id"),
        ));
    }
    execute(&database, &statements).await;
    let one_more = admin.post_json(PATH, &cap("Cap", &[matcher("team", "1")])).await;
    problem(&one_more, 409, "too_many_policies");
    make(&admin, &cap("The first one again", &[matcher("team", "0")])).await;
    assert_eq!(names(&admin, "").await.len(), 1_000);
}
