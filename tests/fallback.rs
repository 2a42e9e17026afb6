//! Fallback chains: what leads to the next target and what does not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    case::{Case, cases},
    chain::{Chain, USAGE, bad, good, served_by, shown},
    connection::BodyEnd,
    database::Database,
    fixture::{Fixture, question},
    http::Request,
    openai,
    script::Script,
};

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
        a_check_ends_the_cool_down,
        a_refused_credential_is_recorded_alike_in_every_row,
    ]
}

async fn the_next_target_answers_for_one_that_fails(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({"status_codes": [418]})).await;
    for (number, status) in [500, 503, 529, 408, 401, 402, 404, 418].into_iter().enumerate() {
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
    let began = Instant::now();
    served_by(&chain.ask().await.expect(200), "custom/third", "3");
    let took = began.elapsed().as_millis();
    let rows = chain.rows(3).await;
    let outcomes: Vec<_> = rows.iter().map(|row| row.outcome.as_str()).collect();
    assert_eq!(outcomes, ["unknown", "unknown", "completed"], "{rows:?}");
    // Each attempt's time is its own: they follow one another.
    let times: Vec<u128> = rows.iter().filter_map(|row| row.duration_ms).collect();
    assert!(times[0] >= 150 && times.iter().sum::<u128>() <= took, "{times:?} of {took}");

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
    let limited = |retry_after: &str| {
        let body = json!({"error": {"message": "slow down"}}).to_string();
        let headers = [("content-type", "application/json"), ("retry-after", retry_after)];
        Script::new().sized(429, &headers, body).end()
    };
    let date = (chain.app.now() + Duration::from_secs(31)).format("%a, %d %b %Y %H:%M:%S GMT");
    chain.team.upstream.push(limited(&date.to_string()));
    chain.others[0].push(good());
    served_by(&chain.ask().await.expect(200), "custom/second", "2");
    for _ in 0..2 {
        chain.app.advance(Duration::from_secs(14));
        chain.others[0].push(good());
        served_by(&chain.ask().await.expect(200), "custom/second", "1");
    }
    assert_eq!(chain.counts(), [1, 3, 0]);
    // Other workspaces have cool-downs of their own, and so has a request without the chain.
    chain.app.advance(Duration::from_secs(31));
    chain.team.upstream.push(limited("50"));
    chain.others[0].push(limited("30"));
    chain.others[1].push(limited("40"));
    let answer = chain.ask().await.expect(429);
    served_by(&answer, "custom/third", "3");
    assert_eq!(answer.json()["error"]["message"], "slow down");
    assert_eq!(answer.header("retry-after"), Some("30"), "the second may be tried first");
    chain.app.advance(Duration::from_secs(10));
    let answer = chain.ask().await;
    let code = answer.json()["error"]["code"].clone();
    assert_eq!((answer.status, &code), (429, &json!("targets_rate_limited")));
    assert_eq!(answer.header("retry-after"), Some("20"));
    // Where the others are left out, their times count, too.
    chain.app.advance(Duration::from_secs(20));
    chain.others[0].push(limited("60"));
    let answer = chain.ask().await.expect(429);
    served_by(&answer, "custom/second", "1");
    assert_eq!(answer.header("retry-after"), Some("10"));
}

async fn a_check_ends_the_cool_down(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    let ask_second = async |attempts: &str| {
        chain.others[0].push(good());
        served_by(&chain.ask().await.expect(200), "custom/second", attempts);
    };
    chain.team.upstream.push(bad(401));
    ask_second("2").await;
    let check = chain.team.path(&format!("model-configurations/{}/check", chain.ids[0]));
    let check = Request::new("POST", &check);
    chain.team.upstream.push(bad(500));
    let answer = chain.app.admin().send(check.clone()).await.expect(200).json();
    assert_eq!(answer["ok"], false, "{answer}");
    ask_second("1").await;
    let answer = chain.app.admin().send(check).await.expect(200).json();
    assert_eq!(answer["ok"], true, "{answer}");
    chain.team.upstream.push(good());
    served_by(&chain.ask().await.expect(200), "custom/main", "1");
}

async fn a_refused_credential_is_recorded_alike_in_every_row(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    for upstream in [&chain.team.upstream, &chain.others[0], &chain.others[1]] {
        upstream.push(bad(401));
    }
    let answer = chain.ask().await.expect(502);
    assert_eq!(answer.json()["error"]["code"], "provider_credential_refused");
    let rows = chain.rows(3).await;
    let ends: Vec<_> = rows.iter().map(|row| (row.outcome.as_str(), row.status)).collect();
    assert_eq!(ends, [("failed", Some(401)); 3]);
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
