//! The content of the database as text, to see what a request changed.

use std::collections::BTreeMap;

use super::{
    database::{Database, Kind},
    sql::texts,
};

/// Written in the background, not by a request.
const HOUSEKEEPING: &str = "last_used_at";

/// Written after requests were answered.
const WRITTEN_LATER: [&str; 2] = ["ledger", "usage_rollups"];

/// The rows of each table.
pub(crate) type Dump = BTreeMap<String, Vec<String>>;

impl Database {
    /// All rows except those that are written in the background.
    pub(crate) async fn dump(&self) -> Dump {
        let mut dump = Dump::new();
        let tables = match self.kind() {
            Kind::Sqlite => {
                "SELECT name AS value FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            }
            Kind::Postgres => {
                "SELECT table_name::text AS value FROM information_schema.tables WHERE table_schema = 'public'"
            }
        };
        for table in texts(self, tables).await {
            if WRITTEN_LATER.contains(&table.as_str()) {
                continue;
            }
            let rows = match self.kind() {
                Kind::Sqlite => {
                    let columns = format!("SELECT name AS value FROM pragma_table_info('{table}')");
                    let pairs: Vec<String> = texts(self, &columns)
                        .await
                        .into_iter()
                        .filter(|column| column != HOUSEKEEPING)
                        .map(|column| format!("'{column}', quote({column})"))
                        .collect();
                    format!(
                        "SELECT json_object({}) AS value FROM {table} ORDER BY 1",
                        pairs.join(", ")
                    )
                }
                Kind::Postgres => format!(
                    "SELECT (to_jsonb(t) - '{HOUSEKEEPING}')::text AS value FROM {table} t ORDER BY 1"
                ),
            };
            dump.insert(table.clone(), texts(self, &rows).await);
        }
        dump
    }
}

/// The rows that only one of the dumps has, with their tables.
pub(crate) fn differences(before: &Dump, after: &Dump) -> Vec<String> {
    let none = Vec::new();
    let mut found = Vec::new();
    for table in before.keys().chain(after.keys().filter(|table| !before.contains_key(*table))) {
        let (was, is) = (before.get(table).unwrap_or(&none), after.get(table).unwrap_or(&none));
        found.extend(
            was.iter().filter(|row| !is.contains(row)).map(|row| format!("- {table} {row}")),
        );
        found.extend(
            is.iter().filter(|row| !was.contains(row)).map(|row| format!("+ {table} {row}")),
        );
    }
    found
}
