//! What an attempt is charged where the provider's own word is missing, hidden or odd.

use serde_json::{Value, json};

use crate::support::{
    accounts::{self, Rates, Row},
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::Request,
    openai::{self, PARTS, Usage},
    policies::{over_cap, spend_cap},
    script::{Script, data},
};

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_compressed_answer_is_charged_as_reserved,
        thoughts_beside_the_answer_are_charged,
        a_prompt_behind_blanks_is_counted_when_the_caller_leaves,
        an_attempt_that_brings_nothing_but_interim_answers_ends,
        a_limit_of_any_name_is_reserved,
        deferred_work_is_charged_as_reserved,
        a_stopped_stream_is_charged_a_published_bound_for_images,
    ]
}

const RATES: Rates = Rates {
    input: 2_500_000_000,
    cached_input: 1_250_000_000,
    output: 10_000_000_000,
    reasoning: 12_000_000_000,
    request: 1_000,
};

/// A workspace whose calls are priced.
async fn priced(app: &TestApp) -> Fixture {
    let team = app.workspace().await;
    let path = team.path(&format!("model-configurations/{}", team.configuration_id));
    app.admin().patch(&path, &json!({"price": RATES.json()})).await.expect(200);
    team
}

fn asks(stream: bool) -> Request {
    let mut body = crate::support::fixture::question(stream);
    body["max_tokens"] = 100.into();
    Request::post_json(&Fixture::route("chat/completions"), &body)
}

async fn last_of(app: &TestApp, count: usize) -> Row {
    let rows = accounts::rows_at_least(app.database(), count).await;
    assert_eq!(rows.len(), count);
    rows.into_iter().next_back().unwrap()
}

async fn a_compressed_answer_is_charged_as_reserved(database: Database) {
    let app = TestApp::start(&database).await;
    let team = priced(&app).await;
    let hidden = b"\x1f\x8b\x08\x00 not read \x00\xff".to_vec();
    let json = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let events = [("content-type", "text/event-stream"), ("content-encoding", "GZIP")];
    let scripts = [
        (false, "completed", Script::new().sized(200, &json, hidden.clone())),
        (false, "completed", Script::new().chunked_head(200, &json).chunk(hidden.clone()).end()),
        (true, "completed", Script::new().chunked_head(200, &events).chunk(hidden.clone()).end()),
        (
            true,
            "upstream_broke",
            Script::new().chunked_head(200, &events).chunk(hidden.clone()).close(),
        ),
    ];
    for (number, (stream, outcome, script)) in scripts.into_iter().enumerate() {
        team.upstream.push(script);
        let (head, mut answer) = team.caller().stream(asks(stream)).await;
        assert_eq!(head.header("content-encoding").map(str::to_lowercase).as_deref(), Some("gzip"));
        let (pieces, _) = answer.rest().await;
        let relayed: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        assert_eq!(relayed, hidden);
        let row = last_of(&app, number + 1).await;
        let prompt = team.upstream.last_request().body.len() as u64;
        // The dearest kinds of as much as the request allows.
        let most = Usage { prompt, completion: 100, cached: 0, reasoning: 100 };
        assert_eq!(row.cost.map(i128::from), Some(RATES.bill(most)), "{row:?}");
        assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), (outcome, "estimated"));
        assert_eq!((row.input_tokens, row.output_tokens), (None, None));
    }
    // Where no body comes, nothing is hidden.
    team.upstream.push(Script::new().sized(200, &json, ""));
    team.caller().send(asks(false)).await.expect(200);
    assert_eq!(last_of(&app, 5).await.output_tokens, Some(0));
}

async fn thoughts_beside_the_answer_are_charged(database: Database) {
    let app = TestApp::start(&database).await;
    let team = priced(&app).await;
    let told = json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 135,
        "completion_tokens_details": {"reasoning_tokens": 15}});
    let untold = json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 150});
    let absurd = json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 1_000_000});
    let usage = |completion, reasoning| Usage { prompt: 100, completion, cached: 0, reasoning };
    let cases = [(told, usage(35, 15)), (untold, usage(50, 0)), (absurd, usage(20, 0))];
    let mut count = 0;
    for (reported, charged) in cases {
        for stream in [false, true] {
            team.upstream.push(answer(&reported, stream));
            team.caller().send(asks(stream)).await.expect(200);
            count += 1;
            let row = last_of(&app, count).await;
            assert_eq!(row.usage_source, "provider", "{row:?}");
            assert_eq!(row.output_tokens, Some(charged.completion), "{row:?}");
            assert_eq!(row.cost.map(i128::from), Some(RATES.bill(charged)), "{row:?}");
        }
    }
}

fn answer(usage: &Value, stream: bool) -> Script {
    if !stream {
        return Script::json(200, &json!({"choices": [], "usage": usage}));
    }
    let mut events = openai::chat_events(&PARTS, Usage::USUAL, false);
    // Cumulative: the first report is overtaken by the second.
    for part in
        [json!({"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}), usage.clone()]
    {
        let event = data(json!({"choices": [], "usage": part}));
        events.insert(events.len() - 1, event);
    }
    Script::sse(events)
}

async fn a_prompt_behind_blanks_is_counted_when_the_caller_leaves(database: Database) {
    let app = TestApp::start(&database).await;
    let team = priced(&app).await;
    let prompt = "The quick brown fox jumps over the lazy dog. ".repeat(2_000);
    let message = json!({"role": "user", "content": prompt});
    let blanks = " ".repeat(40_000);
    let body =
        format!(r#"{{{blanks}"stream":true,"user":"{}","messages":[{message}]}}"#, "u".repeat(100));
    let events = openai::chat_events(&PARTS, Usage::USUAL, false);
    team.upstream.push(Script::sse_head().chunks(events[..3].to_vec()).keep_open());
    let request = Request::new("POST", &Fixture::route("chat/completions")).body(body);
    let (_, mut stream) = team.caller().stream(request).await;
    stream.event().await.unwrap();
    stream.hang_up();
    let row = last_of(&app, 1).await;
    assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), ("caller_left", "estimated"));
    // Ten tokens a sentence.
    let counted = row.input_tokens.unwrap_or(0);
    assert!((18_000..23_000).contains(&counted), "{row:?}");
}

async fn an_attempt_that_brings_nothing_but_interim_answers_ends(database: Database) {
    let app = TestApp::start(&database).await;
    let team = priced(&app).await;
    let interim = (0..100).fold(Script::new(), |script, _| script.informational(103, &[]));
    team.upstream.push(interim.keep_open());
    team.caller().send(asks(false)).await.expect(502);
    let row = last_of(&app, 1).await;
    assert_eq!((row.outcome.as_str(), row.status, row.cost), ("failed", Some(502), Some(0)));
}

/// A workspace whose calls are priced, and whose model has these limits.
async fn limited(app: &TestApp, context_window: u64, max_output_tokens: u64) -> Fixture {
    let team = priced(app).await;
    let path = team.path(&format!("model-configurations/{}", team.configuration_id));
    let limits = json!({"context_window": context_window, "max_output_tokens": max_output_tokens});
    app.admin().patch(&path, &limits).await.expect(200);
    team
}

async fn a_limit_of_any_name_is_reserved(database: Database) {
    let app = TestApp::start(&database).await;
    let team = limited(&app, 200_000, 100_000).await;
    let organization = app.keys().organization_id.clone();
    let subject = [("organization_id", organization.as_str())];
    spend_cap(&app.admin(), "half a dollar", &subject, ("monthly", 500_000_000)).await;
    for fields in [
        json!({"max_tokens": 10, "n_predict": 60_000}),
        json!({"max_tokens": 10, "N_PREDICT": 60_000}),
        json!({"max_tokens": 10, "n_predict": -1}),
        json!({"max_tokens": 10, "max_new_tokens": "60000"}),
        json!({"max_tokens": 10, "options": {"num_predict": 60_000}}),
        json!({"max_tokens": 10, "extra_body": {"max_tokens": 60_000}}),
        json!({"max_tokens": 10, "n_cmpl": 6_000}),
    ] {
        let answer = team.caller().post_json(&Fixture::route("chat/completions"), &fields).await;
        over_cap(&answer, "half a dollar");
    }
    let within = json!({"max_tokens": 10, "n_predict": 20});
    team.caller().post_json(&Fixture::route("chat/completions"), &within).await.expect(200);
}

async fn deferred_work_is_charged_as_reserved(database: Database) {
    let app = TestApp::start(&database).await;
    let team = limited(&app, 50_000, 1_000).await;
    let body = json!({"messages": [], "max_tokens": 100, "deferred": true});
    team.upstream.push(Script::json(200, &json!({"request_id": "later"})));
    team.caller().post_json(&Fixture::route("chat/completions"), &body).await.expect(200);
    let row = last_of(&app, 1).await;
    let most = Usage { prompt: 50_000, completion: 100, cached: 0, reasoning: 100 };
    assert_eq!(row.cost.map(i128::from), Some(RATES.bill(most)), "{row:?}");
    assert_eq!(row.usage_source, "estimated");
}

async fn a_stopped_stream_is_charged_a_published_bound_for_images(database: Database) {
    let app = TestApp::start(&database).await;
    let team = limited(&app, 1_000_000, 1_000).await;
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let inline = image(&format!("data:image/png;base64,{}", "A".repeat(40_000)));
    let linked = image("https://example.com/a.png");
    let stored = json!({"type": "file", "file": {"file_id": "file-1"}});
    let cases = [(inline, 4_784..4_900), (linked, 4_784..4_900), (stored, 1_000_000..1_000_001)];
    for (number, (part, expected)) in cases.into_iter().enumerate() {
        let text = json!({"type": "text", "text": "What is in this picture?"});
        let messages = json!([{"role": "user", "content": [text, part]}]);
        let body = json!({"stream": true, "max_tokens": 100, "messages": messages});
        let events = openai::chat_events(&PARTS, Usage::USUAL, false);
        team.upstream.push(Script::sse_head().chunks(events[..3].to_vec()).keep_open());
        let request = Request::post_json(&Fixture::route("chat/completions"), &body);
        let (_, mut stream) = team.caller().stream(request).await;
        stream.event().await.unwrap();
        stream.hang_up();
        let row = last_of(&app, number + 1).await;
        assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), ("caller_left", "estimated"));
        assert!(expected.contains(&row.input_tokens.unwrap_or(0)), "{row:?}");
    }
}
