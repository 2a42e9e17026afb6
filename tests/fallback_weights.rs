//! Weighted steps of chains: how requests are spread, what keeps a conversation where it is, and what
//! becomes of those whose target fails.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    case::{Case, cases},
    chain::{Chain, bad, served_by},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    policies::{self, POLICIES},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        requests_are_spread_and_sessions_stay,
        conversations_stay_without_a_session,
        a_target_that_cools_down_hands_its_requests_on,
        weighted_steps_are_checked_when_they_are_saved,
    ]
}

const SESSION: &str = "x-tollgate-session-id";

/// Such as `custom/main`.
fn target(answer: &Answer) -> String {
    answer.header("x-tollgate-served-by").expect("a target").to_owned()
}

fn weighted(chain: &Chain, weights: &[(usize, u32)]) -> Value {
    let members: Vec<Value> = weights
        .iter()
        .map(|(at, weight)| {
            let mut member = chain.target(*at);
            member["weight"] = json!(weight);
            member
        })
        .collect();
    json!({"type": "weighted", "candidates": members})
}

/// `main` and `second` alike, then `third`.
async fn weighted_requests(chain: &Chain) {
    let candidates = json!([weighted(chain, &[(0, 1), (1, 1)]), chain.target(2)]);
    chain.save("spread", json!({}), chain.target(0), candidates).await.expect(201);
}

async fn requests_are_spread_and_sessions_stay(database: Database) {
    let chain = Chain::start(&database).await;
    weighted_requests(&chain).await;
    let caller = chain.team.caller();
    let mut targets = BTreeSet::new();
    for number in 0..60 {
        let request = Fixture::chat().header(SESSION, &format!("session {number}"));
        let first = target(&caller.send(request.clone()).await.expect(200));
        let again = Request::post_json(
            &Fixture::route("chat/completions"),
            &json!({"messages": [{"role": "user", "content": "Something else"}]}),
        );
        let again = again.header(SESSION, &format!("session {number}"));
        assert_eq!(target(&caller.send(again).await.expect(200)), first);
        targets.insert(first);
    }
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    assert_eq!(targets, ["custom/main", "custom/second"]);
    assert_eq!(chain.counts()[2], 0);
    assert_eq!(chain.others[0].last_request().header(SESSION), None);
    // Without anything to go by, each request is on its own.
    let empty = Request::post_json(&Fixture::route("chat/completions"), &json!({"messages": []}));
    let mut targets = BTreeSet::new();
    for _ in 0..60 {
        targets.insert(target(&caller.send(empty.clone()).await.expect(200)));
    }
    assert_eq!(targets.len(), 2);
}

async fn conversations_stay_without_a_session(database: Database) {
    let chain = Chain::start(&database).await;
    weighted_requests(&chain).await;
    let ask = async |body: Value| {
        let path = Fixture::route("chat/completions");
        target(&chain.team.caller().post_json(&path, &body).await.expect(200))
    };
    let user = |text: &str| json!({"role": "user", "content": text});
    let mut targets = [BTreeSet::new(), BTreeSet::new()];
    for number in 0..40 {
        let system = json!({"role": "system", "content": "Be brief."});
        let begun = user(&format!("Question {number}"));
        let first = ask(json!({"messages": [system, begun]})).await;
        let later = json!({"messages": [system, begun, user("And then?")], "temperature": 0.5});
        assert_eq!(ask(later).await, first);
        targets[0].insert(first);
        let key = format!("key {number}");
        let first = ask(json!({"prompt_cache_key": key, "messages": [user("Hi")]})).await;
        let other = json!({"messages": [user("Ho")], "prompt_cache_key": key});
        assert_eq!(ask(other).await, first);
        targets[1].insert(first);
    }
    assert!(targets.iter().all(|one| one.len() == 2), "{targets:?}");
}

async fn a_target_that_cools_down_hands_its_requests_on(database: Database) {
    let chain = Chain::start(&database).await;
    weighted_requests(&chain).await;
    let ask = async |session: &str| {
        chain.team.caller().send(Fixture::chat().header(SESSION, session)).await.expect(200)
    };
    let sessions: Vec<String> = (0..60).map(|number| format!("session {number}")).collect();
    let (mut of_main, mut of_second) = (None, None);
    for session in &sessions {
        match target(&ask(session).await).as_str() {
            "custom/main" => of_main = Some(session),
            _ => of_second = Some(session),
        }
    }
    let (of_main, of_second) = (of_main.expect("one of main"), of_second.expect("one of second"));
    chain.team.upstream.push(bad(500));
    served_by(&ask(of_main).await, "custom/second", "2");
    served_by(&ask(of_main).await, "custom/second", "1");
    served_by(&ask(of_second).await, "custom/second", "1");
    // When the whole step has failed, the next one is tried.
    chain.others[0].push(bad(500));
    served_by(&ask(of_second).await, "custom/third", "2");
    chain.app.advance(Duration::from_secs(120));
    served_by(&ask(of_main).await, "custom/main", "1");
    served_by(&ask(of_second).await, "custom/second", "1");
    // So it is where the caller may not use one of them.
    let allowed =
        json!({"providers": [{"provider": "model_configuration", "models": ["second", "third"]}]});
    let workspace = [("workspace_id", chain.team.workspace_id.as_str())];
    policies::make(&chain.app.admin(), ("model_access", "some"), &workspace, allowed).await;
    for session in [of_main, of_second] {
        served_by(&ask(session).await, "custom/second", "1");
    }
}

async fn weighted_steps_are_checked_when_they_are_saved(database: Database) {
    let chain = Chain::start(&database).await;
    let list = "config.chain.candidates";
    let model = |model: &str| json!({"type": "provider_model", "provider": "groq", "model": model});
    let of = |members: Value| json!([{"type": "weighted", "candidates": members}]);
    let mut weightless = chain.target(1);
    weightless["weight"] = json!("1");
    let mut six = vec![weighted(&chain, &[(0, 1), (1, 1), (2, 1)])];
    six.extend(["a", "b", "c"].map(model));
    let nested = {
        let mut nested = weighted(&chain, &[(1, 1)]);
        nested["weight"] = json!(1);
        of(json!([nested]))
    };
    for (candidates, field) in [
        (json!([weighted(&chain, &[(1, 0)])]), format!("{list}[0].candidates[0].weight")),
        (
            json!([weighted(&chain, &[(1, 1), (2, 1001)])]),
            format!("{list}[0].candidates[1].weight"),
        ),
        (of(json!([chain.target(1)])), format!("{list}[0].candidates[0].weight")),
        (of(json!([weightless])), format!("{list}[0].candidates[0].weight")),
        (of(json!([])), format!("{list}[0].candidates")),
        (nested, format!("{list}[0].candidates[0].type")),
        (json!(six), list.to_owned()),
        (json!([weighted(&chain, &[(1, 1), (1, 2)])]), format!("{list}[0].candidates[1]")),
        (json!([chain.target(1), weighted(&chain, &[(1, 1)])]), format!("{list}[1].candidates[0]")),
        // The selected target may be in the first step only.
        (json!([chain.target(1), weighted(&chain, &[(0, 1)])]), format!("{list}[1].candidates[0]")),
        (json!([weighted(&chain, &[(1, 1)]), chain.target(0)]), format!("{list}[1]")),
    ] {
        let answer = chain.save("wrong", json!({}), chain.target(0), candidates).await.expect(422);
        let fields = answer.json()["errors"].to_string();
        assert!(fields.contains(&format!("\"{field}\"")), "{field}: {fields}");
    }
    let five = json!([
        weighted(&chain, &[(0, 1000), (1, 1)]),
        chain.target(2),
        {"type": "weighted", "candidates": [{"weight": 1, "type": "provider_model",
            "provider": "groq", "model": "a"}, {"weight": 2, "type": "provider_model",
            "provider": "openai", "model": "b"}]},
    ]);
    let saved = chain.save("five", json!({}), chain.target(0), five.clone()).await.expect(201);
    assert_eq!(saved.json()["config"]["chain"]["candidates"], five);

    // A route has them as well.
    let config =
        |at: usize, weight: u32| json!({"weight": weight, "model_config_id": chain.ids[at]});
    let route = |members: Value| {
        json!({"name": "route", "policy_type": "route_config",
            "subject_matchers": [{"key": "workspace_id", "value": chain.team.workspace_id}],
            "config": {"fallbacks": [{"model_configs": [
                {"type": "weighted", "model_configs": members},
                {"model_config_id": chain.ids[2]}]}]}})
    };
    let admin = chain.app.admin();
    let wrong = admin.post_json(POLICIES, &route(json!([config(0, 0)]))).await.expect(422);
    let field = "config.fallbacks[0].model_configs[0].model_configs[0].weight";
    assert_eq!(wrong.json()["errors"][0]["field"], field);
    admin.post_json(POLICIES, &route(json!([config(0, 1), config(1, 1)]))).await.expect(201);
    let body = json!({"messages": [{"role": "user", "content": "Hi"}]});
    let mut targets = BTreeSet::new();
    for number in 0..60 {
        let request = Request::post_json("/routes/route/v1/chat/completions", &body);
        let request = request.header(SESSION, &number.to_string());
        targets.insert(target(&chain.team.caller().send(request).await.expect(200)));
    }
    assert_eq!(targets.len(), 2, "{targets:?}");
}
