//! What is charged of answers that fail half-way, are empty, or are of another kind than their head says.

use serde_json::{Value, json};

use crate::conversion::{last_row, start};
use crate::support::{
    case::{Case, cases},
    database::Database,
    http::Request,
    script::{Script, data},
};

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![a_stopped_stream_is_charged_the_bound_for_images_at_google,]
}

const FLASH: &str = "/gemini/v1beta/models/gemini-2.5-flash";

fn gemini(method: &str, part: &Value) -> Request {
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}, part]}],
        "generationConfig": {"maxOutputTokens": 2_000}});
    Request::post_json(&format!("{FLASH}:{method}"), &body)
}

fn part(text: &str) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}],
        "modelVersion": "gemini-2.5-flash"})
}

async fn a_stopped_stream_is_charged_the_bound_for_images_at_google(database: Database) {
    let (app, team) = start(&database).await;
    let file =
        |media_type: &str, uri: &str| json!({"fileData": {"mimeType": media_type, "fileUri": uri}});
    for (number, (part_asked, expected)) in [
        (file("image/png", "https://example.com/a.png"), 2_240..2_300),
        (file("image/png", "gs://bucket/a.png"), 2_240..2_300),
        (file("video/mp4", "gs://bucket/a.mp4"), 1_000_000..1_100_000),
    ]
    .into_iter()
    .enumerate()
    {
        team.upstream.push(Script::sse_head().chunks([data(part("Morning."))]).keep_open());
        let request = gemini("streamGenerateContent?alt=sse", &part_asked);
        let (_, mut stream) = team.caller().stream(request).await;
        stream.event().await.unwrap();
        stream.hang_up();
        let row = last_row(&app, number + 1).await;
        assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), ("caller_left", "estimated"));
        assert!(expected.contains(&row.input_tokens.unwrap_or(0)), "{row:?}");
    }
}
