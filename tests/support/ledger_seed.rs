//! Writes rows of the ledger and their roll-ups into the database without the application.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use serde_json::json;
use tollgate::domain::{ids::AttemptId, tokens::TokenUsage};
use uuid::Uuid;

use super::{database::Database, sql::execute, two_tenants::TenantWorkspace};

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
    /// The first seven of [`FIGURES`].
    pub(crate) tokens: [i64; 7],
    pub(crate) cost: Option<i64>,
    pub(crate) matched: Vec<String>,
    pub(crate) violated: Vec<String>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// The columns of roll-ups, in the order of [`Row::figures`].
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

impl Row {
    /// A completed attempt of now.
    pub(crate) fn of(place: &TenantWorkspace) -> Self {
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

    /// The same, admitted at another time, with ids of that time.
    pub(crate) fn at(mut self, at: DateTime<Utc>) -> Self {
        self.id = id_at(at);
        self.request_id = id_at(at);
        self.admitted_at = at;
        self
    }

    pub(crate) fn hour(&self) -> DateTime<Utc> {
        self.admitted_at.duration_trunc(TimeDelta::hours(1)).unwrap()
    }

    /// What it adds to its roll-ups.
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
        let tokens = TokenUsage::NAMES.iter().zip(self.tokens).collect::<BTreeMap<_, _>>();
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
            text(&json!(tokens).to_string()),
            text("provider"),
            number(self.cost),
            "NULL".to_owned(),
            "12".to_owned(),
            "34".to_owned(),
            text(&policies),
            text(&metadata),
            self.client_request_id.as_deref().map_or("NULL".to_owned(), text),
            text(&self.admitted_at.naive_utc().format("%F %T%.6f").to_string()),
            // No subscription paid, and no guard found anything.
            "NULL".to_owned(),
            "NULL".to_owned(),
        ];
        format!("({})", columns.join(", "))
    }
}

/// An id as the gateway makes it at this time.
pub(crate) fn id_at(at: DateTime<Utc>) -> String {
    let first = AttemptId::first_at(at).uuid().as_u128();
    let random = Uuid::new_v7(uuid::Timestamp::now(uuid::NoContext)).as_u128();
    Uuid::from_u128(first | (random & ((1 << 62) - 1))).to_string()
}

/// Writes rows, and roll-ups for hours and days that have none yet. Metadata values in `others` are
/// summed together, as values over the limit of an hour are.
pub(crate) async fn insert_with_others(database: &Database, rows: &[Row], others: &[&str]) {
    for some in rows.chunks(200) {
        let values: Vec<String> = some.iter().map(Row::values).collect();
        execute(database, &format!("INSERT INTO ledger VALUES {}", values.join(", "))).await;
    }
    for (period, format) in [("hour", "%F %H:00:00"), ("day", "%F 00:00:00")] {
        let mut rollups: BTreeMap<String, [i64; 13]> = BTreeMap::new();
        for row in rows {
            let time = text(&row.admitted_at.format(format).to_string());
            let user_id = row.user_id.as_deref().unwrap_or_default();
            let own =
                [&row.workspace_id, user_id, &row.api_key_id, &row.configuration_id, &row.model];
            let own = own.map(text).join(", ");
            let organization = text(&row.organization_id);
            let mut add = |key: &str, value: &str| {
                let (key, value) = (text(key), text(value));
                let key = format!("{organization}, '{period}', {key}, {time}, {value}, {own}");
                let sums = rollups.entry(key).or_default();
                sums.iter_mut().zip(row.figures()).for_each(|(sum, figure)| *sum += figure);
            };
            add("", "");
            for (key, value) in &row.metadata {
                add(key, if others.contains(&value.as_str()) { "" } else { value });
            }
        }
        let rollups: Vec<String> = rollups
            .iter()
            .map(|(key, sums)| format!("({key}, {})", sums.map(|sum| sum.to_string()).join(", ")))
            .collect();
        for some in rollups.chunks(200) {
            let (figures, rollups) = (FIGURES.join(", "), some.join(", "));
            let sql = format!(
                "INSERT INTO usage_rollups (organization_id, period, metadata_key, starts_at, \
                 metadata_value, workspace_id, user_id, api_key_id, configuration_id, model, \
                 {figures}) VALUES {rollups}"
            );
            execute(database, &sql).await;
        }
    }
}

/// Writes rows, and roll-ups for hours and days that have none yet.
pub(crate) async fn insert(database: &Database, rows: &[Row]) {
    let mut fresh = rows.to_vec();
    // A single row gets its own model, so that it does not collide with the roll-ups of others.
    if let [row] = fresh.as_mut_slice() {
        row.model = format!("{} {}", row.model, row.id);
    }
    insert_with_others(database, &fresh, &[]).await;
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}
