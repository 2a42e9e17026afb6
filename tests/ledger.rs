//! The journal and the ledger: what was written down is in the ledger once, whatever happens to
//! process, disk and database in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::TimeDelta;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use serde_json::Value;
use tollgate::{
    clock::Clock,
    config::PolicySettings,
    db::{self, Location},
    domain::{ids::*, money::NanoUsd, tokens::TokenUsage, window::SpendWindow},
    metering::{
        journal::{JournalFull, JournalOptions},
        ledger::{Ledger, LedgerError, LedgerParts, Recovered, retention::delete_expired},
        record::{AttemptEnd, AttemptOutcome, AttemptStart, UsageSource},
    },
    policy::counters::{Claim, Claims, Counters, Limit, Reserved},
    telemetry::{Metrics, readiness::Readiness},
};

use crate::support::{
    app::options,
    case::{Case, cases},
    cut::Link,
    database::{Database, Kind},
    eventually::eventually,
    process::{run, tollgate},
    redis::shared_url,
    sql,
};

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![
        what_has_ended_is_in_the_ledger,
        what_nobody_saw_the_end_of_is_lost_at_its_reserve,
        a_journal_copied_at_any_instant_recovers_to_each_row_once,
        a_torn_record_is_left_out_and_a_damaged_one_is_told,
        sums_add_up_to_the_rows,
        of_a_metadata_key_so_many_values_are_told_apart,
        a_row_that_the_database_refuses_does_not_keep_others_out,
        what_no_database_could_hold_is_made_fit,
        open_attempts_do_not_keep_old_segments,
        many_threads_at_once,
        old_rows_go_and_their_sums_stay,
        a_dead_process_journal_is_drained_by_command,
        what_a_dead_process_has_reserved_is_settled_with_its_journal,
        postgres while_the_database_is_away_the_journal_holds_what_it_may,
        postgres two_replicas_write_the_same_sums,
    ]
}

/// A ledger over the case's database, with a journal of its own.
struct Bench {
    database: db::Database,
    clock: Clock,
    metrics: Metrics,
    readiness: Readiness,
}

impl Bench {
    async fn new(database: &Database) -> Self {
        let location = match database.kind() {
            Kind::Sqlite => {
                Location::Sqlite(database.url().strip_prefix("sqlite:").unwrap().into())
            }
            Kind::Postgres => Location::Postgres { url: database.url().to_owned(), ca_pem: None },
        };
        let database = db::Database::open(location, 4, Duration::from_secs(5)).unwrap();
        database.migrate().await.unwrap();
        Self {
            database,
            clock: Clock::default(),
            metrics: Metrics::new(),
            readiness: Readiness::default(),
        }
    }

    async fn open(&self, options: JournalOptions) -> Ledger {
        self.recover(options, &self.metrics).await.0
    }

    async fn recover(
        &self,
        options: JournalOptions,
        metrics: &Metrics,
    ) -> (Ledger, Vec<Recovered>) {
        let parts = LedgerParts {
            database: self.database.clone(),
            clock: self.clock.clone(),
            metrics: metrics.clone(),
            readiness: self.readiness.clone(),
            retention_days: 0,
        };
        let mut all = Vec::new();
        let opened = Ledger::open(options, parts, async |some| all.extend(some)).await;
        (opened.unwrap(), all)
    }

    /// Brings in what is in a directory, as the next process would.
    async fn settle(&self, directory: &Path) -> Vec<Recovered> {
        let (ledger, recovered) = self.recover(small(directory.to_owned()), &Metrics::new()).await;
        ledger.close().await.unwrap();
        recovered
    }

    fn counter(&self, name: &str) -> u64 {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {text}")).parse::<f64>().unwrap() as u64
    }
}

fn small(directory: PathBuf) -> JournalOptions {
    JournalOptions { reserve_bytes: 4096, ..JournalOptions::new(directory, 64 << 20) }
}

fn journal(database: &Database, name: &str) -> PathBuf {
    database.directory().join(name)
}

fn start(clock: &Clock) -> AttemptStart {
    AttemptStart {
        id: clock.new_id(),
        request_id: clock.new_id(),
        attempt: 1,
        admitted_at: clock.now(),
        organization_id: clock.new_id(),
        workspace_id: clock.new_id(),
        api_key_id: clock.new_id(),
        user_id: None,
        configuration_id: clock.new_id(),
        configuration: "chat".to_owned(),
        route: "chat_completions".to_owned(),
        model_asked: None,
        model: "gpt-4o-mini".to_owned(),
        client_request_id: None,
        policies: vec![clock.new_id()],
        metadata: BTreeMap::new(),
        reserved: Some(NanoUsd::from_nanos(900)),
        price_version: Some("catalogue:1:openai/gpt-4o-mini".to_owned()),
    }
}

fn end(start: &AttemptStart, cost: i64) -> AttemptEnd {
    AttemptEnd {
        id: start.id,
        outcome: AttemptOutcome::Completed,
        status: Some(200),
        code: None,
        model_used: None,
        usage: TokenUsage { input: Some(3), output: Some(4), ..TokenUsage::default() },
        usage_source: UsageSource::Provider,
        cost: Some(NanoUsd::from_nanos(cost)),
        first_byte_ms: Some(1),
        duration_ms: Some(2),
        violated: Vec::new(),
    }
}

/// `ID OUTCOME COST` of every row.
async fn rows(database: &Database) -> Vec<String> {
    let query = "SELECT id || ' ' || outcome || ' ' || coalesce(cast(cost AS text), '-') AS value \
                 FROM ledger ORDER BY id";
    sql::texts(database, query).await
}

fn row(id: AttemptId, outcome: &str, cost: i64) -> String {
    format!("{id} {outcome} {cost}")
}

/// Fails unless the sums of both tables are those of the rows.
async fn sums_agree(database: &Database) {
    const COLUMNS: &str = "input_tokens cached_input_tokens cache_write_tokens output_tokens \
                           reasoning_tokens audio_input_tokens audio_output_tokens cost";
    let mut of_rows = "api_key_id || ' ' || model".to_owned();
    let mut of_sums = of_rows.clone();
    let blocked = "outcome = 'blocked'";
    let one = |condition: &str| format!("CASE WHEN {condition} THEN 1 ELSE 0 END");
    let pairs = [
        ("requests", one("attempt <= 1")),
        ("attempts", one("attempt >= 1")),
        ("blocks", one(blocked)),
        (
            "errors",
            one(&format!(
                "NOT {blocked} AND (outcome <> 'completed' OR coalesce(status, 0) >= 400)"
            )),
        ),
        ("unknown_costs", one(&format!("NOT {blocked} AND cost IS NULL"))),
    ];
    let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value));
    let same = COLUMNS.split_whitespace().map(|name| (name.to_owned(), name.to_owned()));
    for (name, value) in pairs.chain(same) {
        of_rows += &format!(" || ' ' || cast(coalesce(sum({value}), 0) AS text)");
        of_sums += &format!(" || ' ' || cast(sum({name}) AS text)");
    }
    let by = "GROUP BY api_key_id, model ORDER BY api_key_id, model";
    let rows = sql::texts(database, &format!("SELECT {of_rows} AS value FROM ledger {by}")).await;
    let query = format!("SELECT {of_sums} AS value FROM usage_hours {by}");
    assert_eq!(sql::texts(database, &query).await, rows);
    let with = "SELECT {} AS value FROM {}";
    let of_key = "WHERE metadata LIKE '%\"team\":%'";
    let rows = with.replacen("{}", &of_rows, 1).replacen("{}", &format!("ledger {of_key} {by}"), 1);
    let table = format!("usage_hours_by_metadata WHERE metadata_key = 'team' {by}");
    let sums = with.replacen("{}", &of_sums, 1).replacen("{}", &table, 1);
    assert_eq!(sql::texts(database, &sums).await, sql::texts(database, &rows).await);
}

async fn what_has_ended_is_in_the_ledger(database: Database) {
    let bench = Bench::new(&database).await;
    let ledger = bench.open(small(journal(&database, "j"))).await;
    let (done, open, refused) = (start(&bench.clock), start(&bench.clock), start(&bench.clock));
    ledger.start(&done).unwrap();
    ledger.start(&open).unwrap();
    let blocked =
        AttemptEnd { outcome: AttemptOutcome::Blocked, status: Some(402), ..end(&refused, 0) };
    ledger.blocked(&AttemptStart { attempt: 0, ..refused.clone() }, &blocked).unwrap();
    ledger.end(end(&done, 7));
    ledger.end(end(&done, 8));
    ledger.flush().await.unwrap();
    let expected = BTreeSet::from([row(done.id, "completed", 7), row(refused.id, "blocked", 0)]);
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    ledger.end(end(&open, 9));
    // Without being asked to.
    eventually("the row is there", async || rows(&database).await.len() == 3).await;
    eventually("all is drained", async || bench.counter("tollgate_journal_bytes") == 0).await;
    assert_eq!(bench.counter("tollgate_ledger_rows_total"), 3);
    sums_agree(&database).await;
    ledger.close().await.unwrap();
    assert_eq!(ledger.start(&done), Err(JournalFull::Closed));
    assert!(bench.settle(&journal(&database, "j")).await.is_empty());
}

async fn what_nobody_saw_the_end_of_is_lost_at_its_reserve(database: Database) {
    let bench = Bench::new(&database).await;
    let directory = journal(&database, "j");
    let ledger = bench.open(small(directory.clone())).await;
    let (done, open) = (start(&bench.clock), start(&bench.clock));
    ledger.start(&done).unwrap();
    ledger.start(&open).unwrap();
    ledger.end(end(&done, 7));
    let copy = copy(&directory, &journal(&database, "copy"));
    let recovered = bench.settle(&copy).await;
    let told: BTreeSet<_> =
        recovered.iter().map(|told| (told.id, told.cost.unwrap().nanos(), told.tokens)).collect();
    assert_eq!(told, BTreeSet::from([(done.id, 7, 7), (open.id, 900, 0)]));
    let expected = BTreeSet::from([row(done.id, "completed", 7), row(open.id, "lost", 900)]);
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(bench.settle(&copy).await.is_empty(), "nothing is left");
    let said = Ledger::open(
        small(directory),
        LedgerParts {
            database: bench.database.clone(),
            clock: bench.clock.clone(),
            metrics: Metrics::new(),
            readiness: Readiness::default(),
            retention_days: 0,
        },
        async |_| {},
    );
    assert!(matches!(said.await, Err(LedgerError::Lock(_))), "the first one still has it");
    ledger.flush().await.unwrap();
    sums_agree(&database).await;
}

/// What a crash leaves: the files as they are at one instant. A copy takes longer than that, so it
/// is made again if a file came or went meanwhile.
fn copy(from: &Path, to: &Path) -> PathBuf {
    let names = || -> BTreeSet<_> {
        std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    loop {
        std::fs::create_dir(to).unwrap();
        let before = names();
        let copied =
            before.iter().all(|name| std::fs::copy(from.join(name), to.join(name)).is_ok());
        if copied && names() == before {
            return to.to_owned();
        }
        std::fs::remove_dir_all(to).unwrap();
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    End(prop::sample::Index),
    Flush,
    Crash,
}

async fn a_journal_copied_at_any_instant_recovers_to_each_row_once(database: Database) {
    let steps = prop_oneof![
        6 => Just(Step::Start),
        5 => any::<prop::sample::Index>().prop_map(Step::End),
        1 => Just(Step::Flush),
        1 => Just(Step::Crash),
    ];
    let strategy = prop::collection::vec(steps, 1..60);
    let mut runner = TestRunner::new(Config::default());
    let bench = Bench::new(&database).await;
    let mut expected = BTreeSet::new();
    for round in 0..12 {
        let mut directory = journal(&database, &format!("{round}"));
        let mut options = small(directory.clone());
        // Every kind of file boundary and rewriting, all the time.
        (options.segment_bytes, options.compact_after) = (1500, Duration::ZERO);
        let mut ledger = bench.recover(options.clone(), &Metrics::new()).await.0;
        let mut open: Vec<AttemptStart> = Vec::new();
        let steps = strategy.new_tree(&mut runner).unwrap().current();
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Start => {
                    let start = start(&bench.clock);
                    ledger.start(&start).unwrap();
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
                    // At once: the thread that drains stands at any point.
                    directory = copy(&directory, &journal(&database, &format!("{round}-{at}")));
                    // Its files are gone on with; what the old one still has to say is the same.
                    ledger.close().await.unwrap();
                    expected.extend(open.drain(..).map(|start| row(start.id, "lost", 900)));
                    options.directory.clone_from(&directory);
                    ledger = bench.recover(options.clone(), &Metrics::new()).await.0;
                }
            }
        }
        ledger.close().await.unwrap();
        expected.extend(open.drain(..).map(|start| row(start.id, "lost", 900)));
        bench.settle(&directory).await;
        let found: BTreeSet<_> = rows(&database).await.into_iter().collect();
        assert_eq!(found, expected, "round {round}");
    }
    for entry in std::fs::read_dir(database.directory()).unwrap() {
        assert!(!entry.unwrap().path().join("rejected").exists());
    }
    sums_agree(&database).await;
}

async fn a_torn_record_is_left_out_and_a_damaged_one_is_told(database: Database) {
    let bench = Bench::new(&database).await;
    let directory = journal(&database, "j");
    let ledger = bench.open(small(directory.clone())).await;
    let attempts: Vec<_> = (0..3).map(|_| start(&bench.clock)).collect();
    for attempt in &attempts {
        ledger.start(attempt).unwrap();
    }
    let whole = copy(&directory, &journal(&database, "whole"));
    ledger.close().await.unwrap();
    let segment = std::fs::read_dir(&whole).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        let has_all = path.extension().is_some_and(|it| it == "journal")
            && std::fs::read_to_string(&path).unwrap().lines().count() == 3;
        has_all.then_some(path)
    });
    let Some(segment) = segment else { return };
    let text = std::fs::read_to_string(&segment).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let torn = format!("{}\n{}\n{}", lines[0], &lines[1].replace("chat", "chaT"), &lines[2][..99]);
    std::fs::write(&segment, torn).unwrap();
    let recovered = bench.settle(&whole).await;
    assert_eq!(recovered.iter().map(|told| told.id).collect::<Vec<_>>(), [attempts[0].id]);
    assert_eq!(rows(&database).await, [row(attempts[0].id, "lost", 900)]);
}

async fn sums_add_up_to_the_rows(database: Database) {
    let outcomes = prop_oneof![
        Just(AttemptOutcome::Completed),
        Just(AttemptOutcome::Failed),
        Just(AttemptOutcome::CallerLeft),
        Just(AttemptOutcome::Blocked),
    ];
    let tokens = || prop::option::of(0_u64..1_000_000);
    let attempt = (
        (0..3_usize, 0..2_usize, 0_i64..5_000, prop::option::of(0..4_usize)),
        (outcomes, prop::option::of(200_u16..600), prop::option::of(0_i64..1 << 40)),
        (tokens(), tokens(), tokens(), tokens()),
        0..3_u32,
    );
    let strategy = prop::collection::vec(attempt, 300);
    let all = strategy.new_tree(&mut TestRunner::new(Config::default())).unwrap().current();
    let bench = Bench::new(&database).await;
    let ledger = bench.open(small(journal(&database, "j"))).await;
    let clock = &bench.clock;
    let organization_id = clock.new_id();
    let keys: [ApiKeyId; 3] = [clock.new_id(), clock.new_id(), clock.new_id()];
    for (of, (outcome, status, cost), (input, cached, output, reasoning), number) in all {
        let (key, model, minutes, team) = of;
        let mut start = start(clock);
        start.organization_id = organization_id;
        start.api_key_id = keys[key];
        start.model = format!("model {model}");
        start.admitted_at -= TimeDelta::minutes(minutes);
        start.attempt = number;
        if let Some(team) = team {
            start.metadata.insert("team".to_owned(), format!("team {team}"));
            start.metadata.insert("stage".to_owned(), "test".to_owned());
        }
        let usage =
            TokenUsage { input, cached_input: cached, output, reasoning, ..TokenUsage::default() };
        let cost = cost.map(NanoUsd::from_nanos);
        let end = AttemptEnd { outcome, status, cost, usage, ..end(&start, 0) };
        ledger.start(&start).unwrap();
        ledger.end(end);
    }
    ledger.flush().await.unwrap();
    assert_eq!(rows(&database).await.len(), 300);
    sums_agree(&database).await;
    let ragged = "SELECT cast(hour AS text) AS value FROM usage_hours \
                  WHERE cast(hour AS text) NOT LIKE '%:00:00%'";
    assert!(sql::texts(&database, ragged).await.is_empty());
}

async fn of_a_metadata_key_so_many_values_are_told_apart(database: Database) {
    let bench = Bench::new(&database).await;
    let ledger = bench.open(small(journal(&database, "j"))).await;
    let template = start(&bench.clock);
    for number in 0..1_200 {
        let id = bench.clock.new_id();
        let mut start = AttemptStart { id, ..template.clone() };
        start.metadata.insert("team".to_owned(), format!("{number}"));
        ledger.start(&start).unwrap();
        ledger.end(end(&start, 1));
    }
    ledger.flush().await.unwrap();
    let count = "SELECT cast(count(*) AS text) || ' ' || cast(sum(requests) AS text) AS value \
                 FROM usage_hours_by_metadata GROUP BY metadata_value = '' \
                 ORDER BY metadata_value = ''";
    assert_eq!(sql::texts(&database, count).await, ["1000 1000", "1 200"]);
    sums_agree(&database).await;
}

async fn a_row_that_the_database_refuses_does_not_keep_others_out(database: Database) {
    let bench = Bench::new(&database).await;
    let refuse = match database.kind() {
        Kind::Sqlite => {
            "CREATE TRIGGER refuse BEFORE INSERT ON ledger WHEN NEW.configuration = 'bad' \
             BEGIN SELECT RAISE(ABORT, 'bad'); END"
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
        ledger.start(&start).unwrap();
        ledger.end(end(&start, 1));
    }
    ledger.flush().await.unwrap();
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(bench.counter("tollgate_ledger_rows_rejected_total"), 3);
    let rejected = std::fs::read_to_string(directory.join("rejected")).unwrap();
    assert_eq!(rejected.matches("\"bad\"").count(), 3, "{rejected}");

    // A database that takes nothing at all is no reason to give rows up.
    sql::execute(&database, "ALTER TABLE ledger RENAME TO away").await;
    let start = start(&bench.clock);
    ledger.start(&start).unwrap();
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
    for number in 0..4 {
        let (id, model_asked) = (bench.clock.new_id(), Some("a\0b".to_owned()));
        let mut start = AttemptStart { id, model_asked, ..template.clone() };
        start.metadata.insert("team".to_owned(), format!("\0{number}"));
        let usage = TokenUsage { input: Some(u64::MAX), ..TokenUsage::default() };
        ledger.start(&start).unwrap();
        // One at a time, so that the sum in the database would overflow.
        ledger.end(AttemptEnd { usage, ..end(&start, i64::MAX) });
        ledger.flush().await.unwrap();
    }
    assert_eq!(rows(&database).await.len(), 4);
    assert_eq!(bench.counter("tollgate_ledger_rows_rejected_total"), 0);
    let requests = "SELECT cast(sum(requests) AS text) AS value FROM usage_hours";
    assert_eq!(sql::texts(&database, requests).await, ["4"]);
}

async fn open_attempts_do_not_keep_old_segments(database: Database) {
    let bench = Bench::new(&database).await;
    let directory = journal(&database, "j");
    let mut options = small(directory.clone());
    (options.segment_bytes, options.compact_after) = (8192, Duration::ZERO);
    let ledger = bench.open(options).await;
    let long = start(&bench.clock);
    ledger.start(&long).unwrap();
    for _ in 0..20 {
        for _ in 0..20 {
            let start = start(&bench.clock);
            ledger.start(&start).unwrap();
            ledger.end(end(&start, 1));
        }
        ledger.flush().await.unwrap();
    }
    eventually("one start is left", async || {
        let bytes = bench.counter("tollgate_journal_bytes");
        0 < bytes && bytes < 8192
    })
    .await;
    let recovered = bench.settle(&copy(&directory, &journal(&database, "copy"))).await;
    // As it was written, if it is not being written down again at this very moment.
    assert!(recovered.iter().all(|told| told.id == long.id), "{recovered:?}");
    ledger.end(end(&long, 1));
    ledger.flush().await.unwrap();
    eventually("nothing is left", async || bench.counter("tollgate_journal_bytes") == 0).await;
    sums_agree(&database).await;
}

async fn many_threads_at_once(database: Database) {
    let bench = Bench::new(&database).await;
    let mut options = small(journal(&database, "j"));
    options.segment_bytes = 16 << 10;
    let ledger = bench.open(options).await;
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (ledger, clock) = (ledger.clone(), bench.clock.clone());
            std::thread::spawn(move || {
                for _ in 0..150 {
                    let start = start(&clock);
                    ledger.start(&start).unwrap();
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
    assert_eq!(bench.counter("tollgate_ledger_rows_total"), 1_200);
    sums_agree(&database).await;
}

async fn old_rows_go_and_their_sums_stay(database: Database) {
    let bench = Bench::new(&database).await;
    let ledger = bench.open(small(journal(&database, "j"))).await;
    let mut kept = BTreeSet::new();
    for days in [0, 39, 41, 400] {
        let mut start = start(&bench.clock);
        start.admitted_at -= TimeDelta::days(days);
        ledger.start(&start).unwrap();
        ledger.end(end(&start, 1));
        if days < 40 {
            kept.insert(row(start.id, "completed", 1));
        }
    }
    ledger.flush().await.unwrap();
    assert!(!delete_expired(&bench.database, &bench.clock, 40).await.unwrap());
    assert_eq!(rows(&database).await.into_iter().collect::<BTreeSet<_>>(), kept);
    let requests = "SELECT cast(sum(requests) AS text) AS value FROM usage_hours";
    assert_eq!(sql::texts(&database, requests).await, ["4"]);
}

async fn a_dead_process_journal_is_drained_by_command(database: Database) {
    let bench = Bench::new(&database).await;
    let directory = journal(&database, "dead");
    let ledger = bench.open(small(directory.clone())).await;
    let open = start(&bench.clock);
    ledger.start(&open).unwrap();
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

async fn what_a_dead_process_has_reserved_is_settled_with_its_journal(database: Database) {
    let bench = Bench::new(&database).await;
    let directory = journal(&database, "dead");
    let ledger = bench.open(small(directory.clone())).await;
    let open = start(&bench.clock);
    let counters = || {
        let redis_url = Some(shared_url().parse().unwrap());
        let settings = PolicySettings { redis_url, ..PolicySettings::default() };
        Counters::open(&settings, &bench.clock, &Metrics::new()).unwrap()
    };
    let (bucket, window) = (bench.clock.new_id(), SpendWindow::Monthly);
    let limit = Limit::Spend { window, limit: NanoUsd::from_nanos(5_000) };
    let claims = Claims {
        organization_id: open.organization_id,
        request_id: open.request_id,
        at: open.admitted_at,
        claims: vec![Claim { bucket, limit, amount: 1_000 }],
    };
    let dying = counters();
    assert!(dying.catch_up(Duration::from_secs(30)).await);
    let reserved = dying.reserve(&claims, &[Some(NanoUsd::ZERO)]).await;
    assert!(matches!(reserved, Ok(Reserved::Admitted(_))), "{reserved:?}");
    drop(dying);
    ledger.start(&open).unwrap();
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
    let spent = witness.spent(open.organization_id, bucket, window, open.admitted_at).await;
    assert_eq!(spent, Some(NanoUsd::from_nanos(900)));
}

async fn while_the_database_is_away_the_journal_holds_what_it_may(database: Database) {
    let (link, linked) = Link::to(&database).await;
    let bench = Bench::new(&linked).await;
    let mut options = small(journal(&database, "j"));
    (options.max_bytes, options.segment_bytes) = (1 << 20, 64 << 10);
    let ledger = bench.open(options).await;
    let early = start(&bench.clock);
    ledger.start(&early).unwrap();
    ledger.flush().await.unwrap();
    link.sever();
    let mut expected = BTreeSet::new();
    let mut running = Vec::new();
    let refused = loop {
        let start = start(&bench.clock);
        match ledger.start(&start) {
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
    ledger.start(&start(&bench.clock)).unwrap();
    sums_agree(&database).await;
}

async fn two_replicas_write_the_same_sums(database: Database) {
    let bench = Bench::new(&database).await;
    let other = Bench::new(&database).await;
    let ledgers = [
        bench.open(small(journal(&database, "one"))).await,
        other.open(small(journal(&database, "two"))).await,
    ];
    let template = start(&bench.clock);
    for number in 0..2_000_usize {
        let (id, api_key_id) = (bench.clock.new_id(), bench.clock.new_id());
        let mut start = AttemptStart { id, ..template.clone() };
        if number % 3 == 0 {
            start.api_key_id = api_key_id;
        }
        start.metadata.insert("team".to_owned(), format!("{}", number % 50));
        let ledger = &ledgers[number % 2];
        ledger.start(&start).unwrap();
        ledger.end(end(&start, 1));
    }
    let (one, two) = tokio::join!(ledgers[0].flush(), ledgers[1].flush());
    one.unwrap();
    two.unwrap();
    assert_eq!(rows(&database).await.len(), 2_000);
    sums_agree(&database).await;
}
