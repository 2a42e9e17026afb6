//! The database's own tables, looked at and changed past the application: what a denied call left
//! behind, and what somebody with access to the database might do.

use std::collections::BTreeMap;

use diesel::{
    Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection,
    connection::SimpleConnection as _,
    sql_query,
    sql_types::{Nullable, Text},
};

use super::database::{Database, Kind};

/// Kept roughly, by nobody's request.
const HOUSEKEEPING: &str = "last_used_at";

/// All rows of all tables, as text.
pub(crate) type Dump = BTreeMap<String, Vec<String>>;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Nullable<Text>)]
    line: Option<String>,
}

impl Database {
    /// The column `line`, which is text, of all rows that the query finds.
    pub(crate) async fn lines(&self, query: &str) -> Vec<String> {
        match self.kind() {
            Kind::Sqlite => {
                let rows: Vec<Line> = sql_query(query).load(&mut self.file()).unwrap();
                rows.into_iter().filter_map(|row| row.line).collect()
            }
            Kind::Postgres => {
                let rows = self.connect().await.query(query, &[]).await.unwrap();
                rows.iter().filter_map(|row| row.get("line")).collect()
            }
        }
    }

    /// Runs statements that answer nothing.
    pub(crate) async fn run(&self, statements: &str) {
        match self.kind() {
            Kind::Sqlite => self.file().batch_execute(statements).unwrap(),
            Kind::Postgres => self.connect().await.batch_execute(statements).await.unwrap(),
        }
    }

    /// Everything, but for what is written without a request.
    pub(crate) async fn dump(&self) -> Dump {
        let mut dump = Dump::new();
        let tables = match self.kind() {
            Kind::Sqlite => {
                "SELECT name AS line FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            }
            Kind::Postgres => {
                "SELECT table_name::text AS line FROM information_schema.tables WHERE table_schema = 'public'"
            }
        };
        for table in self.lines(tables).await {
            let rows = match self.kind() {
                Kind::Sqlite => {
                    let columns = format!("SELECT name AS line FROM pragma_table_info('{table}')");
                    let pairs: Vec<String> = self
                        .lines(&columns)
                        .await
                        .into_iter()
                        .filter(|column| column != HOUSEKEEPING)
                        .map(|column| format!("'{column}', quote({column})"))
                        .collect();
                    format!(
                        "SELECT json_object({}) AS line FROM {table} ORDER BY 1",
                        pairs.join(", ")
                    )
                }
                Kind::Postgres => format!(
                    "SELECT (to_jsonb(t) - '{HOUSEKEEPING}')::text AS line FROM {table} t ORDER BY 1"
                ),
            };
            dump.insert(table.clone(), self.lines(&rows).await);
        }
        dump
    }

    fn file(&self) -> SqliteConnection {
        let path = self.url().strip_prefix("sqlite:").expect("a SQLite database");
        let mut connection = SqliteConnection::establish(path).unwrap();
        connection.batch_execute("PRAGMA busy_timeout = 10000").unwrap();
        connection
    }
}

/// The tables that differ, with the rows that only one side has.
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
