//! Guards: what the provider gets in place of secrets and personal data, and what the caller gets back.

use serde_json::{Value, json};

use crate::data_policy_limits::with_providers;
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    chain::{Chain, bad, good, served_by},
    database::Database,
    fixture::Fixture,
    http::{Answer, Client, Request},
    ledger_rows, logs,
    openai::{self, Usage},
    policies::{POLICIES, has_spent, make, refused, spend_cap},
    problems::wrong_fields,
    script::{Script, data},
    secrets,
    streams::{call_arguments, chat_text},
    two_tenants::text,
    upstream::ScriptedUpstream,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_config_is_checked_when_it_is_saved,
        a_sample_shows_what_a_guard_does,
        values_do_not_leave_and_come_back_in_plain_answers,
        streams_are_restored_however_they_are_split,
        a_tool_gets_the_real_value,
        other_formats_are_guarded_alike,
        errors_are_restored,
        what_must_not_leave_blocks_the_request,
        what_is_only_reported_passes,
        every_target_of_a_chain_gets_placeholders,
        placeholders_of_others_stay_text,
        thousands_of_values_are_restored,
        unscanned_endpoints_are_refused,
        a_guard_of_others_changes_nothing,
    ]
}

pub(crate) const EMAIL: &str = "ada.lovelace@example.org";
pub(crate) const USAGE: Usage = Usage { prompt: 40, completion: 20, cached: 0, reasoning: 0 };

pub(crate) fn pii(action: &str) -> Value {
    json!({"version": 1, "detect": {"pii": true, "secrets": true}, "action": action,
        "timeout_seconds": 30})
}

/// A workspace with a guard that does this with all that is detected.
pub(crate) async fn start(database: &Database, action: &str) -> (TestApp, Fixture) {
    secrets::register(EMAIL);
    let (app, team) = TestApp::start_with_workspace(database).await;
    guard(&app.admin(), &team, pii(action)).await;
    (app, team)
}

pub(crate) async fn guard(admin: &Client, team: &Fixture, config: Value) -> Value {
    make(admin, ("guard", "No personal data"), &[("workspace_id", &team.workspace_id)], config)
        .await
}

pub(crate) fn says(content: &str) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

pub(crate) fn chat(body: &Value) -> Request {
    Request::post_json(&Fixture::route("chat/completions"), body)
}

/// The first placeholder of this kind in a request that an upstream got.
pub(crate) fn placeholder(upstream: &ScriptedUpstream, label: &str) -> String {
    let request = upstream.last_request();
    let body = String::from_utf8(request.body.to_vec()).unwrap();
    let start = body.find(&format!("TG_{label}_")).unwrap_or_else(|| panic!("{body}"));
    body[start..start + "TG__".len() + label.len() + 12].to_owned()
}

/// Sends a chat request and returns the placeholder of its e-mail address. Further requests of the
/// conversation have the same.
pub(crate) async fn learn(team: &Fixture, body: &Value) -> String {
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    team.caller().send(chat(body)).await.expect(200);
    placeholder(&team.upstream, "EMAIL")
}

pub(crate) fn content(answer: &Answer) -> String {
    text(&answer.json()["choices"][0]["message"], "content")
}

/// The texts of a chat stream, joined.
pub(crate) fn streamed(answer: &Answer) -> String {
    chat_text(&answer.text())
}

async fn a_config_is_checked_when_it_is_saved(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let body = |config: Value| {
        json!({"name": "G", "policy_type": "guard", "config": config,
            "subject_matchers": [{"key": "workspace_id", "value": team.workspace_id}]})
    };
    for (config, field) in [
        (json!({"version": 2, "detect": {}}), "config.version"),
        (json!({"version": 1}), "config"),
        (json!({"version": 1, "detect": {"names": true}}), "config"),
        (json!({"version": 1, "detect": {}, "action": "mask"}), "config"),
        (json!({"version": 1, "detect": {"pii": ["email", "names"]}}), "config.detect.pii[1]"),
        (
            json!({"version": 1, "detect": {"custom": [{"pattern": "a*"}]}}),
            "config.detect.custom[0].pattern",
        ),
        (json!({"version": 1, "detect": {}, "timeout_seconds": 31}), "config.timeout_seconds"),
        (json!({"version": 1, "detect": {}, "scan": {"stored": "maybe"}}), "config"),
    ] {
        let answer = app.admin().post_json(POLICIES, &body(config.clone())).await;
        assert_eq!(wrong_fields(&answer), [field], "{config}");
    }
    let many = vec![json!({"pattern": "PRJ-[0-9]+"}); 50];
    let config = json!({"version": 1, "detect": {"custom": many}});
    for number in 0..10 {
        let key = number.to_string();
        make(&app.admin(), ("guard", "many"), &[("customer", key.as_str())], config.clone()).await;
    }
    let one = json!({"version": 1, "detect": {"custom": [{"pattern": "X-[0-9]+"}]}});
    let answer = app.admin().post_json(POLICIES, &body(one)).await;
    assert_eq!(wrong_fields(&answer), ["config.detect.custom"]);
    app.admin().post_json(POLICIES, &body(pii("redact"))).await.expect(201);
}

async fn a_sample_shows_what_a_guard_does(database: Database) {
    let (app, team) = start(&database, "redact").await;
    let list = app.admin().get(POLICIES).await.expect(200).json();
    let path = format!("{POLICIES}/{}/test", text(&list[0], "id"));
    let sample = json!({"text": format!("Write to {EMAIL}.")});
    let shown = app.admin().post_json(&path, &sample).await.expect(200).json();
    let found = json!([{"category": "email", "count": 1, "action": "redact"}]);
    assert_eq!((&shown["blocked"], &shown["findings"]), (&json!(false), &found));
    let sent = text(&shown, "text");
    assert!(sent.starts_with("Write to TG_EMAIL_") && !sent.contains(EMAIL), "{sent}");
    let sample = json!({"format": "chat", "body": says(EMAIL)});
    let shown = app.admin().post_json(&path, &sample).await.expect(200).json();
    let sent = text(&shown["body"]["messages"][0], "content");
    assert!(sent.starts_with("TG_EMAIL_"), "{sent}");
    let answer = app.admin().post_json(&path, &json!({"format": "chat"})).await;
    assert_eq!(wrong_fields(&answer), ["text"]);
    assert_eq!(team.upstream.seen().requests.len(), 0);
}

async fn values_do_not_leave_and_come_back_in_plain_answers(database: Database) {
    let (app, team) = start(&database, "redact").await;
    let question = json!({"messages": [
        {"role": "system", "content": format!("You serve {EMAIL}.")},
        {"role": "user", "content": "ada.lovelace\u{40}example.org, please"},
    ]});
    let one = learn(&team, &question).await;
    let sent = team.upstream.last_request();
    assert_eq!(sent.json()["messages"][0]["content"], format!("You serve {one}."));
    assert_eq!(sent.json()["messages"][1]["content"], format!("{one}, please"));
    for written in [one.clone(), one.to_lowercase(), one.replace('_', "\\_")] {
        team.upstream.push(openai::chat_completion(&format!("To {written}: hello"), USAGE));
        let answer = team.caller().send(chat(&question)).await.expect(200);
        assert_eq!(content(&answer), format!("To {EMAIL}: hello"));
        assert_eq!(answer.json()["usage"], USAGE.chat());
    }
    // Another conversation has another placeholder, unless the caller says that it is the same.
    let other = json!({"messages": [{"role": "user", "content": format!("Other: {EMAIL}")}]});
    assert_ne!(learn(&team, &other).await, one);
    let mut placeholders = Vec::new();
    for body in [&question, &other] {
        team.upstream.push(openai::chat_completion("Fine.", USAGE));
        let request = chat(body).header("x-tollgate-session-id", "session-1");
        team.caller().send(request).await.expect(200);
        assert_eq!(team.upstream.last_request().header("x-tollgate-session-id"), None);
        placeholders.push(placeholder(&team.upstream, "EMAIL"));
    }
    assert_eq!(placeholders[0], placeholders[1]);
    // Also writes the lines of requests that have ended.
    let metrics = app.platform().get("/metrics").await.expect(200).text();
    let lines = logs::lines_with("guard=email=2");
    assert!(lines.iter().all(|line| !line.contains(EMAIL)) && !lines.is_empty());
    let counted = "tollgate_guard_findings_total{category=\"email\",action=\"redact\"}";
    assert!(metrics.contains(counted), "{metrics}");
}

async fn streams_are_restored_however_they_are_split(database: Database) {
    let (_app, team) = start(&database, "redact").await;
    let mut question = says(&format!("Write to {EMAIL}"));
    let one = learn(&team, &question).await;
    question["stream"] = json!(true);
    for split in [1, 3, 8, 12, one.len() - 1] {
        let (start, end) = one.split_at(split);
        let parts = ["To ", start, end, "!", " TG_ is no one"];
        team.upstream.push(openai::chat_stream(&parts, USAGE, true));
        let answer = team.caller().send(chat(&question)).await.expect(200);
        assert_eq!(streamed(&answer), format!("To {EMAIL}! TG_ is no one"), "{split}");
        assert!(answer.text().trim_end().ends_with("data: [DONE]"), "{}", answer.text());
    }
}

async fn a_tool_gets_the_real_value(database: Database) {
    let (_app, team) = start(&database, "redact").await;
    let question = says(&format!("Mail {EMAIL}"));
    let one = learn(&team, &question).await;
    let call = |arguments: &str| {
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [
            {"index": 0, "function": {"arguments": arguments}}]}}]})
    };
    let (start, end) = one.split_at(9);
    let events = [
        call(&format!("{{\"to\":\"{start}")),
        call(&format!("{end}\"}}")),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
    ];
    let mut events: Vec<String> = events.iter().map(data).collect();
    events.push(data("[DONE]"));
    team.upstream.push(Script::sse(events));
    let mut asked = question.clone();
    asked["stream"] = json!(true);
    let answer = team.caller().send(chat(&asked)).await.expect(200);
    assert_eq!(call_arguments(&answer.text()), json!({"to": EMAIL}));
}

async fn other_formats_are_guarded_alike(database: Database) {
    let (_app, team) = with_providers(&database, pii("redact")).await;
    let ask = format!("Write to {EMAIL}");
    let messages = json!({"model": "claude-sonnet-4-5", "max_tokens": 9, "stream": true,
        "messages": [{"role": "user", "content": ask}]});
    let responses = json!({"model": "gpt-4o", "input": ask, "stream": true});
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": ask}]}]});
    let stream = "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent";
    type Event = fn(&str) -> String;
    let calls: [(&str, &Value, Event, &str); 3] = [
        (
            "/anthropic/v1/messages",
            &messages,
            |text| {
                let event = json!({"type": "content_block_delta", "index": 0,
                    "delta": {"type": "text_delta", "text": text}});
                format!("event: content_block_delta\n{}", data(event))
            },
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ),
        (
            "/openai/v1/responses",
            &responses,
            |text| {
                let event = json!({"type": "response.output_text.delta", "item_id": "i",
                    "output_index": 0, "content_index": 0, "delta": text});
                format!("event: response.output_text.delta\n{}", data(event))
            },
            "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[]}}\n\n",
        ),
        (
            &format!("{stream}?alt=sse"),
            &gemini,
            |text| {
                data(json!({"candidates": [{"index": 0,
                    "content": {"role": "model", "parts": [{"text": text}]}}]}))
            },
            "data: {\"candidates\":[{\"index\":0,\"finishReason\":\"STOP\"}]}\n\n",
        ),
    ];
    for (path, body, event, end) in calls {
        let mut one = String::new();
        // The first answer tells the placeholder, the second one has it in two pieces.
        for round in 0..2 {
            let parts = match round {
                0 => vec!["Hm".to_owned()],
                _ => vec![format!("To {}", &one[..7]), one[7..].to_owned()],
            };
            let mut events: Vec<String> = parts.iter().map(|part| event(part)).collect();
            events.push(end.to_owned());
            team.upstream.push(Script::sse(events));
            let answer = team.caller().send(Request::post_json(path, body)).await.expect(200);
            one = placeholder(&team.upstream, "EMAIL");
            let got = answer.text();
            assert!(!got.contains("TG_EMAIL"), "{path}: {got}");
            assert_eq!(got.contains(EMAIL), round == 1, "{path}: {got}");
        }
    }
    // Without `alt=sse` the stream is one array.
    let one = placeholder(&team.upstream, "EMAIL");
    let part = |text: &str, end: Value| {
        json!({"candidates": [{"index": 0, "finishReason": end,
            "content": {"role": "model", "parts": [{"text": text}]}}]})
    };
    let (first, second) = (part(&one[..9], Value::Null), part(&one[9..], json!("STOP")));
    let body = format!("[{first}\n,\r\n{second}\n]\n");
    let head = [("content-type", "application/json")];
    let chunks = body.as_bytes().chunks(11).map(<[u8]>::to_vec);
    team.upstream.push(Script::new().chunked_head(200, &head).chunks(chunks).end());
    let array = team.caller().send(Request::post_json(stream, &gemini)).await.expect(200).json();
    let part = |at: usize| array[at]["candidates"][0]["content"]["parts"][0]["text"].clone();
    assert_eq!((part(0), part(1)), (json!(""), json!(EMAIL)), "{array}");

    let counted = Script::json(200, &json!({"input_tokens": 9}));
    team.upstream.push(counted);
    let mut count = messages.clone();
    count.as_object_mut().unwrap().retain(|name, _| name == "model" || name == "messages");
    let request = Request::post_json("/anthropic/v1/messages/count_tokens", &count);
    assert_eq!(team.caller().send(request).await.expect(200).json()["input_tokens"], 9);
    placeholder(&team.upstream, "EMAIL");
    let embedded = json!({"object": "list", "data": [], "model": "m",
        "usage": {"prompt_tokens": 3, "total_tokens": 3}});
    team.upstream.push(Script::json(200, &embedded));
    let asked = json!({"model": "text-embedding-3-small", "input": [ask]});
    let request = Request::post_json("/openai/v1/embeddings", &asked);
    team.caller().send(request).await.expect(200);
    placeholder(&team.upstream, "EMAIL");
}

async fn errors_are_restored(database: Database) {
    let (_app, team) = start(&database, "redact").await;
    let question = says(&format!("Write to {EMAIL}"));
    let one = learn(&team, &question).await;
    let message = format!("cannot parse '{one}'");
    team.upstream.push(openai::error(400, "invalid_request_error", "bad", &message));
    let answer = team.caller().send(chat(&question)).await.expect(400);
    assert_eq!(answer.json()["error"]["message"], format!("cannot parse '{EMAIL}'"));
}

async fn what_must_not_leave_blocks_the_request(database: Database) {
    let (app, team) = start(&database, "block").await;
    let answer = team.caller().send(chat(&says(&format!("Write to {EMAIL}")))).await;
    refused(&answer, 403, "content_blocked", "No personal data");
    assert!(answer.text().contains("email") && !answer.text().contains(EMAIL));
    assert_eq!(team.upstream.seen().requests.len(), 0);
    let rows = ledger_rows::rows_at_least(app.database(), 1).await;
    assert_eq!((rows[0].outcome.as_str(), rows[0].status), ("blocked", Some(403)));
    // What cannot be changed blocks, too.
    let in_query = format!("{}?user={EMAIL}", Fixture::route("chat/completions"));
    let answer = team.caller().send(Request::post_json(&in_query, &says("Hello"))).await;
    refused(&answer, 403, "content_blocked", "No personal data");
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    team.caller().send(chat(&says("Hello"))).await.expect(200);
}

async fn what_is_only_reported_passes(database: Database) {
    let (_app, team) = start(&database, "report").await;
    let question = says(&format!("Write to {EMAIL}"));
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    team.caller().send(chat(&question)).await.expect(200);
    assert_eq!(team.upstream.last_request().json()["messages"], question["messages"]);
    team.settled_once().await.says(&[("guard", "email=1")]);
}

async fn every_target_of_a_chain_gets_placeholders(database: Database) {
    secrets::register(EMAIL);
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    guard(&chain.app.admin(), &chain.team, pii("redact")).await;
    chain.team.upstream.push(bad(503));
    chain.others[0].push(good());
    let question = says(&format!("Write to {EMAIL}"));
    served_by(&chain.team.caller().send(chat(&question)).await.expect(200), "custom/second", "2");
    let first = placeholder(&chain.team.upstream, "EMAIL");
    assert_eq!(placeholder(&chain.others[0], "EMAIL"), first);
    let sent = chain.others[0].last_request();
    assert!(!String::from_utf8_lossy(&sent.body).contains(EMAIL));
}

async fn placeholders_of_others_stay_text(database: Database) {
    let (app, team) = start(&database, "redact").await;
    let neighbour = app.workspace().await;
    guard(&app.admin(), &neighbour, pii("redact")).await;
    let one = learn(&team, &says(&format!("Write to {EMAIL}"))).await;
    secrets::register("grace.hopper@example.org");
    let asked = says(&format!("Repeat {one} for grace.hopper@example.org"));
    neighbour.upstream.push(openai::chat_completion(&format!("It is {one}"), USAGE));
    let answer = neighbour.caller().send(chat(&asked)).await.expect(200);
    assert_eq!(content(&answer), format!("It is {one}"));
    // The same values have other placeholders next door.
    assert_ne!(learn(&neighbour, &says(&format!("Write to {EMAIL}"))).await, one);
}

async fn thousands_of_values_are_restored(database: Database) {
    let (app, team) = start(&database, "redact").await;
    let price = ledger_rows::Rates {
        input: 1_000,
        cached_input: 1_000,
        output: 1_000,
        reasoning: 1_000,
        request: 0,
    };
    team.set_price(price).await;
    let cap = [("workspace_id", team.workspace_id.as_str())];
    let cap = spend_cap(&app.admin(), "high", &cap, ("daily", 1_000_000_000_000)).await;
    let values: Vec<String> =
        (0..10_000).map(|number| format!("person{number}@example.org")).collect();
    let question = says(&values.join(", "));
    learn(&team, &question).await;
    let sent = team.upstream.last_request().json();
    let placeholders = text(&sent["messages"][0], "content");
    assert_eq!(placeholders.matches("TG_EMAIL_").count(), 10_000);
    team.upstream.push(openai::chat_completion(&placeholders, USAGE));
    let answer = team.caller().send(chat(&question)).await.expect(200);
    assert_eq!(content(&answer), values.join(", "));
    let rows = ledger_rows::rows_at_least(app.database(), 2).await;
    assert!(rows.iter().all(|row| row.counts(USAGE)), "{rows:?}");
    has_spent(&app.admin(), &cap, ledger_rows::cost(&rows)).await;

    // Where the provider tells no usage, it is estimated from what was sent and what it answered, which
    // have placeholders in place of the values.
    let mut answer = openai::chat_object(&placeholders, USAGE);
    answer.as_object_mut().unwrap().remove("usage");
    team.upstream.push(Script::json(200, &answer));
    let got = team.caller().send(chat(&question)).await.expect(200);
    assert_eq!(content(&got), values.join(", "));
    let rows = ledger_rows::rows_at_least(app.database(), 3).await;
    let estimated = rows.iter().find(|row| row.usage_source == "estimated").unwrap();
    // Placeholders have at least nine tokens each, the addresses in their place about six.
    assert!(estimated.input_tokens > Some(9 * 10_000), "{estimated:?}");
    has_spent(&app.admin(), &cap, ledger_rows::cost(&rows)).await;
}

async fn unscanned_endpoints_are_refused(database: Database) {
    let (app, team) = TestApp::in_place_of(&database, &["openai"]).await;
    team.put_secret("OPENAI_API_KEY", "sk-of-the-workspace").await;
    guard(&app.admin(), &team, pii("redact")).await;
    for despite in [false, true] {
        let endpoints = json!([{"method": "GET", "path": "/files", "despite_policies": despite}]);
        let settings = json!({"unmetered_endpoints": endpoints});
        app.admin().put("/api/v1/provider-settings/openai", &settings).await.expect(200);
        team.upstream.push(Script::json(200, &json!({"data": []})));
        let answer = team.caller().get("/openai/v1/files").await;
        match despite {
            true => assert_eq!(answer.status, 200, "{}", answer.text()),
            false => {
                refused(&answer, 403, "content_not_scanned", "No personal data");
                assert_eq!(team.upstream.seen().requests.len(), 0);
            }
        }
    }
}

async fn a_guard_of_others_changes_nothing(database: Database) {
    let (app, _team) = start(&database, "redact").await;
    let other = app.workspace().await;
    let body = format!("{{\"messages\": [ {{\"role\":\"user\",\"content\":\"{EMAIL}\"}} ]}}");
    other.upstream.push(openai::chat_completion("TG_EMAIL_ABCDEFGHIJKL", USAGE));
    let request = Request::new("POST", &Fixture::route("chat/completions"))
        .header("content-type", "application/json")
        .body(body.clone());
    let answer = other.caller().send(request).await.expect(200);
    assert_eq!(content(&answer), "TG_EMAIL_ABCDEFGHIJKL");
    let sent = String::from_utf8(other.upstream.last_request().body.to_vec()).unwrap();
    assert!(sent.contains(&format!("[ {{\"role\":\"user\",\"content\":\"{EMAIL}\"}} ]")), "{sent}");
}
