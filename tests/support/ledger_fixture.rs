//! The ledger alone over a test's database, and attempts to write into it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use tollgate::{
    accounting::{
        journal::JournalOptions,
        ledger::{Ledger, LedgerError, LedgerParts, Recovered},
        record::{AttemptEnd, AttemptOutcome, AttemptStart, UsageSource},
    },
    clock::Clock,
    db,
    domain::{
        ids::{AttemptId, ConfigurationId},
        money::NanoUsd,
        tokens::TokenUsage,
    },
    telemetry::{Metrics, readiness::Readiness},
};

use super::{database::Database, ledger_rows::row_column, ledger_seed::FIGURES, sql};

/// What a ledger over the test's database needs.
pub(crate) struct LedgerFixture {
    pub(crate) database: db::Database,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
}

impl LedgerFixture {
    /// Migrates the database, with four connections.
    pub(crate) async fn new(database: &Database) -> Self {
        Self::with_connections(database, 4).await
    }

    /// The same with this number of connections.
    pub(crate) async fn with_connections(database: &Database, connections: usize) -> Self {
        let database = database.open(connections);
        database.migrate().await.unwrap();
        Self {
            database,
            clock: Clock::default(),
            metrics: Metrics::new(),
            readiness: Readiness::default(),
        }
    }

    /// Opens the ledger, with metrics in [`Self::counter`].
    pub(crate) async fn open(&self, options: JournalOptions) -> Ledger {
        self.recover(options, &self.metrics).await.0
    }

    /// Opens the ledger, and returns what it recovered from the journal.
    pub(crate) async fn recover(
        &self,
        options: JournalOptions,
        metrics: &Metrics,
    ) -> (Ledger, Vec<Recovered>) {
        self.try_recover(options, metrics).await.unwrap()
    }

    /// The same, returning the error.
    pub(crate) async fn try_recover(
        &self,
        options: JournalOptions,
        metrics: &Metrics,
    ) -> Result<(Ledger, Vec<Recovered>), LedgerError> {
        let parts = LedgerParts {
            database: self.database.clone(),
            clock: self.clock.clone(),
            metrics: metrics.clone(),
            readiness: self.readiness.clone(),
            retention_days: 0,
        };
        let mut all = Vec::new();
        let opened = Ledger::open(options, parts, async |some| all.extend(some)).await?;
        Ok((opened, all))
    }

    /// Recovers the journal in a directory, as the next process would.
    pub(crate) async fn settle(&self, directory: &Path) -> Vec<Recovered> {
        let (ledger, recovered) = self.recover(small(directory.to_owned()), &Metrics::new()).await;
        ledger.close().await.unwrap();
        recovered
    }

    /// The value of a counter or gauge.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {text}")).parse::<f64>().unwrap() as u64
    }
}

/// Options of a small journal.
pub(crate) fn small(directory: PathBuf) -> JournalOptions {
    JournalOptions { reserve_bytes: 4096, ..JournalOptions::new(directory, 64 << 20) }
}

/// A directory for a journal of the test.
pub(crate) fn journal(database: &Database, name: &str) -> PathBuf {
    database.directory().join(name)
}

pub(crate) fn start(clock: &Clock) -> AttemptStart {
    AttemptStart {
        id: clock.new_id(),
        request_id: clock.new_id(),
        attempt: 1,
        admitted_at: clock.now(),
        organization_id: clock.new_id(),
        workspace_id: clock.new_id(),
        api_key_id: Some(clock.new_id()),
        user_id: None,
        upstream: clock.new_id::<ConfigurationId>().into(),
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

/// The end of an attempt, with this cost in nano-dollars.
pub(crate) fn end(start: &AttemptStart, cost: i64) -> AttemptEnd {
    AttemptEnd {
        id: start.id,
        outcome: AttemptOutcome::Completed,
        status: Some(200),
        code: None,
        model_used: None,
        usage: TokenUsage { input: Some(3), output: Some(4), ..TokenUsage::default() },
        usage_source: UsageSource::Provider,
        cost: Some(NanoUsd::from_nanos(cost)),
        list_cost: None,
        findings: Default::default(),
        price_version: None,
        first_byte_ms: Some(1),
        duration_ms: Some(2),
        violated: Vec::new(),
    }
}

pub(crate) async fn rows(database: &Database) -> Vec<String> {
    let query = "SELECT id || ' ' || outcome || ' ' || coalesce(cast(cost AS text), '-') AS value \
                 FROM ledger ORDER BY id";
    sql::texts(database, query).await
}

/// A row in the form of [`rows`].
pub(crate) fn row(id: AttemptId, outcome: &str, cost: i64) -> String {
    format!("{id} {outcome} {cost}")
}

/// Fails the test unless hourly sums agree with the rows and daily sums with the hours.
pub(crate) async fn sums_agree(database: &Database) {
    sums_agree_where(database, "1 = 1").await.unwrap();
}

/// The same for some of the rows, returning the difference.
pub(crate) async fn sums_agree_where(database: &Database, condition: &str) -> Result<(), String> {
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
    let same = COLUMNS.split_whitespace();
    let same = same.map(|name| (name.to_owned(), row_column(database, name)));
    for (name, value) in pairs.chain(same) {
        of_rows += &format!(" || ' ' || cast(coalesce(sum({value}), 0) AS text)");
        of_sums += &format!(" || ' ' || cast(sum({name}) AS text)");
    }
    let by = "GROUP BY api_key_id, model ORDER BY api_key_id, model";
    let same = async |rows: &str, sums: &str| {
        let rows = format!("SELECT {of_rows} AS value FROM ledger WHERE {condition} {rows} {by}");
        let sums = format!("SELECT {of_sums} AS value FROM {sums} {by}");
        let (rows, sums) = (sql::texts(database, &rows).await, sql::texts(database, &sums).await);
        if rows == sums { Ok(()) } else { Err(format!("rows {rows:#?}, sums {sums:#?}")) }
    };
    let hours = format!("usage_rollups WHERE {condition} AND period = 'hour'");
    same("", &format!("{hours} AND metadata_key = ''")).await?;
    let of_key = format!("{hours} AND metadata_key = 'team'");
    same("AND metadata LIKE '%\"team\":%'", &of_key).await?;
    days_agree_where(database, condition).await
}

/// Fails the test unless daily sums agree with the hourly ones.
pub(crate) async fn days_agree(database: &Database) {
    days_agree_where(database, "1 = 1").await.unwrap();
}

/// The same for some of the rows, returning the difference.
async fn days_agree_where(database: &Database, condition: &str) -> Result<(), String> {
    const OWN: &str = "organization_id metadata_key metadata_value workspace_id user_id \
                       api_key_id configuration_id model";
    let sums = async |period: &str, since: &str| {
        let own: Vec<&str> = [since].into_iter().chain(OWN.split_whitespace()).collect();
        let figures = FIGURES.map(|name| format!("cast(sum({name}) AS text)"));
        let query = format!(
            "SELECT {} || ' ' || {} AS value FROM usage_rollups \
             WHERE {condition} AND period = '{period}' GROUP BY {} ORDER BY value",
            own.join(" || ' ' || "),
            figures.join(" || ' ' || "),
            own.join(", "),
        );
        sql::texts(database, &query).await
    };
    let of_hours = sums("hour", "substr(cast(starts_at AS text), 1, 10) || ' 00:00:00'").await;
    // A start that is not midnight would be no day's.
    let of_days = sums("day", "cast(starts_at AS text)").await;
    if of_hours == of_days {
        return Ok(());
    }
    Err(format!("hours {of_hours:#?}, days {of_days:#?}"))
}

/// Copies a journal as a crash would leave it. Repeats the copy if a file appeared or disappeared
/// meanwhile.
pub(crate) fn copy(from: &Path, to: &Path) -> PathBuf {
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
