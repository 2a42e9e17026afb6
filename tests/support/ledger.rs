//! Rows of the ledger, and the roll-ups that belong to them, past the application.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use serde_json::json;
use tollgate::domain::ids::AttemptId;
use uuid::Uuid;

use super::{database::Database, sql::execute, world::Place};

/// One row. Instants are whole seconds or parts of them as [`Utc`] gives them.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) organization_id: String,
    pub(crate) workspace_id: String,
    pub(crate) request_id: String,
    pub(crate) client_request_id: Option<String>,
    pub(crate) attempt: i64,
    pub(crate) admitted_at: DateTime<Utc>,
    pub(crate) api_key_id: String,
    pub(crate) user_id: Option<String>,
    pub(crate) configuration_id: String,
    pub(crate) model: String,
    pub(crate) status: Option<i64>,
    pub(crate) outcome: &'static str,
    /// As in [`FIGURES`]' first seven.
    pub(crate) tokens: [i64; 7],
    pub(crate) cost: Option<i64>,
    pub(crate) matched: Vec<String>,
    pub(crate) violated: Vec<String>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// What roll-ups hold, in the order of [`Row::figures`].
pub(crate) const FIGURES: [&str; 13] = [
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "cost",
    "unknown_costs",
    "requests",
    "attempts",
    "errors",
    "blocks",
];

/// What else roll-ups hold.
const KEYS: &str = "organization_id, period, starts_at, metadata_key, metadata_value, \
                    workspace_id, user_id, api_key_id, configuration_id, model";

impl Row {
    /// A completed attempt in a place, now.
    pub(crate) fn of(place: &Place) -> Self {
        let at = Utc::now();
        Self {
            id: id_at(at),
            organization_id: place.organization_id.clone(),
            workspace_id: place.team.workspace_id.clone(),
            request_id: id_at(at),
            client_request_id: None,
            attempt: 1,
            admitted_at: at,
            api_key_id: place.team.caller_key_id.clone(),
            user_id: None,
            configuration_id: place.team.configuration_id.clone(),
            model: "gpt-test".to_owned(),
            status: Some(200),
            outcome: "completed",
            tokens: [10, 4, 1, 5, 2, 0, 0],
            cost: Some(1_500),
            matched: Vec::new(),
            violated: Vec::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// The same, admitted at another instant, with ids that go with it.
    pub(crate) fn at(mut self, at: DateTime<Utc>) -> Self {
        self.id = id_at(at);
        self.request_id = id_at(at);
        self.admitted_at = at;
        self
    }

    /// The hour that it belongs to.
    pub(crate) fn hour(&self) -> DateTime<Utc> {
        self.admitted_at.duration_trunc(TimeDelta::hours(1)).unwrap()
    }

    /// What it adds to its hour, and to its day.
    pub(crate) fn figures(&self) -> [i64; 13] {
        let blocked = self.outcome == "blocked";
        let error = !blocked
            && (self.outcome != "completed" || self.status.is_some_and(|status| status >= 400));
        let mut figures = [0; 13];
        figures[..7].copy_from_slice(&self.tokens);
        figures[7] = self.cost.unwrap_or(0);
        figures[8] = i64::from(!blocked && self.cost.is_none());
        figures[9] = i64::from(self.attempt <= 1);
        figures[10] = i64::from(self.attempt >= 1);
        figures[11] = i64::from(error);
        figures[12] = i64::from(blocked);
        figures
    }

    fn values(&self) -> String {
        let policies = json!({"matched": self.matched, "violated": self.violated}).to_string();
        let metadata = serde_json::to_string(&self.metadata).unwrap();
        let number = |number: Option<i64>| number.map_or("NULL".to_owned(), |one| one.to_string());
        let tokens = FIGURES.iter().zip(self.tokens);
        let tokens = tokens.map(|(name, count)| (name.strip_suffix("_tokens").unwrap(), count));
        let tokens = serde_json::to_string(&tokens.collect::<BTreeMap<_, _>>()).unwrap();
        let columns = [
            text(&self.id),
            text(&self.organization_id),
            text(&self.workspace_id),
            text(&self.request_id),
            self.attempt.to_string(),
            text(&self.api_key_id),
            self.user_id.as_deref().map_or("NULL".to_owned(), text),
            text(&self.configuration_id),
            text("main"),
            text("chat_completions"),
            "NULL".to_owned(),
            text(&self.model),
            "NULL".to_owned(),
            number(self.status),
            text(self.outcome),
            "NULL".to_owned(),
            text(&tokens),
            text("provider"),
            number(self.cost),
            "NULL".to_owned(),
            "12".to_owned(),
            "34".to_owned(),
            text(&policies),
            text(&metadata),
            self.client_request_id.as_deref().map_or("NULL".to_owned(), text),
            text(&self.admitted_at.naive_utc().format("%F %T%.6f").to_string()),
        ];
        format!("({})", columns.join(", "))
    }
}

/// An id as the gateway makes one at this instant.
pub(crate) fn id_at(at: DateTime<Utc>) -> String {
    let first = AttemptId::first_at(at).uuid().as_u128();
    let random = Uuid::new_v7(uuid::Timestamp::now(uuid::NoContext)).as_u128();
    Uuid::from_u128(first | (random & ((1 << 62) - 1))).to_string()
}

/// Writes rows, and adds them to hours and days that have nothing yet. Values of metadata in `others`
/// are recorded together, as an hour's values beyond the bound are.
pub(crate) async fn insert_with_others(database: &Database, rows: &[Row], others: &[&str]) {
    for some in rows.chunks(200) {
        let values: Vec<String> = some.iter().map(Row::values).collect();
        execute(database, &format!("INSERT INTO ledger VALUES {}", values.join(", "))).await;
    }
    for (period, format) in [("hour", "%F %H:00:00"), ("day", "%F 00:00:00")] {
        let mut sums: BTreeMap<String, [i64; 13]> = BTreeMap::new();
        for row in rows {
            let time = text(&row.admitted_at.format(format).to_string());
            let user_id = row.user_id.as_deref().unwrap_or_default();
            let own =
                [&row.workspace_id, user_id, &row.api_key_id, &row.configuration_id, &row.model];
            let own = own.map(text).join(", ");
            let organization = text(&row.organization_id);
            let key = |key: &str, value: &str| {
                let (key, value) = (text(key), text(value));
                format!("{organization}, '{period}', {time}, {key}, {value}, {own}")
            };
            add(&mut sums, key("", ""), row.figures());
            for (name, value) in &row.metadata {
                let value = if others.contains(&value.as_str()) { "" } else { value };
                add(&mut sums, key(name, value), row.figures());
            }
        }
        let rows: Vec<String> = sums
            .iter()
            .map(|(key, sums)| format!("({key}, {})", sums.map(|sum| sum.to_string()).join(", ")))
            .collect();
        for some in rows.chunks(200) {
            let (figures, rows) = (FIGURES.join(", "), some.join(", "));
            let sql = format!("INSERT INTO usage_rollups ({KEYS}, {figures}) VALUES {rows}");
            execute(database, &sql).await;
        }
    }
}

/// Writes rows, and adds them to hours and days that have nothing yet.
pub(crate) async fn insert(database: &Database, rows: &[Row]) {
    let mut fresh = rows.to_vec();
    // A day of one's own for each call would be too much to ask: single rows make a model of
    // their own.
    if let [row] = fresh.as_mut_slice() {
        row.model = format!("{} {}", row.model, row.id);
    }
    insert_with_others(database, &fresh, &[]).await;
}

fn add(sums: &mut BTreeMap<String, [i64; 13]>, key: String, figures: [i64; 13]) {
    let sum = sums.entry(key).or_default();
    for (sum, figure) in sum.iter_mut().zip(figures) {
        *sum += figure;
    }
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}
