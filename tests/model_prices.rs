//! Prices: how organizations set them, which one applies and why, and who may set them.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    database_dump::differences,
    http::{Client, Request},
    problems::{problem, wrong_fields},
    two_tenants::{TwoTenants, text},
};

const PRICES: &str = "/api/v1/model-prices";

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_price_is_created_changed_and_deleted,
        a_model_has_one_price,
        invalid_prices_are_named,
        amounts_keep_every_digit,
        resolve_explains_which_price_applies,
        prices_stay_in_their_organization,
        a_workspace_key_cannot_set_prices,
    ]
}

async fn a_price_is_created_changed_and_deleted(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let body = json!({
        "provider": "openai", "model": "gpt-x-*",
        "price": {"input": 1.5, "cached_input": 0.15, "output": 6, "request": 0.001,
            "tiers": [{"above_input_tokens": 1000, "input": 3, "output": 12}]},
    });
    let made = admin.post_json(PRICES, &body).await.expect(201);
    let one = made.header("location").unwrap().to_owned();
    let made = made.json();
    assert_eq!(one, format!("{PRICES}/{}", text(&made, "id")));
    assert_eq!((&made["version"], &made["price"]), (&json!(1), &body["price"]));
    assert_eq!(made["organization_id"], tenants.home.organization_id);
    assert_eq!(admin.get(&one).await.expect(200).json(), made);
    let list = admin.get(&format!("{PRICES}?provider=openai&model=gpt-x-*")).await.expect(200);
    assert_eq!(list.json()["data"], json!([made]));
    let none = admin.get(&format!("{PRICES}?provider=mistral")).await.expect(200).json();
    assert_eq!(none["data"], json!([]));

    let patch = json!({"price": {"output": 7, "cached_input": null}});
    let changed = admin.patch(&one, &patch).await.expect(200).json();
    assert_eq!(changed["version"], 2);
    assert_eq!(changed["price"]["output"], json!(7));
    assert!(changed["price"].get("cached_input").is_none(), "{changed}");
    assert_eq!(changed["price"]["tiers"], body["price"]["tiers"]);
    // A patch without effect makes no new version.
    assert_eq!(admin.patch(&one, &patch).await.expect(200).json(), changed);

    admin.delete(&one).await.expect(204);
    problem(&admin.get(&one).await, 404, "not_found");
    problem(&admin.patch(&one, &patch).await, 404, "not_found");
    problem(&admin.delete(&one).await, 404, "not_found");
    let log = admin.get("/api/v1/audit-log?resource_type=model_price").await.expect(200).json();
    let mut operations: Vec<&str> =
        log["data"].as_array().unwrap().iter().filter_map(|e| e["operation"].as_str()).collect();
    operations.sort_unstable();
    assert_eq!(operations, ["create_model_price", "delete_model_price", "update_model_price"]);
}

async fn a_model_has_one_price(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let of = |model: &str| {
        json!({
            "provider": "openai", "model": model, "price": {"input": 0, "output": 0},
        })
    };
    let first = admin.post_json(PRICES, &of("a")).await.expect(201).json();
    problem(&admin.post_json(PRICES, &of("a")).await, 409, "already_exists");
    let second = admin.post_json(PRICES, &of("b")).await.expect(201).json();
    let path = format!("{PRICES}/{}", text(&second, "id"));
    problem(&admin.patch(&path, &json!({"model": "a"})).await, 409, "already_exists");
    let other = json!({"provider": "*", "model": "a", "price": {"input": 0, "output": 0}});
    admin.post_json(PRICES, &other).await.expect(201);
    let stranger = tenants.app.as_key(&tenants.stranger.admin_key);
    stranger.post_json(PRICES, &of("a")).await.expect(201);
    admin.delete(&format!("{PRICES}/{}", text(&first, "id"))).await.expect(204);
    let again = admin.post_json(PRICES, &of("a")).await.expect(201).json();
    assert_ne!(again["id"], first["id"], "another price, and another version text");
}

async fn invalid_prices_are_named(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let sound = json!({"provider": "openai", "model": "m", "price": {"input": 1, "output": 2}});
    let before = database.dump().await;
    let tier = json!({"above_input_tokens": 10, "input": 1, "output": 2});
    for (field, value, named) in [
        ("provider", json!("OpenAI"), "provider"),
        ("provider", json!(""), "provider"),
        ("provider", json!("a*"), "provider"),
        ("model", json!(""), "model"),
        ("model", json!("a\u{0}b"), "model"),
        ("model", json!("*".repeat(9)), "model"),
        ("model", json!("x".repeat(257)), "model"),
        ("price", json!(null), "price"),
        ("price", json!({"input": 1}), "price.output"),
        ("price", json!({"input": -0.1, "output": 2}), "price.input"),
        ("price", json!({"input": 1, "output": 1_000_001}), "price.output"),
        ("price", json!({"input": 1, "output": 2, "reasoning": "a"}), "price.reasoning"),
        ("price", json!({"input": 1, "output": 2, "request": -1}), "price.request"),
        ("price", json!({"input": 1, "output": 2, "per_image": 1}), "price.per_image"),
        ("price", json!({"input": 1, "output": 2, "tiers": [tier, tier]}), "price.tiers"),
        (
            "price",
            json!({"input": 1, "output": 2, "tiers": [{"above_input_tokens": 0, "input": 1,
                "output": 2}]}),
            "price.tiers[0].above_input_tokens",
        ),
        ("version", json!(7), "version"),
    ] {
        let mut body = sound.clone();
        body[field] = value;
        assert_eq!(wrong_fields(&admin.post_json(PRICES, &body).await), [named], "{body}");
    }
    for (query, named) in [
        ("provider=openai", &["model"][..]),
        ("provider=openai&model=", &["model"]),
        ("a=b", &["a", "model", "provider"]),
    ] {
        let answer = admin.get(&format!("{PRICES}/resolve?{query}")).await;
        assert_eq!(wrong_fields(&answer), named, "{query}");
    }
    let changed = differences(&before, &database.dump().await);
    assert!(changed.is_empty(), "{changed:#?}");
}

async fn amounts_keep_every_digit(database: Database) {
    let app = TestApp::start(&database).await;
    let admin = app.admin();
    let body = r#"{"provider": "openai", "model": "m",
        "price": {"input": 0.100000001, "output": 999999.999999999, "request": 1e-9}}"#;
    let request =
        Request::new("POST", PRICES).header("content-type", "application/json").body(body);
    let made = admin.send(request).await.expect(201);
    let read = admin.get(made.header("location").unwrap()).await.expect(200).text();
    for digits in ["0.100000001", "999999.999999999", "0.000000001"] {
        assert!(read.contains(digits), "{read}");
    }
    let body = json!({"provider": "openai", "model": "n", "price": {"input": "0.25", "output": 1}});
    let made = admin.post_json(PRICES, &body).await.expect(201).text();
    assert!(made.contains(r#""input":0.25"#), "text is read as well: {made}");
}

async fn resolved(client: &Client, provider: &str, model: &str) -> Value {
    let path = format!("{PRICES}/resolve?provider={provider}&model={model}");
    client.get(&path).await.expect(200).json()
}

async fn resolve_explains_which_price_applies(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let admin = tenants.admin();
    let listed = resolved(&admin, "openai", "gpt-4o-2024-08-06").await;
    assert_eq!(listed["origin"], "catalogue");
    assert_eq!(
        listed["matched"],
        json!({"provider": "openai", "model": "gpt-4o", "by": "undated"})
    );
    assert_eq!(listed["price"]["input"], json!(2.5));
    assert_eq!(listed["context_window"], 128_000);
    assert_eq!(listed["max_output_tokens"], 16_384);
    let edition = &listed["catalogue"];
    let version = format!("catalogue:{}:openai/gpt-4o", text(edition, "version"));
    assert_eq!(listed["version"], version);

    let none = resolved(&admin, "openai_compatible", "our-model").await;
    assert_eq!((&none["price"], &none["origin"]), (&Value::Null, &Value::Null));
    assert!(text(&none, "explanation").contains("POST /api/v1/model-prices"), "{none}");

    let body = json!({"provider": "*", "model": "our-*", "price": {"input": 1, "output": 2}});
    let made = admin.post_json(PRICES, &body).await.expect(201).json();
    let own = resolved(&admin, "openai_compatible", "our-model").await;
    assert_eq!(own["origin"], "organization");
    assert_eq!(own["matched"], json!({"provider": "*", "model": "our-*", "by": "pattern"}));
    assert_eq!(own["version"], format!("organization:{}:1", text(&made, "id")));
    assert_eq!(own["price"], made["price"]);
    let path = format!("{PRICES}/{}", text(&made, "id"));
    admin.patch(&path, &json!({"price": {"input": 5}})).await.expect(200);
    let own = resolved(&admin, "openai_compatible", "our-model").await;
    assert_eq!(own["version"], format!("organization:{}:2", text(&made, "id")));

    // The limits of the catalogue stay.
    let body = json!({"provider": "openai", "model": "gpt-4o", "price": {"input": 0, "output": 0}});
    admin.post_json(PRICES, &body).await.expect(201);
    let over = resolved(&admin, "openai", "gpt-4o").await;
    assert_eq!((&over["origin"], &over["price"]["input"]), (&json!("organization"), &json!(0)));
    assert_eq!(over["context_window"], 128_000);
}

async fn prices_stay_in_their_organization(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (admin, stranger) = (tenants.admin(), tenants.app.as_key(&tenants.stranger.admin_key));
    let body = json!({"provider": "*", "model": "*", "price": {"input": 1, "output": 2}});
    let made = admin.post_json(PRICES, &body).await.expect(201).json();
    let path = format!("{PRICES}/{}", text(&made, "id"));
    problem(&stranger.get(&path).await, 404, "not_found");
    problem(&stranger.patch(&path, &json!({"model": "x"})).await, 404, "not_found");
    problem(&stranger.delete(&path).await, 404, "not_found");
    assert_eq!(stranger.get(PRICES).await.expect(200).json()["data"], json!([]));
    assert_eq!(resolved(&stranger, "openai_compatible", "m").await["price"], Value::Null);
    let viewer = tenants.as_role("ORGANIZATION_VIEWER");
    assert_eq!(viewer.get(&path).await.expect(200).json(), made);
    problem(&viewer.post_json(PRICES, &body).await, 403, "permission_denied");
    problem(&viewer.delete(&path).await, 403, "permission_denied");
    for role in ["WORKSPACE_ADMIN", "WORKSPACE_VIEWER", "GATEWAY_CALLER"] {
        assert_eq!(tenants.as_role(role).get(PRICES).await.status, 403, "{role}");
    }
}

async fn a_workspace_key_cannot_set_prices(database: Database) {
    let tenants = TwoTenants::start(&database).await;
    let (team, admin) = (&tenants.home.team, tenants.admin());
    let path = team.path("model-configurations");
    let workspace_admin = tenants.as_role("WORKSPACE_ADMIN");
    let one = format!("{path}/{}", team.configuration_id);
    let before = database.dump().await;
    for (field, value) in [
        ("price", json!({"input": 0, "output": 0})),
        ("context_window", json!(1)),
        ("max_output_tokens", json!(1)),
    ] {
        let patch = json!({field: value});
        for role in ["WORKSPACE_ADMIN", "WORKSPACE_EDITOR"] {
            let shown =
                problem(&tenants.as_role(role).patch(&one, &patch).await, 403, "permission_denied");
            assert!(text(&shown, "detail").contains("organization:manage"), "{shown}");
        }
        let mut body = json!({"name": "n", "base_url": team.upstream.base_url(), "model": "m"});
        body[field] = value;
        problem(&workspace_admin.post_json(&path, &body).await, 403, "permission_denied");
    }
    let changed = differences(&before, &database.dump().await);
    assert!(changed.is_empty(), "{changed:#?}");

    let priced = json!({
        "price": {"input": 1, "output": 2}, "context_window": 1000, "max_output_tokens": 100,
    });
    let after = admin.patch(&one, &priced).await.expect(200).json();
    for field in ["price", "context_window", "max_output_tokens"] {
        let expected = match field {
            "price" => json!({"input": 1, "output": 2, "request": 0}),
            other => priced[other].clone(),
        };
        assert_eq!(after[field], expected, "{field}");
    }
    // While a price is set, the workspace cannot change the model, but other fields.
    let other = json!({"model": "a-dearer-one"});
    problem(&workspace_admin.patch(&one, &other).await, 403, "permission_denied");
    let rest = json!({"description": "Tuned", "price": {"input": 1}});
    workspace_admin.patch(&one, &rest).await.expect(200);
    admin.patch(&one, &other).await.expect(200);
    let removed = json!({"price": null, "context_window": null, "max_output_tokens": null});
    problem(&workspace_admin.patch(&one, &removed).await, 403, "permission_denied");
    let after = admin.patch(&one, &removed).await.expect(200).json();
    assert_eq!((&after["price"], &after["context_window"]), (&Value::Null, &Value::Null));
    workspace_admin.patch(&one, &json!({"model": "theirs-again"})).await.expect(200);
}
