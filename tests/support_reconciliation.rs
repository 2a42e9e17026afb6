//! Tests of the tools of the accounting test: calls follow their plan, and differences from the ledger are
//! reported.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use crate::support::{
    app::TestApp,
    call_plan::{CallKind, CallPlan, Scenario},
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    invoice::{Entry, Invoice},
    ledger_rows::{Rates, Row, nanos, usd},
    openai::Usage,
    reconciliation::{ProcessLifetime, Reconciliation},
    traffic::{CallRecord, CallResult, Traffic},
    wait::within,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        calls_follow_their_plan,
        plain plans_are_varied_and_reproducible,
        plain amounts_keep_their_digits,
        plain a_ledger_that_agrees_has_no_problems,
        plain every_difference_in_the_ledger_is_reported,
    ]
}

const CONFIGURATIONS: [&str; 1] = [Fixture::CONFIGURATION];

fn plan(number: u64) -> CallPlan {
    CallPlan::of(7, number, &CONFIGURATIONS)
}

async fn calls_follow_their_plan(database: Database) {
    const CALLS: u64 = 300;
    let app = TestApp::start(&database).await;
    let (invoice, upstream) = Invoice::start(plan).await;
    let team = Fixture::before(&app.admin(), app.address(), upstream).await;
    let traffic = Traffic::start(plan, &invoice, &team.caller_key, app.address(), (8, CALLS));
    let record = within(Duration::from_secs(60), "the calls end", traffic.end()).await;
    assert_eq!(record.len() as u64, CALLS);
    let entries = invoice.entries();
    for record in record {
        let plan = plan(record.number);
        let expected: &[CallResult] = match plan.scenario {
            Scenario::Complete | Scenario::Slow | Scenario::CumulativeUsage | Scenario::NoUsage => {
                &[CallResult::Answered(200)]
            }
            // Retried unless the connection was new.
            Scenario::ResetBeforeHead => &[CallResult::Answered(200), CallResult::Answered(502)],
            Scenario::Error(400) => &[CallResult::Answered(400)],
            Scenario::Error(429) => &[CallResult::Answered(429)],
            Scenario::Error(500) => &[CallResult::Answered(500)],
            Scenario::Error(_) => &[CallResult::Answered(503)],
            // The gateway sends an error event and then breaks the connection.
            Scenario::ResetInBody | Scenario::ResetInEvent | Scenario::CloseAfterUsage => {
                &[CallResult::Broken]
            }
            Scenario::CallerLeavesBeforeHead
            | Scenario::CallerLeavesInBody
            | Scenario::CallerLeavesAfterUsage => &[CallResult::CallerLeft],
        };
        assert!(expected.contains(&record.result), "{plan:?} {record:?}");
        let entries = &entries[&record.number];
        let last = entries.last().expect("the upstream was asked");
        let tells = match plan.scenario {
            Scenario::Complete | Scenario::Slow | Scenario::CumulativeUsage => {
                plan.kind != CallKind::Models
            }
            Scenario::ResetBeforeHead => record.result == CallResult::Answered(200),
            // The gateway asks for usage here.
            Scenario::CloseAfterUsage | Scenario::CallerLeavesAfterUsage => true,
            _ => false,
        };
        assert_eq!(last.reported(), tells.then_some(plan.usage), "{plan:?} {record:?}");
    }
}

async fn plans_are_varied_and_reproducible() {
    let mut scenarios: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..1_000 {
        let (one, same) = (plan(number), plan(number));
        assert_eq!(format!("{one:?}"), format!("{same:?}"));
        assert!(one.usage.cached <= one.usage.prompt);
        assert!(one.usage.reasoning <= one.usage.completion);
        let name = format!("{:?}", one.scenario);
        *scenarios.entry(name.split('(').next().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(scenarios.len(), 12, "{scenarios:?}");
    assert!(scenarios.values().all(|count| *count >= 20), "{scenarios:?}");
}

async fn amounts_keep_their_digits() {
    for amount in [0, 1, 999_999_999, 1_000_000_000, 12_000_000_345] {
        assert_eq!(nanos(&usd(amount)), amount);
    }
    assert_eq!(nanos(&json!(3)), 3_000_000_000);
    let usage = Usage { prompt: 3, completion: 2, cached: 1, reasoning: 1 };
    // 2 * 5 + 1 * 3 + 1 * 7 + 1 * 11, and fractions are rounded up.
    let rates = Rates {
        input: 5_000_000,
        cached_input: 3_000_000,
        output: 7_000_000,
        reasoning: 11_000_000,
        request: 13,
    };
    assert_eq!(rates.bill(usage), 31 + 13);
    assert_eq!(Rates { reasoning: 11_000_001, ..rates }.bill(usage), 32 + 13);
}

const RATES: Rates =
    Rates { input: 1_000_000, cached_input: 0, output: 2_000_000, reasoning: 0, request: 0 };
const USAGE: Usage = Usage { prompt: 10, completion: 5, cached: 0, reasoning: 0 };

/// The reconciliation of one answered call.
fn reconciliation() -> Reconciliation {
    let lifetimes = vec![ProcessLifetime::begun()];
    let now = Instant::now();
    let record = CallRecord {
        number: 1,
        request_id: Some("request".to_owned()),
        result: CallResult::Answered(200),
        began: now,
        ended: now,
    };
    Reconciliation {
        invoice: [(1, vec![Entry::of(Some(USAGE))])].into(),
        records: vec![record],
        lifetimes,
        plan: Rc::new(plan),
        rates: Rc::new(|_| RATES),
    }
}

/// The row of that call.
fn row() -> Row {
    let row = json!({
        "id": "a", "request_id": "request", "attempt": 1, "organization_id": "o",
        "api_key_id": "k", "configuration": "main", "outcome": "completed", "status": 200,
        "input_tokens": 10, "cached_input_tokens": 0, "output_tokens": 5, "reasoning_tokens": 0,
        "usage_source": "provider", "cost": 20, "price_version": "v",
        "metadata": r#"{"request_number":"1"}"#,
    });
    serde_json::from_value(row).unwrap()
}

async fn a_ledger_that_agrees_has_no_problems() {
    assert_eq!(reconciliation().problems(&[row()]), [""; 0]);
    // An attempt that did not reach the upstream, and one that did.
    let unknown = Row {
        id: "b".to_owned(),
        outcome: "unknown".to_owned(),
        usage_source: "none".to_owned(),
        cost: Some(0),
        ..row()
    };
    let second = Row { attempt: 2, ..row() };
    assert_eq!(reconciliation().problems(&[unknown, second]), [""; 0]);
    // A killed process.
    let mut died = reconciliation();
    died.lifetimes[0].killed();
    died.records[0].result = CallResult::Broken;
    let lost = Row { outcome: "lost".to_owned(), usage_source: "estimated".to_owned(), ..row() };
    assert_eq!(died.problems(&[lost]), [""; 0]);
}

async fn every_difference_in_the_ledger_is_reported() {
    let named = |outcome: &str| Row { outcome: outcome.to_owned(), ..row() };
    let wrong = [
        vec![],
        vec![row(), row()],
        vec![row(), Row { id: "b".to_owned(), attempt: 2, ..row() }],
        vec![Row { attempt: 2, ..row() }],
        vec![Row { request_id: "another".to_owned(), ..row() }],
        vec![Row { metadata: "{}".to_owned(), ..row() }],
        vec![Row { metadata: r#"{"request_number":"2"}"#.to_owned(), ..row() }],
        vec![Row { input_tokens: Some(11), ..row() }],
        vec![Row { reasoning_tokens: None, ..row() }],
        vec![Row { cost: Some(19), ..row() }],
        vec![Row { cost: None, ..row() }],
        vec![Row { usage_source: "estimated".to_owned(), ..row() }],
        vec![named("lost")],
    ];
    for rows in wrong {
        assert!(!reconciliation().problems(&rows).is_empty(), "{rows:?}");
    }
    // No usage was reported, or the answer was complete before the process was killed.
    let mut silent = reconciliation();
    silent.invoice = [(1, vec![Entry::of(None)])].into();
    assert!(!silent.problems(&[row()]).is_empty());
    let mut died = reconciliation();
    died.lifetimes[0].killed();
    let lost = Row { usage_source: "estimated".to_owned(), ..named("lost") };
    assert!(!died.problems(&[lost]).is_empty());
}
