//! Databases that refuse rows, are full, slow or away: no record of the journal is lost.

use std::{collections::BTreeSet, path::Path};

use chrono::{DateTime, Utc};
use tollgate::{
    accounting::{
        journal::JournalFull,
        ledger::REJECTED,
        record::{AttemptEnd, AttemptStart},
    },
    domain::tokens::TokenUsage,
    telemetry::Metrics,
};

use crate::support::{
    case::{Case, cases},
    database::{Database, Kind},
    fault_proxy::FaultProxy,
    ledger_fixture::{LedgerFixture, copy, end, journal, row, rows, small, start, sums_agree},
    random::Random,
    sql,
    wait::eventually,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_row_that_the_database_refuses_does_not_block_others,
        values_too_large_for_the_database_are_made_to_fit,
        drained_segments_are_removed_at_once,
        postgres server_errors_do_not_reject_rows,
        postgres a_full_disk_does_not_reject_rows,
        postgres a_database_that_accepts_single_rows_gets_them_all,
        postgres a_start_waits_for_the_database,
        postgres the_journal_fills_to_its_limit_while_the_database_is_away,
    ]
}

async fn a_row_that_the_database_refuses_does_not_block_others(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let refuse = match database.kind() {
        // The error must be that of a constraint.
        Kind::Sqlite => {
            "CREATE TABLE bad (n INTEGER CHECK (n <> 1)); \
             CREATE TRIGGER refuse BEFORE INSERT ON ledger WHEN NEW.configuration = 'bad' \
             BEGIN INSERT INTO bad VALUES (1); END"
        }
        Kind::Postgres => "ALTER TABLE ledger ADD CHECK (configuration <> 'bad')",
    };
    sql::execute(&database, refuse).await;
    let directory = journal(&database, "j");
    let ledger = fixture.open(small(directory.clone())).await;
    let mut expected = BTreeSet::new();
    for number in 0..20 {
        let mut start = start(&fixture.clock);
        if number % 7 == 3 {
            start.configuration = "bad".to_owned();
        } else {
            expected.insert(row(start.id, "completed", 1));
        }
        ledger.start(start.clone()).unwrap();
        ledger.end(end(&start, 1));
    }
    ledger.flush().await.unwrap();
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(fixture.counter("tollgate_ledger_rows_rejected_total"), 3);
    let rejected = std::fs::read_to_string(directory.join(REJECTED)).unwrap();
    assert_eq!(rejected.matches("\"bad\"").count(), 3, "{rejected}");

    // A database that refuses everything does not cause rows to be rejected.
    sql::execute(&database, "ALTER TABLE ledger RENAME TO away").await;
    let start = start(&fixture.clock);
    ledger.start(start.clone()).unwrap();
    ledger.end(end(&start, 1));
    assert!(ledger.flush().await.is_err());
    sql::execute(&database, "ALTER TABLE away RENAME TO ledger").await;
    ledger.flush().await.unwrap();
    expected.insert(row(start.id, "completed", 1));
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(fixture.counter("tollgate_ledger_rows_rejected_total"), 3);
}

async fn values_too_large_for_the_database_are_made_to_fit(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let ledger = fixture.open(small(journal(&database, "j"))).await;
    let template = start(&fixture.clock);
    // Text that does not compress, with multi-byte characters.
    let long = |seed| {
        let mut random = Random::new(seed);
        let characters = (0..9_000).map(|_| char::from_u32(0x4e00 + random.below(0x5000) as u32));
        characters.map(Option::unwrap).collect::<String>()
    };
    let instants = [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC, fixture.clock.now()];
    for (number, admitted_at) in instants.into_iter().cycle().take(6).enumerate() {
        let (id, model_asked) = (fixture.clock.new_id(), Some("a\0b".to_owned()));
        let model = format!("\0{}", long(1));
        let mut start = AttemptStart { id, model_asked, model, admitted_at, ..template.clone() };
        start.user_id = Some(fixture.clock.new_id());
        start.metadata.insert("team".to_owned(), format!("\0{number}"));
        start.metadata.insert(long(2), long(3));
        let usage = TokenUsage { input: Some(u64::MAX), ..TokenUsage::default() };
        ledger.start(start.clone()).unwrap();
        // One at a time, so that the sum in the database would overflow.
        ledger.end(AttemptEnd { usage, ..end(&start, i64::MAX) });
        ledger.flush().await.unwrap();
    }
    assert_eq!(rows(&database).await.len(), 6);
    assert_eq!(fixture.counter("tollgate_ledger_rows_rejected_total"), 0);
    let requests = "SELECT cast(sum(requests) AS text) AS value FROM usage_rollups \
                    WHERE period = 'hour' AND metadata_key = ''";
    assert_eq!(sql::texts(&database, requests).await, ["6"]);
}

async fn drained_segments_are_removed_at_once(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let refuse = match database.kind() {
        Kind::Sqlite => {
            "CREATE TRIGGER refuse BEFORE INSERT ON ledger WHEN NEW.configuration = 'late' \
             BEGIN SELECT RAISE(ABORT, 'not now'); END"
        }
        Kind::Postgres => {
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN RAISE EXCEPTION ''not now''; END'; \
             CREATE TRIGGER refuse BEFORE INSERT ON ledger FOR EACH ROW \
             WHEN (NEW.configuration = 'late') EXECUTE FUNCTION refuse()"
        }
    };
    sql::execute(&database, refuse).await;
    let directory = journal(&database, "j");
    let mut options = small(directory.clone());
    options.segment_bytes = 1024;
    let ledger = fixture.open(options.clone()).await;
    let mut expected = BTreeSet::new();
    for number in 0..60 {
        let mut start = start(&fixture.clock);
        if number == 59 {
            start.configuration = "late".to_owned();
        }
        expected.insert(row(start.id, "completed", 1));
        ledger.start(start.clone()).unwrap();
        ledger.end(end(&start, 1));
    }
    let whole = copy(&directory, &journal(&database, "whole"));
    assert!(segments(&whole) > 10);
    assert!(ledger.flush().await.is_err());
    let bytes = fixture.counter("tollgate_journal_bytes");
    assert!(0 < bytes && bytes < 3 * options.segment_bytes, "only the last: {bytes}");

    // The same at the start of the next process.
    options.directory.clone_from(&whole);
    assert!(fixture.try_recover(options, &Metrics::new()).await.is_err());
    assert!((1..3).contains(&segments(&whole)), "only the last");

    let relent = match database.kind() {
        Kind::Sqlite => "DROP TRIGGER refuse",
        Kind::Postgres => "DROP TRIGGER refuse ON ledger",
    };
    sql::execute(&database, relent).await;
    ledger.flush().await.unwrap();
    fixture.settle(&whole).await;
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(!whole.join(REJECTED).exists() && !directory.join(REJECTED).exists());
    sums_agree(&database).await;
}

fn segments(directory: &Path) -> usize {
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|it| it == "journal")).count()
}

/// Whatever the message says.
async fn server_errors_do_not_reject_rows(database: Database) {
    const TROUBLES: [&str; 18] = [
        "08006", "25006", "40001", "40P01", "42P01", "42501", "53100", "53200", "53300", "55P03",
        "57014", "57P01", "57P02", "57P03", "58030", "XX000", "XX001", "XX002",
    ];
    let fixture = LedgerFixture::new(&database).await;
    let directory = journal(&database, "j");
    let ledger = fixture.open(small(directory.clone())).await;
    let mut expected = BTreeSet::new();
    for sqlstate in TROUBLES {
        let trouble = format!(
            "CREATE OR REPLACE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN              RAISE EXCEPTION 'value too long for type: block number out of range'              USING ERRCODE = '{sqlstate}'; END$$;              CREATE TRIGGER trouble BEFORE INSERT ON ledger FOR EACH ROW              WHEN (NEW.configuration = 'bad') EXECUTE FUNCTION trouble()"
        );
        sql::execute(&database, &trouble).await;
        for configuration in ["good", "bad", "good"] {
            let configuration = configuration.to_owned();
            let start = AttemptStart { configuration, ..start(&fixture.clock) };
            expected.insert(row(start.id, "completed", 1));
            ledger.start(start.clone()).unwrap();
            ledger.end(end(&start, 1));
        }
        assert!(ledger.flush().await.is_err(), "{sqlstate}");
        sql::execute(&database, "DROP TRIGGER trouble ON ledger").await;
        ledger.flush().await.unwrap();
        assert_eq!(fixture.counter("tollgate_ledger_rows_rejected_total"), 0, "{sqlstate}");
    }
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(!directory.join(REJECTED).exists());
    sums_agree(&database).await;
}

/// An error that appears only at commit.
async fn a_full_disk_does_not_reject_rows(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let fill = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
                'BEGIN RAISE EXCEPTION ''could not extend file: No space left on device'' \
                USING ERRCODE = ''disk_full''; END'; \
                CREATE CONSTRAINT TRIGGER full_disk AFTER INSERT ON ledger \
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION full_disk()";
    sql::execute(&database, fill).await;
    let directory = journal(&database, "j");
    let ledger = fixture.open(small(directory.clone())).await;
    let mut expected = BTreeSet::new();
    for _ in 0..40 {
        let start = start(&fixture.clock);
        expected.insert(row(start.id, "completed", 1));
        ledger.start(start.clone()).unwrap();
        ledger.end(end(&start, 1));
    }
    assert!(ledger.flush().await.is_err());
    assert!(ledger.flush().await.is_err());
    sql::execute(&database, "DROP TRIGGER full_disk ON ledger").await;
    ledger.flush().await.unwrap();
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(fixture.counter("tollgate_ledger_rows_rejected_total"), 0);
    assert!(!directory.join(REJECTED).exists());
    sums_agree(&database).await;
}

async fn a_database_that_accepts_single_rows_gets_them_all(database: Database) {
    let fixture = LedgerFixture::new(&database).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
                'BEGIN IF (SELECT count(*) FROM new_rows) > 1 THEN \
                RAISE EXCEPTION ''too slow''; END IF; RETURN NULL; END'; \
                CREATE TRIGGER slow AFTER INSERT ON ledger REFERENCING NEW TABLE AS new_rows \
                FOR EACH STATEMENT EXECUTE FUNCTION slow()";
    sql::execute(&database, slow).await;
    let ledger = fixture.open(small(journal(&database, "j"))).await;
    for _ in 0..40 {
        let start = start(&fixture.clock);
        ledger.start(start.clone()).unwrap();
        ledger.end(end(&start, 1));
    }
    ledger.flush().await.unwrap();
    assert_eq!(rows(&database).await.len(), 40);
    assert_eq!(fixture.counter("tollgate_ledger_rows_rejected_total"), 0);
    sums_agree(&database).await;
}

async fn a_start_waits_for_the_database(database: Database) {
    let (proxy, proxied) = FaultProxy::to(&database).await;
    let fixture = LedgerFixture::new(&proxied).await;
    let directory = journal(&database, "j");
    let ledger = fixture.open(small(directory.clone())).await;
    let open = start(&fixture.clock);
    ledger.start(open.clone()).unwrap();
    let copied = copy(&directory, &journal(&database, "copy"));
    ledger.flush().await.unwrap();
    proxy.reset_connections();
    let before = fixture.database.housekeeping_transactions();
    let (found, ()) = tokio::join!(fixture.settle(&copied), async {
        // More often than a start that gives up would try.
        let tried = async || fixture.database.housekeeping_transactions() > before + 1;
        eventually("it was tried again", tried).await;
        proxy.restore();
    });
    assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), [open.id]);
    assert_eq!(rows(&database).await, [row(open.id, "lost", 900)]);
}

async fn the_journal_fills_to_its_limit_while_the_database_is_away(database: Database) {
    let (proxy, proxied) = FaultProxy::to(&database).await;
    let fixture = LedgerFixture::new(&proxied).await;
    let mut options = small(journal(&database, "j"));
    (options.max_bytes, options.segment_bytes) = (1 << 20, 64 << 10);
    let ledger = fixture.open(options).await;
    let early = start(&fixture.clock);
    ledger.start(early.clone()).unwrap();
    ledger.flush().await.unwrap();
    proxy.reset_connections();
    let mut expected = BTreeSet::new();
    let mut running = Vec::new();
    let refused = loop {
        let start = start(&fixture.clock);
        match ledger.start(start.clone()) {
            Ok(()) => running.push(start),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, JournalFull::Bound);
    assert!(fixture.readiness.is_journal_full());
    running.push(early);
    for start in running {
        expected.insert(row(start.id, "completed", 1));
        ledger.end(end(&start, 1));
    }
    assert!(ledger.flush().await.is_err());
    assert!(fixture.counter("tollgate_journal_bytes") >= 1 << 20);
    proxy.restore();
    eventually("all is drained", async || ledger.flush().await.is_ok()).await;
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(!fixture.readiness.is_journal_full());
    ledger.start(start(&fixture.clock)).unwrap();
    sums_agree(&database).await;
}
