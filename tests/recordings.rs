//! Recorded answers of OpenAI's API and of compatible ones, relayed as they are: unchanged, and charged to
//! the nano-dollar however they are cut.

use serde_json::Value;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    ledger_rows::{Row, last_row},
    openai::Usage,
    script::Script,
    upstream::ScriptedUpstream,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![recorded_streams_are_charged_however_they_are_cut, recorded_answers_are_charged]
}

async fn start(database: &Database) -> (TestApp, Fixture) {
    let upstream = ScriptedUpstream::start().await;
    let origin = upstream.origin();
    let origins = format!("openai={origin},groq={origin}/groq");
    let app = TestApp::with(database, &["--provider-origin", &origins]).await;
    let team = Fixture::before(&app.admin(), app.address(), upstream).await;
    for name in ["OPENAI_API_KEY", "GROQ_API_KEY"] {
        team.put_secret(name, &format!("sk-of-the-team-for-{name}")).await;
    }
    (app, team)
}

fn exchanges(text: &str) -> Vec<Value> {
    let mut recording: Value = serde_json::from_str(text).unwrap();
    serde_json::from_value(recording["exchanges"].take()).unwrap()
}

fn usage(prompt: u64, cached: u64, completion: u64, reasoning: u64) -> Usage {
    Usage { prompt, cached, completion, reasoning }
}

#[track_caller]
fn is_charged(row: &Row, usage: Usage, cost: u64) {
    assert!(row.counts(usage), "{row:?}");
    let charged = (row.cost, row.usage_source.as_str(), row.outcome.as_str());
    assert_eq!(charged, (i64::try_from(cost).ok(), "provider", "completed"), "{row:?}");
}

async fn recorded_streams_are_charged_however_they_are_cut(database: Database) {
    let (app, team) = start(&database).await;
    let chat = exchanges(include_str!("fixtures/chat/tool_stream.json"));
    let responses = exchanges(include_str!("fixtures/responses/tool_stream.json"));
    let mut count = 0;
    // The catalogue's prices in nano-dollars a token: gpt-4o-mini and gpt-4o.
    for (path, exchange, used, cost) in [
        ("chat/completions", &chat[0], usage(53, 0, 15, 0), 53 * 150 + 15 * 600),
        ("chat/completions", &chat[1], usage(78, 0, 9, 0), 78 * 150 + 9 * 600),
        ("responses", &responses[0], usage(255, 0, 16, 0), 255 * 2_500 + 16 * 10_000),
        ("responses", &responses[1], usage(278, 0, 9, 0), 278 * 2_500 + 9 * 10_000),
    ] {
        let whole = exchange["response"]["text"].as_str().unwrap();
        for size in [whole.len(), 7, 100, 1_024] {
            let pieces = whole.as_bytes().chunks(size).map(<[u8]>::to_vec);
            team.upstream.push(Script::sse(pieces));
            let asked = &exchange["request"]["json"];
            let path = format!("/openai/v1/{path}");
            let answer = team.caller().post_json(&path, asked).await.expect(200);
            assert_eq!(answer.text(), whole);
            assert_eq!(&team.upstream.last_request().json(), asked);
            count += 1;
            is_charged(&last_row(&app, count).await, used, cost);
        }
    }
}

async fn recorded_answers_are_charged(database: Database) {
    let (app, team) = start(&database).await;
    let turns = exchanges(include_str!("fixtures/responses/tool_turns.json"));
    let groq = exchanges(include_str!("fixtures/chat/reasoning_field.json"));
    // gpt-5 at 1.25, 0.125 and 10 dollars a million, gpt-oss-120b at 0.15 and 0.6.
    for (number, (path, exchange, used, cost)) in [
        ("openai/v1/responses", &turns[0], usage(124, 0, 1926, 1792), 124 * 1_250 + 1926 * 10_000),
        (
            "openai/v1/responses",
            &turns[1],
            usage(2087, 2048, 124, 0),
            39 * 1_250 + 2048 * 125 + 124 * 10_000,
        ),
        ("groq/v1/chat/completions", &groq[0], usage(84, 0, 105, 95), 84 * 150 + 105 * 600),
    ]
    .into_iter()
    .enumerate()
    {
        let whole = &exchange["response"]["json"];
        team.upstream.push(Script::json(200, whole));
        let asked = &exchange["request"]["json"];
        let answer = team.caller().post_json(&format!("/{path}"), asked).await.expect(200);
        assert_eq!(&answer.json(), whole);
        let row = last_row(&app, number + 1).await;
        let reported = (row.input_tokens, row.output_tokens);
        assert_eq!(reported, (Some(used.prompt), Some(used.completion)), "{row:?}");
        assert_eq!(row.cost, Some(cost), "{row:?}");
    }
}
