//! What the failed attempts of a chain cost, where their answers tell what they used.

use serde_json::json;

use crate::messages::event;
use crate::support::{
    case::{Case, cases},
    chain::{Chain, good, served_by},
    database::Database,
    http::{Answer, Request},
    policies::{self, has_spent, spend_cap},
    script::Script,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_failed_attempt_costs_what_it_reports,
        a_failed_plain_answer_costs_what_it_reports,
        what_a_told_failure_may_cost_stays_reserved,
        the_last_failure_is_charged_if_no_further_attempt_fits,
    ]
}

const PATH: &str = "/providers/claude-0/v1/messages";

/// A chain over two configurations that speak messages. A token of input is 4,000 nano-dollars, one of
/// output 20,000.
async fn claudes(chain: &Chain) {
    let mut targets = Vec::new();
    for (number, upstream) in [&chain.team.upstream, &chain.others[0]].into_iter().enumerate() {
        let name = format!("claude-{number}");
        let more = json!({"provider": "anthropic_compatible", "base_url": upstream.base_url(),
            "model": "claude-test"});
        let id = chain.team.configure(&name, more).await;
        let path = chain.team.path(&format!("model-configurations/{id}"));
        let price = json!({"price": {"input": 4, "output": 20}});
        chain.app.admin().patch(&path, &price).await.expect(200);
        targets.push(json!({"type": "model_config", "model_config_id": id}));
    }
    let (first, rest) = (targets.remove(0), json!(targets));
    chain.save("claudes", json!({}), first, rest).await.expect(201);
}

fn asks(max_tokens: u32) -> Request {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let body =
        json!({"model": "any", "max_tokens": max_tokens, "stream": true, "messages": messages});
    Request::post_json(PATH, &body)
}

fn started() -> String {
    let message = json!({"id": "msg_1", "role": "assistant", "model": "claude-test", "content": [],
        "usage": {"input_tokens": 50, "output_tokens": 1}});
    event("message_start", json!({"message": message}))
}

/// What the first event reports.
const STARTED: i64 = 50 * 4_000 + 20_000;

fn overloaded() -> Script {
    let error = json!({"error": {"type": "overloaded_error", "message": "Overloaded"}});
    Script::sse([started(), event("error", error)])
}

fn cut() -> Script {
    Script::sse_head().chunks([started()]).close()
}

fn whole() -> Script {
    let delta = json!({"index": 0, "delta": {"type": "text_delta", "text": "Hello."}});
    let end = json!({"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}});
    let block = json!({"index": 0, "content_block": {"type": "text", "text": ""}});
    Script::sse([
        started(),
        event("content_block_start", block),
        event("content_block_delta", delta),
        event("content_block_stop", json!({"index": 0})),
        event("message_delta", end),
        event("message_stop", json!({})),
    ])
}

const WHOLE: i64 = 50 * 4_000 + 3 * 20_000;

async fn a_failed_attempt_costs_what_it_reports(database: Database) {
    let chain = Chain::start(&database).await;
    claudes(&chain).await;
    let workspace = [("workspace_id", chain.team.workspace_id.as_str())];
    let admin = chain.app.admin();
    let cap = spend_cap(&admin, "cap", &workspace, ("monthly", 1_000_000_000)).await;
    policies::rate_limit(&admin, "rate", &workspace, &[("tokens", "hour", 100_000)]).await;
    let mut left = Vec::new();
    for (number, (failure, outcome)) in
        [(overloaded(), "failed"), (cut(), "upstream_broke")].into_iter().enumerate()
    {
        chain.team.upstream.push(failure);
        chain.others[0].push(whole());
        let answer = chain.team.caller().send(asks(10)).await.expect(200);
        served_by(&answer, "custom/claude-1", "2");
        left.push(tokens_left(&answer));
        let rows = chain.rows(2 * (number + 1)).await;
        let [.., first, second] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((first.outcome.as_str(), first.status), (outcome, Some(200)), "{first:?}");
        let tokens = (first.input_tokens, first.output_tokens, first.usage_source.as_str());
        assert_eq!(tokens, (Some(50), Some(1), "provider"), "{first:?}");
        assert_eq!((first.cost, second.cost), (Some(STARTED), Some(WHOLE)), "{rows:?}");
        let requests = i128::try_from(number + 1).unwrap();
        has_spent(&admin, &cap, requests * i128::from(STARTED + WHOLE)).await;
        assert_eq!(
            i128::from(chain.app.counter("tollgate_cost_nano_usd_total").await),
            requests * i128::from(STARTED + WHOLE)
        );
        chain.app.advance(std::time::Duration::from_secs(120));
    }
    chain.team.upstream.push(whole());
    left.push(tokens_left(&chain.team.caller().send(asks(10)).await.expect(200)));
    let used: Vec<i64> = left.windows(2).map(|two| two[0] - two[1]).collect();
    assert_eq!(used, [51 + 53; 2], "{left:?}");
}

fn tokens_left(answer: &Answer) -> i64 {
    answer.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap()
}

async fn a_failed_plain_answer_costs_what_it_reports(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9});
    let error = json!({"error": {"message": "overloaded", "code": 529}, "usage": usage});
    chain.team.upstream.push(Script::json(200, &error));
    chain.others[0].push(good());
    served_by(&chain.ask().await.expect(200), "custom/second", "2");
    let rows = chain.rows(2).await;
    assert_eq!((rows[0].cost, rows[1].cost), (Some(11_000), Some(120_000)), "{rows:?}");
    assert_eq!(rows[0].outcome, "failed");
    // Of text without usage, the cost is estimated, as without a chain.
    chain.app.advance(std::time::Duration::from_secs(120));
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": "Good morning."}});
    let error = json!({"choices": [choice], "error": {"message": "overloaded", "code": 529}});
    chain.team.upstream.push(Script::json(200, &error));
    chain.others[0].push(good());
    served_by(&chain.ask().await.expect(200), "custom/second", "2");
    let rows = chain.rows(4).await;
    assert_eq!(rows[2].usage_source, "estimated", "{rows:?}");
    assert!(rows[2].cost > Some(0), "{rows:?}");
}

async fn what_a_told_failure_may_cost_stays_reserved(database: Database) {
    let chain = Chain::start(&database).await;
    claudes(&chain).await;
    let workspace = [("workspace_id", chain.team.workspace_id.as_str())];
    let admin = chain.app.admin();
    // An attempt costs at most 20 million nano-dollars and what is read: there is room for one.
    let cap = spend_cap(&admin, "one", &workspace, ("monthly", 30_000_000)).await;
    chain.team.upstream.push(overloaded());
    let answer = chain.team.caller().send(asks(1000)).await.expect(200);
    served_by(&answer, "custom/claude-0", "1");
    assert!(answer.text().contains("overloaded_error"), "{}", answer.text());
    assert_eq!(chain.counts(), [1, 0, 0]);
    has_spent(&admin, &cap, i128::from(STARTED)).await;
    let rows = chain.rows(1).await;
    assert_eq!((rows[0].cost, rows[0].outcome.as_str()), (Some(STARTED), "failed"), "{rows:?}");
}

async fn the_last_failure_is_charged_if_no_further_attempt_fits(database: Database) {
    let chain = Chain::start(&database).await;
    claudes(&chain).await;
    let workspace = [("workspace_id", chain.team.workspace_id.as_str())];
    let admin = chain.app.admin();
    let cap = spend_cap(&admin, "one", &workspace, ("monthly", 30_000_000)).await;
    chain.team.upstream.push(cut());
    // It may cost nearly all.
    chain.team.caller().send(asks(1455)).await.expect(502);
    assert_eq!(chain.counts(), [1, 0, 0]);
    has_spent(&admin, &cap, i128::from(STARTED)).await;
    let rows = chain.rows(1).await;
    assert_eq!((rows[0].cost, rows[0].status), (Some(STARTED), Some(200)), "{rows:?}");
    // What has been spent counts for the next request.
    let refused = chain.team.caller().send(asks(1455)).await.expect(402);
    assert_eq!(refused.json()["error"]["code"], "spend_cap_exceeded");
}
