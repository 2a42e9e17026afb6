//! Names, places and organizations, which guards find with Presidio: a scripted one, which also fails in
//! all the ways there are. `tests/presidio` runs the real one.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::data_policy::{chat, content, says};
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    commands::{BOOTSTRAP, command, command_with_key},
    database::Database,
    fixture::Fixture,
    http::{Answer, Client, Request},
    openai::{self, Usage},
    policies::{POLICIES, make, refused},
    problems::wrong_fields,
    process::run,
    script::Script,
    secrets,
    streams::chat_text,
    two_tenants::text,
    upstream::{RecordedRequest, ScriptedUpstream},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        categories_of_presidio_need_one,
        all_personal_data_is_what_can_be_detected,
        an_address_that_egress_rules_refuse_is_no_presidio,
        names_do_not_leave_and_come_back,
        texts_are_sent_in_few_bounded_calls,
        names_in_what_cannot_be_changed_block,
        a_sample_shows_names,
        a_presidio_that_fails_blocks_or_lets_pass,
        a_presidio_that_is_late_blocks_or_lets_pass,
    ]
}

pub(crate) const USAGE: Usage = Usage { prompt: 40, completion: 20, cached: 0, reasoning: 0 };
const EMAIL: &str = "ada.lovelace@example.org";
/// What the scripted Presidio knows.
const KNOWN: [(&str, &str); 4] = [
    ("Émilie du Châtelet", "PERSON"),
    ("Maria Mitchell", "PERSON"),
    ("Nantucket", "LOCATION"),
    ("Vassar College", "ORGANIZATION"),
];

/// A scripted Presidio that counts characters, as the real one does.
pub(crate) async fn presidio() -> ScriptedUpstream {
    for (name, _) in KNOWN {
        secrets::register(name);
    }
    ScriptedUpstream::with(|request| Script::json(200, &recognized(request))).await
}

fn recognized(request: &RecordedRequest) -> Value {
    let asked = request.json();
    let texts = asked["text"].as_array().cloned().unwrap_or_default();
    let wanted = asked["entities"].as_array().cloned().unwrap_or_default();
    texts
        .iter()
        .map(|text| {
            let text = text.as_str().unwrap();
            let known = KNOWN.iter().filter(|(_, kind)| wanted.contains(&json!(kind)));
            let found = known.flat_map(|(name, kind)| {
                text.match_indices(name).map(move |(at, _)| {
                    let start = text[..at].chars().count();
                    json!({"entity_type": kind, "start": start, "score": 0.85,
                        "end": start + name.chars().count(), "analysis_explanation": null})
                })
            });
            found.collect::<Value>()
        })
        .collect()
}

pub(crate) fn url(presidio: &ScriptedUpstream) -> String {
    format!("http://{}", presidio.address())
}

/// All texts that Presidio was asked about, and the number of calls.
pub(crate) fn asked(presidio: &ScriptedUpstream) -> (Vec<String>, usize) {
    let requests = presidio.seen().requests;
    let texts = requests.iter().flat_map(|request| {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/analyze"));
        let asked = request.json();
        assert_eq!(asked["language"], "en");
        asked["text"].as_array().unwrap().clone()
    });
    (texts.map(|text| text.as_str().unwrap().to_owned()).collect(), requests.len())
}

pub(crate) fn names(more: Value) -> Value {
    let mut config = json!({"version": 1, "timeout_seconds": 30,
        "detect": {"pii": ["email", "person_name", "location", "organization"]}});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

pub(crate) async fn guard(admin: &Client, team: &Fixture, config: Value) -> Value {
    make(admin, ("guard", "No names"), &[("workspace_id", &team.workspace_id)], config).await
}

/// What the upstream got as the first message.
pub(crate) fn sent(team: &Fixture) -> String {
    text(&team.upstream.last_request().json()["messages"][0], "content")
}

pub(crate) async fn ask(team: &Fixture, question: &str) -> Answer {
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    team.caller().send(chat(&says(question))).await
}

/// Asks and expects that the question was blocked since it could not be searched.
pub(crate) async fn is_blocked(team: &Fixture, question: &str) {
    let before = team.upstream.seen().requests.len();
    let answer = team.caller().send(chat(&says(question))).await;
    refused(&answer, 403, "content_blocked", "No names");
    assert!(answer.text().contains("could not be searched"), "{}", answer.text());
    assert_eq!(team.upstream.seen().requests.len(), before);
}

async fn categories_of_presidio_need_one(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let body = json!({"name": "G", "policy_type": "guard", "config": names(json!({})),
        "subject_matchers": [{"key": "workspace_id", "value": team.workspace_id}]});
    let answer = app.admin().post_json(POLICIES, &body).await;
    let wrong = ["config.detect.pii[1]", "config.detect.pii[2]", "config.detect.pii[3]"];
    assert_eq!(wrong_fields(&answer), wrong);
    assert!(answer.text().contains("--presidio-url"), "{}", answer.text());

    // A policy from when there was one.
    let presidio = presidio().await;
    let with = app.replica_with(&["--presidio-url", &url(&presidio)]).await;
    let policy = guard(&with.admin(), &team, names(json!({}))).await;
    app.caught_up().await;
    is_blocked(&team, "Hello").await;
    let path = format!("{POLICIES}/{}", text(&policy, "id"));
    let allow = json!({"config": names(json!({"timeout_action": "allow"}))});
    assert_eq!(wrong_fields(&app.admin().patch(&path, &allow).await), wrong);
    let sample = json!({"text": "Hello"});
    let answer = app.admin().post_json(&format!("{path}/test"), &sample).await.expect(409);
    assert_eq!(answer.json()["code"], "names_not_searched");
    with.admin().patch(&path, &allow).await.expect(200);
    app.caught_up().await;
    ask(&team, &format!("Hello {EMAIL}")).await.expect(200);
    assert!(sent(&team).starts_with("Hello TG_EMAIL_"), "{}", sent(&team));
    // It can still be disabled.
    app.admin().patch(&path, &json!({"enabled": false})).await.expect(200);
    assert_eq!(presidio.seen().requests.len(), 0);
}

async fn all_personal_data_is_what_can_be_detected(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let everything = json!({"version": 1, "detect": {"pii": true}, "timeout_seconds": 30});
    guard(&app.admin(), &team, everything).await;
    ask(&team, "Émilie du Châtelet").await.expect(200);
    assert_eq!(sent(&team), "Émilie du Châtelet");
    let presidio = presidio().await;
    let with = app.replica_with(&["--presidio-url", &url(&presidio)]).await;
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    team.caller_at(with.address()).send(chat(&says("Émilie du Châtelet"))).await.expect(200);
    assert!(sent(&team).starts_with("TG_PERSON_"), "{}", sent(&team));
}

async fn an_address_that_egress_rules_refuse_is_no_presidio(database: Database) {
    run(command_with_key(&database, BOOTSTRAP)).await;
    for (address, why) in [
        ("http://10.0.0.1:3000", "10.0.0.0/8"),
        ("https://169.254.169.254", "169.254.0.0/16"),
        ("http://1.1.1.1", "plain http"),
    ] {
        let mut serve = command(&database, &["serve"]);
        serve.args(["--presidio-url", address]);
        let ended = run(serve).await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("--presidio-url"), "{}", ended.stderr);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
}

pub(crate) async fn start(
    database: &Database,
    more: Value,
) -> (ScriptedUpstream, TestApp, Fixture) {
    secrets::register(EMAIL);
    let presidio = presidio().await;
    // Each worker has connections of its own.
    let options = ["--presidio-url", &url(&presidio), "--workers", "1"];
    let app = TestApp::with_stopped_clock(database, &options).await;
    let team = app.workspace().await;
    guard(&app.admin(), &team, names(more)).await;
    (presidio, app, team)
}

async fn names_do_not_leave_and_come_back(database: Database) {
    let (presidio, app, team) = start(&database, json!({})).await;
    let question = format!("😀 Émilie du Châtelet of Vassar College, Nantucket: {EMAIL}");
    ask(&team, &question).await.expect(200);
    let got = sent(&team);
    let parts: Vec<&str> = got.split([' ', ',', ':']).filter(|part| !part.is_empty()).collect();
    assert_eq!(parts.len(), 6, "{got}");
    let labels = [("TG_PERSON_", 1), ("TG_ORG_", 3), ("TG_PLACE_", 4), ("TG_EMAIL_", 5)];
    assert!(labels.iter().all(|(label, at)| parts[*at].starts_with(label)), "{got}");

    let person = parts[1];
    team.upstream.push(openai::chat_completion(&format!("Dear {person}!"), USAGE));
    let answer = team.caller().send(chat(&says(&question))).await.expect(200);
    assert_eq!(content(&answer), "Dear Émilie du Châtelet!");
    let (start, end) = person.split_at(9);
    team.upstream.push(openai::chat_stream(&["Dear ", start, end, "!"], USAGE, true));
    let mut streamed = says(&question);
    streamed["stream"] = json!(true);
    let answer = team.caller().send(chat(&streamed)).await.expect(200).text();
    assert_eq!(chat_text(&answer), "Dear Émilie du Châtelet!");

    // Several words in the arguments of a tool, in JSON in a string, and as a key.
    let arguments = r#"{"Maria Mitchell":{"from":"\u00c9milie du Ch\u00e2telet"}}"#;
    let body = json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "call_1",
        "type": "function", "function": {"name": "find", "arguments": arguments}}]}]});
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    team.caller().send(chat(&body)).await.expect(200);
    let sent = team.upstream.last_request().json();
    let arguments = text(&sent["messages"][0]["tool_calls"][0]["function"], "arguments");
    assert_eq!(arguments.matches("TG_PERSON_").count(), 2, "{arguments}");

    assert_eq!(presidio.seen().accepted(), 1, "connections are kept");
    assert_eq!(app.counter("tollgate_presidio_calls_total{outcome=\"answered\"}").await, 4);
    assert_eq!(app.counter("tollgate_presidio_duration_seconds_count").await, 4);
    let found = "tollgate_guard_findings_total{category=\"person_name\",action=\"redact\"}";
    assert_eq!(app.counter(found).await, 5);
}

async fn texts_are_sent_in_few_bounded_calls(database: Database) {
    let (presidio, app, team) = start(&database, json!({})).await;
    // Across the places where a long text is cut.
    let mut long = "lorem ipsum é ".repeat(10_000);
    for at in [16_370, 80_000, 140_000] {
        let at = (at..).find(|at| long.is_char_boundary(*at)).unwrap();
        long.insert_str(at, "Maria Mitchell");
    }
    let mut messages = vec![json!({"role": "user", "content": long})];
    messages.extend((0..400).map(
        |number| json!({"role": "user", "content": format!("{} of Vassar College", number % 300)}),
    ));
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    team.caller().send(chat(&json!({"messages": messages}))).await.expect(200);
    let sent = team.upstream.last_request().json().to_string();
    assert_eq!(sent.matches("TG_PERSON_").count(), 3);
    assert_eq!(sent.matches("TG_ORG_").count(), 400);
    let (texts, calls) = asked(&presidio);
    // The long text takes ten pieces of 16 KiB, four in a call; each other text is asked about once, and
    // 256 texts are the most in a call.
    assert_eq!((texts.len(), calls), (310, 4));
    assert!(texts.iter().all(|text| text.len() <= 16 * 1024));

    // More than it is asked about at all.
    let huge = says(&"lorem ipsum ".repeat(400_000));
    let answer = team.caller().send(chat(&huge)).await;
    refused(&answer, 403, "content_blocked", "No names");
    assert!(answer.text().contains("too much text"), "{}", answer.text());
    assert_eq!(asked(&presidio).1, 4);
    assert_eq!(app.counter("tollgate_presidio_calls_total{outcome=\"answered\"}").await, 4);
}

async fn names_in_what_cannot_be_changed_block(database: Database) {
    let (presidio, _app, team) = start(&database, json!({})).await;
    let path = Fixture::route("chat/completions");
    let in_query = Request::post_json(&format!("{path}?user=Maria%20Mitchell"), &says("Hello"));
    let answer = team.caller().send(in_query).await;
    refused(&answer, 403, "content_blocked", "No names");
    let message = answer.text();
    assert!(message.contains("person_name") && !message.contains("Mitchell"), "{message}");
    // One word is no name: models take half of all identifiers for one.
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    let in_query = Request::post_json(&format!("{path}?user=Nantucket"), &says("Hello"));
    team.caller().send(in_query).await.expect(200);
    let (texts, _) = asked(&presidio);
    assert_eq!(texts, ["user=Maria Mitchell", "Hello", "Hello"]);
}

async fn a_sample_shows_names(database: Database) {
    let (_presidio, app, _team) = start(&database, json!({})).await;
    let list = app.admin().get(POLICIES).await.expect(200).json();
    let path = format!("{POLICIES}/{}/test", text(&list[0], "id"));
    let sample = json!({"text": "Ask Émilie du Châtelet."});
    let shown = app.admin().post_json(&path, &sample).await.expect(200).json();
    let found = json!([{"category": "person_name", "count": 1, "action": "redact"}]);
    assert_eq!(shown["findings"], found);
    assert!(text(&shown, "text").starts_with("Ask TG_PERSON_"), "{shown}");
}

/// Asks a gateway whose policy blocks, and one whose policy lets pass what could not be searched. What needs
/// no Presidio is replaced all the same.
async fn fails(
    presidio: &ScriptedUpstream,
    team: &Fixture,
    allowing: &Fixture,
    script: impl Fn() -> Script,
    what: &str,
) {
    let question = format!("Émilie du Châtelet, {EMAIL}");
    let before = presidio.seen().requests.len();
    presidio.push(script());
    is_blocked(team, &question).await;
    presidio.push(script());
    ask(allowing, &question).await.expect(200);
    assert!(
        sent(allowing).starts_with("Émilie du Châtelet, TG_EMAIL_"),
        "{what}: {}",
        sent(allowing)
    );
    assert_eq!(presidio.seen().requests.len(), before + 2, "{what}");
    // The next answer is a right one, so that the breaker stays closed.
    ask(team, &question).await.expect(200);
    assert!(sent(team).starts_with("TG_PERSON_"), "{what}: {}", sent(team));
}

async fn a_presidio_that_fails_blocks_or_lets_pass(database: Database) {
    let (presidio, app, team) = start(&database, json!({})).await;
    let allowing = app.workspace().await;
    guard(&app.admin(), &allowing, names(json!({"timeout_action": "allow"}))).await;
    let found = |start: i64, end: i64| json!([[{"entity_type": "PERSON", "start": start, "end": end, "score": 0.9}]]);
    // A status of an error, and answers that are no answers or are about other texts.
    let answers = [
        (500, json!({"error": "a model is missing"})),
        (404, json!([[]])),
        (200, json!({"error": "none"})),
        (200, json!([])),
        (200, json!([[], []])),
        (200, json!([{"entity_type": "PERSON", "start": 0, "end": 3}])),
        (200, found(0, 1_000_000)),
        (200, found(5, 2)),
        (200, found(-1, 2)),
    ];
    for (status, answer) in answers {
        let script = || Script::json(status, &answer);
        fails(&presidio, &team, &allowing, script, &answer.to_string()).await;
    }
    let head = [("content-type", "application/json")];
    let text = || Script::new().sized(200, &head, "<html>");
    fails(&presidio, &team, &allowing, text, "no JSON").await;
    let cut = || Script::new().sized_head(200, &head, 100).raw("[[").close();
    fails(&presidio, &team, &allowing, cut, "cut off").await;
    let reset = || Script::new().raw("HTTP/1.1 200 O").reset();
    fails(&presidio, &team, &allowing, reset, "reset").await;
    // More than is read, without an end.
    let huge = || {
        let chunk = Bytes::from(vec![b' '; 64 * 1024]);
        Script::new().chunked_head(200, &head).repeat(chunk, 1_000).keep_open()
    };
    fails(&presidio, &team, &allowing, huge, "huge").await;
    assert_eq!(app.counter("tollgate_presidio_calls_total{outcome=\"failed\"}").await, 26);
}

async fn a_presidio_that_is_late_blocks_or_lets_pass(database: Database) {
    let presidio = presidio().await;
    let app = TestApp::with(&database, &["--presidio-url", &url(&presidio)]).await;
    let (team, allowing) = (app.workspace().await, app.workspace().await);
    let late = json!({"timeout_seconds": 0.6});
    guard(&app.admin(), &team, names(late)).await;
    let late = json!({"timeout_seconds": 0.6, "timeout_action": "allow"});
    guard(&app.admin(), &allowing, names(late)).await;
    let head = [("content-type", "application/json")];
    let stalled = || Script::new().keep_open();
    let silent = || Script::new().sized_head(200, &head, 100).raw("[[").keep_open();
    let slow = || {
        let drops = std::iter::repeat_with(|| Script::new().chunk(" ").delay(STEP)).take(1_000);
        drops.fold(Script::new().chunked_head(200, &head), Script::and)
    };
    let question = format!("Émilie du Châtelet, {EMAIL}");
    for script in [&stalled as &dyn Fn() -> Script, &silent, &slow] {
        presidio.push(script());
        is_blocked(&team, &question).await;
        presidio.push(script());
        ask(&allowing, &question).await.expect(200);
        assert!(
            sent(&allowing).starts_with("Émilie du Châtelet, TG_EMAIL_"),
            "{}",
            sent(&allowing)
        );
    }
    assert_eq!(app.counter("tollgate_presidio_calls_total{outcome=\"late\"}").await, 6);
    // Nobody reads what comes later.
    presidio.wait_for("calls that are late are given up", |seen| seen.left_by_peer() == 6).await;
    // A policy with little patience does not stop the calls of others.
    let details = app.platform().get("/readyz").await.expect(200).json();
    assert_eq!(details["details"]["presidio_breaker"], "closed");
}

/// Between two bytes of a slow answer.
const STEP: Duration = Duration::from_millis(50);
