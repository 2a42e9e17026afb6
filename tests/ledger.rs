//! The journal and the ledger: each record gets into the ledger exactly once, in spite of crashes, damaged
//! files and database errors.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use serde_json::Value;
use tollgate::{
    accounting::{
        journal::JournalFull,
        ledger::{LedgerError, REJECTED},
        record::{AttemptEnd, AttemptOutcome, AttemptStart},
    },
    config::{PolicySettings, Settings},
    domain::{money::NanoUsd, window::SpendWindow},
    policy::{
        limit::Limit,
        limits::{Claim, Claims, Counters, LimitSource, Reserved},
    },
    telemetry::Metrics,
};

use crate::support::{
    app::options,
    case::{Case, cases},
    database::Database,
    ledger_fixture::{LedgerFixture, copy, end, journal, row, rows, small, start, sums_agree},
    process::{run, tollgate},
    redis::shared_url,
    wait::eventually,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        ended_attempts_are_in_the_ledger,
        attempts_without_an_end_are_lost_at_the_reserved_cost,
        a_journal_copied_at_any_time_recovers_each_row_once,
        a_torn_record_is_skipped_and_a_damaged_one_is_reported,
        open_attempts_do_not_keep_old_segments,
        many_threads_write_concurrently,
        a_command_drains_the_journal_of_a_dead_process,
        draining_a_journal_settles_its_reservations,
        the_drain_command_reports_damaged_records,
    ]
}

async fn ended_attempts_are_in_the_ledger(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let ledger = fixture.open(small(journal(&database, "j"))).await;
    let (done, open, refused) =
        (start(&fixture.clock), start(&fixture.clock), start(&fixture.clock));
    ledger.start(done.clone()).unwrap();
    ledger.start(open.clone()).unwrap();
    let blocked =
        AttemptEnd { outcome: AttemptOutcome::Blocked, status: Some(402), ..end(&refused, 0) };
    ledger.blocked(AttemptStart { attempt: 0, ..refused.clone() }, blocked).unwrap();
    ledger.end(end(&done, 7));
    ledger.end(end(&done, 8));
    ledger.flush().await.unwrap();
    let expected = BTreeSet::from([row(done.id, "completed", 7), row(refused.id, "blocked", 0)]);
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    ledger.end(end(&open, 9));
    // Without a flush.
    eventually("the row is there", async || rows(&database).await.len() == 3).await;
    eventually("all is drained", async || fixture.counter("tollgate_journal_bytes") == 0).await;
    assert_eq!(fixture.counter("tollgate_ledger_rows_total"), 3);
    sums_agree(&database).await;
    ledger.close().await.unwrap();
    assert_eq!(ledger.start(done.clone()), Err(JournalFull::Closed));
    assert!(fixture.settle(&journal(&database, "j")).await.is_empty());
}

async fn attempts_without_an_end_are_lost_at_the_reserved_cost(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let directory = journal(&database, "j");
    let ledger = fixture.open(small(directory.clone())).await;
    let (done, open) = (start(&fixture.clock), start(&fixture.clock));
    ledger.start(done.clone()).unwrap();
    ledger.start(open.clone()).unwrap();
    ledger.end(end(&done, 7));
    let copy = copy(&directory, &journal(&database, "copy"));
    let recovered = fixture.settle(&copy).await;
    let recovered_rows: BTreeSet<_> =
        recovered.iter().map(|row| (row.id, row.cost.unwrap().nanos(), row.tokens)).collect();
    assert_eq!(recovered_rows, BTreeSet::from([(done.id, 7, 7), (open.id, 900, 0)]));
    let expected = BTreeSet::from([row(done.id, "completed", 7), row(open.id, "lost", 900)]);
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(fixture.settle(&copy).await.is_empty(), "nothing is left");
    let said = fixture.try_recover(small(directory), &Metrics::new()).await;
    assert!(matches!(said, Err(LedgerError::Lock(_))), "the first one still has it");
    ledger.flush().await.unwrap();
    sums_agree(&database).await;
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    End(prop::sample::Index),
    Flush,
    Crash,
}

async fn a_journal_copied_at_any_time_recovers_each_row_once(database: Database) {
    let steps = prop_oneof![
        6 => Just(Step::Start),
        5 => any::<prop::sample::Index>().prop_map(Step::End),
        1 => Just(Step::Flush),
        1 => Just(Step::Crash),
    ];
    let strategy = prop::collection::vec(steps, 1..60);
    let mut runner = TestRunner::new(Config::default());
    let fixture = LedgerFixture::new(&database).await;
    let mut expected = BTreeSet::new();
    for round in 0..12 {
        let mut directory = journal(&database, &format!("{round}"));
        let mut options = small(directory.clone());
        // Small segments, compacted at once.
        (options.segment_bytes, options.compact_after) = (1500, Duration::ZERO);
        let mut ledger = fixture.recover(options.clone(), &Metrics::new()).await.0;
        let mut open: Vec<AttemptStart> = Vec::new();
        let steps = strategy.new_tree(&mut runner).unwrap().current();
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Start => {
                    let start = start(&fixture.clock);
                    ledger.start(start.clone()).unwrap();
                    open.push(start);
                }
                Step::End(_) if open.is_empty() => {}
                Step::End(index) => {
                    let start = open.swap_remove(index.index(open.len()));
                    ledger.end(end(&start, 5));
                    expected.insert(row(start.id, "completed", 5));
                }
                Step::Flush => ledger.flush().await.unwrap(),
                Step::Crash => {
                    // The draining thread may be anywhere.
                    directory = copy(&directory, &journal(&database, &format!("{round}-{at}")));
                    // The test continues with the copy; the old ledger writes the same rows.
                    ledger.close().await.unwrap();
                    expected.extend(open.drain(..).map(|start| row(start.id, "lost", 900)));
                    options.directory.clone_from(&directory);
                    ledger = fixture.recover(options.clone(), &Metrics::new()).await.0;
                }
            }
        }
        ledger.close().await.unwrap();
        expected.extend(open.drain(..).map(|start| row(start.id, "lost", 900)));
        fixture.settle(&directory).await;
        let found: BTreeSet<_> = rows(&database).await.into_iter().collect();
        assert_eq!(found, expected, "round {round}");
    }
    for entry in std::fs::read_dir(database.directory()).unwrap() {
        assert!(!entry.unwrap().path().join("rejected").exists());
    }
    sums_agree(&database).await;
}

async fn a_torn_record_is_skipped_and_a_damaged_one_is_reported(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let directory = journal(&database, "j");
    let ledger = fixture.open(small(directory.clone())).await;
    let attempts: Vec<_> = (0..3).map(|_| start(&fixture.clock)).collect();
    for attempt in &attempts {
        ledger.start(attempt.clone()).unwrap();
    }
    let whole = copy(&directory, &journal(&database, "whole"));
    ledger.close().await.unwrap();
    // Wherever a segment ended meanwhile.
    let mut segments = segments(&whole);
    let bytes: Vec<u8> = segments.iter().flat_map(|path| std::fs::read(path).unwrap()).collect();
    let segment = segments.pop().unwrap();
    segments.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let length = bytes.len() / 3;
    let mut damaged = bytes[..bytes.len() - 99].to_vec();
    damaged[length + 99] ^= 1;
    std::fs::write(&segment, &damaged).unwrap();
    let recovered = fixture.settle(&whole).await;
    assert_eq!(recovered.iter().map(|row| row.id).collect::<Vec<_>>(), [attempts[0].id]);
    let kept = std::fs::read_to_string(whole.join(REJECTED)).unwrap();
    assert!(kept.starts_with("damaged ff") && kept.lines().count() == 1, "{kept}");
    assert_eq!(rows(&database).await, [row(attempts[0].id, "lost", 900)]);
}

/// The paths of a journal's segments, oldest first.
fn segments(directory: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|it| it == "journal")).collect();
    paths.sort_unstable();
    paths
}

async fn open_attempts_do_not_keep_old_segments(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let directory = journal(&database, "j");
    let mut options = small(directory.clone());
    (options.segment_bytes, options.compact_after) = (8192, Duration::ZERO);
    let ledger = fixture.open(options).await;
    let long = start(&fixture.clock);
    ledger.start(long.clone()).unwrap();
    for _ in 0..20 {
        for _ in 0..20 {
            let start = start(&fixture.clock);
            ledger.start(start.clone()).unwrap();
            ledger.end(end(&start, 1));
        }
        ledger.flush().await.unwrap();
    }
    eventually("one start is left", async || {
        let bytes = fixture.counter("tollgate_journal_bytes");
        0 < bytes && bytes < 1024
    })
    .await;
    let recovered = fixture.settle(&copy(&directory, &journal(&database, "copy"))).await;
    // Empty if it is just being rewritten.
    assert!(recovered.iter().all(|row| row.id == long.id), "{recovered:?}");
    ledger.end(end(&long, 1));
    ledger.flush().await.unwrap();
    eventually("nothing is left", async || fixture.counter("tollgate_journal_bytes") == 0).await;
    sums_agree(&database).await;
}

async fn many_threads_write_concurrently(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let mut options = small(journal(&database, "j"));
    options.segment_bytes = 16 << 10;
    let ledger = fixture.open(options).await;
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (ledger, clock) = (ledger.clone(), fixture.clock.clone());
            std::thread::spawn(move || {
                for _ in 0..150 {
                    let start = start(&clock);
                    ledger.start(start.clone()).unwrap();
                    ledger.end(end(&start, 1));
                }
            })
        })
        .collect();
    for thread in threads {
        tokio::task::spawn_blocking(move || thread.join()).await.unwrap().unwrap();
    }
    ledger.flush().await.unwrap();
    assert_eq!(rows(&database).await.len(), 1_200);
    assert_eq!(fixture.counter("tollgate_ledger_rows_total"), 1_200);
    sums_agree(&database).await;
}

async fn a_command_drains_the_journal_of_a_dead_process(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let directory = journal(&database, "dead");
    let ledger = fixture.open(small(directory.clone())).await;
    let open = start(&fixture.clock);
    ledger.start(open.clone()).unwrap();
    let path = directory.display().to_string();
    let drain = |path: &str| {
        let mut command = tollgate(&["drain-journal", path]);
        command.args(options(&database));
        run(command)
    };
    let refused = drain(&path).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("another process"), "{}", refused.stderr);
    ledger.close().await.unwrap();
    let drained = drain(&path).await;
    assert_eq!(drained.code, Some(0), "{}", drained.stderr);
    let said: Value = serde_json::from_str(&drained.stdout).unwrap();
    assert_eq!((&said["rows"], &said["lost"]), (&1.into(), &1.into()), "{said}");
    assert_eq!(rows(&database).await, [row(open.id, "lost", 900)]);
    let none = drain(&database.directory().display().to_string()).await;
    assert_eq!(none.code, Some(1), "{}", none.stderr);
    assert!(none.stderr.contains("is no journal"), "{}", none.stderr);
}

async fn draining_a_journal_settles_its_reservations(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let directory = journal(&database, "dead");
    let ledger = fixture.open(small(directory.clone())).await;
    let open = start(&fixture.clock);
    let counters = || {
        let redis_url = Some(shared_url().parse().unwrap());
        let settings = PolicySettings { redis_url, ..Settings::default().policies };
        Counters::open(&settings, &fixture.clock, &Metrics::new()).unwrap()
    };
    let (counter, window) = (fixture.clock.new_id(), SpendWindow::Monthly);
    let limit = Limit::Spend { window, limit: NanoUsd::from_nanos(5_000) };
    let (spent_before, source) = (Some(NanoUsd::ZERO), LimitSource::default());
    let claim = Claim { counter, limit, amount: 1_000, spent_before, source };
    let claims = Claims {
        organization_id: open.organization_id,
        request_id: open.request_id,
        at: open.admitted_at,
        list: [claim].into_iter().collect(),
    };
    let dying = counters();
    assert!(dying.catch_up(Duration::from_secs(30)).await);
    let reserved = dying.reserve(&claims).await;
    assert!(matches!(reserved, Ok(Reserved::Admitted(_))), "{reserved:?}");
    drop(dying);
    ledger.start(open.clone()).unwrap();
    ledger.close().await.unwrap();

    let drain = |redis_url: String| {
        let mut command = tollgate(&["drain-journal", &directory.display().to_string()]);
        command.args(options(&database)).args(["--redis-url", &redis_url]);
        run(command)
    };
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = drain(format!("redis://{nowhere}")).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("Redis can't be reached"), "{}", refused.stderr);
    let drained = drain(shared_url()).await;
    assert_eq!(drained.code, Some(0), "{}", drained.stderr);
    assert_eq!(rows(&database).await, [row(open.id, "lost", 900)]);
    let witness = counters();
    assert!(witness.catch_up(Duration::from_secs(30)).await);
    let whole_cap = Claim { amount: 5_000, ..claim };
    let request_id = fixture.clock.new_id();
    let claims = Claims { request_id, list: [whole_cap].into_iter().collect(), ..claims };
    let Ok(Reserved::Refused(statuses)) = witness.reserve(&claims).await else { panic!() };
    assert_eq!(statuses[0].used, 900);
}

async fn the_drain_command_reports_damaged_records(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let directory = journal(&database, "dead");
    let ledger = fixture.open(small(directory.clone())).await;
    let attempts = [start(&fixture.clock), start(&fixture.clock)];
    attempts.iter().for_each(|attempt| ledger.start(attempt.clone()).unwrap());
    ledger.close().await.unwrap();
    let of_second = attempts[1].id.uuid();
    for path in segments(&directory) {
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(16).position(|window| window == of_second.as_bytes());
        if let Some(at) = at {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let mut command = tollgate(&["drain-journal", &directory.display().to_string()]);
    command.args(options(&database));
    let drained = run(command).await;
    assert_eq!(drained.code, Some(1), "{}", drained.stderr);
    let said: Value = serde_json::from_str(&drained.stdout).unwrap();
    assert_eq!((&said["rows"], &said["damaged_records"]), (&1.into(), &1.into()), "{said}");
    assert!(drained.stderr.contains(REJECTED), "{}", drained.stderr);
    assert_eq!(rows(&database).await, [row(attempts[0].id, "lost", 900)]);
}
