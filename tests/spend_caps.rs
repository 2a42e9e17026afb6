//! Spend caps hold: with concurrent requests, several replicas, disconnecting callers and a failing Redis,
//! the settled cost stays within the cap.

use std::{cell::Cell, rc::Rc, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fault_proxy::FaultProxy,
    fixture::{Fixture, question},
    http::{Client, Request},
    ledger_rows::{self, Rates},
    openai::{self, PARTS, Usage},
    policies::{crowd, has_spent, over_cap, spend_cap, statuses},
    redis::shared_url,
    script::{Pause, Script},
    upstream::{RecordedRequest, ScriptedUpstream},
    wait::{eventually, within},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        of_400_concurrent_requests_a_cap_for_100_admits_100,
        of_400_concurrent_requests_on_two_replicas_a_cap_for_100_admits_100,
        a_cap_holds_while_half_the_callers_disconnect,
        a_cap_holds_on_two_replicas_while_half_the_callers_disconnect,
        a_cap_holds_while_redis_does_not_answer,
        a_cap_holds_while_redis_refuses_connections,
        a_402_without_money_spent_says_that_max_tokens_lowers_the_cost,
        a_402_advises_a_lower_max_tokens_only_where_that_helps,
    ]
}

/// The fee of a call: a cent.
const FEE: i128 = 10_000_000;
/// The number of calls that the cap allows.
const WORTH: usize = 100;
/// The number of concurrent calls.
const AT_ONCE: usize = 400;
/// Only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// An organization with a spend cap.
struct Capped {
    app: TestApp,
    team: Fixture,
    cap: Value,
}

impl Capped {
    /// One with this price and a monthly cap in nano-dollars.
    async fn start(app: TestApp, upstream: ScriptedUpstream, price: Rates, cap: i128) -> Self {
        let team = Fixture::before(&app.admin(), app.address(), upstream).await;
        team.set_price(price).await;
        let organization = app.keys().organization_id.clone();
        let subject = [("organization_id", organization.as_str())];
        let cap = spend_cap(&app.admin(), "the cap", &subject, ("monthly", cap)).await;
        Self { app, team, cap }
    }

    /// The total cost when the ledger has this many rows.
    async fn settled(&self, rows: usize) -> i128 {
        ledger_rows::cost(&ledger_rows::rows_at_least(self.app.database(), rows).await)
    }
}

/// Starts a gateway with Redis at this URL.
async fn on_redis(database: &Database, url: &str) -> TestApp {
    TestApp::with_stopped_clock(database, &["--redis-url", url]).await
}

async fn of_400_concurrent_requests_a_cap_for_100_admits_100(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let callers = |capped: &Capped| vec![capped.team.caller()];
    let capped = four_hundred(app, callers).await;
    // After settlement another call is refused too.
    over_cap(&capped.team.caller().send(Fixture::chat()).await, "the cap");
}

async fn of_400_concurrent_requests_on_two_replicas_a_cap_for_100_admits_100(database: Database) {
    let app = on_redis(&database, &shared_url()).await;
    let other = app.replica().await;
    let address = other.address();
    let callers = |capped: &Capped| vec![capped.team.caller(), capped.team.caller_at(address)];
    four_hundred(app, callers).await;
    drop(other);
}

async fn four_hundred(app: TestApp, callers: impl Fn(&Capped) -> Vec<Client>) -> Capped {
    let pause = Pause::new();
    let gate = pause.clone();
    let answer =
        move |request: &RecordedRequest| Script::new().wait(&gate).and(openai::answer(request));
    let upstream = ScriptedUpstream::with(answer).await;
    let cap = FEE * WORTH as i128;
    let capped = Capped::start(app, upstream, Rates::fee(FEE), cap).await;
    let callers = callers(&capped);
    let request = Fixture::chat();
    // All admitted calls are in progress until all others are refused.
    let released = async {
        let seen = capped
            .team
            .upstream
            .wait_for("the cap's worth is asked", |seen| seen.requests.len() >= WORTH);
        seen.await;
        eventually("the others are refused", async || {
            ledger_rows::rows(capped.app.database()).await.len() >= AT_ONCE - WORTH
        })
        .await;
        pause.release_all();
    };
    let crowd = crowd(&callers, &request, AT_ONCE);
    let (answers, ()) =
        within(PATIENCE, "all are answered", async { tokio::join!(crowd, released) }).await;
    let expected = [(200, WORTH), (402, AT_ONCE - WORTH)].into();
    assert_eq!(statuses(&answers), expected);
    let refused = answers.iter().filter(|answer| answer.status == 402);
    refused.for_each(|answer| over_cap(answer, "the cap"));
    assert_eq!(capped.team.upstream.seen().requests.len(), WORTH);
    assert_eq!(capped.settled(AT_ONCE).await, cap);
    has_spent(&capped.app.admin(), &capped.cap, cap).await;
    capped
}

/// Prices at which a few hundred small answers use the cap up.
const TOKENS: Rates = Rates {
    input: 3_000_000_000,
    cached_input: 1_500_000_000,
    output: 15_000_000_000,
    reasoning: 15_000_000_000,
    request: 0,
};

async fn a_cap_holds_while_half_the_callers_disconnect(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    half_leave(app, |_| Vec::new()).await;
}

async fn a_cap_holds_on_two_replicas_while_half_the_callers_disconnect(database: Database) {
    let app = on_redis(&database, &shared_url()).await;
    let other = app.replica().await;
    let address = other.address();
    half_leave(app, |capped| vec![capped.team.caller_at(address)]).await;
    drop(other);
}

async fn a_402_without_money_spent_says_that_max_tokens_lowers_the_cost(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let upstream = ScriptedUpstream::start().await;
    // A cent: less than 10,000 output tokens cost, and more than 10 do.
    let capped = Capped::start(app, upstream, TOKENS, 10_000_000).await;
    let ask = async |max_tokens: u32| {
        let mut body = question(false);
        body["max_tokens"] = max_tokens.into();
        let request = Request::post_json(&Fixture::route("chat/completions"), &body);
        capped.team.caller().send(request).await
    };
    let refused = ask(10_000).await;
    over_cap(&refused, "the cap");
    let answer = refused.json();
    let message = answer["error"]["message"].as_str().unwrap();
    // The prompt costs a little too.
    assert!(message.contains(": the cap. It may cost up to 0.15"), "{message}");
    assert!(
        message.contains("0.01 USD is left of the cap's monthly limit of 0.01 USD"),
        "{message}"
    );
    assert!(
        message.contains("A lower max_tokens (max_output_tokens in the Responses API)"),
        "{message}"
    );
    ask(10).await.expect(200);
}

async fn a_402_advises_a_lower_max_tokens_only_where_that_helps(database: Database) {
    let app = TestApp::with_stopped_clock(&database, &[]).await;
    let upstream = ScriptedUpstream::start().await;
    let capped = Capped::start(app, upstream, TOKENS, 10_000_000).await;
    let refused = async |route: &str, body: Value| {
        let request = Request::post_json(&Fixture::route(route), &body);
        let refused = capped.team.caller().send(request).await;
        over_cap(&refused, "the cap");
        let answer = refused.json();
        let message = answer["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(" USD is left of the cap's monthly limit"), "{message}");
        message
    };
    let prompt = "lorem ipsum ".repeat(20_000);
    for max_tokens in [1, 10_000] {
        let mut body = question(false);
        body["messages"][0]["content"] = prompt.as_str().into();
        body["max_tokens"] = max_tokens.into();
        let message = refused("chat/completions", body).await;
        assert!(message.contains("The prompt alone may cost up to "), "{message}");
        assert!(!message.contains("A lower max_tokens"), "{message}");
    }
    let message = refused("embeddings", json!({"input": prompt})).await;
    assert!(message.contains("The prompt alone may cost up to "), "{message}");
    assert!(!message.contains("A lower max_tokens"), "{message}");
}

/// A streamed request whose caller disconnects in the middle or reads to the end.
fn asks(leaves: bool) -> Request {
    let mut body = question(true);
    body["max_tokens"] = 100.into();
    body["user"] = if leaves { "leaves" } else { "stays" }.into();
    Request::post_json(&Fixture::route("chat/completions"), &body)
}

async fn half_leave(app: TestApp, others: impl Fn(&Capped) -> Vec<Client>) {
    const CALLERS: usize = 40;
    const CALLS: usize = 10;
    let answer = |request: &RecordedRequest| match request.json()["user"] == "leaves" {
        true => {
            let events = openai::chat_events(&PARTS, Usage::USUAL, false);
            Script::sse_head().chunks(events[..4].to_vec()).keep_open()
        }
        false => openai::answer(request),
    };
    let upstream = ScriptedUpstream::with(answer).await;
    let cap = 10 * TOKENS.bill(Usage { completion: 100, prompt: 200, cached: 0, reasoning: 0 });
    let capped = Capped::start(app, upstream, TOKENS, cap).await;
    let mut callers = vec![capped.team.caller()];
    callers.extend(others(&capped));
    let sent = Cell::new(0);
    let work = |number: usize| {
        let (caller, sent) = (&callers[number % callers.len()], &sent);
        async move {
            for _ in 0..CALLS {
                let leaves = number % 4 < 2;
                let (head, mut stream) = caller.stream(asks(leaves)).await;
                sent.set(sent.get() + 1);
                match head.status {
                    200 if leaves => {
                        stream.event().await.unwrap();
                        stream.hang_up();
                    }
                    200 => drop(stream.events().await),
                    402 => drop(stream.rest().await),
                    other => panic!("{other}"),
                }
            }
        }
    };
    within(PATIENCE, "all are answered", join_all((0..CALLERS).map(work))).await;
    let rows = ledger_rows::rows_at_least(capped.app.database(), CALLERS * CALLS).await;
    let settled = ledger_rows::cost(&rows);
    assert!(settled <= cap, "{settled} of {cap}");
    let left: Vec<_> = rows.iter().filter(|row| row.outcome == "caller_left").collect();
    let blocked = rows.iter().filter(|row| row.outcome == "blocked").count();
    assert!(left.len() > 5 && blocked > 5, "{} left, {blocked} blocked", left.len());
    for row in left {
        assert_eq!(row.usage_source, "estimated", "{row:?}");
        assert!(row.cost > Some(0), "what was served is charged: {row:?}");
    }
    has_spent(&capped.app.admin(), &capped.cap, settled).await;
}

async fn a_cap_holds_while_redis_does_not_answer(database: Database) {
    without_redis(database, FaultProxy::stall).await;
}

async fn a_cap_holds_while_redis_refuses_connections(database: Database) {
    without_redis(database, FaultProxy::reset_connections).await;
}

async fn without_redis(database: Database, fault: fn(&FaultProxy)) {
    const CALLERS: usize = 40;
    let (proxy, url) = FaultProxy::to_url(&shared_url()).await;
    let app = on_redis(&database, &url).await;
    let upstream = ScriptedUpstream::start().await;
    let cap = FEE * WORTH as i128;
    let capped = Capped::start(app, upstream, Rates::fee(FEE), cap).await;
    let [passed, refused, unknown, stop] = [(); 4].map(|()| Rc::new(Cell::new(0)));
    let caller = capped.team.caller();
    let work = |_| async {
        while stop.get() == 0 {
            let answer = caller.send(Fixture::chat()).await;
            let count = match answer.status {
                200 => &passed,
                402 => &refused,
                503 => &unknown,
                other => panic!("{other}: {}", answer.text()),
            };
            count.set(count.get() + 1);
            if answer.status == 503 {
                assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
            }
        }
    };
    let disturb = async {
        let settled = async || passed.get() >= WORTH / 4;
        eventually("a quarter of the cap is used", settled).await;
        fault(&proxy);
        let began = Instant::now();
        let lasts = Duration::from_secs(1);
        eventually("a second passes", async || began.elapsed() >= lasts).await;
        assert!(unknown.get() > 0, "what can't be checked is not let through");
        proxy.restore();
        eventually("the cap is reached", async || refused.get() >= CALLERS).await;
        stop.set(1);
    };
    let all = async { tokio::join!(join_all((0..CALLERS).map(work)), disturb) };
    within(PATIENCE, "the cap is reached", all).await;
    assert!((WORTH / 4..=WORTH).contains(&passed.get()), "{} passed", passed.get());
    let mut settled = 0;
    eventually("what passed is in the ledger", async || {
        let rows = ledger_rows::rows(capped.app.database()).await;
        settled = ledger_rows::cost(&rows);
        rows.iter().filter(|row| row.outcome == "completed").count() == passed.get()
    })
    .await;
    assert_eq!(settled, FEE * passed.get() as i128);
    assert!(settled <= cap, "{settled} of {cap}");
}
