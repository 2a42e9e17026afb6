//! Fallback chains: what leads to the next target and what does not, and that caps hold over attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    connection::BodyEnd,
    database::Database,
    fixture::{Fixture, question},
    http::{Answer, Request},
    ledger_rows::{self, Row},
    openai::{self, Usage},
    policies::{self, POLICIES, spend_cap},
    script::Script,
    upstream::ScriptedUpstream,
};

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![
        the_next_target_answers_for_one_that_fails,
        dead_and_slow_targets_are_passed_over,
        other_mistakes_stay_where_they_are,
        the_last_answer_is_returned,
        a_failure_with_a_success_status_is_a_failure,
        a_broken_stream_is_not_sent_again,
        a_caller_who_leaves_ends_the_second_attempt,
        a_limited_target_is_left_out_until_it_may_be_tried,
        a_target_that_has_recovered_is_tried_when_it_is_needed,
        providers_and_aliases_have_chains,
        routes_have_names,
        a_request_can_switch_it_off,
        what_cannot_be_used_is_left_out,
        caps_hold_over_attempts,
        what_may_be_billed_stays_reserved_over_answered_failures,
        a_chain_helps_a_target_that_cannot_be_used,
        the_reservation_covers_the_dearest_target,
        chains_are_checked_when_they_are_saved,
    ]
}

const USAGE: Usage = Usage { prompt: 100, completion: 10, cached: 0, reasoning: 0 };

/// Three configurations, each before an upstream of its own: `main` (the fixture's), `second`, `third`.
struct Chain {
    app: TestApp,
    team: Fixture,
    others: [ScriptedUpstream; 2],
    ids: [String; 3],
}

impl Chain {
    async fn start(database: &Database) -> Self {
        let others = [ScriptedUpstream::start().await, ScriptedUpstream::start().await];
        let origin = others[0].base_url().trim_end_matches("/v1").to_owned();
        let origins = format!("openai={origin}/openai,groq={origin}/groq,anthropic={origin}/a");
        let app = TestApp::with_stopped_clock(database, &["--provider-origin", &origins]).await;
        let team = app.workspace().await;
        let mut ids = vec![team.configuration_id.clone()];
        for (name, upstream) in ["second", "third"].into_iter().zip(&others) {
            let more = json!({"base_url": upstream.base_url(), "model": format!("{name}-model")});
            ids.push(team.configure(name, more).await);
        }
        for id in &ids {
            // A token of input is 1,000 nano-dollars, one of output 2,000.
            let price = json!({"price": {"input": 1, "output": 2}});
            let path = team.path(&format!("model-configurations/{id}"));
            app.admin().patch(&path, &price).await.expect(200);
        }
        Self { app, team, others, ids: ids.try_into().unwrap() }
    }

    fn target(&self, at: usize) -> Value {
        json!({"type": "model_config", "model_config_id": self.ids[at]})
    }

    async fn save(
        &self,
        name: &str,
        triggers: Value,
        selector: Value,
        candidates: Value,
    ) -> Answer {
        let body = self.policy(name, triggers, selector, candidates);
        self.app.admin().post_json(POLICIES, &body).await
    }

    fn policy(&self, name: &str, triggers: Value, selector: Value, candidates: Value) -> Value {
        json!({"name": name, "policy_type": "model_fallback",
            "subject_matchers": [{"key": "workspace_id", "value": self.team.workspace_id}],
            "config": {"strategy": "priority_fallback", "triggers": triggers,
                "chain": {"selector": selector, "candidates": candidates}}})
    }

    /// A chain from the first configuration over the other two.
    async fn usual(&self, triggers: Value) {
        let candidates = json!([self.target(1), self.target(2)]);
        self.save("usual", triggers, self.target(0), candidates).await.expect(201);
    }

    async fn ask(&self) -> Answer {
        self.team.caller().send(Fixture::chat()).await
    }

    /// How many requests each upstream has got.
    fn counts(&self) -> [usize; 3] {
        [&self.team.upstream, &self.others[0], &self.others[1]].map(|one| one.seen().requests.len())
    }

    async fn rows(&self, count: usize) -> Vec<Row> {
        let rows = ledger_rows::rows_at_least(self.app.database(), count).await;
        assert_eq!(rows.len(), count, "{rows:?}");
        rows
    }
}

fn good() -> Script {
    openai::chat_completion("Good morning.", USAGE)
}

fn bad(status: u16) -> Script {
    openai::error(status, "server_error", "oops", "Not now.")
}

#[track_caller]
fn served_by(answer: &Answer, name: &str, attempts: &str) {
    let told = (answer.header("x-tollgate-served-by"), answer.header("x-tollgate-attempts"));
    assert_eq!(told, (Some(name), Some(attempts)), "{}", answer.text());
}

/// Attempt, configuration, outcome, status and cost.
fn shown(row: &Row) -> (i64, &str, &str, Option<i64>, Option<i64>) {
    (row.attempt, &row.configuration, &row.outcome, row.status, row.cost)
}

async fn the_next_target_answers_for_one_that_fails(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({"status_codes": [418]})).await;
    for (number, status) in [500, 503, 529, 408, 401, 404, 418].into_iter().enumerate() {
        chain.team.upstream.push(bad(status));
        chain.others[0].push(good());
        let answer = chain.ask().await.expect(200);
        served_by(&answer, "custom/second", "2");
        assert_eq!(answer.json()["usage"], USAGE.chat());
        assert_eq!(chain.others[0].last_request().json()["model"], "second-model");
        let rows = chain.rows(2 * (number + 1)).await;
        let [.., first, second] = rows.as_slice() else { panic!("{rows:?}") };
        let failed = Some(i64::from(status));
        assert_eq!(shown(first), (1, "main", "failed", failed, Some(0)));
        assert_eq!(shown(second), (2, "second", "completed", Some(200), Some(120_000)));
        assert_eq!(first.request_id, second.request_id);
        // Until the first target may be tried again.
        chain.app.advance(Duration::from_secs(120));
    }
    chain.team.upstream.push(good());
    served_by(&chain.ask().await.expect(200), "custom/main", "1");
}

async fn dead_and_slow_targets_are_passed_over(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({"first_byte_timeout_ms": 150})).await;
    // Slow, then cut off, then an answer.
    chain.team.upstream.push(Script::new().keep_open());
    chain.others[0].push(Script::new().reset());
    chain.others[1].push(good());
    served_by(&chain.ask().await.expect(200), "custom/third", "3");
    let rows = chain.rows(3).await;
    let outcomes: Vec<_> = rows.iter().map(|row| row.outcome.as_str()).collect();
    assert_eq!(outcomes, ["unknown", "unknown", "completed"], "{rows:?}");

    // Nobody listens there.
    let nobody = json!({"base_url": "http://127.0.0.1:1/v1", "model": "m"});
    let id = chain.team.configure("nobody", nobody).await;
    let selector = json!({"type": "model_config", "model_config_id": id});
    chain.save("dead", json!({}), selector, json!([chain.target(2)])).await.expect(201);
    chain.others[1].push(good());
    let dead = Request::post_json("/providers/nobody/v1/chat/completions", &question(false));
    served_by(&chain.team.caller().send(dead).await.expect(200), "custom/third", "2");
}

async fn other_mistakes_stay_where_they_are(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    for status in [400, 413, 422] {
        chain.team.upstream.push(bad(status));
        served_by(&chain.ask().await.expect(status), "custom/main", "1");
    }
    assert_eq!(chain.counts(), [3, 0, 0]);
    let rows = chain.rows(3).await;
    assert!(rows.iter().all(|row| row.attempt == 1 && row.outcome == "completed"), "{rows:?}");
}

async fn the_last_answer_is_returned(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    chain.team.upstream.push(bad(500));
    chain.others[0].push(bad(502));
    chain.others[1].push(bad(503));
    let answer = chain.ask().await.expect(503);
    served_by(&answer, "custom/third", "3");
    assert_eq!(answer.json()["error"]["message"], "Not now.");
    let rows = chain.rows(3).await;
    let statuses: Vec<_> = rows.iter().map(|row| row.status).collect();
    assert_eq!(statuses, [Some(500), Some(502), Some(503)], "{rows:?}");

    // All cool down: nobody is asked.
    let answer = chain.ask().await;
    let code = answer.json()["error"]["code"].clone();
    assert_eq!((answer.status, &code), (503, &json!("targets_cooling_down")));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(chain.counts(), [1, 1, 1]);
}

async fn a_failure_with_a_success_status_is_a_failure(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    let error = || json!({"error": {"message": "overloaded", "code": 529}});
    let role = json!({"choices": [{"index": 0, "delta": {"role": "assistant"}}]});
    let told = |value: &Value| format!("data: {value}\n\n");
    let failures = [
        Script::sse([told(&error())]),
        Script::sse([told(&role), told(&error())]),
        Script::sse_head().chunks([told(&role)]).close(),
        Script::sse([": nothing\n\n"]),
    ];
    for (number, failure) in failures.into_iter().enumerate() {
        chain.team.upstream.push(failure);
        chain.others[0].push(openai::chat_stream(&["Good ", "morning."], USAGE, true));
        let answer = chain.team.caller().send(Fixture::chat_stream()).await.expect(200);
        served_by(&answer, "custom/second", "2");
        assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
        assert!(!answer.text().contains("overloaded"));
        let rows = chain.rows(2 * (number + 1)).await;
        let [.., first, second] = rows.as_slice() else { panic!("{rows:?}") };
        assert_ne!(first.outcome, "completed", "{first:?}");
        assert_eq!((first.cost, second.cost), (Some(0), Some(120_000)), "{rows:?}");
        chain.app.advance(Duration::from_secs(120));
    }
    chain.team.upstream.push(Script::json(200, &error()));
    chain.others[0].push(good());
    served_by(&chain.ask().await.expect(200), "custom/second", "2");
    chain.app.advance(Duration::from_secs(120));

    // Once the model has written something, the answer is the caller's.
    let events = openai::chat_events(&["Good ", "morning."], USAGE, true);
    let begun = [events[0].clone(), events[1].clone(), told(&error())];
    chain.team.upstream.push(Script::sse(begun.clone()));
    let (head, mut answer) = chain.team.caller().stream(Fixture::chat_stream()).await;
    assert_eq!(head.status, 200);
    let (pieces, _) = answer.rest().await;
    let relayed: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
    assert_eq!(String::from_utf8(relayed).unwrap(), begun.concat());

    // If all fail so, the last one's is the answer.
    chain.app.advance(Duration::from_secs(120));
    for upstream in [&chain.team.upstream, &chain.others[0], &chain.others[1]] {
        upstream.push(Script::json(200, &error()));
    }
    let answer = chain.ask().await.expect(200);
    served_by(&answer, "custom/third", "3");
    assert_eq!(answer.json(), error());
}

async fn a_broken_stream_is_not_sent_again(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    let events = openai::chat_events(&["Good ", "morning."], USAGE, true);
    chain.team.upstream.push(Script::sse_head().chunks(events[..2].to_vec()).close());
    let (head, mut answer) = chain.team.caller().stream(Fixture::chat_stream()).await;
    assert_eq!(head.status, 200);
    let (_, end) = answer.rest().await;
    assert!(!matches!(end, BodyEnd::Complete), "{end:?}");
    assert_eq!(chain.rows(1).await[0].outcome, "upstream_broke");
    assert_eq!(chain.counts(), [1, 0, 0]);
}

async fn a_caller_who_leaves_ends_the_second_attempt(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    chain.team.upstream.push(bad(500));
    chain.others[0].push(Script::new().keep_open());
    let connection = chain.team.caller().open(Fixture::chat()).await.unwrap();
    chain.others[0].request(0).await;
    drop(connection);
    let rows = chain.rows(2).await;
    let outcomes: Vec<_> = rows.iter().map(|row| (row.attempt, row.outcome.as_str())).collect();
    assert_eq!(outcomes, [(1, "failed"), (2, "caller_left")], "{rows:?}");
    chain.others[0].wait_for("the gateway leaves", |seen| seen.left_by_peer() == 1).await;
    assert_eq!(chain.counts(), [1, 1, 0]);
}

async fn a_limited_target_is_left_out_until_it_may_be_tried(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    let limited = || {
        let body = json!({"error": {"message": "slow down"}}).to_string();
        let headers = [("content-type", "application/json"), ("retry-after", "30")];
        Script::new().sized(429, &headers, body).end()
    };
    chain.team.upstream.push(limited());
    chain.others[0].push(good());
    served_by(&chain.ask().await.expect(200), "custom/second", "2");
    for _ in 0..2 {
        chain.others[0].push(good());
        served_by(&chain.ask().await.expect(200), "custom/second", "1");
    }
    assert_eq!(chain.counts(), [1, 3, 0]);
    // Other workspaces have cool-downs of their own, and so has a request without the chain.
    chain.app.advance(Duration::from_secs(31));
    chain.team.upstream.push(limited());
    chain.others[0].push(limited());
    chain.others[1].push(limited());
    served_by(&chain.ask().await.expect(429), "custom/third", "3");
    chain.app.advance(Duration::from_secs(10));
    let answer = chain.ask().await;
    let code = answer.json()["error"]["code"].clone();
    assert_eq!((answer.status, &code), (429, &json!("targets_rate_limited")));
    assert_eq!(answer.header("retry-after"), Some("20"));
}

async fn a_target_that_has_recovered_is_tried_when_it_is_needed(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    chain.team.upstream.push(bad(500));
    chain.others[0].push(bad(500));
    chain.others[1].push(good());
    served_by(&chain.ask().await.expect(200), "custom/third", "3");
    chain.app.advance(Duration::from_secs(2));
    // The first answers, so that nobody has tried the second.
    for _ in 0..2 {
        chain.team.upstream.push(good());
        served_by(&chain.ask().await.expect(200), "custom/main", "1");
    }
    chain.team.upstream.push(bad(500));
    chain.others[0].push(good());
    served_by(&chain.ask().await.expect(200), "custom/second", "2");
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
    let messages = ask("/routes/my%20route/v1/messages", "m").await.expect(501);
    assert_eq!(messages.json()["error"]["code"], "format_not_served");
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
    let other_format = json!({"provider": "anthropic_compatible", "model": "m"});
    let messages = chain.team.configure("messages", other_format).await;
    let model = |provider: &str, model: &str| json!({"type": "provider_model", "provider": provider, "model": model});
    let config = |id: &str| json!({"type": "model_config", "model_config_id": id});
    let alias = |alias: &str| json!({"type": "alias", "alias": alias});
    let foreign = chain.app.workspace().await.configuration_id;
    let six: Vec<Value> = (0..6).map(|number| model("groq", &number.to_string())).collect();
    let good = json!([model("groq", "llama")]);
    for (selector, candidates, field) in [
        (chain.target(0), json!([config(&messages)]), "config.chain.candidates[0]"),
        (chain.target(0), json!([model("anthropic", "claude")]), "config.chain.candidates[0]"),
        (chain.target(0), json!([config(&foreign)]), "config.chain.candidates[0].model_config_id"),
        (chain.target(0), json!([chain.target(0)]), "config.chain.candidates[0]"),
        (chain.target(0), json!(six), "config.chain.candidates"),
        (chain.target(0), json!([]), "config.chain.candidates"),
        (alias("a/b"), good.clone(), "config.chain.selector.alias"),
        (alias(""), good.clone(), "config.chain.selector.alias"),
        (model("nobody", "m"), good.clone(), "config.chain.selector.provider"),
        (model("openai_compatible", "m"), good.clone(), "config.chain.selector.provider"),
        (model("bedrock", "m"), good.clone(), "config.chain.selector.provider"),
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
    let path = format!("{POLICIES}/{}", saved["id"].as_str().unwrap());
    assert_eq!(admin.get(&path).await.expect(200).json()["config"], saved["config"]);
    admin.patch(&path, &json!({"name": "two"})).await.expect(409);
    let b = json!({"config": {"chain": {"selector": alias("b"), "candidates": good}}});
    admin.patch(&path, &b).await.expect(409);
    admin.patch(&path, &json!({"name": "renamed", "enabled": false})).await.expect(200);
    admin.delete(&path).await.expect(204);
}
