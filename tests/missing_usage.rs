//! What an attempt is charged if the provider's usage is missing, unreadable or inconsistent.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::{Fixture, question},
    http::Request,
    ledger_rows::{Rates, last_row},
    openai::{self, PARTS, Usage},
    policies::{over_cap, spend_cap},
    script::{Script, data},
    sql,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_compressed_answer_is_charged_as_reserved,
        reasoning_tokens_outside_the_output_are_charged,
        a_prompt_after_blanks_is_counted_on_disconnect,
        an_attempt_with_only_interim_answers_gets_502,
        a_limit_of_any_name_is_reserved,
        deferred_work_is_charged_as_reserved,
        a_stopped_stream_is_charged_a_published_bound_for_images,
        an_error_with_a_success_status_costs_what_was_used,
        a_success_status_without_an_answer_costs_nothing,
        work_that_goes_on_keeps_its_reservation,
        usage_is_read_in_every_dialect,
    ]
}

const RATES: Rates = Rates {
    input: 2_500_000_000,
    cached_input: 1_250_000_000,
    output: 10_000_000_000,
    reasoning: 12_000_000_000,
    request: 1_000,
};

async fn priced(app: &TestApp) -> Fixture {
    let team = app.workspace().await;
    team.set_price(RATES).await;
    team
}

fn asks(stream: bool) -> Request {
    let mut body = question(stream);
    body["max_tokens"] = 100.into();
    Request::post_json(&Fixture::route("chat/completions"), &body)
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
        let row = last_row(&app, number + 1).await;
        let prompt = team.upstream.last_request().body.len() as u64;
        // The most expensive kinds of tokens that the request allows.
        let most = Usage { prompt, completion: 100, cached: 0, reasoning: 100 };
        assert_eq!(row.cost.map(i128::from), Some(RATES.bill(most)), "{row:?}");
        assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), (outcome, "estimated"));
        assert_eq!((row.input_tokens, row.output_tokens), (None, None));
    }
    // An empty body hides nothing.
    team.upstream.push(Script::new().sized(200, &json, ""));
    team.caller().send(asks(false)).await.expect(200);
    let row = last_row(&app, 5).await;
    assert_eq!((row.outcome.as_str(), row.cost), ("failed", Some(0)));
}

async fn reasoning_tokens_outside_the_output_are_charged(database: Database) {
    let app = TestApp::start(&database).await;
    let team = priced(&app).await;
    let reported = json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 135,
        "completion_tokens_details": {"reasoning_tokens": 15}});
    let unreported = json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 150});
    let absurd = json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 1_000_000});
    let usage = |completion, reasoning| Usage { prompt: 100, completion, cached: 0, reasoning };
    let cases = [(reported, usage(35, 15)), (unreported, usage(50, 0)), (absurd, usage(20, 0))];
    let mut count = 0;
    for (reported, charged) in cases {
        for stream in [false, true] {
            team.upstream.push(answer(&reported, stream));
            team.caller().send(asks(stream)).await.expect(200);
            count += 1;
            let row = last_row(&app, count).await;
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
    // The later report replaces the earlier one.
    for part in
        [json!({"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}), usage.clone()]
    {
        let event = data(json!({"choices": [], "usage": part}));
        events.insert(events.len() - 1, event);
    }
    Script::sse(events)
}

async fn a_prompt_after_blanks_is_counted_on_disconnect(database: Database) {
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
    let row = last_row(&app, 1).await;
    assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), ("caller_left", "estimated"));
    // Ten tokens per sentence.
    let counted = row.input_tokens.unwrap_or(0);
    assert!((18_000..23_000).contains(&counted), "{row:?}");
}

async fn an_attempt_with_only_interim_answers_gets_502(database: Database) {
    let app = TestApp::start(&database).await;
    let team = priced(&app).await;
    let interim = (0..100).fold(Script::new(), |script, _| script.informational(103, &[]));
    team.upstream.push(interim.keep_open());
    team.caller().send(asks(false)).await.expect(502);
    let row = last_row(&app, 1).await;
    assert_eq!((row.outcome.as_str(), row.status, row.cost), ("failed", Some(502), Some(0)));
}

/// Asks with an image, of which only the provider can tell how many tokens it is.
fn asks_with_image(path: &str, stream: bool) -> Request {
    let image = json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
    let messages = json!([{"role": "user", "content": [image]}]);
    let body = match path {
        "responses" => json!({"input": messages, "stream": stream, "max_output_tokens": 100}),
        _ => json!({"messages": messages, "stream": stream, "max_tokens": 100}),
    };
    Request::post_json(&Fixture::route(path), &body)
}

async fn an_error_with_a_success_status_costs_what_was_used(database: Database) {
    let app = TestApp::start(&database).await;
    let team = priced(&app).await;
    let error = json!({"message": "The engine is overloaded", "type": "server_error", "code": 529});
    let used = Usage { prompt: 100, completion: 20, cached: 0, reasoning: 0 };
    let choice = |delta: &str| json!([{"index": 0, "delta": {"content": delta}}]);
    let failed = json!({"type": "response.failed", "response": {"status": "failed", "error": error,
        "output": [], "usage": null}});
    let nothing = None;
    let charged = Some(RATES.bill(used));
    let cases = [
        ("chat/completions", vec![json!({"error": error})], nothing),
        ("chat/completions", vec![json!({"error": error, "usage": used.chat()})], charged),
        ("chat/completions", vec![json!({"error": "overloaded", "choices": []})], nothing),
        (
            "responses",
            vec![json!({"object": "response", "status": "failed", "error": error,
            "output": [], "usage": null})],
            nothing,
        ),
        (
            "chat/completions",
            vec![json!({"choices": choice("")}), json!({"error": error})],
            nothing,
        ),
        (
            "chat/completions",
            vec![json!({"choices": choice("")}), json!({"error": error, "usage": used.chat()})],
            charged,
        ),
        (
            "chat/completions",
            vec![
                json!({"choices": choice("")}),
                json!({"choices": [{"index": 0, "delta": {"content": ""},
                "finish_reason": "error", "error": error}]}),
            ],
            nothing,
        ),
        (
            "responses",
            vec![json!({"type": "response.created", "response": {"error": null}}), failed],
            nothing,
        ),
        (
            "responses",
            vec![
                json!({"type": "response.created", "response": {"error": null}}),
                json!({"type": "error", "message": "overloaded"}),
            ],
            nothing,
        ),
    ];
    let mut count = 0;
    for (path, events, cost) in cases {
        let stream = events.len() > 1;
        let (script, relayed) = if stream {
            let events: Vec<String> = events.iter().map(data).collect();
            (Script::sse(events.clone()), events.concat())
        } else {
            (Script::json(200, &events[0]), events[0].to_string())
        };
        team.upstream.push(script);
        let answer = team.caller().send(asks_with_image(path, stream)).await.expect(200);
        assert_eq!(answer.text(), relayed);
        count += 1;
        let row = last_row(&app, count).await;
        assert_eq!(row.cost.map(i128::from), Some(cost.unwrap_or(0)), "{relayed} {row:?}");
        let source = if cost.is_some() { "provider" } else { "none" };
        assert_eq!(
            (row.outcome.as_str(), row.usage_source.as_str()),
            ("failed", source),
            "{row:?}"
        );
    }
    // SDKs hang up when they meet the error.
    let events = [data(json!({"choices": choice("")})), data(json!({"error": error}))];
    team.upstream.push(Script::sse_head().chunks(events).keep_open());
    let (_, mut answer) = team.caller().stream(asks_with_image("chat/completions", true)).await;
    answer.event().await.unwrap();
    answer.event().await.unwrap();
    answer.hang_up();
    let row = last_row(&app, count + 1).await;
    assert_eq!((row.outcome.as_str(), row.cost), ("failed", Some(0)), "{row:?}");
    // Text that came before the error is counted.
    let events = [data(json!({"choices": choice("Good morning")})), data(json!({"error": error}))];
    team.upstream.push(Script::sse(events));
    team.caller().send(asks(true)).await.expect(200);
    let row = last_row(&app, count + 2).await;
    assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), ("failed", "estimated"));
    assert_eq!(row.output_tokens, Some(2), "{row:?}");

    let codes = "SELECT DISTINCT code AS value FROM ledger";
    assert_eq!(sql::texts(app.database(), codes).await, ["upstream_reported_error"]);
    let errors =
        app.counter("tollgate_upstream_errors_total{reason=\"upstream_reported_error\"}").await;
    assert_eq!(errors, count as u64 + 2);
    let report = app.admin().get("/api/v1/usage").await.expect(200).json();
    assert_eq!(report["total"]["errors"], count + 2, "{report}");
}

async fn a_success_status_without_an_answer_costs_nothing(database: Database) {
    let app = TestApp::start(&database).await;
    let team = priced(&app).await;
    let json = [("content-type", "application/json")];
    let scripts = [
        Script::new().sized(200, &[], ""),
        Script::new().head(204, &[]),
        Script::new().sized(200, &json, "{}"),
        Script::new().sized(200, &json, r#"{"base_resp": {"status_code": 1008}, "choices": null}"#),
        Script::new().sized(200, &[("content-type", "text/html")], "<html>Welcome</html>"),
        Script::new().chunked_head(200, &json).end(),
        Script::sse([data("[DONE]")]),
    ];
    let mut count = 0;
    for script in scripts {
        team.upstream.push(script);
        team.caller().send(asks_with_image("chat/completions", false)).await.success();
        count += 1;
        let row = last_row(&app, count).await;
        let settled = (row.outcome.as_str(), row.usage_source.as_str(), row.cost);
        assert_eq!(settled, ("failed", "none", Some(0)), "{row:?}");
    }
    let codes = "SELECT DISTINCT code AS value FROM ledger";
    assert_eq!(sql::texts(app.database(), codes).await, ["upstream_no_answer"]);
    // A listing is no answer of a model.
    team.upstream.push(Script::json(200, &json!({})));
    team.caller().get(&Fixture::route("models")).await.expect(200);
    assert_eq!(last_row(&app, count + 1).await.outcome, "completed");
}

async fn work_that_goes_on_keeps_its_reservation(database: Database) {
    let app = TestApp::start(&database).await;
    let team = priced(&app).await;
    let queued = json!({"object": "response", "status": "queued", "error": null, "output": []});
    let background = Request::post_json(
        &Fixture::route("responses"),
        &json!({"input": "Hello", "background": true, "max_output_tokens": 100}),
    );
    let cases = [
        (background, Script::json(200, &queued)),
        (asks(false), Script::json(202, &json!({}))),
        (asks(false), Script::new().sized(202, &[], "")),
    ];
    for (number, (request, script)) in cases.into_iter().enumerate() {
        team.upstream.push(script);
        team.caller().send(request).await.success();
        let row = last_row(&app, number + 1).await;
        assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), ("completed", "estimated"));
        assert!(row.cost > Some(1_000_000), "{row:?}");
    }
}

async fn usage_is_read_in_every_dialect(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let prices = [
        json!({"input": 1, "cached_input": 0.1, "cache_write": 2, "output": 10}),
        json!({"input": 2, "output": 8, "reasoning": 3}),
    ];
    let cached = 112_400;
    let perplexity = json!({"prompt_tokens": 33, "completion_tokens": 7163, "total_tokens": 7196,
        "citation_tokens": 20016, "num_search_queries": 18, "reasoning_tokens": 73997});
    let cases = [
        (
            0,
            json!({"prompt_tokens": 100, "completion_tokens": 5, "cache_read_input_tokens": 64,
            "cache_creation_input_tokens": 20}),
            cached,
        ),
        (
            0,
            json!({"prompt_tokens": 100, "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 64, "cache_creation_tokens": 20}}),
            cached,
        ),
        (
            0,
            json!({"prompt_tokens": 100.0, "completion_tokens": 4.2, "cache_read_input_tokens": 64.0,
            "cache_creation_input_tokens": 19.5}),
            cached,
        ),
        (1, perplexity, 33 * 2_000 + 7163 * 8_000 + 73997 * 3_000),
    ];
    let mut count = 0;
    for (price, usage, cost) in cases {
        let path = team.configuration_path();
        app.admin().patch(&path, &json!({"price": prices[price]})).await.expect(200);
        for stream in [false, true] {
            team.upstream.push(answer(&usage, stream));
            team.caller().send(asks(stream)).await.expect(200);
            count += 1;
            let row = last_row(&app, count).await;
            assert_eq!((row.usage_source.as_str(), row.cost), ("provider", Some(cost)), "{row:?}");
        }
    }
}

/// A workspace whose calls are priced, and whose model has these limits.
async fn limited(app: &TestApp, context_window: u64, max_output_tokens: u64) -> Fixture {
    let team = priced(app).await;
    let path = team.configuration_path();
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
        json!({"max_tokens": 10, "enable_thinking": true, "thinking_budget": 60_000}),
        json!({"max_tokens": 10, "enable_thinking": true}),
        json!({"max_tokens": 10, "reasoning": {"max_tokens": 60_000}}),
        json!({"max_tokens": 10, "extra_body": {"thinking_budget": 60_000}}),
    ] {
        let answer = team.caller().post_json(&Fixture::route("chat/completions"), &fields).await;
        over_cap(&answer, "half a dollar");
    }
    let within = json!({"max_tokens": 10, "n_predict": 20, "thinking_budget": 30});
    team.caller().post_json(&Fixture::route("chat/completions"), &within).await.expect(200);
}

async fn deferred_work_is_charged_as_reserved(database: Database) {
    let app = TestApp::start(&database).await;
    let team = limited(&app, 50_000, 1_000).await;
    let body = json!({"messages": [], "max_tokens": 100, "deferred": true});
    team.upstream.push(Script::json(200, &json!({"request_id": "later"})));
    team.caller().post_json(&Fixture::route("chat/completions"), &body).await.expect(200);
    let row = last_row(&app, 1).await;
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
        let row = last_row(&app, number + 1).await;
        assert_eq!((row.outcome.as_str(), row.usage_source.as_str()), ("caller_left", "estimated"));
        assert!(expected.contains(&row.input_tokens.unwrap_or(0)), "{row:?}");
    }
}
