//! Which chain a request has, which of its targets are tried, and that caps hold over attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    case::{Case, cases},
    chain::{Chain, bad, good, served_by},
    database::Database,
    fixture::Fixture,
    http::Request,
    policies::{self, POLICIES, spend_cap},
    script::Script,
    upstream::ScriptedUpstream,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        providers_and_aliases_have_chains,
        routes_have_names,
        a_request_can_switch_it_off,
        what_cannot_be_used_is_left_out,
        caps_hold_over_attempts,
        what_may_be_billed_stays_reserved_over_answered_failures,
        a_chain_helps_a_target_that_cannot_be_used,
        the_reservation_covers_the_dearest_target,
        chains_are_checked_when_they_are_saved,
        an_alias_shadows_no_model_and_no_configuration,
        a_target_without_a_price_is_left_out_under_a_cap,
    ]
}

async fn providers_and_aliases_have_chains(database: Database) {
    let chain = Chain::start(&database).await;
    for name in ["OPENAI_API_KEY", "GROQ_API_KEY"] {
        chain.team.put_secret(name, &format!("sk-of-{name}")).await;
    }
    let model = |provider: &str, model: &str| json!({"type": "provider_model", "provider": provider, "model": model});
    let candidates = json!([model("groq", "llama"), chain.target(2)]);
    let selector = model("openai", "gpt-4o-mini");
    chain.save("mini", json!({}), selector, candidates.clone()).await.expect(201);
    let alias = json!({"type": "alias", "alias": "smart"});
    chain.save("smart", json!({}), alias, candidates).await.expect(201);

    let ask = async |path: &str, model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
        chain.team.caller().post_json(path, &body).await
    };
    let upstream = &chain.others[0];
    upstream.push(bad(500));
    upstream.push(good());
    let answer = ask("/openai/v1/chat/completions", "gpt-4o-mini").await.expect(200);
    served_by(&answer, "groq/llama", "2");
    let sent = upstream.last_request();
    assert_eq!(
        (sent.path(), &sent.json()["model"]),
        ("/groq/openai/v1/chat/completions", &json!("llama"))
    );
    assert_eq!(sent.header("authorization"), Some("Bearer sk-of-GROQ_API_KEY"));

    upstream.push(good());
    served_by(&ask("/openai/v1/chat/completions", "smart").await.expect(200), "groq/llama", "1");
    // Another model has no chain, and a model configuration's model is no alias.
    upstream.push(bad(500));
    let answer = ask("/openai/v1/chat/completions", "gpt-4o").await.expect(500);
    assert_eq!(answer.header("x-tollgate-served-by"), None);
    chain.team.upstream.push(bad(500));
    ask(&Fixture::route("chat/completions"), "smart").await.expect(500);
    let rows = chain.rows(5).await;
    let names: Vec<_> = rows.iter().map(|row| row.configuration.as_str()).collect();
    assert_eq!(names, ["openai", "groq", "groq", "openai", "main"], "{rows:?}");
}

async fn routes_have_names(database: Database) {
    let chain = Chain::start(&database).await;
    let configs = |places: &[usize]| -> Vec<Value> {
        places.iter().map(|at| json!({"model_config_id": chain.ids[*at]})).collect()
    };
    let body = json!({"name": "my route", "policy_type": "route_config",
        "subject_matchers": [{"key": "workspace_id", "value": chain.team.workspace_id}],
        "config": {"strategy": "priority_fallback", "triggers": {"status_codes": [429]},
            "fallbacks": [{"model_configs": configs(&[0, 1])},
                {"alias": "other", "model_configs": configs(&[2])}]}});
    chain.app.admin().post_json(POLICIES, &body).await.expect(201);
    let ask = async |path: &str, model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
        chain.team.caller().post_json(path, &body).await
    };
    chain.team.upstream.push(bad(500));
    chain.others[0].push(good());
    let path = "/routes/my%20route/v1/chat/completions";
    served_by(&ask(path, "whatever").await.expect(200), "custom/second", "2");
    chain.others[1].push(good());
    served_by(&ask(path, "other").await.expect(200), "custom/third", "1");
    assert_eq!(chain.others[1].last_request().json()["model"], "third-model");

    let unknown = ask("/routes/nothing/v1/chat/completions", "m").await.expect(404);
    assert_eq!(unknown.json()["error"]["code"], "unknown_route");
    ask("/routes/my%20route/v1/embeddings/other", "m").await.expect(501);
    // Whatever the format.
    chain.team.upstream.push(good());
    let message =
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    let message = chain.team.caller().post_json("/routes/my%20route/v1/messages", &message).await;
    assert_eq!(message.expect(200).json()["type"], "message");
    // Another workspace does not have it.
    let other = chain.app.workspace().await;
    let asked = other.caller().post_json(path, &json!({"messages": []})).await;
    assert_eq!(asked.status, 404);
}

async fn a_request_can_switch_it_off(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    chain.team.upstream.push(bad(500));
    let request = Fixture::chat().header("x-tollgate-fallback", "OFF");
    let answer = chain.team.caller().send(request).await.expect(500);
    assert_eq!(answer.header("x-tollgate-served-by"), None);
    assert_eq!(chain.counts(), [1, 0, 0]);
    assert_eq!(chain.team.upstream.last_request().header("x-tollgate-fallback"), None);
}

async fn what_cannot_be_used_is_left_out(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    let admin = chain.app.admin();
    let path = |at: usize| chain.team.path(&format!("model-configurations/{}", chain.ids[at]));
    admin.patch(&path(1), &json!({"enabled": false})).await.expect(200);
    chain.team.upstream.push(bad(500));
    chain.others[1].push(good());
    served_by(&chain.ask().await.expect(200), "custom/third", "2");
    chain.app.advance(Duration::from_secs(120));

    // Model access: the first is not allowed, the second is disabled, the third remains.
    let allowed =
        json!({"providers": [{"provider": "model_configuration", "models": ["third", "second"]}]});
    let workspace = [("workspace_id", chain.team.workspace_id.as_str())];
    policies::make(&admin, ("model_access", "some"), &workspace, allowed).await;
    chain.others[1].push(good());
    served_by(&chain.ask().await.expect(200), "custom/third", "1");
    admin.delete(&path(2)).await.success();
    let answer = chain.ask().await.expect(403);
    assert_eq!(answer.json()["error"]["code"], "model_access_denied");
    assert_eq!(chain.counts(), [1, 0, 2]);
}

async fn caps_hold_over_attempts(database: Database) {
    let chain = Chain::start(&database).await;
    let silent = |_: &_| Script::new().keep_open();
    let mut upstreams = Vec::new();
    let mut targets = Vec::new();
    for number in 0..5 {
        let upstream = ScriptedUpstream::with(silent).await;
        let more = json!({"base_url": upstream.base_url()});
        let id = chain.team.configure(&format!("silent {number}"), more).await;
        let path = chain.team.path(&format!("model-configurations/{id}"));
        let price =
            json!({"price": {"input": 0, "output": 1000}, "timeouts": {"first_byte_ms": 400}});
        chain.app.admin().patch(&path, &price).await.expect(200);
        targets.push(json!({"type": "model_config", "model_config_id": id}));
        upstreams.push(upstream);
    }
    let triggers = json!({"first_byte_timeout_ms": 400});
    let (first, rest) = targets.split_first().unwrap();
    chain.save("silent", triggers, first.clone(), json!(rest)).await.expect(201);
    let workspace = [("workspace_id", chain.team.workspace_id.as_str())];
    // 1,000 tokens of output are a dollar, which is one attempt.
    let cap = 1_010_000_000;
    spend_cap(&chain.app.admin(), "one attempt", &workspace, ("monthly", cap)).await;
    let body = json!({"max_tokens": 1000, "messages": [{"role": "user", "content": "Hi"}]});
    let request = Request::post_json("/providers/silent%200/v1/chat/completions", &body);
    let caller = chain.team.caller();
    let answers = join_all((0..200).map(|_| caller.send(request.clone()))).await;
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    answers.iter().for_each(|answer| *statuses.entry(answer.status).or_default() += 1);
    let sent: usize = upstreams.iter().map(|one| one.seen().requests.len()).sum();
    let timed_out = statuses.get(&504).copied().unwrap_or(0);
    // No request was sent twice: what the first attempt may cost stays reserved.
    assert!(timed_out >= 1, "{statuses:?}");
    assert_eq!(sent, timed_out, "{statuses:?}");
    let others: usize = [402, 503].iter().filter_map(|status| statuses.get(status)).sum();
    assert_eq!(timed_out + others, 200, "{statuses:?}");

    // With room for two, there are two.
    let path = format!("{POLICIES}?limit=100");
    let policies = chain.app.admin().get(&path).await.expect(200).json();
    let id = policies.as_array().unwrap().iter().find(|one| one["name"] == "one attempt").unwrap();
    let id = id["id"].as_str().unwrap().to_owned();
    let larger = json!({"config": {"window": "monthly", "limit_usd": 2.01}});
    chain.app.admin().patch(&format!("{POLICIES}/{id}"), &larger).await.expect(200);
    chain.app.advance(Duration::from_secs(120));
    caller.send(request.clone()).await.expect(504);
    let later: usize = upstreams.iter().map(|one| one.seen().requests.len()).sum();
    assert_eq!(later, sent + 2);
}

async fn what_may_be_billed_stays_reserved_over_answered_failures(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({"first_byte_timeout_ms": 150})).await;
    let price = |output: u32| json!({"price": {"input": 0, "output": output}});
    for (at, output) in [(0, 1000), (1, 1), (2, 1000)] {
        let path = chain.team.path(&format!("model-configurations/{}", chain.ids[at]));
        chain.app.admin().patch(&path, &price(output)).await.expect(200);
    }
    let workspace = [("workspace_id", chain.team.workspace_id.as_str())];
    // A dear attempt costs at most a dollar: there is room for one and the cheap one.
    spend_cap(&chain.app.admin(), "one dear", &workspace, ("monthly", 1_500_000_000)).await;
    let body = json!({"max_tokens": 1000, "messages": [{"role": "user", "content": "Hi"}]});
    chain.team.upstream.push(Script::new().keep_open());
    chain.others[0].push(bad(500));
    let path = Fixture::route("chat/completions");
    let answer = chain.team.caller().post_json(&path, &body).await.expect(500);
    served_by(&answer, "custom/second", "2");
    assert_eq!(chain.counts(), [1, 1, 0]);
}

async fn a_chain_helps_a_target_that_cannot_be_used(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    let path = chain.team.path(&format!("model-configurations/{}", chain.ids[0]));
    chain.app.admin().patch(&path, &json!({"enabled": false})).await.expect(200);
    chain.others[0].push(good());
    served_by(&chain.ask().await.expect(200), "custom/second", "1");
    // The key of the provider that the path names is missing; the alias does not need it.
    chain.team.put_secret("GROQ_API_KEY", "gsk-of-the-team").await;
    let groq = json!([{"type": "provider_model", "provider": "groq", "model": "llama"}]);
    let alias = json!({"type": "alias", "alias": "smart"});
    chain.save("smart", json!({}), alias, groq).await.expect(201);
    chain.others[0].push(good());
    let mut body = json!({"model": "smart", "messages": []});
    let answer = chain.team.caller().post_json("/openai/v1/chat/completions", &body).await;
    served_by(&answer.expect(200), "groq/llama", "1");
    body["model"] = "gpt-4o".into();
    let answer = chain.team.caller().post_json("/openai/v1/chat/completions", &body).await;
    assert_eq!(answer.expect(400).json()["error"]["code"], "provider_secret_missing");
}

async fn the_reservation_covers_the_dearest_target(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    let path = chain.team.path(&format!("model-configurations/{}", chain.ids[2]));
    let dear = json!({"price": {"input": 0, "output": 1000}});
    chain.app.admin().patch(&path, &dear).await.expect(200);
    let workspace = [("workspace_id", chain.team.workspace_id.as_str())];
    spend_cap(&chain.app.admin(), "half", &workspace, ("monthly", 500_000_000)).await;
    let ask = async |max_tokens: u32| {
        let body =
            json!({"max_tokens": max_tokens, "messages": [{"role": "user", "content": "Hi"}]});
        chain.team.caller().post_json(&Fixture::route("chat/completions"), &body).await
    };
    // It may cost a dollar at the third target.
    assert_eq!(ask(1000).await.expect(402).json()["error"]["code"], "spend_cap_exceeded");
    chain.team.upstream.push(good());
    served_by(&ask(400).await.expect(200), "custom/main", "1");
    assert_eq!(chain.rows(2).await[1].cost, Some(120_000));
}

async fn chains_are_checked_when_they_are_saved(database: Database) {
    let chain = Chain::start(&database).await;
    let admin = chain.app.admin();
    let model = |provider: &str, model: &str| json!({"type": "provider_model", "provider": provider, "model": model});
    let config = |id: &str| json!({"type": "model_config", "model_config_id": id});
    let alias = |alias: &str| json!({"type": "alias", "alias": alias});
    let foreign = chain.app.workspace().await.configuration_id;
    let six: Vec<Value> = (0..6).map(|number| model("groq", &number.to_string())).collect();
    let good = json!([model("groq", "llama")]);
    for (selector, candidates, field) in [
        (chain.target(0), json!([config(&foreign)]), "config.chain.candidates[0].model_config_id"),
        (chain.target(0), json!([chain.target(0)]), "config.chain.candidates[0]"),
        (chain.target(0), json!(six), "config.chain.candidates"),
        (chain.target(0), json!([]), "config.chain.candidates"),
        (alias("a/b"), good.clone(), "config.chain.selector.alias"),
        (alias(""), good.clone(), "config.chain.selector.alias"),
        (model("nobody", "m"), good.clone(), "config.chain.selector.provider"),
        (model("openai_compatible", "m"), good.clone(), "config.chain.selector.provider"),
        (json!({"type": "other"}), good.clone(), "config.chain.selector.type"),
    ] {
        let answer = chain.save("wrong", json!({}), selector, candidates).await.expect(422);
        let fields = answer.json()["errors"].to_string();
        assert!(fields.contains(&format!("\"{field}\"")), "{field}: {fields}");
    }
    for triggers in
        [json!({"status_codes": [400]}), json!({"first_byte_timeout_ms": 0}), json!({"x": 1})]
    {
        chain.save("wrong", triggers, alias("a"), good.clone()).await.expect(422);
    }
    let whole = chain.policy("wrong", json!({}), alias("a"), good.clone());
    for matchers in [
        json!([{"key": "organization_id", "value": chain.app.keys().organization_id}]),
        json!([{"key": "workspace_id", "value": chain.team.workspace_id}, {"key": "team", "value": "x"}]),
    ] {
        let mut wrong = whole.clone();
        wrong["subject_matchers"] = matchers;
        admin.post_json(POLICIES, &wrong).await.expect(422);
    }

    let saved = chain.save("one", json!({}), alias("a"), good.clone()).await.expect(201).json();
    chain.save("one", json!({}), alias("b"), good.clone()).await.expect(409);
    chain.save("two", json!({}), alias("a"), good.clone()).await.expect(409);
    chain.save("two", json!({}), alias("b"), good.clone()).await.expect(201);
    // Another workspace of the organization can't have it either.
    let mut elsewhere = chain.policy("elsewhere", json!({}), alias("a"), good.clone());
    let other = chain.app.workspace().await.workspace_id;
    elsewhere["subject_matchers"][0]["value"] = other.into();
    admin.post_json(POLICIES, &elsewhere).await.expect(409);
    elsewhere["config"]["chain"]["selector"] = alias("c");
    admin.post_json(POLICIES, &elsewhere).await.expect(201);
    let path = format!("{POLICIES}/{}", saved["id"].as_str().unwrap());
    assert_eq!(admin.get(&path).await.expect(200).json()["config"], saved["config"]);
    admin.patch(&path, &json!({"name": "two"})).await.expect(409);
    let b = json!({"config": {"chain": {"selector": alias("b"), "candidates": good}}});
    admin.patch(&path, &b).await.expect(409);
    admin.patch(&path, &json!({"name": "renamed", "enabled": false})).await.expect(200);
    admin.delete(&path).await.expect(204);
}

async fn an_alias_shadows_no_model_and_no_configuration(database: Database) {
    let chain = Chain::start(&database).await;
    let admin = chain.app.admin();
    let save = async |name: &str, alias: &str| {
        let selector = json!({"type": "alias", "alias": alias});
        chain.save(name, json!({}), selector, json!([chain.target(0)])).await
    };
    let price =
        |model: &str| json!({"provider": "*", "model": model, "price": {"input": 1, "output": 2}});
    admin.post_json("/api/v1/model-prices", &price("house-model")).await.expect(201);
    for (alias, reason) in [
        ("gpt-4o", "a model of openai"),
        ("gpt-4o-2024-08-06", "a model of openai"),
        ("house-model", "a model that the price"),
        ("second", "the model configuration"),
    ] {
        let errors = save("shadow", alias).await.expect(422).json()["errors"].clone();
        assert_eq!(errors[0]["field"], "config.chain.selector.alias", "{errors}");
        assert!(errors[0]["message"].as_str().unwrap().contains(reason), "{alias}: {errors}");
    }
    let saved = save("smart", "smart").await.expect(201).json();
    let body = json!({"name": "smart", "base_url": chain.team.upstream.base_url(), "model": "m",
        "api_key_name": Fixture::SECRET});
    let path = chain.team.path("model-configurations");
    admin.post_json(&path, &body).await.expect(409);
    // A price that comes later does not keep the policy from being changed.
    admin.post_json("/api/v1/model-prices", &price("smart")).await.expect(201);
    let path = format!("{POLICIES}/{}", saved["id"].as_str().unwrap());
    admin.patch(&path, &json!({"enabled": false})).await.expect(200);
    save("other", "house-model").await.expect(422);
}

async fn a_target_without_a_price_is_left_out_under_a_cap(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    let remove_price = async |at: usize| {
        let path = chain.team.path(&format!("model-configurations/{}", chain.ids[at]));
        chain.app.admin().patch(&path, &json!({"price": null})).await.expect(200);
    };
    remove_price(0).await;
    served_by(&chain.ask().await.expect(200), "custom/main", "1");
    let workspace = [("workspace_id", chain.team.workspace_id.as_str())];
    spend_cap(&chain.app.admin(), "cap", &workspace, ("monthly", 1_000_000_000)).await;
    let request = Fixture::chat().body(json!({"max_tokens": 10, "messages": []}).to_string());
    let ask = async || chain.team.caller().send(request.clone()).await;
    served_by(&ask().await.expect(200), "custom/second", "1");
    remove_price(1).await;
    remove_price(2).await;
    let answer = ask().await.expect(402);
    assert_eq!(answer.json()["error"]["code"], "price_unknown");
    assert!(answer.text().contains("model configuration \\\"main\\\""), "{}", answer.text());
    assert_eq!(chain.counts(), [1, 1, 0]);
}
