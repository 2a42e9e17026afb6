//! Databases that refuse rows, are full, slow or away: nothing that the journal holds is given up
//! for that.

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
    bench::{Bench, copy, end, journal, row, rows, small, start, sums_agree},
    case::{Case, cases},
    cut::Link,
    database::{Database, Kind},
    eventually::eventually,
    random::Random,
    sql,
};

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_row_that_the_database_refuses_does_not_keep_others_out,
        what_no_database_could_hold_is_made_fit,
        what_is_drained_makes_room_at_once,
        postgres no_trouble_of_a_server_is_taken_for_the_rows,
        postgres a_full_disk_is_no_reason_to_give_rows_up,
        postgres a_database_that_takes_few_rows_at_once_gets_them_all,
        postgres a_start_waits_for_a_slow_database,
        postgres while_the_database_is_away_the_journal_holds_what_it_may,
    ]
}

async fn a_row_that_the_database_refuses_does_not_keep_others_out(database: Database) {
    let bench = Bench::new(&database).await;
    let refuse = match database.kind() {
        // Not a word of the trigger's own: the constraint of a table.
        Kind::Sqlite => {
            "CREATE TABLE bad (n INTEGER CHECK (n <> 1)); \
             CREATE TRIGGER refuse BEFORE INSERT ON ledger WHEN NEW.configuration = 'bad' \
             BEGIN INSERT INTO bad VALUES (1); END"
        }
        Kind::Postgres => "ALTER TABLE ledger ADD CHECK (configuration <> 'bad')",
    };
    sql::execute(&database, refuse).await;
    let directory = journal(&database, "j");
    let ledger = bench.open(small(directory.clone())).await;
    let mut expected = BTreeSet::new();
    for number in 0..20 {
        let mut start = start(&bench.clock);
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
    assert_eq!(bench.counter("tollgate_ledger_rows_rejected_total"), 3);
    let rejected = std::fs::read_to_string(directory.join(REJECTED)).unwrap();
    assert_eq!(rejected.matches("\"bad\"").count(), 3, "{rejected}");

    // A database that takes nothing at all is no reason to give rows up.
    sql::execute(&database, "ALTER TABLE ledger RENAME TO away").await;
    let start = start(&bench.clock);
    ledger.start(start.clone()).unwrap();
    ledger.end(end(&start, 1));
    assert!(ledger.flush().await.is_err());
    sql::execute(&database, "ALTER TABLE away RENAME TO ledger").await;
    ledger.flush().await.unwrap();
    expected.insert(row(start.id, "completed", 1));
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(bench.counter("tollgate_ledger_rows_rejected_total"), 3);
}

async fn what_no_database_could_hold_is_made_fit(database: Database) {
    let bench = Bench::new(&database).await;
    let ledger = bench.open(small(journal(&database, "j"))).await;
    let template = start(&bench.clock);
    // What does not get shorter by being compressed, and whose characters don't end at round numbers.
    let long = |seed| {
        let mut random = Random::new(seed);
        let characters = (0..9_000).map(|_| char::from_u32(0x4e00 + random.below(0x5000) as u32));
        characters.map(Option::unwrap).collect::<String>()
    };
    let instants = [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC, bench.clock.now()];
    for (number, admitted_at) in instants.into_iter().cycle().take(6).enumerate() {
        let (id, model_asked) = (bench.clock.new_id(), Some("a\0b".to_owned()));
        let model = format!("\0{}", long(1));
        let mut start = AttemptStart { id, model_asked, model, admitted_at, ..template.clone() };
        start.user_id = Some(bench.clock.new_id());
        start.metadata.insert("team".to_owned(), format!("\0{number}"));
        start.metadata.insert(long(2), long(3));
        let usage = TokenUsage { input: Some(u64::MAX), ..TokenUsage::default() };
        ledger.start(start.clone()).unwrap();
        // One at a time, so that the sum in the database would overflow.
        ledger.end(AttemptEnd { usage, ..end(&start, i64::MAX) });
        ledger.flush().await.unwrap();
    }
    assert_eq!(rows(&database).await.len(), 6);
    assert_eq!(bench.counter("tollgate_ledger_rows_rejected_total"), 0);
    let requests = "SELECT cast(sum(requests) AS text) AS value FROM usage_rollups \
                    WHERE period = 'hour' AND metadata_key = ''";
    assert_eq!(sql::texts(&database, requests).await, ["6"]);
}

async fn what_is_drained_makes_room_at_once(database: Database) {
    let bench = Bench::new(&database).await;
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
    let ledger = bench.open(options.clone()).await;
    let mut expected = BTreeSet::new();
    for number in 0..60 {
        let mut start = start(&bench.clock);
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
    let bytes = bench.counter("tollgate_journal_bytes");
    assert!(0 < bytes && bytes < 3 * options.segment_bytes, "only the last: {bytes}");

    // The same when the next process begins.
    options.directory.clone_from(&whole);
    assert!(bench.try_recover(options, &Metrics::new()).await.is_err());
    assert!((1..3).contains(&segments(&whole)), "only the last");

    let relent = match database.kind() {
        Kind::Sqlite => "DROP TRIGGER refuse",
        Kind::Postgres => "DROP TRIGGER refuse ON ledger",
    };
    sql::execute(&database, relent).await;
    ledger.flush().await.unwrap();
    bench.settle(&whole).await;
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(!whole.join(REJECTED).exists() && !directory.join(REJECTED).exists());
    sums_agree(&database).await;
}

fn segments(directory: &Path) -> usize {
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|it| it == "journal")).count()
}

/// Whatever words it has for that.
async fn no_trouble_of_a_server_is_taken_for_the_rows(database: Database) {
    const TROUBLES: [&str; 18] = [
        "08006", "25006", "40001", "40P01", "42P01", "42501", "53100", "53200", "53300", "55P03",
        "57014", "57P01", "57P02", "57P03", "58030", "XX000", "XX001", "XX002",
    ];
    let bench = Bench::new(&database).await;
    let directory = journal(&database, "j");
    let ledger = bench.open(small(directory.clone())).await;
    let mut expected = BTreeSet::new();
    for sqlstate in TROUBLES {
        let trouble = format!(
            "CREATE OR REPLACE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN              RAISE EXCEPTION 'value too long for type: block number out of range'              USING ERRCODE = '{sqlstate}'; END$$;              CREATE TRIGGER trouble BEFORE INSERT ON ledger FOR EACH ROW              WHEN (NEW.configuration = 'bad') EXECUTE FUNCTION trouble()"
        );
        sql::execute(&database, &trouble).await;
        for configuration in ["good", "bad", "good"] {
            let configuration = configuration.to_owned();
            let start = AttemptStart { configuration, ..start(&bench.clock) };
            expected.insert(row(start.id, "completed", 1));
            ledger.start(start.clone()).unwrap();
            ledger.end(end(&start, 1));
        }
        assert!(ledger.flush().await.is_err(), "{sqlstate}");
        sql::execute(&database, "DROP TRIGGER trouble ON ledger").await;
        ledger.flush().await.unwrap();
        assert_eq!(bench.counter("tollgate_ledger_rows_rejected_total"), 0, "{sqlstate}");
    }
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(!directory.join(REJECTED).exists());
    sums_agree(&database).await;
}

/// What shows only when a transaction ends, and not for what is taken back.
async fn a_full_disk_is_no_reason_to_give_rows_up(database: Database) {
    let bench = Bench::new(&database).await;
    let fill = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
                'BEGIN RAISE EXCEPTION ''could not extend file: No space left on device'' \
                USING ERRCODE = ''disk_full''; END'; \
                CREATE CONSTRAINT TRIGGER full_disk AFTER INSERT ON ledger \
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION full_disk()";
    sql::execute(&database, fill).await;
    let directory = journal(&database, "j");
    let ledger = bench.open(small(directory.clone())).await;
    let mut expected = BTreeSet::new();
    for _ in 0..40 {
        let start = start(&bench.clock);
        expected.insert(row(start.id, "completed", 1));
        ledger.start(start.clone()).unwrap();
        ledger.end(end(&start, 1));
    }
    assert!(ledger.flush().await.is_err());
    assert!(ledger.flush().await.is_err());
    sql::execute(&database, "DROP TRIGGER full_disk ON ledger").await;
    ledger.flush().await.unwrap();
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(bench.counter("tollgate_ledger_rows_rejected_total"), 0);
    assert!(!directory.join(REJECTED).exists());
    sums_agree(&database).await;
}

async fn a_database_that_takes_few_rows_at_once_gets_them_all(database: Database) {
    let bench = Bench::new(&database).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
                'BEGIN IF (SELECT count(*) FROM new_rows) > 1 THEN \
                RAISE EXCEPTION ''too slow''; END IF; RETURN NULL; END'; \
                CREATE TRIGGER slow AFTER INSERT ON ledger REFERENCING NEW TABLE AS new_rows \
                FOR EACH STATEMENT EXECUTE FUNCTION slow()";
    sql::execute(&database, slow).await;
    let ledger = bench.open(small(journal(&database, "j"))).await;
    for _ in 0..40 {
        let start = start(&bench.clock);
        ledger.start(start.clone()).unwrap();
        ledger.end(end(&start, 1));
    }
    ledger.flush().await.unwrap();
    assert_eq!(rows(&database).await.len(), 40);
    assert_eq!(bench.counter("tollgate_ledger_rows_rejected_total"), 0);
    sums_agree(&database).await;
}

async fn a_start_waits_for_a_slow_database(database: Database) {
    let (link, linked) = Link::to(&database).await;
    let bench = Bench::new(&linked).await;
    let directory = journal(&database, "j");
    let ledger = bench.open(small(directory.clone())).await;
    let open = start(&bench.clock);
    ledger.start(open.clone()).unwrap();
    let copied = copy(&directory, &journal(&database, "copy"));
    ledger.flush().await.unwrap();
    link.sever();
    let before = bench.database.housekeeping_transactions();
    let (found, ()) = tokio::join!(bench.settle(&copied), async {
        // Once more than a start that gives up would.
        let tried = async || bench.database.housekeeping_transactions() > before + 1;
        eventually("it was tried again", tried).await;
        link.restore();
    });
    assert_eq!(found.iter().map(|told| told.id).collect::<Vec<_>>(), [open.id]);
    assert_eq!(rows(&database).await, [row(open.id, "lost", 900)]);
}

async fn while_the_database_is_away_the_journal_holds_what_it_may(database: Database) {
    let (link, linked) = Link::to(&database).await;
    let bench = Bench::new(&linked).await;
    let mut options = small(journal(&database, "j"));
    (options.max_bytes, options.segment_bytes) = (1 << 20, 64 << 10);
    // Most of it has to be read back.
    options.max_in_memory = 100;
    let ledger = bench.open(options).await;
    let early = start(&bench.clock);
    ledger.start(early.clone()).unwrap();
    ledger.flush().await.unwrap();
    link.sever();
    let mut expected = BTreeSet::new();
    let mut running = Vec::new();
    let refused = loop {
        let start = start(&bench.clock);
        match ledger.start(start.clone()) {
            Ok(()) => running.push(start),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, JournalFull::Bound);
    assert!(bench.readiness.is_journal_full());
    running.push(early);
    for start in running {
        expected.insert(row(start.id, "completed", 1));
        ledger.end(end(&start, 1));
    }
    assert!(ledger.flush().await.is_err());
    assert!(bench.counter("tollgate_journal_bytes") >= 1 << 20);
    link.restore();
    eventually("all is drained", async || ledger.flush().await.is_ok()).await;
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(!bench.readiness.is_journal_full());
    ledger.start(start(&bench.clock)).unwrap();
    sums_agree(&database).await;
}
