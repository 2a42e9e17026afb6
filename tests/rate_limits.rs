//! Rate limits: rolling windows, response headers, and default limits per subject. Tests advance the
//! clock.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::{Fixture, question},
    http::{Answer, Client, Request},
    ledger_rows,
    openai::{self, PARTS, Usage},
    policies::{POLICIES, crowd, make, rate_limit, rates, refused, statuses},
    redis::shared_url,
    script::Script,
    two_tenants::text,
    wait::eventually,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        requests_per_minute_roll,
        requests_per_hour_roll,
        requests_per_minute_roll_over_two_replicas,
        responses_say_when_a_limit_resets,
        responses_say_when_a_limit_resets_with_redis,
        concurrent_requests_stay_within_the_limit,
        reserved_tokens_are_corrected_to_used_tokens,
        tokens_per_minute_roll,
        a_request_over_the_whole_limit_gets_no_retry_after,
        every_subject_has_its_own_default_limit,
        a_default_limit_can_be_per_header_value,
        a_specific_limit_replaces_the_default,
    ]
}

const SECOND: Duration = Duration::from_secs(1);

async fn call(caller: &Client) -> Answer {
    caller.send(Fixture::chat()).await
}

/// The `Retry-After` of a request that this limit refused.
#[track_caller]
fn limited(answer: &Answer, name: &str) -> u64 {
    refused(answer, 429, "rate_limit_exceeded", name);
    let after = answer.header("retry-after").expect("a time to come again");
    after.parse().ok().filter(|after| *after > 0).expect("whole seconds")
}

/// The number in a header.
#[track_caller]
fn says(answer: &Answer, header: &str) -> u64 {
    let value =
        answer.header(header).unwrap_or_else(|| panic!("no {header}: {:?}", answer.headers));
    value.parse().unwrap_or_else(|_| panic!("{header}: {value}"))
}

/// Waits as long as `Retry-After` says; checks that requests are refused until then and pass afterwards.
async fn waits_as_told(app: &TestApp, callers: &[Client], name: &str) -> u64 {
    let after = limited(&call(&callers[0]).await, name);
    app.advance(SECOND * (after as u32 - 1));
    for caller in callers {
        assert_eq!(limited(&call(caller).await, name), 1);
    }
    app.advance(SECOND);
    call(callers.last().unwrap()).await.expect(200);
    after
}

async fn requests_per_minute_roll(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let team = app.workspace().await;
    roll(&app, &[team.caller()], &team).await;
}

async fn requests_per_minute_roll_over_two_replicas(database: Database) {
    let url = shared_url();
    let app = TestApp::with_stopped_clock(&database, &["--redis-url", &url]).await;
    let other = app.replica().await;
    let team = app.workspace().await;
    roll(&app, &[team.caller(), team.caller_at(other.address())], &team).await;
}

async fn roll(app: &TestApp, callers: &[Client], team: &Fixture) {
    let subject = [("workspace_id", team.workspace_id.as_str())];
    rate_limit(&app.admin(), "three", &subject, &[("requests", "minute", 3)]).await;
    for left in [2, 1] {
        let answer = call(&callers[0]).await.expect(200);
        assert_eq!(says(&answer, "x-ratelimit-limit-requests"), 3);
        assert_eq!(says(&answer, "x-ratelimit-remaining-requests"), left);
    }
    app.advance(10 * SECOND);
    call(callers.last().unwrap()).await.expect(200);
    // The first two leave the window after sixty seconds.
    assert_eq!(waits_as_told(app, callers, "three").await, 50);
    call(&callers[0]).await.expect(200);
    assert_eq!(waits_as_told(app, callers, "three").await, 10);
    // Then those that came after the first two.
    assert_eq!(waits_as_told(app, callers, "three").await, 50);
    call(&callers[0]).await.expect(200);
    // Refused requests do not count.
    app.advance(60 * SECOND);
    for caller in callers.iter().cycle().take(3) {
        call(caller).await.expect(200);
    }
    limited(&call(&callers[0]).await, "three");
}

async fn requests_per_hour_roll(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let team = app.workspace().await;
    let subject = [("api_key_id", team.caller_key_id.as_str())];
    rate_limit(&app.admin(), "two", &subject, &[("requests", "hour", 2)]).await;
    let callers = [team.caller()];
    call(&callers[0]).await.expect(200);
    app.advance(30 * 60 * SECOND);
    call(&callers[0]).await.expect(200);
    // The window has steps of a minute.
    let first = waits_as_told(&app, &callers, "two").await;
    assert!((29 * 60 + 1..=30 * 60).contains(&first), "{first}");
    assert_eq!(app.now().timestamp() % 60, 0, "at the beginning of a minute");
    let second = waits_as_told(&app, &callers, "two").await;
    assert_eq!(second, 30 * 60);
}

async fn responses_say_when_a_limit_resets(database: Database) {
    whole_again(&TestApp::with_stopped_clock(&database, &[]).await).await;
}

async fn responses_say_when_a_limit_resets_with_redis(database: Database) {
    let url = shared_url();
    whole_again(&TestApp::with_stopped_clock(&database, &["--redis-url", &url]).await).await;
}

async fn whole_again(app: &TestApp) {
    let team = app.workspace().await;
    let (subject, caller) = ([("workspace_id", team.workspace_id.as_str())], team.caller());
    let limits = [("requests", "minute", 3), ("tokens", "minute", 10_000)];
    rate_limit(&app.admin(), "pace", &subject, &limits).await;
    let headers = |answer: &Answer| {
        let header = |name| answer.header(name).map(str::to_owned).unwrap_or_default();
        let list: Value = serde_json::from_str(&header("x-tollgate-policies")).unwrap();
        let limits = &list[0]["limits"];
        let seconds = [0, 1].map(|place: usize| limits[place]["reset_seconds"].as_u64().unwrap());
        (header("x-ratelimit-reset-requests"), header("x-ratelimit-reset-tokens"), seconds)
    };
    let says =
        |requests: &str, tokens: &str, seconds| (requests.to_owned(), tokens.to_owned(), seconds);
    // A model list uses no tokens.
    let listing = Request::get(&Fixture::route("models"));
    let answer = caller.send(listing.clone()).await.expect(200);
    assert_eq!(headers(&answer), says("1m0s", "0s", [60, 0]));
    app.advance(5 * SECOND);
    assert_eq!(headers(&call(&caller).await.expect(200)), says("1m0s", "1m0s", [60, 60]));
    app.advance(7 * SECOND);
    assert_eq!(headers(&caller.send(listing).await.expect(200)), says("1m0s", "53s", [60, 53]));
    app.advance(8 * SECOND);
    let refused = call(&caller).await;
    assert_eq!(limited(&refused, "pace"), 40, "one may come");
    assert_eq!(headers(&refused), says("52s", "45s", [52, 45]), "all of it is back");

    // The window of an hour has steps of a minute.
    rate_limit(&app.admin(), "pace", &subject, &[("requests", "hour", 100)]).await;
    let left = 3_600 - u64::try_from(app.now().timestamp() % 60).unwrap();
    let answer = call(&caller).await.expect(200);
    let written = match left {
        3_600 => "1h0m0s".to_owned(),
        left => format!("59m{}s", left % 60),
    };
    assert_eq!(answer.header("x-ratelimit-reset-requests"), Some(written.as_str()));
}

async fn concurrent_requests_stay_within_the_limit(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let team = app.workspace().await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    rate_limit(&app.admin(), "twenty", &subject, &[("requests", "minute", 20)]).await;
    let answers = crowd(&[team.caller()], &Fixture::chat(), 100).await;
    assert_eq!(statuses(&answers), [(200, 20), (429, 80)].into());
    assert_eq!(team.upstream.seen().requests.len(), 20);
    let rows = ledger_rows::rows_at_least(&database, 100).await;
    let blocked = rows.iter().filter(|row| row.outcome == "blocked" && row.attempt == 0);
    assert_eq!(blocked.count(), 80);
}

/// A request of at least this many bytes.
fn long(bytes: usize) -> Request {
    let mut body = question(false);
    body["messages"][0]["content"] = "word ".repeat(bytes / 5 + 1).into();
    Request::post_json(&Fixture::route("chat/completions"), &body)
}

/// Makes the next answer of the upstream report this many tokens.
fn uses(team: &Fixture, tokens: u64) {
    let usage = Usage { prompt: tokens - 1, completion: 1, cached: 0, reasoning: 0 };
    team.upstream.push(openai::chat_completion(&PARTS.concat(), usage));
}

async fn reserved_tokens_are_corrected_to_used_tokens(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let team = app.workspace().await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    rate_limit(&app.admin(), "tokens", &subject, &[("tokens", "minute", 1_500)]).await;
    // Five requests reserve a thousand tokens each and use a hundred.
    for number in 0..5 {
        uses(&team, 100);
        let answer = team.caller().send(long(4_000)).await.expect(200);
        assert_eq!(says(&answer, "x-ratelimit-limit-tokens"), 1_500);
        ledger_rows::rows_at_least(&database, number + 1).await;
    }
    // With five hundred used and a request in progress, another thousand does not fit.
    let (head, stream) = {
        team.upstream.push(Script::sse_head().keep_open());
        let mut body: Value = question(true);
        body["messages"][0]["content"] = "word ".repeat(700).into();
        let request = Request::post_json(&Fixture::route("chat/completions"), &body);
        team.caller().stream(request).await
    };
    assert_eq!(head.status, 200);
    limited(&team.caller().send(long(4_000)).await, "tokens");
    drop(stream);
}

async fn tokens_per_minute_roll(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let team = app.workspace().await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    let limits = [("tokens", "minute", 10_000), ("requests", "minute", 100)];
    rate_limit(&app.admin(), "tokens", &subject, &limits).await;
    // Uses more than was reserved and goes over the limit.
    uses(&team, 12_000);
    call(&team.caller()).await.expect(200);
    ledger_rows::rows_at_least(&database, 1).await;
    app.advance(20 * SECOND);
    assert_eq!(waits_as_told(&app, &[team.caller()], "tokens").await, 40);
}

async fn a_request_over_the_whole_limit_gets_no_retry_after(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let team = app.workspace().await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    rate_limit(&app.admin(), "few tokens", &subject, &[("tokens", "hour", 500)]).await;
    let answer = team.caller().send(long(4_000)).await;
    refused(&answer, 429, "rate_limit_exceeded", "few tokens");
    assert_eq!(answer.header("retry-after"), None);
    uses(&team, 100);
    call(&team.caller()).await.expect(200);
}

async fn children(admin: &Client, parent: &Value) -> Vec<Value> {
    let all = admin.get(POLICIES).await.expect(200).json();
    let mut all = all.as_array().expect("a plain array").clone();
    all.retain(|policy| policy["parent_policy_id"] == parent["id"]);
    all
}

/// Waits until it has this many children.
async fn has_children(admin: &Client, parent: &Value, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    eventually(&format!("{} has {count} children", parent["name"]), async || {
        found = children(admin, parent).await;
        found.len() >= count
    })
    .await;
    assert_eq!(found.len(), count);
    found
}

async fn every_subject_has_its_own_default_limit(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let team = app.workspace().await;
    let admin = app.admin();
    let (_, key) = team.key("GATEWAY_CALLER").await;
    let (first, second) = (team.caller(), app.as_key(&key));
    let limits = rates(&[("requests", "minute", 2)]);
    let default = ("default_rate_limit", "for each");
    let parent = make(&admin, default, &[("api_key_id", "")], limits).await;
    for caller in [&first, &second] {
        call(caller).await.expect(200);
        call(caller).await.expect(200);
        limited(&call(caller).await, "for each");
    }
    // A child continues the counter of its subject.
    let made = has_children(&admin, &parent, 2).await;
    for child in &made {
        assert_eq!(
            (&child["policy_type"], &child["is_system_generated"]),
            (&json!("rate_limit"), &json!(true))
        );
    }
    limited(&call(&first).await, "for each");

    // Editing the default changes the attached children.
    let of_first = made
        .iter()
        .find(|child| child["subject_matchers"][0]["value"] == team.caller_key_id.as_str());
    let path = format!("{POLICIES}/{}", text(of_first.expect("the first key's"), "id"));
    let wider = json!({"config": rates(&[("requests", "minute", 4)])});
    admin.patch(&path, &wider).await.expect(200);
    let path = format!("{POLICIES}/{}", text(&parent, "id"));
    let narrower = json!({"config": rates(&[("requests", "minute", 3)])});
    admin.patch(&path, &narrower).await.expect(200);
    for (caller, more) in [(&first, 2), (&second, 1)] {
        for _ in 0..more {
            call(caller).await.expect(200);
        }
        limited(&call(caller).await, "for each");
    }
}

async fn a_default_limit_can_be_per_header_value(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let team = app.workspace().await;
    let default = ("default_rate_limit", "for each app");
    let subject = [("workspace_id", ""), ("app_name", "")];
    make(&app.admin(), default, &subject, rates(&[("requests", "minute", 2)])).await;
    let of = |name: &str| team.caller().with_header("X-Gateway-App-Name", name);
    let json = json!({"app_name": "blue"}).to_string();
    let as_metadata = team.caller().with_header("X-Gateway-Metadata", &json);
    for name in ["blue", "red"] {
        call(&of(name)).await.expect(200);
        call(&of(name)).await.expect(200);
        limited(&call(&of(name)).await, "for each app");
    }
    limited(&call(&as_metadata).await, "for each app");
    // Without the header nothing matches.
    for _ in 0..4 {
        call(&team.caller()).await.expect(200);
    }
}

async fn a_specific_limit_replaces_the_default(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let team = app.workspace().await;
    let (_, other) = team.key("GATEWAY_CALLER").await;
    let admin = app.admin();
    let limits = rates(&[("requests", "minute", 1)]);
    make(&admin, ("default_rate_limit", "usual"), &[("api_key_id", "")], limits).await;
    let subject = [("api_key_id", team.caller_key_id.as_str())];
    rate_limit(&admin, "of its own", &subject, &[("requests", "minute", 3)]).await;
    for _ in 0..3 {
        call(&team.caller()).await.expect(200);
    }
    limited(&call(&team.caller()).await, "of its own");
    call(&app.as_key(&other)).await.expect(200);
    limited(&call(&app.as_key(&other)).await, "usual");
}
