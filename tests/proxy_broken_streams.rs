//! Streams that break off: callers are told, and never see a clean end.

use std::time::Duration;

use serde_json::json;

use crate::{
    proxy_streams::{raw, responses_stream, whole},
    support::{
        app::TestApp,
        case::{Case, cases},
        connection::BodyEnd,
        database::Database,
        fixture::Fixture,
        openai::{self, PARTS, Usage},
        script::{Script, data},
    },
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_break_between_events_sends_an_error_event,
        a_break_inside_an_event_only_breaks_the_connection,
        a_break_after_the_final_event_is_a_success,
    ]
}

/// The ways in which a stream breaks after these events.
fn breaks(begun: Script) -> [(&'static str, Script); 2] {
    let again = Script::sse_head().chunk(data(json!({"choices": [{}]})));
    [("closed", begun.close()), ("reset", again.reset())]
}

async fn a_break_between_events_sends_an_error_event(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let sent = data(json!({"choices": [{}]}));
    for (how, script) in breaks(Script::sse_head().chunk(sent.clone())) {
        team.upstream.push(script);
        let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
        let (events, ending) = stream.events().await;
        assert!(matches!(ending, BodyEnd::Broken(_)), "{how}: never a clean end, but {ending:?}");
        assert_eq!(events.len(), 2, "{how}: {events:?}");
        assert_eq!(events[0].raw, sent);
        let error = events[1].json()["error"].clone();
        assert_eq!(error["code"], "upstream_closed");
        assert_eq!(error["type"], "upstream_error");
        assert!(error["message"].is_string() && stream.partial_event().is_empty());
    }
    // Before the first event, and after a comment.
    for begun in ["", ": waiting\n\n"] {
        let script = Script::sse_head();
        let script = if begun.is_empty() { script } else { script.chunk(begun) };
        team.upstream.push(script.close());
        let (head, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
        assert_eq!(head.status, 200);
        let (body, ending) = whole(&mut stream).await;
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!(matches!(ending, BodyEnd::Broken(_)), "{ending:?}");
        assert!(text.starts_with(&format!("{begun}data: {{\"error\":")), "{text}");
    }
    for settled in team.settled(&team.configuration_id, 4).await {
        settled.says(&[("outcome", "upstream_broke"), ("status", "200"), ("attempts", "1")]);
    }

    // The responses API has another error event with a sequence number.
    let sent = openai::response_events(&PARTS, Usage::USUAL);
    team.upstream.push(Script::sse_head().chunks(sent[..3].to_vec()).close());
    let (_, mut stream) = team.caller().stream(responses_stream()).await;
    let (events, ending) = stream.events().await;
    assert!(matches!(ending, BodyEnd::Broken(_)), "{ending:?}");
    assert_eq!(raw(&events[..3]), sent[..3].concat());
    assert_eq!((events.len(), events[3].name.as_deref()), (4, Some("error")));
    let error = events[3].json();
    assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("upstream_closed")));
    assert_eq!(error["sequence_number"], 3);
}

async fn a_break_inside_an_event_only_breaks_the_connection(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let sent = data(json!({"choices": [{"delta": {"content": "half of"}}]}));
    for half in ["data: {\"choices\":[{\"delta\":{\"con", "data: {\"choices\":[{}]}\n", "dat"] {
        for resets in [false, true] {
            let script = Script::sse_head().chunk(sent.clone()).chunk(half);
            team.upstream.push(if resets { script.reset() } else { script.close() });
            let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
            let (body, ending) = whole(&mut stream).await;
            assert!(matches!(ending, BodyEnd::Broken(_)), "{half}: {ending:?}");
            let text = String::from_utf8_lossy(&body).into_owned();
            assert!(text.starts_with(&sent), "{text}");
            let rest = &text[sent.len()..];
            // Bytes that the gateway still held back may be left out; then the caller is between events and gets
            // an error event.
            let is_error_event = rest.starts_with("data: {\"error\":") && rest.ends_with("\n\n");
            assert!(half.starts_with(rest) && !rest.is_empty() || is_error_event, "{half}: {rest}");
            assert!(!text.contains("[DONE]"));
        }
    }
    let half = "event: response.output_text.delta\ndata: {\"ty";
    team.upstream.push(Script::sse_head().chunk(half).close());
    let (_, mut stream) = team.caller().stream(responses_stream()).await;
    let (body, ending) = whole(&mut stream).await;
    assert!(matches!(ending, BodyEnd::Broken(_)), "{ending:?}");
    assert_eq!(body, half);
}

async fn a_break_after_the_final_event_is_a_success(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let sent = openai::chat_events(&PARTS, Usage::USUAL, false);
    for resets in [false, true] {
        let script = Script::sse_head().chunks(sent.clone());
        // A reset may overtake earlier data.
        let script = script.delay(Duration::from_millis(200));
        team.upstream.push(if resets { script.reset() } else { script.close() });
        let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
        let (body, ending) = whole(&mut stream).await;
        assert_eq!((body, ending), (sent.concat().into(), BodyEnd::Complete));
    }
    let sent = openai::response_events(&PARTS, Usage::USUAL);
    team.upstream.push(Script::sse_head().chunks(sent.clone()).close());
    let (_, mut stream) = team.caller().stream(responses_stream()).await;
    let (body, ending) = whole(&mut stream).await;
    assert_eq!((body, ending), (sent.concat().into(), BodyEnd::Complete));
    for settled in team.settled(&team.configuration_id, 3).await {
        settled.says(&[("outcome", "completed")]);
    }
}
