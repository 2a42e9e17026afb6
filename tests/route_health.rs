//! How the targets of chains are: in the management plane, in metrics and in the details of readiness.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    case::{Case, cases},
    chain::{Chain, bad, good, served_by},
    database::Database,
    http::Request,
    policies::POLICIES,
    script::Script,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        health_shows_each_target,
        chains_are_found_by_their_names,
        metrics_and_readiness_count_what_cools_down,
    ]
}

async fn health(chain: &Chain, name: &str) -> Value {
    let path = chain.team.path(&format!("routes/{name}/health"));
    chain.app.admin().get(&path).await.expect(200).json()
}

/// State, reason, answered and failed of each target of the first chain.
fn shown(health: &Value) -> Vec<Value> {
    let targets = health["chains"][0]["targets"].as_array().expect("targets");
    let fields = ["state", "reason", "answered", "failed"];
    targets.iter().map(|one| json!(fields.map(|field| &one[field]))).collect()
}

fn limited() -> Script {
    let headers = [("content-type", "application/json"), ("retry-after", "30")];
    Script::new().sized(429, &headers, json!({"error": {"message": "no"}}).to_string()).end()
}

async fn health_shows_each_target(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    let available = || json!(["available", null, 0, 0]);
    let first = health(&chain, "usual").await;
    assert_eq!(shown(&first), [available(), available(), available()]);
    assert_eq!(
        first["chains"][0]["targets"][1],
        json!({"step": 2, "weight": 1, "provider": null, "model_config_id": chain.ids[1],
            "configuration": "second", "model": "second-model", "state": "available",
            "reason": null, "until": null, "missing_secret": null, "last_error": null,
            "last_error_at": null, "answered": 0, "failed": 0})
    );

    chain.team.upstream.push(limited());
    chain.others[0].push(good());
    served_by(&chain.ask().await.expect(200), "custom/second", "2");
    let path = chain.team.path(&format!("model-configurations/{}", chain.ids[2]));
    chain.app.admin().patch(&path, &json!({"enabled": false})).await.expect(200);
    let second = health(&chain, "usual").await;
    assert_eq!(
        shown(&second),
        [
            json!(["cooling_down", "rate_limited", 0, 1]),
            json!(["available", null, 1, 0]),
            json!(["unavailable", "disabled", 0, 0]),
        ]
    );
    let main = &second["chains"][0]["targets"][0];
    let until: chrono::DateTime<chrono::Utc> = main["until"].as_str().unwrap().parse().unwrap();
    assert_eq!(until, chain.app.now() + Duration::from_secs(30));
    assert_eq!(main["last_error"], "rate_limited");
    let at: chrono::DateTime<chrono::Utc> =
        main["last_error_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(at, chain.app.now());

    chain.app.admin().delete(&path).await.expect(204);
    chain.app.advance(Duration::from_secs(31));
    // The credential is refused: that is shown of the target that was asked.
    chain.team.upstream.push(bad(401));
    chain.others[0].push(bad(500));
    chain.ask().await.expect(500);
    assert_eq!(
        shown(&health(&chain, "usual").await),
        [
            json!(["cooling_down", "credential_refused", 0, 2]),
            json!(["cooling_down", "failing", 1, 1]),
            json!(["unavailable", "not_found", 0, 0]),
        ]
    );
}

async fn chains_are_found_by_their_names(database: Database) {
    let chain = Chain::start(&database).await;
    let groq = json!([{"type": "weighted", "candidates": [
        {"weight": 3, "type": "provider_model", "provider": "groq", "model": "llama"},
        {"weight": 1, "type": "provider_model", "provider": "openai", "model": "gpt-4o"}]}]);
    let alias = json!({"type": "alias", "alias": "smart"});
    chain.team.put_secret("OPENAI_API_KEY", "sk-of-the-team").await;
    chain.save("the smart one", json!({}), alias, groq).await.expect(201);
    let by_alias = health(&chain, "smart").await;
    assert_eq!(by_alias["chains"], health(&chain, "the%20smart%20one").await["chains"]);
    assert_eq!(by_alias["chains"][0]["policy"], "the smart one");
    assert_eq!(by_alias["chains"][0]["alias"], "smart");
    let targets = &by_alias["chains"][0]["targets"];
    for (at, step, weight, provider, model, state, missing) in [
        (0, 1, 3, "groq", "llama", "unavailable", json!("GROQ_API_KEY")),
        (1, 1, 1, "openai", "gpt-4o", "available", Value::Null),
    ] {
        let target = &targets[at];
        assert_eq!((&target["step"], &target["weight"]), (&json!(step), &json!(weight)));
        assert_eq!((&target["provider"], &target["model"]), (&json!(provider), &json!(model)));
        assert_eq!((&target["state"], &target["missing_secret"]), (&json!(state), &missing));
    }

    let configs = |at: usize| json!([{"model_config_id": chain.ids[at]}]);
    let body = json!({"name": "a/route", "policy_type": "route_config",
        "subject_matchers": [{"key": "workspace_id", "value": chain.team.workspace_id}],
        "config": {"fallbacks": [{"model_configs": configs(0)},
            {"alias": "other", "model_configs": configs(1)}]}});
    chain.app.admin().post_json(POLICIES, &body).await.expect(201);
    let route = health(&chain, "a%2Froute").await;
    let names: Vec<_> =
        route["chains"].as_array().unwrap().iter().map(|one| &one["alias"]).collect();
    assert_eq!(names, [&Value::Null, &json!("other")], "{route}");

    let other = chain.app.workspace().await;
    for path in [chain.team.path("routes/nothing/health"), other.path("routes/smart/health")] {
        chain.app.admin().get(&path).await.expect(404);
    }
    let (_, viewer) = chain.team.key("WORKSPACE_VIEWER").await;
    let path = chain.team.path("routes/smart/health");
    chain.app.as_key(&viewer).get(&path).await.expect(200);
    let (_, caller) = chain.team.key("GATEWAY_CALLER").await;
    chain.app.as_key(&caller).get(&path).await.expect(403);
}

async fn metrics_and_readiness_count_what_cools_down(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    chain.team.upstream.push(limited());
    chain.others[0].push(Script::new().reset());
    chain.others[1].push(good());
    served_by(&chain.ask().await.expect(200), "custom/third", "3");
    for (name, count) in [
        (
            format!(
                "chain_attempts_total{{configuration_id=\"{}\",outcome=\"failed\"}}",
                chain.ids[0]
            ),
            1,
        ),
        (
            format!(
                "chain_attempts_total{{configuration_id=\"{}\",outcome=\"answered\"}}",
                chain.ids[2]
            ),
            1,
        ),
        ("fallbacks_total{reason=\"rate_limited\"}".to_owned(), 1),
        ("fallbacks_total{reason=\"upstream_closed\"}".to_owned(), 1),
        ("targets_cooling_down".to_owned(), 2),
    ] {
        let value: f64 = chain.app.metric(&format!("tollgate_{name}")).await;
        assert!((value - f64::from(count)).abs() < 0.5, "{name}: {value}");
    }
    let report = chain.app.platform().send(Request::get("/readyz")).await.expect(200).json();
    assert_eq!(report["ready"], true);
    let cooling = json!({"rate_limited": 1, "credentials_refused": 0, "failing": 1});
    assert_eq!(report["details"]["targets_cooling_down"], cooling, "{report}");
    chain.app.advance(Duration::from_secs(60));
    let value: f64 = chain.app.metric("tollgate_targets_cooling_down").await;
    assert!(value.abs() < 0.5, "{value}");
}
