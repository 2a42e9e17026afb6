//! Guards together, what cannot be changed, and placeholders that a model prints or that others would share.

use serde_json::{Value, json};

use crate::data_policy::{EMAIL, USAGE, chat, content, guard, learn, placeholder, says, streamed};
use crate::data_policy_limits::{pii, with_providers};
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    http::Request,
    openai,
    policies::{POLICIES, make, refused},
    problems::wrong_fields,
    script::{Pause, Script, data},
    secrets, sql,
    two_tenants::text,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        several_guards_are_one_and_those_that_are_violated_are_named,
        the_path_and_configured_headers_block,
        a_policy_has_fifty_patterns,
        a_model_that_prints_all_placeholders_discloses_nothing_of_others,
        users_and_keys_have_placeholders_of_their_own,
        what_cannot_be_a_placeholder_is_not_held_back,
        long_events_are_restored,
        a_sample_leaves_no_trace,
    ]
}

const OTHER: &str = "grace.hopper@example.org";
const CARD: &str = "4111 1111 1111 1111";

async fn several_guards_are_one_and_those_that_are_violated_are_named(database: Database) {
    secrets::register(EMAIL);
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let admin = app.admin();
    let detects = |pii: Value, action: &str| json!({"version": 1, "detect": {"pii": pii}, "action": action, "timeout_seconds": 30});
    let here = [("workspace_id", team.workspace_id.as_str())];
    let in_all = [("organization_id", app.keys().organization_id.as_str())];
    let reports = detects(json!(["email", "payment_card"]), "report");
    make(&admin, ("guard", "Counts"), &in_all, reports).await;
    make(&admin, ("guard", "Replaces"), &here, detects(json!(["email"]), "redact")).await;
    make(&admin, ("guard", "Refuses"), &here, detects(json!(["iban", "email"]), "redact")).await;
    let iban = detects(json!(["iban"]), "block");
    make(&admin, ("guard", "Refuses IBANs"), &[("sender", "bank")], iban).await;
    app.caught_up().await;
    // Either policy's category is found, with the strictest action of those that match.
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    let question = says(&format!("{EMAIL} {CARD} DE89370400440532013000"));
    team.caller().send(chat(&question)).await.expect(200);
    let sent = team.upstream.last_request().json();
    let sent = text(&sent["messages"][0], "content");
    assert!(sent.starts_with("TG_EMAIL_") && sent.contains(CARD), "{sent}");
    assert!(sent.contains(" TG_IBAN_"), "{sent}");
    let answer = team.caller().send(chat(&question).header("x-gateway-sender", "bank")).await;
    refused(&answer, 403, "content_blocked", "Refuses IBANs");
    let told = answer.text();
    assert!(told.contains("iban") && !told.contains("email"), "{told}");
    // Policies that detect what blocks are violated, whatever their own action is; others are not.
    assert!(told.contains("Refuses, ") || told.contains(", Refuses;"), "{told}");
    assert!(!told.contains("Counts") && !told.contains("Replaces"), "{told}");
}

async fn the_path_and_configured_headers_block(database: Database) {
    let (app, team) = with_providers(&database, pii(json!({}))).await;
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]});
    for model in [EMAIL.to_owned(), EMAIL.replace('@', "%40")] {
        let path = format!("/gemini/v1beta/models/{model}:generateContent");
        let answer = team.caller().post_json(&path, &body).await;
        assert_eq!(answer.status, 403, "{model}: {}", answer.text());
        assert!(answer.text().contains("email") && !answer.text().contains(EMAIL));
    }
    let configuration = json!({"name": "forwards", "provider": "openai_compatible", "model": "m",
        "base_url": team.upstream.base_url(), "forward_headers": ["x-on-behalf-of"]});
    app.admin().post_json(&team.path("model-configurations"), &configuration).await.expect(201);
    let request = || Request::post_json("/providers/forwards/v1/chat/completions", &says("Hello"));
    let answer = team.caller().send(request().header("x-on-behalf-of", EMAIL)).await;
    refused(&answer, 403, "content_blocked", "No personal data");
    assert_eq!(team.upstream.seen().requests.len(), 0);
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    team.caller().send(request().header("x-on-behalf-of", "Ada")).await.expect(200);
    assert_eq!(team.upstream.last_request().header("x-on-behalf-of"), Some("Ada"));
}

async fn a_policy_has_fifty_patterns(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let config = |count: usize| {
        let patterns: Vec<Value> =
            (0..count).map(|number| json!({"pattern": format!("PRJ{number}-[0-9]+")})).collect();
        json!({"version": 1, "detect": {"custom": patterns}})
    };
    let body = json!({"name": "G", "policy_type": "guard", "config": config(51),
        "subject_matchers": [{"key": "workspace_id", "value": team.workspace_id}]});
    let answer = app.admin().post_json(POLICIES, &body).await;
    assert_eq!(wrong_fields(&answer), ["config.detect.custom"]);
    guard(&app.admin(), &team, config(50)).await;
    app.caught_up().await;
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    team.caller().send(chat(&says("PRJ0-1 PRJ49-12 PRJ50-3"))).await.expect(200);
    let sent = team.upstream.last_request().json();
    let sent = text(&sent["messages"][0], "content");
    assert_eq!(sent.matches("TG_VALUE_").count(), 2, "{sent}");
    assert!(sent.ends_with(" PRJ50-3"), "{sent}");
}

async fn a_model_that_prints_all_placeholders_discloses_nothing_of_others(database: Database) {
    let (app, team) = with_providers(&database, pii(json!({}))).await;
    secrets::register(OTHER);
    let neighbour = app.workspace().await;
    guard(&app.admin(), &neighbour, pii(json!({}))).await;
    app.caught_up().await;
    let foreign = learn(&neighbour, &says(&format!("I am {OTHER}"))).await;
    let earlier = learn(&team, &says(&format!("Earlier: {OTHER}"))).await;
    let invented = "TG_EMAIL_ABCDEFGHIJKL";
    let literal = "TG_PHONE_ABCDEFGHIJKL";
    let mut question =
        says(&format!("Print all placeholders, {literal} too. I am {EMAIL}, {CARD}"));
    let own = learn(&team, &question).await;
    let card = placeholder(&team.upstream, "CARD");
    let all = [&foreign, &earlier, invented, literal].join(" ");
    let said = format!("{all} {own} {card} {own}");
    let expected = format!("{all} {EMAIL} {CARD} {EMAIL}");
    team.upstream.push(openai::chat_completion(&said, USAGE));
    let answer = team.caller().send(chat(&question)).await.expect(200);
    assert_eq!(content(&answer), expected);
    question["stream"] = json!(true);
    let parts: Vec<&str> =
        said.as_bytes().chunks(7).map(|part| std::str::from_utf8(part).unwrap()).collect();
    team.upstream.push(openai::chat_stream(&parts, USAGE, true));
    assert_eq!(streamed(&team.caller().send(chat(&question)).await.expect(200)), expected);
}

async fn users_and_keys_have_placeholders_of_their_own(database: Database) {
    secrets::register(EMAIL);
    let (app, team) = TestApp::start_with_workspace(&database).await;
    guard(&app.admin(), &team, pii(json!({}))).await;
    let admin = app.admin();
    let key = async |name: &str, user: Option<&str>| {
        let mut body = json!({"name": name, "role": "GATEWAY_CALLER"});
        if let Some(user) = user {
            body["user_id"] = json!(user);
        }
        let made = admin.post_json(&team.path("api-keys"), &body).await.expect(201).json();
        text(&made, "key")
    };
    let person = json!({"email": "u@example.com", "name": "U"});
    let user = admin.post_json("/api/v1/users", &person).await.expect(201).json();
    let user = text(&user, "id");
    let keys = [
        key("of nobody", None).await,
        key("of nobody, too", None).await,
        key("of the user", Some(&user)).await,
        key("of the user, too", Some(&user)).await,
    ];
    let mut placeholders = Vec::new();
    for key in &keys {
        team.upstream.push(openai::chat_completion("Fine.", USAGE));
        let caller = app.as_key(key);
        let request = chat(&says(EMAIL)).header("x-tollgate-session-id", "one");
        caller.send(request).await.expect(200);
        placeholders.push(placeholder(&team.upstream, "EMAIL"));
    }
    assert_ne!(placeholders[0], placeholders[1]);
    assert_ne!(placeholders[0], placeholders[2]);
    assert_eq!(placeholders[2], placeholders[3]);
}

async fn what_cannot_be_a_placeholder_is_not_held_back(database: Database) {
    let (_app, team) = with_providers(&database, pii(json!({}))).await;
    let mut question = says(&format!("I am {EMAIL}"));
    let own = learn(&team, &question).await;
    question["stream"] = json!(true);
    // The upstream says no more until the caller has the first event.
    let pause = Pause::new();
    let events = openai::chat_events(&["Dear ", &own[..5], &own[5..]], USAGE, true);
    let script = Script::sse_head().chunks(events[..2].to_vec()).wait(&pause);
    team.upstream.push(script.chunks(events[2..].to_vec()).end());
    let (head, mut answer) = team.caller().stream(chat(&question)).await;
    assert_eq!(head.status, 200);
    let mut got = String::new();
    while !got.contains("Dear ") {
        let piece = answer.piece().await.unwrap().expect("the first event arrives");
        got.push_str(std::str::from_utf8(&piece.bytes).unwrap());
    }
    pause.release();
    let (pieces, _) = answer.rest().await;
    let rest: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.bytes.to_vec()).collect();
    assert!(String::from_utf8(rest).unwrap().contains(EMAIL));
}

/// Longer than what a worker edits itself.
async fn long_events_are_restored(database: Database) {
    let app = TestApp::start(&database).await;
    for scan in [false, true] {
        let team = app.workspace().await;
        guard(&app.admin(), &team, pii(json!({"scan": {"answers": scan}}))).await;
        app.caught_up().await;
        let mut question = says(&format!("I am {EMAIL}"));
        let own = learn(&team, &question).await;
        question["stream"] = json!(true);
        let words = "word ".repeat(40_000);
        let mut events = openai::chat_events(&["Dear ", &words, &own, " bye"], USAGE, true);
        let long =
            json!({"choices": [{"index": 0, "delta": {"content": format!("{words}{own}, ")}}]});
        events.insert(2, data(long));
        let head = Script::sse_head();
        team.upstream
            .push(head.chunks(events.concat().as_bytes().chunks(9_000).map(<[u8]>::to_vec)).end());
        let answer = team.caller().send(chat(&question)).await.expect(200);
        assert_eq!(streamed(&answer), format!("Dear {words}{EMAIL}, {words}{EMAIL} bye"), "{scan}");
        assert!(answer.text().trim_end().ends_with("data: [DONE]"));
    }
    let rows = crate::support::ledger_rows::rows_at_least(app.database(), 4).await;
    assert!(rows.iter().all(|row| row.counts(USAGE) && row.outcome == "completed"), "{rows:?}");
}

async fn a_sample_leaves_no_trace(database: Database) {
    secrets::register(OTHER);
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let policy = guard(&app.admin(), &team, pii(json!({}))).await;
    let path = format!("{POLICIES}/{}/test", text(&policy, "id"));
    let audited = async || app.admin().get("/api/v1/audit-log").await.expect(200).text();
    let findings = async || {
        let metrics = app.platform().get("/metrics").await.expect(200).text();
        let lines = metrics.lines().filter(|line| line.starts_with("tollgate_guard_findings"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    team.upstream.push(openai::chat_completion("Fine.", USAGE));
    team.caller().send(chat(&says("billing@bank.example"))).await.expect(200);
    let before = (audited().await, findings().await);
    let sample = json!({"text": format!("I am {OTHER}")});
    let shown = app.admin().post_json(&path, &sample).await.expect(200);
    assert!(shown.text().contains("TG_EMAIL_"), "{}", shown.text());
    assert_eq!((audited().await, findings().await), before);
    let rows = "SELECT cast(count(*) AS text) AS value FROM ledger";
    crate::support::ledger_rows::rows_at_least(app.database(), 1).await;
    assert_eq!(sql::texts(app.database(), rows).await, ["1"]);
    let help = app.platform().get("/metrics").await.expect(200).text();
    assert!(help.contains("in requests and answers") && help.contains("redact, mask, block"));
}
