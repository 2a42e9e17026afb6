//! The ledger's rows as the database holds them, and prices in arithmetic of the tests' own, so that
//! neither is checked by itself.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    app::TestApp,
    database::{Database, Kind},
    eventually::eventually,
    openai::Usage,
    sql,
    upstream::ScriptedUpstream,
};

/// One attempt, or one blocked request.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Row {
    /// Its own id.
    pub(crate) id: String,
    /// The request's.
    pub(crate) request_id: String,
    /// From 1; 0 when blocked.
    pub(crate) attempt: i64,
    /// Whose.
    pub(crate) organization_id: String,
    /// By which key.
    pub(crate) api_key_id: String,
    /// The configuration's name.
    pub(crate) configuration: String,
    /// `completed`, `lost`, ...
    pub(crate) outcome: String,
    /// What the caller saw.
    pub(crate) status: Option<i64>,
    /// Tokens.
    pub(crate) input_tokens: Option<u64>,
    /// Tokens.
    pub(crate) cached_input_tokens: Option<u64>,
    /// Tokens.
    pub(crate) output_tokens: Option<u64>,
    /// Tokens.
    pub(crate) reasoning_tokens: Option<u64>,
    /// `provider`, `estimated` or `none`.
    pub(crate) usage_source: String,
    /// In nano-dollars.
    pub(crate) cost: Option<i64>,
    /// Which price.
    pub(crate) price_version: Option<String>,
    /// The caller's, as JSON text.
    pub(crate) metadata: String,
}

impl Row {
    /// Columns that are read.
    const COLUMNS: [&str; 16] = [
        "id",
        "request_id",
        "attempt",
        "organization_id",
        "api_key_id",
        "configuration",
        "outcome",
        "status",
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "reasoning_tokens",
        "usage_source",
        "cost",
        "price_version",
        "metadata",
    ];

    /// The number that its caller gave it ([`NUMBER_HEADER`](super::plan::NUMBER_HEADER)).
    pub(crate) fn number(&self) -> Option<u64> {
        let metadata: Value = serde_json::from_str(&self.metadata).ok()?;
        metadata["request_number"].as_str()?.parse().ok()
    }

    /// Whether it says exactly this.
    pub(crate) fn counts(&self, usage: Usage) -> bool {
        let told = [
            self.input_tokens,
            self.output_tokens,
            self.cached_input_tokens,
            self.reasoning_tokens,
        ];
        told == [usage.prompt, usage.completion, usage.cached, usage.reasoning].map(Some)
    }
}

/// All rows, by id.
pub(crate) async fn rows(database: &Database) -> Vec<Row> {
    let fields = Row::COLUMNS.map(|column| format!("'{column}', {}", of_row(database, column)));
    let fields = fields.join(", ");
    let object = match database.kind() {
        Kind::Sqlite => format!("json_object({fields})"),
        Kind::Postgres => format!("json_build_object({fields})::text"),
    };
    let query = format!("SELECT {object} AS value FROM ledger ORDER BY id");
    let rows = sql::texts(database, &query).await;
    rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
}

/// Waits until the ledger has so many rows, and gives them.
pub(crate) async fn rows_at_least(database: &Database, count: usize) -> Vec<Row> {
    let mut all = Vec::new();
    eventually(&format!("the ledger has {count} rows"), async || {
        all = rows(database).await;
        all.len() >= count
    })
    .await;
    all
}

/// Waits until the ledger has a row for each request that the upstream got, and had to reject none.
pub(crate) async fn has_all(app: &TestApp, upstream: &ScriptedUpstream) {
    let attempts = upstream.seen().requests.len().to_string();
    let rows = "SELECT CAST(count(*) AS TEXT) AS value FROM ledger";
    let are_there = async || sql::texts(app.database(), rows).await == [&*attempts];
    eventually("every attempt has its row", are_there).await;
    assert_eq!(app.counter("tollgate_ledger_rows_rejected_total").await, 0);
}

/// What rows cost together, in nano-dollars.
pub(crate) fn cost(rows: &[Row]) -> i128 {
    rows.iter().map(|row| i128::from(row.cost.unwrap_or(0))).sum()
}

/// Sums that the ledger and its roll-ups have to agree on.
const SUMMED: [&str; 8] = [
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "cost",
];

/// The sums over all rows of the ledger, then requests, attempts, errors, blocks and unknown costs.
pub(crate) async fn sums_of_rows(database: &Database) -> Vec<String> {
    let counted = [
        "attempt <= 1",
        "attempt >= 1",
        "outcome <> 'blocked' AND (outcome <> 'completed' OR status >= 400)",
        "outcome = 'blocked'",
        "outcome <> 'blocked' AND cost IS NULL",
    ];
    let counted = counted.map(|which| format!("CASE WHEN {which} THEN 1 ELSE 0 END"));
    let summed = SUMMED.iter().map(|column| of_row(database, column));
    sums(database, "ledger", summed.chain(counted)).await
}

/// A column of a row; of tokens, their count.
fn of_row(database: &Database, column: &str) -> String {
    match (column.strip_suffix("_tokens"), database.kind()) {
        (None, _) => column.to_owned(),
        (Some(kind), Kind::Sqlite) => format!("json_extract(tokens, '$.{kind}')"),
        (Some(kind), Kind::Postgres) => format!("(tokens::json ->> '{kind}')::bigint"),
    }
}

/// The same over all roll-ups of a period.
pub(crate) async fn sums_of_period(database: &Database, period: &str) -> Vec<String> {
    let counted = ["requests", "attempts", "errors", "blocks", "unknown_costs"];
    let table = format!("usage_rollups WHERE period = '{period}' AND metadata_key = ''");
    sums(database, &table, SUMMED.into_iter().chain(counted).map(str::to_owned)).await
}

/// The same as `/usage` answers it: its `total`, or one of its figures.
#[track_caller]
pub(crate) fn sums_of_report(figures: &Value) -> Vec<String> {
    let figure = |column: &str| match column {
        "cost" => nanos(&figures["cost_usd"]).to_string(),
        column => figures[column].as_number().unwrap_or_else(|| panic!("{figures}")).to_string(),
    };
    let counted = ["requests", "attempts", "errors", "blocks", "unknown_costs"];
    SUMMED.into_iter().chain(counted).map(figure).collect()
}

async fn sums(
    database: &Database,
    table: &str,
    columns: impl Iterator<Item = String>,
) -> Vec<String> {
    let mut sums = Vec::new();
    for column in columns {
        let sum = format!("CAST(COALESCE(SUM({column}), 0) AS TEXT)");
        let query = format!("SELECT {sum} AS value FROM {table}");
        sums.extend(sql::texts(database, &query).await);
    }
    sums
}

/// A price, in nano-dollars for a million tokens (the fee: for a request).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Of the prompt.
    pub(crate) input: i128,
    /// Of the prompt's tokens from a cache.
    pub(crate) cached_input: i128,
    /// Of the answer.
    pub(crate) output: i128,
    /// Of the answer's tokens for reasoning.
    pub(crate) reasoning: i128,
    /// For each request.
    pub(crate) request: i128,
}

impl Rates {
    /// A fee and nothing else.
    pub(crate) const fn fee(nanos: i128) -> Self {
        Self { input: 0, cached_input: 0, output: 0, reasoning: 0, request: nanos }
    }

    /// As the API takes it.
    pub(crate) fn json(self) -> Value {
        json!({
            "input": usd(self.input),
            "cached_input": usd(self.cached_input),
            "output": usd(self.output),
            "reasoning": usd(self.reasoning),
            "request": usd(self.request),
        })
    }

    /// What a provider bills, in nano-dollars, rounded up once.
    pub(crate) fn bill(self, usage: Usage) -> i128 {
        let tokens = |count: u64, rate: i128| i128::from(count) * rate;
        let millionths = tokens(usage.prompt - usage.cached, self.input)
            + tokens(usage.cached, self.cached_input)
            + tokens(usage.completion - usage.reasoning, self.output)
            + tokens(usage.reasoning, self.reasoning);
        (millionths + 999_999).div_euclid(1_000_000) + self.request
    }
}

/// Nano-dollars as a number of dollars in JSON, digit by digit.
pub(crate) fn usd(nanos: i128) -> Value {
    let number = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    serde_json::from_str(&number).unwrap()
}

/// A number of dollars in JSON as nano-dollars.
#[track_caller]
pub(crate) fn nanos(value: &Value) -> i128 {
    let text = value.as_number().unwrap_or_else(|| panic!("no amount: {value}")).to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    assert!(fraction.len() <= 9 && !text.contains(['e', 'E']), "an amount like {text}");
    format!("{whole}{fraction:0<9}").parse().unwrap()
}
