//! What is charged of answers that fail half-way, are empty, or are of another kind than their head says.

use serde_json::{Value, json};

use crate::conversion::{SONNET, chat, claude, claude_events, messages, named, responses, start};
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    chain::{Chain, good, served_by},
    database::Database,
    fixture::{Fixture, question},
    http::Request,
    ledger_rows::{self, last_row},
    openai::{self, PARTS, Usage},
    script::{Script, data},
    sql, streams,
};

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![
        text_before_an_error_is_charged,
        an_answer_without_content_costs_nothing,
        a_chain_goes_on_after_an_answer_without_content,
        a_blocked_prompt_has_no_output,
        json_under_the_type_of_event_streams_is_read,
        json_under_the_type_of_event_streams_is_read_in_every_format,
        an_array_stream_may_begin_with_a_byte_order_mark,
        a_stopped_stream_is_charged_the_bound_for_images_at_google,
    ]
}

const FLASH: &str = "/gemini/v1beta/models/gemini-2.5-flash";
const EVENTS: [(&str, &str); 1] = [("content-type", "text/event-stream")];

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

/// Answers without anything of the model's, by their path.
fn empty_answers() -> Vec<(&'static str, Value)> {
    let choices = |choices: Value| ("chat/completions", json!({"id": "c", "choices": choices}));
    let said = |content: Value| {
        let message = json!({"role": "assistant", "content": content});
        choices(json!([{"index": 0, "message": message, "finish_reason": "stop"}]))
    };
    let text = json!({"type": "output_text", "text": "", "annotations": []});
    let message = json!({"type": "message", "id": "msg_1", "role": "assistant", "content": [text]});
    vec![
        said(json!("")),
        said(Value::Null),
        said(json!([])),
        choices(json!([{}])),
        choices(json!([null])),
        (
            "responses",
            json!({"object": "response", "status": "completed", "output": [message],
            "tools": [{"type": "function", "name": "f"}], "usage": null}),
        ),
    ]
}

/// Chat completions that report an error where others have their choices.
fn inner_errors() -> Vec<Value> {
    let message = json!({"role": "assistant", "content": ""});
    let error = json!({"code": 502, "message": "Overloaded"});
    vec![
        json!({"choices": [{"index": 0, "error": error, "message": message, "finish_reason": "error"}]}),
        json!({"choices": [{"index": 0, "message": message, "finish_reason": "error"}]}),
        json!({"object": "error", "message": "Overloaded", "code": 502}),
    ]
}

async fn an_answer_without_content_costs_nothing(database: Database) {
    let app = TestApp::start(&database).await;
    let team = app.workspace().await;
    let path = team.path(&format!("model-configurations/{}", team.configuration_id));
    let price = json!({"price": {"input": 1, "output": 10}});
    app.admin().patch(&path, &price).await.expect(200);
    let errors = inner_errors().into_iter().map(|body| ("chat/completions", body));
    let mut count = 0;
    for (path, body) in empty_answers().into_iter().chain(errors) {
        team.upstream.push(Script::json(200, &body));
        let asked = match path {
            "responses" => json!({"input": "Hi"}),
            _ => question(false),
        };
        let answer = team.caller().post_json(&Fixture::route(path), &asked).await.expect(200);
        assert_eq!(answer.json(), body);
        count += 1;
        let rows = ledger_rows::rows_at_least(app.database(), count).await;
        let row = &rows[count - 1];
        let settled = (row.outcome.as_str(), row.usage_source.as_str(), row.cost);
        assert_eq!(settled, ("failed", "none", Some(0)), "{body}");
    }
    let codes = "SELECT DISTINCT code AS value FROM ledger ORDER BY code";
    let codes = sql::texts(app.database(), codes).await;
    assert_eq!(codes, ["upstream_no_answer", "upstream_reported_error"]);
    // What has been used is told by the provider.
    let mut used = inner_errors().swap_remove(0);
    used["usage"] = json!({"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7});
    team.upstream.push(Script::json(200, &used));
    team.caller().send(Fixture::chat()).await.expect(200);
    let rows = ledger_rows::rows_at_least(app.database(), count + 1).await;
    let row = &rows[count];
    let settled = (row.outcome.as_str(), row.usage_source.as_str(), row.cost);
    assert_eq!(settled, ("failed", "provider", Some(7_000)), "{row:?}");
}

async fn a_chain_goes_on_after_an_answer_without_content(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    let empty = empty_answers().swap_remove(0).1;
    let error = inner_errors().swap_remove(0);
    chain.team.upstream.push(Script::json(200, &empty));
    chain.others[0].push(Script::json(200, &error));
    chain.others[1].push(good());
    served_by(&chain.ask().await.expect(200), "custom/third", "3");
    for row in &chain.rows(3).await[..2] {
        assert_eq!((row.outcome.as_str(), row.cost), ("failed", Some(0)), "{row:?}");
    }
}

async fn a_blocked_prompt_has_no_output(database: Database) {
    let (app, team) = start(&database).await;
    let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 25}});
    team.upstream.push(Script::json(200, &blocked));
    team.caller().send(gemini("generateContent", &json!({"text": "."}))).await.expect(200);
    let row = last_row(&app, 1).await;
    assert_eq!((row.input_tokens, row.output_tokens), (Some(25), Some(0)), "{row:?}");
}

async fn json_under_the_type_of_event_streams_is_read(database: Database) {
    let app = TestApp::start(&database).await;
    let team = app.workspace().await;
    let body = openai::chat_object(&PARTS.concat(), Usage::USUAL).to_string();
    let mut count = 0;
    for stream in [true, false] {
        for script in [
            Script::new().sized(200, &EVENTS, body.clone()),
            Script::new().chunked_head(200, &EVENTS).chunk("\n").chunk(body.clone()).end(),
            Script::new()
                .chunked_head(200, &EVENTS)
                .chunks([body[..9].to_owned(), body[9..].to_owned()])
                .end(),
        ] {
            team.upstream.push(script);
            let asked = Request::post_json(&Fixture::route("chat/completions"), &question(stream));
            let answer = team.caller().send(asked).await.expect(200);
            assert_eq!(answer.text().trim_start(), body);
            count += 1;
            let rows = ledger_rows::rows_at_least(app.database(), count).await;
            let row = &rows[count - 1];
            let settled = (row.outcome.as_str(), row.usage_source.as_str(), row.output_tokens);
            assert_eq!(settled, ("completed", "provider", Some(7)), "{row:?}");
        }
    }
}

async fn json_under_the_type_of_event_streams_is_read_in_every_format(database: Database) {
    let (app, team) = start(&database).await;
    let under = |body: &Value| Script::new().sized(200, &EVENTS, body.to_string());
    let mut google = part("Morning.");
    google["candidates"][0]["finishReason"] = "STOP".into();
    google["usageMetadata"] =
        json!({"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110});
    let mut response = openai::response_object("completed", Some("Morning."), Some(Usage::USUAL));
    response["usage"] = json!({"input_tokens": 100, "output_tokens": 10, "total_tokens": 110});
    let claude = claude("Morning.");
    let stream = json!({"stream": true});
    let plain = json!({"stream": false});
    let of_gemini = |method| gemini(method, &json!({"text": "."}));
    let cases = [
        (messages(SONNET, stream.clone()), &claude),
        (messages(SONNET, plain.clone()), &claude),
        (responses("openai/gpt-5", stream.clone()), &response),
        (responses("openai/gpt-5", plain.clone()), &response),
        (of_gemini("streamGenerateContent?alt=sse"), &google),
        (of_gemini("generateContent"), &google),
        // Converted.
        (chat(SONNET, plain), &claude),
        (chat(SONNET, stream), &claude),
    ];
    for (number, (request, body)) in cases.into_iter().enumerate() {
        team.upstream.push(under(body));
        let answer = team.caller().send(request).await.expect(200).text();
        match number {
            7 => assert_eq!(streams::chat_text(&answer), "Morning."),
            _ => assert!(answer.contains("Morning."), "{answer}"),
        }
        let row = last_row(&app, number + 1).await;
        let settled = (row.outcome.as_str(), row.usage_source.as_str());
        assert_eq!(settled, ("completed", "provider"), "{number} {row:?}");
        assert_eq!(
            (row.input_tokens, row.output_tokens),
            (Some(100), Some(10)),
            "{number} {row:?}"
        );
    }
}

async fn an_array_stream_may_begin_with_a_byte_order_mark(database: Database) {
    let (app, team) = start(&database).await;
    let mut last = part("Morning.");
    last["candidates"][0]["finishReason"] = "STOP".into();
    last["usageMetadata"] =
        json!({"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110});
    let body = format!("\u{feff}[{},\n{last}]", part("Good "));
    for (number, pieces) in [vec![&body[..]], vec![&body[..3], &body[3..]]].into_iter().enumerate()
    {
        let pieces: Vec<String> = pieces.into_iter().map(str::to_owned).collect();
        let head = [("content-type", "application/json")];
        team.upstream.push(Script::new().chunked_head(200, &head).chunks(pieces).end());
        let request = gemini("streamGenerateContent", &json!({"text": "."}));
        let answer = team.caller().send(request).await.expect(200);
        assert_eq!(answer.text(), body);
        let row = last_row(&app, number + 1).await;
        let settled = (row.outcome.as_str(), row.usage_source.as_str(), row.output_tokens);
        assert_eq!(settled, ("completed", "provider", Some(10)), "{row:?}");
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
