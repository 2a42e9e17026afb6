//! Streams of models whose providers speak another format: as they arrive, in binary, whole, and silent.

use serde_json::{Value, json};

use crate::conversion::{SONNET, chat, claude, claude_events, messages, named, responses, start};
use crate::support::{
    case::{Case, cases},
    connection::Connection,
    database::Database,
    event_stream::invoked,
    ledger_rows::last_row,
    openai,
    script::{Pause, Script},
    streams::{chat_text, events},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        claude_on_bedrock_speaks_messages,
        streams_are_converted_as_they_arrive,
        a_stream_that_was_not_streamed_is_one,
        a_silent_provider_is_covered_by_pings,
    ]
}

/// The data of the events up to the first with this text.
async fn until(connection: &mut Connection, text: &str) -> String {
    let mut all = String::new();
    while let Some(event) = connection.event().await.unwrap() {
        all.push_str(&event.data);
        all.push('\n');
        if event.data.contains(text) {
            return all;
        }
    }
    panic!("the stream has no event with {text}: {all}");
}

/// The data of the events that are left.
async fn rest_of(connection: &mut Connection) -> String {
    let (events, _) = connection.events().await;
    events.into_iter().map(|event| event.data + "\n").collect()
}

async fn claude_on_bedrock_speaks_messages(database: Database) {
    let (_app, team) = start(&database).await;
    let model = "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0";
    let head: &[(&str, &str)] = &[("content-type", "application/vnd.amazon.eventstream")];
    let stream = || {
        let bytes = invoked(&claude_events(&["Mor", "ning."]));
        Script::new().chunked_head(200, head).chunk(bytes).end()
    };
    team.upstream.push(stream());
    let request = messages(model, json!({"stream": true, "new_field": 1}))
        .header("anthropic-beta", "interleaved-thinking-2025-05-14,claude-code-20250219");
    let answer = team.caller().send(request).await.expect(200);
    let expected: String = claude_events(&["Mor", "ning."]).iter().map(named).collect();
    assert_eq!(events(&answer.text()), events(&expected));
    assert!(answer.text().starts_with("event: message_start\n"), "{}", answer.text());
    let sent = team.upstream.last_request();
    assert!(sent.path().ends_with("-v1%3A0/invoke-with-response-stream"), "{}", sent.path());
    let body = sent.json();
    assert_eq!((&body["model"], &body["stream"]), (&Value::Null, &Value::Null));
    assert_eq!(body["anthropic_version"], "bedrock-2023-05-31");
    assert_eq!(body["anthropic_beta"], json!(["interleaved-thinking-2025-05-14"]));
    assert_eq!(body["new_field"], 1);

    team.upstream.push(stream());
    let answer = team.caller().send(chat(model, json!({"stream": true}))).await.expect(200);
    assert_eq!(chat_text(&answer.text()), "Morning.");
    team.upstream.push(Script::json(200, &claude("Morning.")));
    let body = team.caller().send(responses(model, json!({}))).await.expect(200).json();
    assert_eq!(body["output"][0]["content"][0]["text"], "Morning.");
}

async fn streams_are_converted_as_they_arrive(database: Database) {
    let (app, team) = start(&database).await;
    let all: Vec<String> = claude_events(&["Mor", "ning."]).iter().map(named).collect();
    let pause = Pause::new();
    let script =
        Script::sse_head().chunks(all[..3].to_vec()).wait(&pause).chunks(all[3..].to_vec()).end();
    team.upstream.push(script);
    let (head, mut connection) = team.caller().stream(chat(SONNET, json!({"stream": true}))).await;
    assert_eq!(head.status, 200);
    let first = until(&mut connection, "Mor").await;
    assert!(first.contains("\"content\":\"Mor\""), "{first}");
    pause.release();
    let rest = rest_of(&mut connection).await;
    assert!(rest.contains("ning.") && rest.ends_with("[DONE]\n"), "{rest}");
    // Usage is for those who ask.
    assert!(!rest.contains("prompt_tokens"), "{rest}");
    let row = last_row(&app, 1).await;
    assert_eq!((row.input_tokens, row.output_tokens), (Some(100), Some(10)), "{row:?}");
    assert_eq!(row.outcome, "completed");
}

async fn a_stream_that_was_not_streamed_is_one(database: Database) {
    let (_app, team) = start(&database).await;
    team.upstream.push(Script::json(200, &claude("Morning.")));
    let answer = team.caller().send(chat(SONNET, json!({"stream": true}))).await.expect(200);
    assert_eq!(chat_text(&answer.text()), "Morning.");
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
}

async fn a_silent_provider_is_covered_by_pings(database: Database) {
    let (_app, team) = start(&database).await;
    let all = openai::response_events(&["Mor", "ning."], openai::Usage::USUAL);
    let pause = Pause::new();
    team.upstream.push(
        Script::sse_head().chunks(all[..1].to_vec()).wait(&pause).chunks(all[1..].to_vec()).end(),
    );
    let request = messages("openai/gpt-5", json!({"stream": true}));
    let (head, mut connection) = team.caller().stream(request).await;
    assert_eq!(head.status, 200);
    let silent = until(&mut connection, "ping").await;
    assert!(!silent.contains("message_stop"), "{silent}");
    pause.release();
    let rest = rest_of(&mut connection).await;
    assert!(rest.contains("message_stop"), "{rest}");
}
