//! Bedrock's Converse API on a configuration: binary streams pass unchanged and are charged.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::bedrock::{question, stream};
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    connection::BodyEnd,
    database::Database,
    fixture::Fixture,
    http::Request,
    ledger_rows::last_row,
    script::Script,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_plain_answer_is_charged,
        a_recorded_stream_passes_unchanged_however_it_is_cut,
        a_truncated_or_damaged_stream_is_never_completed,
        errors_have_bedrocks_form,
    ]
}

const PATH: &str = "/providers/bedrock/model/any/converse";

async fn start(database: &Database) -> (TestApp, Fixture) {
    let (app, team) = TestApp::start_with_workspace(database).await;
    let base = team.upstream.origin();
    let model = "us.amazon.nova-micro-v1:0";
    let more = json!({"provider": "bedrock", "base_url": base, "model": model});
    let id = team.configure("bedrock", more).await;
    let path = team.path(&format!("model-configurations/{id}"));
    let price = json!({"price": {"input": 1, "cached_input": 0.1, "output": 2}});
    app.admin().patch(&path, &price).await.expect(200);
    (app, team)
}

/// 13 tokens in and 82 out.
fn recorded_stream() -> Vec<u8> {
    let recording = include_str!("fixtures/converse/text_stream.json");
    let recording: Value = serde_json::from_str(recording).unwrap();
    let text = recording["exchanges"][0]["response"]["base64"].as_str().unwrap();
    BASE64_STANDARD.decode(text).unwrap()
}

async fn a_plain_answer_is_charged(database: Database) {
    let (app, team) = start(&database).await;
    let message = json!({"output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 10, "cacheReadInputTokens": 40, "outputTokens": 7, "totalTokens": 57}});
    team.upstream.push(Script::json(200, &message));
    let answer = team.caller().post_json(PATH, &question()).await.expect(200);
    assert_eq!(answer.json(), message);
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), "/model/us.amazon.nova-micro-v1%3A0/converse");
    let bearer = format!("Bearer {}", team.provider_key);
    assert_eq!(sent.header("authorization"), Some(bearer.as_str()));
    let row = last_row(&app, 1).await;
    let tokens = (row.input_tokens, row.cached_input_tokens, row.output_tokens);
    assert_eq!(tokens, (Some(50), Some(40), Some(7)), "{row:?}");
    assert_eq!(row.cost, Some(10 * 1_000 + 40 * 100 + 7 * 2_000), "{row:?}");
}

async fn a_recorded_stream_passes_unchanged_however_it_is_cut(database: Database) {
    let (app, team) = start(&database).await;
    let whole = recorded_stream();
    for (number, size) in [whole.len(), 13, 500].into_iter().enumerate() {
        team.upstream.push(stream(&whole, size).end());
        let path = format!("{PATH}-stream");
        let (_, mut answer) = team.caller().stream(Request::post_json(&path, &question())).await;
        let (pieces, end) = answer.rest().await;
        assert!(matches!(end, BodyEnd::Complete), "{end:?}");
        let relayed: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        assert_eq!(relayed, whole);
        let row = last_row(&app, number + 1).await;
        assert_eq!((row.input_tokens, row.output_tokens), (Some(13), Some(82)), "{row:?}");
        assert_eq!((row.outcome.as_str(), row.cost), ("completed", Some(177_000)), "{row:?}");
    }
}

async fn a_truncated_or_damaged_stream_is_never_completed(database: Database) {
    let (app, team) = start(&database).await;
    let whole = recorded_stream();
    let half = whole[..whole.len() / 2].to_vec();
    let scripts = [
        stream(&half, 100).end(),
        stream(&half, 100).close(),
        // Only the message with the usage is missing.
        stream(without_last_message(&whole), 100).end(),
    ];
    for (number, script) in scripts.into_iter().enumerate() {
        team.upstream.push(script);
        let path = format!("{PATH}-stream");
        let (_, mut answer) = team.caller().stream(Request::post_json(&path, &question())).await;
        let (_, end) = answer.rest().await;
        assert!(!matches!(end, BodyEnd::Complete), "{end:?}");
        let row = last_row(&app, number + 1).await;
        assert_eq!(row.outcome, "upstream_broke");
        assert_eq!(row.usage_source, "estimated", "{row:?}");
        assert!(row.cost.is_some_and(|cost| cost > 0), "{row:?}");
    }
}

/// The stream up to its last message. Each begins with its length.
fn without_last_message(stream: &[u8]) -> &[u8] {
    let mut at = 0;
    loop {
        let length = u32::from_be_bytes(*stream[at..].first_chunk().unwrap());
        let next = at + usize::try_from(length).unwrap();
        if next == stream.len() {
            return &stream[..at];
        }
        at = next;
    }
}

async fn errors_have_bedrocks_form(database: Database) {
    let (app, team) = start(&database).await;
    let answer = app.anonymous().post_json(PATH, &question()).await;
    assert_eq!(answer.status, 401);
    let body = answer.json();
    assert!(
        body["message"].as_str().is_some_and(|text| text.contains("Tollgate API key")),
        "{body}"
    );
    let path = "/providers/bedrock/model/any/count-tokens";
    let unlisted = team.caller().post_json(path, &question()).await;
    assert_eq!(unlisted.status, 501, "{}", unlisted.text());
    let climbing = "/providers/bedrock/model/..%2Fadmin/converse";
    assert_eq!(team.caller().post_json(climbing, &question()).await.status, 400);
    assert_eq!(team.upstream.seen().requests.len(), 0);
}
