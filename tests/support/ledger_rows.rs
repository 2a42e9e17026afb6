//! The ledger's rows as stored in the database, and an independent calculation of prices.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    app::TestApp,
    database::{Database, Kind},
    openai::Usage,
    sql,
    upstream::ScriptedUpstream,
    wait::eventually,
};

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) request_id: String,
    /// From 1; 0 if blocked.
    pub(crate) attempt: i64,
    pub(crate) configuration: String,
    pub(crate) outcome: String,
    /// The upstream's, or else the one that the caller saw.
    pub(crate) status: Option<i64>,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) cached_input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) reasoning_tokens: Option<u64>,
    pub(crate) usage_source: String,
    pub(crate) cost: Option<i64>,
    pub(crate) price_version: Option<String>,
    pub(crate) duration_ms: Option<u128>,
    /// As JSON text.
    pub(crate) metadata: String,
}

impl Row {
    const COLUMNS: [&str; 15] = [
        "id",
        "request_id",
        "attempt",
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
        "duration_ms",
        "metadata",
    ];

    /// The call number that the caller sent ([`NUMBER_HEADER`](super::call_plan::NUMBER_HEADER)).
    pub(crate) fn number(&self) -> Option<u64> {
        let metadata: Value = serde_json::from_str(&self.metadata).ok()?;
        metadata["request_number"].as_str()?.parse().ok()
    }

    /// Whether it has exactly this usage.
    pub(crate) fn counts(&self, usage: Usage) -> bool {
        let row = [
            self.input_tokens,
            self.output_tokens,
            self.cached_input_tokens,
            self.reasoning_tokens,
        ];
        row == [usage.prompt, usage.completion, usage.cached, usage.reasoning].map(Some)
    }
}

/// All rows, sorted by id.
pub(crate) async fn rows(database: &Database) -> Vec<Row> {
    let field = |column| format!("'{column}', {}", row_column(database, column));
    let fields = Row::COLUMNS.map(field).join(", ");
    let object = match database.kind() {
        Kind::Sqlite => format!("json_object({fields})"),
        Kind::Postgres => format!("json_build_object({fields})::text"),
    };
    let query = format!("SELECT {object} AS value FROM ledger ORDER BY id");
    let rows = sql::texts(database, &query).await;
    rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
}

/// The expression for a column of the ledger; that of roll-ups for a kind of tokens is read from the JSON.
pub(crate) fn row_column(database: &Database, column: &str) -> String {
    match (column.strip_suffix("_tokens"), database.kind()) {
        (None, _) => column.to_owned(),
        (Some(kind), Kind::Sqlite) => format!("json_extract(tokens, '$.{kind}')"),
        (Some(kind), Kind::Postgres) => format!("(tokens::json ->> '{kind}')::bigint"),
    }
}

/// Waits until the ledger has at least `count` rows, and returns all.
pub(crate) async fn rows_at_least(database: &Database, count: usize) -> Vec<Row> {
    let mut all = Vec::new();
    eventually(&format!("the ledger has {count} rows"), async || {
        all = rows(database).await;
        all.len() >= count
    })
    .await;
    all
}

/// Waits until the ledger has `count` rows, and returns all; it must not have more.
pub(crate) async fn rows_exactly(app: &TestApp, count: usize) -> Vec<Row> {
    let rows = rows_at_least(app.database(), count).await;
    assert_eq!(rows.len(), count, "{rows:?}");
    rows
}

/// The last of [exactly](rows_exactly) `count` rows.
pub(crate) async fn last_row(app: &TestApp, count: usize) -> Row {
    rows_exactly(app, count).await.pop().unwrap()
}

/// Waits until the ledger has a row for each request of the upstream, and checks that none was
/// rejected.
pub(crate) async fn has_all(app: &TestApp, upstream: &ScriptedUpstream) {
    let attempts = upstream.seen().requests.len().to_string();
    let rows = "SELECT CAST(count(*) AS TEXT) AS value FROM ledger";
    let are_there = async || sql::texts(app.database(), rows).await == [&*attempts];
    eventually("every attempt has its row", are_there).await;
    assert_eq!(app.counter("tollgate_ledger_rows_rejected_total").await, 0);
}

/// The total cost in nano-dollars.
pub(crate) fn cost(rows: &[Row]) -> i128 {
    rows.iter().map(|row| i128::from(row.cost.unwrap_or(0))).sum()
}

/// Columns on whose sums the ledger and its roll-ups must agree.
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

/// The sums over all rows of the ledger, then the numbers of requests, attempts, errors, blocks and
/// unknown costs.
pub(crate) async fn sums_of_rows(database: &Database) -> Vec<String> {
    let counted = [
        "attempt <= 1",
        "attempt >= 1",
        "outcome <> 'blocked' AND (outcome <> 'completed' OR status >= 400)",
        "outcome = 'blocked'",
        "outcome <> 'blocked' AND cost IS NULL",
    ];
    let counted = counted.map(|which| format!("CASE WHEN {which} THEN 1 ELSE 0 END"));
    let summed = SUMMED.iter().map(|column| row_column(database, column));
    sums(database, "ledger", summed.chain(counted)).await
}

/// The same over the roll-ups of a period.
pub(crate) async fn sums_of_period(database: &Database, period: &str) -> Vec<String> {
    let counted = ["requests", "attempts", "errors", "blocks", "unknown_costs"];
    let rollups = format!("usage_rollups WHERE period = '{period}' AND metadata_key = ''");
    sums(database, &rollups, SUMMED.into_iter().chain(counted).map(str::to_owned)).await
}

/// The same from an item of a `/usage` answer.
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

/// Prices in nano-dollars per million tokens, and per request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) input: i128,
    pub(crate) cached_input: i128,
    pub(crate) output: i128,
    pub(crate) reasoning: i128,
    pub(crate) request: i128,
}

impl Rates {
    /// A fee per request and nothing else.
    pub(crate) const fn fee(nanos: i128) -> Self {
        Self { input: 0, cached_input: 0, output: 0, reasoning: 0, request: nanos }
    }

    /// The form of the API.
    pub(crate) fn json(self) -> Value {
        json!({
            "input": usd(self.input),
            "cached_input": usd(self.cached_input),
            "output": usd(self.output),
            "reasoning": usd(self.reasoning),
            "request": usd(self.request),
        })
    }

    /// What the provider bills in nano-dollars, rounded up once.
    pub(crate) fn bill(self, usage: Usage) -> i128 {
        let tokens = |count: u64, rate: i128| i128::from(count) * rate;
        let millionths = tokens(usage.prompt - usage.cached, self.input)
            + tokens(usage.cached, self.cached_input)
            + tokens(usage.completion - usage.reasoning, self.output)
            + tokens(usage.reasoning, self.reasoning);
        (millionths + 999_999).div_euclid(1_000_000) + self.request
    }
}

/// Nano-dollars as a JSON number of dollars with all digits.
pub(crate) fn usd(nanos: i128) -> Value {
    let number = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    serde_json::from_str(&number).unwrap()
}

/// A JSON number of dollars as nano-dollars.
#[track_caller]
pub(crate) fn nanos(value: &Value) -> i128 {
    let text = value.as_number().unwrap_or_else(|| panic!("no amount: {value}")).to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    assert!(fraction.len() <= 9 && !text.contains(['e', 'E']), "an amount like {text}");
    format!("{whole}{fraction:0<9}").parse().unwrap()
}
