//! What is charged of answers that fail half-way, are empty, or are of another kind than their head says.

use serde_json::{Value, json};

use crate::conversion::{SONNET, chat, claude, claude_events, last_row, messages, named, start};
use crate::support::{
    case::{Case, cases},
    database::Database,
    http::Request,
    script::{Script, data},
};

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![
        text_before_an_error_is_charged,
        a_stopped_stream_is_charged_the_bound_for_images_at_google,
    ]
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

async fn text_before_an_error_is_charged(database: Database) {
    let (app, team) = start(&database).await;
    let text = "word ".repeat(500);
    let mut claude: Vec<String> = claude_events(&[&text])[..3].iter().map(named).collect();
    let overloaded = json!({"type": "overloaded_error", "message": "Overloaded"});
    claude.push(named(&json!({"type": "error", "error": overloaded})));
    let mut first = part("word ");
    first["usageMetadata"] =
        json!({"promptTokenCount": 100, "candidatesTokenCount": 1, "totalTokenCount": 101});
    let error = json!({"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}});
    let google = [data(first), data(part(&text)), data(error)];
    let more = json!({"stream": true, "max_tokens": 2_000});
    let cases = [
        (messages(SONNET, more.clone()), Script::sse(claude.clone())),
        (chat(SONNET, more), Script::sse(claude)),
        (gemini("streamGenerateContent?alt=sse", &json!({"text": "."})), Script::sse(google)),
    ];
    for (number, (request, script)) in cases.into_iter().enumerate() {
        team.upstream.push(script);
        team.caller().send(request).await.expect(200);
        let row = last_row(&app, number + 1).await;
        assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), ("failed", "estimated"));
        // The input is the provider's, and so is what it counted of the output before the text.
        assert_eq!(row.input_tokens, Some(100), "{row:?}");
        assert!((490..520).contains(&row.output_tokens.unwrap_or(0)), "{row:?}");
    }
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
