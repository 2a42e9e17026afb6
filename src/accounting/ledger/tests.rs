//! Rows that the database can't take at the moment, and rows of callers without an API key.

use std::process::Command;
use std::time::Duration;

use chrono::TimeDelta;

use super::*;
use crate::accounting::record::{AttemptOutcome, UsageSource};
use crate::db::gateway_policies::sum_spend_by_subject;
use crate::db::requests::list_attempts;
use crate::db::{Conn, Location};
use crate::domain::money::NanoUsd;
use crate::domain::scope::WorkspaceScope;

fn end(start: &AttemptStart) -> AttemptEnd {
    AttemptEnd {
        status: Some(200),
        usage_source: UsageSource::Provider,
        cost: Some(NanoUsd::from_nanos(7)),
        ..AttemptEnd::without_usage(start.id, AttemptOutcome::Completed)
    }
}

async fn database(directory: &std::path::Path) -> Database {
    let location = Location::Sqlite(directory.join("t.db"));
    let database = Database::open(location, 1, Duration::from_secs(5)).unwrap();
    database.migrate().await.unwrap();
    database
}

fn options(directory: &std::path::Path) -> JournalOptions {
    let directory = directory.join("journal");
    JournalOptions { reserve_bytes: 4096, ..JournalOptions::new(directory, 1 << 30) }
}

async fn open(directory: &std::path::Path) -> (Ledger, Metrics) {
    let metrics = Metrics::new();
    let parts = LedgerParts {
        database: database(directory).await,
        clock: Clock::default(),
        metrics: metrics.clone(),
        readiness: Readiness::default(),
        retention_days: 0,
    };
    let ledger = Ledger::open(options(directory), parts, async |_| {}).await.unwrap();
    (ledger, metrics)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

#[test]
fn callers_need_no_api_key() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let (ledger, _) = open(directory.path()).await;
        let clock = Clock::default();
        let mut keys = [None, Some(clock.new_id())];
        let without = AttemptStart { api_key_id: None, ..AttemptStart::sample(&clock) };
        let with = AttemptStart { id: clock.new_id(), api_key_id: keys[1], ..without.clone() };
        for start in [&without, &with] {
            ledger.start(start.clone()).unwrap();
            ledger.end(end(start));
        }
        ledger.flush().await.unwrap();
        let AttemptStart { organization_id, workspace_id, request_id, admitted_at, .. } = without;
        let scope = WorkspaceScope { organization_id, workspace_id };
        let days = [-2, 2].map(|days| (admitted_at + TimeDelta::days(days)).naive_utc());
        let database = database(directory.path()).await;
        let read = database.read(async move |conn: &mut Conn| {
            let rows = list_attempts(conn, scope, request_id).await?;
            let sums = sum_spend_by_subject(conn, organization_id, days.into()).await?;
            Ok::<_, DbError>((rows, sums.unwrap_or_default()))
        });
        let (rows, sums) = read.await.unwrap();
        let mut of_rows: Vec<_> = rows.iter().map(|row| row.api_key_id.0).collect();
        let mut of_sums: Vec<_> = sums.iter().map(|sum| sum.api_key_id).collect();
        for found in [&mut of_rows[..], &mut of_sums[..], &mut keys[..]] {
            found.sort_unstable();
        }
        assert_eq!((&of_rows[..], &of_sums[..]), (&keys[..], &keys[..]));
        ledger.close().await.unwrap();
    });
}

/// Runs itself once more in a process whose files can't grow beyond a megabyte, as on a full disk.
/// The database meets that when a transaction ends, and not for what is taken back. The next
/// process has room again.
#[test]
fn a_full_disk_of_the_database_is_no_reason_to_give_rows_up() {
    const DIRECTORY: &str = "TOLLGATE_LEDGER_TEST";
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return run(on_a_full_disk(directory.as_ref()));
    }
    let directory = tempfile::tempdir().unwrap();
    run(database(directory.path()));
    let script = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\" 2>&1";
    let name =
        "accounting::ledger::tests::a_full_disk_of_the_database_is_no_reason_to_give_rows_up";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    let count = |word: &str| -> usize {
        let line = said.lines().find_map(|line| line.split_once(&format!("{word}: ")));
        line.unwrap_or_else(|| panic!("{said}")).1.trim().parse().unwrap()
    };
    assert!(!directory.path().join("journal").join(REJECTED).exists());
    run(async {
        let (ledger, metrics) = open(directory.path()).await;
        let rest = rows_taken(&metrics);
        assert!(rest > 0);
        assert_eq!(count("taken") + rest, count("ended"));
        ledger.close().await.unwrap();
    });
    assert!(!directory.path().join("journal").join(REJECTED).exists());
}

async fn on_a_full_disk(directory: &std::path::Path) {
    let (ledger, metrics) = open(directory).await;
    let clock = Clock::default();
    let mut ended = 0;
    loop {
        for _ in 0..50 {
            let start = AttemptStart::sample(&clock);
            ledger.start(start.clone()).unwrap();
            ledger.end(end(&start));
            ended += 1;
        }
        if ledger.flush().await.is_err() {
            break;
        }
        assert!(ended < 10_000, "the disk is not full");
    }
    assert!(ledger.flush().await.is_err(), "still full");
    println!("\ntaken: {}\nended: {ended}", rows_taken(&metrics));
}

fn rows_taken(metrics: &Metrics) -> usize {
    let text = metrics.encode();
    let rows = text.lines().find_map(|line| line.strip_prefix("tollgate_ledger_rows_total "));
    rows.unwrap().parse().unwrap()
}
