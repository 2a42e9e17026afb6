//! Errors that lead to the next target of a chain by what they say: a prompt that is too long, and a 403.

use serde_json::{Value, json};

use crate::support::{
    case::{Case, cases},
    chain::{Chain, good, served_by},
    database::Database,
    openai,
    script::Script,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_prompt_that_is_too_long_goes_to_a_larger_window_only,
        an_overflow_without_a_larger_window_is_the_callers,
        a_403_leads_on_only_if_it_is_about_the_credential,
    ]
}

fn too_long() -> Script {
    openai::error(400, "invalid_request_error", "context_length_exceeded", "Too many tokens.")
}

async fn set_window(chain: &Chain, at: usize, tokens: Value) {
    let path = chain.team.path(&format!("model-configurations/{}", chain.ids[at]));
    chain.app.admin().patch(&path, &json!({"context_window": tokens})).await.expect(200);
}

async fn a_prompt_that_is_too_long_goes_to_a_larger_window_only(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    for (at, tokens) in [(0, 1_000), (1, 1_000), (2, 5_000)] {
        set_window(&chain, at, json!(tokens)).await;
    }
    for round in 1..=2 {
        // Nothing cools down, so that the first one is asked again.
        chain.team.upstream.push(too_long());
        chain.others[1].push(good());
        served_by(&chain.ask().await.expect(200), "custom/third", "2");
        assert_eq!(chain.counts(), [round, 0, round]);
    }
    let rows = chain.rows(4).await;
    let ends: Vec<_> = rows.iter().map(|row| (row.status, row.cost)).collect();
    assert_eq!(ends[..2], [(Some(400), Some(0)), (Some(200), Some(120_000))], "{rows:?}");
    // What is not about the window stays, and so does a 413 about the size of the body.
    for status in [400, 413] {
        chain.team.upstream.push(openai::error(status, "invalid_request_error", "bad", "Too big."));
        served_by(&chain.ask().await.expect(status), "custom/main", "1");
    }
    // The window of the second is larger now, but it answers with another error.
    set_window(&chain, 1, json!(2_000)).await;
    chain.team.upstream.push(too_long());
    chain.others[0].push(too_long());
    chain.others[1].push(good());
    served_by(&chain.ask().await.expect(200), "custom/third", "3");
}

async fn an_overflow_without_a_larger_window_is_the_callers(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    let stays = async || {
        chain.team.upstream.push(too_long());
        let answer = chain.ask().await.expect(400);
        served_by(&answer, "custom/main", "1");
        assert_eq!(answer.json()["error"]["code"], "context_length_exceeded");
        assert_eq!(answer.json()["error"]["message"], "Too many tokens.");
    };
    stays().await;
    // A window that is known is not larger than one that is not.
    set_window(&chain, 1, json!(1_000_000)).await;
    stays().await;
    set_window(&chain, 0, json!(1_000_000)).await;
    stays().await;
    assert_eq!(chain.counts(), [3, 0, 0]);
}

async fn a_403_leads_on_only_if_it_is_about_the_credential(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    let refused = |kind: &str, message: &str| openai::error(403, kind, "its_code", message);
    for (kind, message) in
        [("permission_error", "No."), ("other", "Your account does not have access to this model.")]
    {
        chain.team.upstream.push(refused(kind, message));
        chain.others[0].push(good());
        served_by(&chain.ask().await.expect(200), "custom/second", "2");
    }
    let flagged = || refused("other", "Your input was flagged by moderation of this API key.");
    for script in
        [flagged(), refused("other", "Forbidden."), Script::new().sized(403, &[], "").end()]
    {
        chain.team.upstream.push(script);
        let answer = chain.ask().await.expect(403);
        served_by(&answer, "custom/main", "1");
    }
    let path = "/api/v1/gateway-policies";
    let policies = chain.app.admin().get(path).await.expect(200).json();
    let usual = format!("{path}/{}", policies[0]["id"].as_str().unwrap());
    let listed = json!({"config": {"triggers": {"status_codes": [403]}}});
    chain.app.admin().patch(&usual, &listed).await.expect(200);
    chain.team.upstream.push(flagged());
    chain.others[0].push(good());
    served_by(&chain.ask().await.expect(200), "custom/second", "2");
}
