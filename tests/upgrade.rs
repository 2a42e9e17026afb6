//! Upgrades: a database and a journal of an earlier release are brought to this one, and say the same
//! as before.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{
    app::{Keys, TestApp, master_key_file},
    case::{Case, cases},
    database::{Database, Kind},
    http::Request,
    ledger_fixture::{LedgerFixture, journal, row, rows, sums_agree},
    secrets, sql,
    two_tenants::text,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        usage_and_requests_are_the_same_after_the_migrations,
        a_journal_of_json_lines_is_recovered,
        a_binary_journal_without_price_versions_of_ends_is_recovered,
    ]
}

/// The master key of the fixture's installation.
const MASTER_KEY: &str = "fixture dXBncmFkZSBmaXh0dXJlIG1hc3RlciBrZXkgMDAwMDE=\n";

/// Whether every field that `expected` has is the same in `actual`, which may have more.
fn contains(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => expected
            .iter()
            .all(|(name, value)| actual.get(name).is_some_and(|actual| contains(actual, value))),
        (Value::Array(actual), Value::Array(expected)) => {
            actual.len() == expected.len()
                && actual.iter().zip(expected).all(|(actual, expected)| contains(actual, expected))
        }
        (actual, expected) => actual == expected,
    }
}

/// The columns of a CSV that `expected` has; there may be more since. No value of the fixture holds a
/// comma.
fn known_columns(csv: &str, expected: &str) -> String {
    let names = |csv: &str| -> Vec<String> {
        csv.lines().next().unwrap_or_default().split(',').map(str::to_owned).collect()
    };
    let (names, known) = (names(csv), names(expected));
    let places: Vec<usize> =
        known.iter().filter_map(|name| names.iter().position(|other| other == name)).collect();
    let kept = csv.lines().map(|line| {
        let values: Vec<&str> = line.split(',').collect();
        assert_eq!(values.len(), names.len(), "{line}");
        places.iter().map(|place| values[*place]).collect::<Vec<_>>().join(",") + "\n"
    });
    kept.collect()
}

async fn usage_and_requests_are_the_same_after_the_migrations(database: Database) {
    let (dump, expected) = match database.kind() {
        Kind::Sqlite => (
            include_str!("fixtures/upgrade/sqlite.sql"),
            include_str!("fixtures/upgrade/sqlite.json"),
        ),
        Kind::Postgres => (
            include_str!("fixtures/upgrade/postgres.sql"),
            include_str!("fixtures/upgrade/postgres.json"),
        ),
    };
    let expected: Value = serde_json::from_str(expected).unwrap();
    sql::execute(&database, dump).await;
    std::fs::write(master_key_file(&database), MASTER_KEY).unwrap();
    secrets::register(MASTER_KEY.trim().rsplit_once(' ').unwrap().1);
    let keys = Keys {
        organization_id: text(&expected, "organization_id").to_owned(),
        platform: text(&expected, "platform_key").to_owned(),
        admin: text(&expected, "admin_key").to_owned(),
    };
    let app = TestApp::over(&database, keys).await;
    let admin = app.admin();
    for (path, csv) in expected["usage"].as_object().unwrap() {
        let request = Request::get(&format!("/api/v1{path}")).header("accept", "text/csv");
        let answer = admin.send(request).await.expect(200).text();
        let csv = csv.as_str().unwrap();
        assert_eq!(known_columns(&answer, csv), csv, "{path}");
    }
    for (path, rows) in expected["requests"].as_object().unwrap() {
        let answer = admin.get(&format!("/api/v1{path}")).await.expect(200).json();
        assert!(contains(&answer["data"], rows), "{path}: {answer:#}\n{rows:#}");
    }
    let policies = admin.get("/api/v1/gateway-policies").await.expect(200).json();
    assert!(contains(&policies, &expected["policies"]), "{policies:#}");
}

/// Two attempts completed, two requests blocked, and one attempt that was open when the process died.
async fn a_journal_of_json_lines_is_recovered(database: Database) {
    let bench = LedgerFixture::new(&database).await;
    let directory = journal(&database, "old");
    std::fs::create_dir(&directory).unwrap();
    let segment = directory.join("00000000000000000004.journal");
    std::fs::write(&segment, include_str!("fixtures/upgrade/json-lines.journal")).unwrap();
    let recovered = bench.settle(&directory).await;
    assert_eq!(recovered.len(), 5);
    assert!(!segment.exists());
    let expected: BTreeSet<_> = [
        ("01a215ba-560e-7657-a26c-f7e9b79efa47", "lost", 295_076_250),
        ("01a215ba-5872-7214-b600-2683c87e28ee", "blocked", 0),
        ("01a215ba-5873-76e0-bb33-052425f3fc3a", "completed", 625_500),
        ("01a215ba-5876-717c-b0d9-1964fe787e43", "completed", 787_500),
        ("01a215ba-5877-7124-ba80-590b259c6b10", "blocked", 0),
    ]
    .map(|(id, outcome, cost)| row(id.parse().unwrap(), outcome, cost))
    .into();
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    let read = "SELECT model_used || ' ' || configuration || ' ' || metadata || ' ' || \
                cast(first_byte_ms AS text) AS value FROM ledger WHERE first_byte_ms = 0";
    assert_eq!(sql::texts(&database, read).await, ["o3-mini deep thought {} 0"]);
    sums_agree(&database).await;
}

/// One attempt completed, and one was open when the process died.
async fn a_binary_journal_without_price_versions_of_ends_is_recovered(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let directory = journal(&database, "old");
    std::fs::create_dir(&directory).unwrap();
    let segment = directory.join("00000000000000000003.journal");
    std::fs::write(&segment, include_bytes!("fixtures/upgrade/binary.journal")).unwrap();
    assert_eq!(fixture.settle(&directory).await.len(), 2);
    assert!(!segment.exists());
    // The model had no price.
    let expected = [
        "01a21674-e5a0-7154-b96d-23a62d03bf38 completed -",
        "01a21674-e5cb-701a-9a4a-03db1a5c937f lost -",
    ];
    assert_eq!(rows(&database).await, expected);
    let read = "SELECT model_used || ' ' || metadata || ' ' || coalesce(price_version, '-') \
                AS value FROM ledger WHERE outcome = 'completed'";
    let expected = r#"tollgate-demo {"team":"search"} -"#;
    assert_eq!(sql::texts(&database, read).await, [expected]);
    sums_agree(&database).await;
}
