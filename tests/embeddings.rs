//! Embeddings on a configuration: relayed whole, and charged for their input alone.

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    proxy_routes::gateway_error,
    support::{
        app::TestApp,
        case::{Case, cases},
        database::Database,
        fixture::Fixture,
        http::Request,
        ledger_rows::{self, Row, last_row},
        policies::{over_cap, spend_cap},
        script::Script,
        server_process::ServerProcess,
        wait::eventually,
    },
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        vectors_are_charged_to_the_nano_dollar,
        defaults_are_added_and_a_stream_is_not_asked_for,
        a_cap_holds_and_reserves_nothing_for_output,
        errors_and_empty_answers_cost_nothing,
        an_answer_without_usage_is_estimated,
        a_large_answer_takes_constant_memory,
        another_api_has_no_embeddings,
    ]
}

/// What a token of input costs, in nano-dollars.
const INPUT: i64 = 4_000;

async fn start(database: &Database) -> (TestApp, Fixture) {
    let (app, team) = TestApp::start_with_workspace(database).await;
    let price = json!({"price": {"input": 4, "output": 20}});
    app.admin().patch(&team.configuration_path(), &price).await.expect(200);
    (app, team)
}

fn asks(input: &Value) -> Request {
    Request::post_json(&Fixture::route("embeddings"), &json!({"model": "any", "input": input}))
}

fn vectors(usage: &Value) -> Value {
    json!({
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.0023, -0.0093]}],
        "model": Fixture::MODEL,
        "usage": usage,
    })
}

fn reported(tokens: u64) -> Script {
    Script::json(200, &vectors(&json!({"prompt_tokens": tokens, "total_tokens": tokens})))
}

/// Fails the test unless the row has this input, no output, and costs what that costs.
#[track_caller]
fn is_charged(row: &Row, input: u64, source: &str) {
    assert_eq!((row.input_tokens, row.output_tokens), (Some(input), Some(0)), "{row:?}");
    assert_eq!(row.cost, Some(i64::try_from(input).unwrap() * INPUT), "{row:?}");
    assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), ("completed", source), "{row:?}");
}

async fn vectors_are_charged_to_the_nano_dollar(database: Database) {
    let (app, team) = start(&database).await;
    team.upstream.push(reported(7));
    let answer = team.caller().send(asks(&json!(["Good morning?", ""]))).await.expect(200);
    assert_eq!(answer.json(), vectors(&json!({"prompt_tokens": 7, "total_tokens": 7})));
    let sent = team.upstream.last_request();
    assert_eq!((sent.method.as_str(), sent.path()), ("POST", "/v1/embeddings"));
    assert_eq!(sent.json(), json!({"model": Fixture::MODEL, "input": ["Good morning?", ""]}));
    is_charged(&last_row(&app, 1).await, 7, "provider");

    // Some providers report the total alone.
    team.upstream.push(Script::json(200, &vectors(&json!({"total_tokens": 9}))));
    team.caller().send(asks(&json!("Good morning?"))).await.expect(200);
    is_charged(&last_row(&app, 2).await, 9, "provider");
    let row = app.admin().get(&team.path("requests")).await.expect(200).json()["data"][0].clone();
    assert_eq!((&row["route"], &row["model_used"]), (&json!("embeddings"), &json!(Fixture::MODEL)));
    let counted = "tollgate_proxy_duration_seconds_count{operation=\"embeddings\"}";
    assert_eq!(app.counter(counted).await, 2);
}

async fn defaults_are_added_and_a_stream_is_not_asked_for(database: Database) {
    let (app, team) = start(&database).await;
    let defaults = json!({"default_parameters": {"dimensions": 256}, "stream_usage": "inject"});
    app.admin().patch(&team.configuration_path(), &defaults).await.expect(200);
    team.upstream.push(reported(3));
    let body = json!({"input": [1, 2, 3], "stream": true});
    let request = Request::post_json(&Fixture::route("embeddings"), &body);
    team.caller().send(request).await.expect(200);
    let sent = team.upstream.last_request().json();
    assert_eq!((&sent["dimensions"], sent.get("stream_options")), (&json!(256), None));
    is_charged(&last_row(&app, 1).await, 3, "provider");
}

async fn a_cap_holds_and_reserves_nothing_for_output(database: Database) {
    const CAP: i128 = 5_000_000;
    let (app, team) = start(&database).await;
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    spend_cap(&app.admin(), "five mills", &workspace, ("monthly", CAP)).await;
    // A token is a byte at least, so these may cost more than the cap.
    for input in [json!("x".repeat(1_250)), json!(vec![1; 625])] {
        over_cap(&team.caller().send(asks(&input)).await, "five mills");
    }
    assert_eq!(team.upstream.seen().accepted(), 0);
    // Each of these may cost a third of it, and does.
    let input = json!("x".repeat(400));
    (0..8).for_each(|_| team.upstream.push(reported(400)));
    let caller = team.caller();
    let answers = join_all((0..8).map(|_| caller.send(asks(&input)))).await;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((2..=3).contains(&passed), "{passed}");
    answers.iter().filter(|answer| answer.status != 200).for_each(|answer| {
        over_cap(answer, "five mills");
    });
    let rows = ledger_rows::rows_at_least(app.database(), 10).await;
    let cost = ledger_rows::cost(&rows);
    assert_eq!(cost, 400 * i128::from(INPUT) * i128::try_from(passed).unwrap());
    assert!(cost <= CAP);
}

async fn errors_and_empty_answers_cost_nothing(database: Database) {
    let (app, team) = start(&database).await;
    let error = json!({"error": {"message": "Overloaded", "type": "server_error"}});
    let empty = json!({"object": "list", "data": [], "usage": null});
    for (number, (status, body, code)) in [
        (429, &error, None),
        (200, &error, Some("upstream_reported_error")),
        (200, &empty, Some("upstream_no_answer")),
    ]
    .into_iter()
    .enumerate()
    {
        team.upstream.push(Script::json(status, body));
        let answer = team.caller().send(asks(&json!("Good morning?"))).await;
        assert_eq!((answer.status, &answer.json()), (status, body));
        let row = last_row(&app, number + 1).await;
        assert_eq!((row.cost, row.usage_source.as_str()), (Some(0), "none"), "{row:?}");
        let rows = app.admin().get(&team.path("requests")).await.expect(200).json();
        assert_eq!(rows["data"][0]["code"].as_str(), code, "{rows}");
    }
    let malformed = Request::new("POST", &Fixture::route("embeddings")).body("[1]");
    gateway_error(&team.caller().send(malformed).await, 400, "not_a_json_object");
}

async fn an_answer_without_usage_is_estimated(database: Database) {
    let (app, team) = start(&database).await;
    for (number, (input, tokens)) in [
        (json!("Good morning?"), 3),
        (json!([1, 22, 333, 4_444]), 4),
        (json!([[1, 22], [100_256]]), 3),
    ]
    .into_iter()
    .enumerate()
    {
        team.upstream.push(Script::json(200, &vectors(&Value::Null)));
        team.caller().send(asks(&input)).await.expect(200);
        is_charged(&last_row(&app, number + 1).await, tokens, "estimated");
    }
}

async fn a_large_answer_takes_constant_memory(database: Database) {
    const CHUNK: usize = 16 * 1024;
    const COUNT: usize = 50 * 1024 * 1024 / CHUNK;
    let served = ServerProcess::start(&database, &[("--workers", "1")]).await;
    let team = served.workspace().await;
    let digits = Bytes::from("0.0625,".repeat(CHUNK / 7));
    let json = [("content-type", "application/json")];
    // The first answer is a warm-up.
    let read = async |count: usize| {
        let (head, end) = (
            r#"{"object":"list","data":[{"index":0,"embedding":["#,
            r#"1]}],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
        );
        let script = Script::new().chunked_head(200, &json).chunk(head);
        team.upstream.push(script.repeat(digits.clone(), count).chunk(end).end());
        let (_, mut answer) = team.caller().stream(asks(&json!("Good morning?"))).await;
        let (mut length, mut most) = (0, 0);
        while let Some(piece) = answer.piece().await.unwrap() {
            length += piece.bytes.len();
            most = most.max(served.process.resident());
        }
        assert_eq!(length, head.len() + count * digits.len() + end.len());
        most
    };
    let before = read(COUNT / 20).await;
    let most = read(COUNT).await;
    let grown = most.saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more for twenty times the answer");
    let path = format!("/api/v1/workspaces/{}/requests", team.workspace_id);
    eventually("both are counted", async || {
        let rows = served.admin().get(&path).await.expect(200).json();
        let rows = rows["data"].as_array().cloned().unwrap_or_default();
        let counts =
            |row: &Value| row["usage"]["input_tokens"] == 8 && row["usage_source"] == "provider";
        rows.len() == 2 && rows.iter().all(counts)
    })
    .await;
}

async fn another_api_has_no_embeddings(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    team.configure("claude", json!({"provider": "anthropic_compatible"})).await;
    let request = Request::post_json("/providers/claude/v1/embeddings", &json!({"input": "x"}));
    gateway_error(&team.caller().send(request).await, 501, "format_not_served");
    for path in ["embeddings/", "embeddings/1", "embedding"] {
        let request = Request::post_json(&Fixture::route(path), &json!({"input": "x"}));
        gateway_error(&team.caller().send(request).await, 501, "not_served");
    }
    assert_eq!(team.upstream.seen().accepted(), 0);
}
