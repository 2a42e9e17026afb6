//! Names, places and organizations in what the model says: a scripted Presidio is asked about an answer when
//! it is complete.

use serde_json::{Value, json};

use crate::data_policy::streamed;
use crate::data_policy::{chat, content, says};
use crate::entities::{USAGE, ask, asked, guard, names, presidio, start, url};
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::Answer,
    ledger_rows::rows_at_least,
    openai,
    policies::refused,
    script::{Pause, Script, data},
    streams::{broken_off, call_arguments, joined},
    upstream::ScriptedUpstream,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        names_in_plain_answers_are_masked,
        names_in_streams_are_masked_however_they_are_split,
        names_in_arguments_of_tools_are_masked,
        an_answer_with_a_name_is_refused_before_its_first_byte,
        what_is_only_reported_passes,
        a_presidio_that_fails_refuses_answers_or_lets_them_pass,
        a_stream_that_breaks_off_is_not_searched,
        converted_streams_are_searched,
    ]
}

fn scanning(more: Value) -> Value {
    let mut config = names(json!({"scan": {"answers": true}}));
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

async fn started(database: &Database, more: Value) -> (ScriptedUpstream, TestApp, Fixture) {
    start(database, scanning(more)).await
}

async fn answered(team: &Fixture, question: &str, said: &str) -> Answer {
    team.upstream.push(openai::chat_completion(said, USAGE));
    team.caller().send(chat(&says(question))).await
}

async fn names_in_plain_answers_are_masked(database: Database) {
    let (presidio, app, team) = started(&database, json!({})).await;
    let said = "Maria Mitchell of Nantucket (not Nantucketer) wrote to ada@example.org.";
    let answer = answered(&team, "Émilie du Châtelet asks who", said).await.expect(200);
    let masked = "REDACTED_PERSON of REDACTED_PLACE (not Nantucketer) wrote to REDACTED_EMAIL.";
    assert_eq!(content(&answer), masked);
    let (texts, _) = asked(&presidio);
    assert_eq!(texts, ["Émilie du Châtelet asks who", said]);
    // What the caller has sent is none, nor are its placeholders.
    let question = "Maria Mitchell of Nantucket";
    ask(&team, question).await.expect(200);
    let sent = crate::support::two_tenants::text(
        &team.upstream.last_request().json()["messages"][0],
        "content",
    );
    let said = format!("{sent}? Maria Mitchell is no Vassar College");
    let answer = answered(&team, question, &said).await.expect(200);
    assert_eq!(content(&answer), format!("{question}? Maria Mitchell is no REDACTED_ORG"));
    let rows = rows_at_least(app.database(), 3).await;
    assert!(rows.iter().all(|row| row.counts(USAGE)), "{rows:?}");
    let list = app.admin().get(&team.path("requests")).await.expect(200).json();
    let found =
        json!({"place": "answer", "category": "organization", "action": "mask", "count": 1});
    let findings = list["data"][0]["guard_findings"].as_array().unwrap().clone();
    assert!(findings.contains(&found), "{findings:?}");
}

async fn names_in_streams_are_masked_however_they_are_split(database: Database) {
    let (_presidio, _app, team) = started(&database, json!({})).await;
    let mut question = says("Who?");
    question["stream"] = json!(true);
    let said = "Émilie du Châtelet, Maria Mitchell and a@example.org of Vassar College";
    let masked = "REDACTED_PERSON, REDACTED_PERSON and REDACTED_EMAIL of REDACTED_ORG";
    let characters: Vec<String> = said.chars().map(String::from).collect();
    for size in [1, 3, 7, 100] {
        let parts: Vec<String> = characters.chunks(size).map(|part| part.concat()).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        team.upstream.push(openai::chat_stream(&parts, USAGE, true));
        let answer = team.caller().send(chat(&question)).await.expect(200);
        assert_eq!(streamed(&answer), masked, "{size}");
        assert!(answer.text().trim_end().ends_with("data: [DONE]"), "{}", answer.text());
    }
    // Nothing goes down before it is searched.
    let pause = Pause::new();
    let events = openai::chat_events(&["Maria ", "Mitchell"], USAGE, true);
    let script = Script::sse_head().chunks(events[..2].to_vec()).wait(&pause);
    team.upstream.push(script.chunks(events[2..].to_vec()).end());
    let caller = team.caller();
    let answer = caller.send(chat(&question));
    let release = async {
        team.upstream.wait_for("the question", |seen| seen.requests.len() == 5).await;
        pause.release_all();
    };
    let (answer, ()) = tokio::join!(answer, release);
    assert_eq!(streamed(&answer.expect(200)), "REDACTED_PERSON");
}

async fn names_in_arguments_of_tools_are_masked(database: Database) {
    let (_presidio, _app, team) = started(&database, json!({})).await;
    let arguments = r#"{"to":"\u00c9milie du Ch\u00e2telet","mode":"AUTO","place":"Nantucket"}"#;
    let expected = json!({"to": "REDACTED_PERSON", "mode": "AUTO", "place": "REDACTED_PLACE"});
    let mut plain = openai::chat_object("", USAGE);
    plain["choices"][0]["message"]["tool_calls"] = json!([{"id": "call_1", "type": "function",
        "function": {"name": "find", "arguments": arguments}}]);
    team.upstream.push(Script::json(200, &plain));
    let answer = team.caller().send(chat(&says("Hello"))).await.expect(200).json();
    let got = &answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"];
    assert_eq!(serde_json::from_str::<Value>(got.as_str().unwrap()).unwrap(), expected);

    let call = |arguments: &str| {
        data(json!({"choices": [{"index": 0, "delta": {"tool_calls": [
            {"index": 0, "function": {"arguments": arguments}}]}}]}))
    };
    let mut events: Vec<String> = vec![call(&arguments[..20]), call(&arguments[20..])];
    events
        .push(data(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})));
    events.push(data("[DONE]"));
    team.upstream.push(Script::sse(events));
    let mut question = says("Hello");
    question["stream"] = json!(true);
    let answer = team.caller().send(chat(&question)).await.expect(200).text();
    assert_eq!(call_arguments(&answer), expected, "{answer}");
}

async fn an_answer_with_a_name_is_refused_before_its_first_byte(database: Database) {
    let (_presidio, app, team) = started(&database, json!({"action": "block"})).await;
    let answer = answered(&team, "Who?", "Maria Mitchell").await;
    refused(&answer, 403, "content_blocked", "No names");
    assert!(answer.text().contains("in the answer: person_name"), "{}", answer.text());
    let mut question = says("Who?");
    question["stream"] = json!(true);
    team.upstream.push(openai::chat_stream(&["It is ", "Maria ", "Mitchell"], USAGE, true));
    let answer = team.caller().send(chat(&question)).await;
    refused(&answer, 403, "content_blocked", "No names");
    let rows = rows_at_least(app.database(), 2).await;
    assert!(rows.iter().all(|row| row.counts(USAGE) && row.status == Some(403)), "{rows:?}");
}

async fn what_is_only_reported_passes(database: Database) {
    let (_presidio, _app, team) = started(&database, json!({"action": "report"})).await;
    let answer = answered(&team, "Who?", "Maria Mitchell").await.expect(200);
    assert_eq!(content(&answer), "Maria Mitchell");
    team.settled_once().await.says(&[("answer_guard", "person_name=1")]);
}

async fn a_presidio_that_fails_refuses_answers_or_lets_them_pass(database: Database) {
    let (presidio, app, team) = started(&database, json!({})).await;
    let allowing = app.workspace().await;
    guard(&app.admin(), &allowing, scanning(json!({"timeout_action": "allow"}))).await;
    let mut question = says("Who?");
    question["stream"] = json!(true);
    let said = "Maria Mitchell, ada@example.org";
    for is_stream in [false, true] {
        for team in [&team, &allowing] {
            let nothing = Script::json(200, &json!([[]]));
            presidio.push(nothing);
            presidio.push(Script::json(503, &json!({})));
            let answer = if is_stream {
                team.upstream.push(openai::chat_stream(&[said], USAGE, true));
                team.caller().send(chat(&question)).await
            } else {
                answered(team, "Who?", said).await
            };
            if std::ptr::eq(team, &allowing) {
                let answer = answer.expect(200);
                let got = if is_stream { streamed(&answer) } else { content(&answer) };
                assert_eq!(got, "Maria Mitchell, REDACTED_EMAIL");
            } else {
                refused(&answer, 403, "content_blocked", "No names");
                assert!(answer.text().contains("could not be searched"), "{}", answer.text());
            }
        }
    }
}

async fn a_stream_that_breaks_off_is_not_searched(database: Database) {
    let (presidio, app, team) = started(&database, json!({})).await;
    let allowing = app.workspace().await;
    guard(&app.admin(), &allowing, scanning(json!({"timeout_action": "allow"}))).await;
    let mut question = says("Who?");
    question["stream"] = json!(true);
    for (team, passes) in [(&team, false), (&allowing, true)] {
        let events = openai::chat_events(&["Maria Mitchell and more"], USAGE, true);
        let script = Script::sse_head().chunks(events[..2].to_vec()).close();
        team.upstream.push(script);
        let got = broken_off(&team.caller().send(chat(&question)).await);
        assert_eq!(got.contains("Maria Mitchell"), passes, "{got}");
        assert!(got.contains("error"), "{got}");
    }
    assert_eq!(presidio.seen().requests.len(), 2);
}

async fn converted_streams_are_searched(database: Database) {
    let presidio = presidio().await;
    let parts = ["It is Maria ", "Mitchell", "."];
    let upstream = ScriptedUpstream::with(move |request| match request.path() {
        path if path.ends_with("/responses") => openai::response_stream(&parts, USAGE),
        _ => openai::chat_stream(&parts, USAGE, true),
    })
    .await;
    let origin = upstream.origin();
    let (url, origin) = (url(&presidio), format!("openai={origin}"));
    let options = ["--presidio-url", &url, "--provider-origin", &origin];
    let app = TestApp::with(&database, &options).await;
    let team = Fixture::before(&app.admin(), app.address(), upstream).await;
    team.put_secret("OPENAI_API_KEY", "key-of-the-workspace").await;
    guard(&app.admin(), &team, scanning(json!({}))).await;
    let body = json!({"model": "openai/gpt-4o", "max_tokens": 99, "stream": true,
        "messages": [{"role": "user", "content": "Who?"}]});
    let answer = team.caller().post_json("/v1/messages", &body).await.expect(200).text();
    let said = joined(&answer, "/delta/text");
    assert_eq!(said, "It is REDACTED_PERSON.", "{answer}");
    assert!(answer.contains("message_stop"), "{answer}");
}
