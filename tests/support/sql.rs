//! SQL without the application: to create or inspect a state, or to hold a lock.

use diesel::{
    Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection,
    connection::SimpleConnection as _, sql_query, sql_types::Text,
};

use super::database::{Database, Kind};

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    value: String,
}

pub(crate) async fn execute(database: &Database, sql: &str) {
    match database.kind() {
        Kind::Sqlite => open(database).batch_execute(sql).unwrap(),
        Kind::Postgres => database.connect().await.batch_execute(sql).await.unwrap(),
    }
}

/// The rows of a query with one text column named `value`.
pub(crate) async fn texts(database: &Database, sql: &str) -> Vec<String> {
    match database.kind() {
        Kind::Sqlite => {
            let rows: Vec<Row> = sql_query(sql).load(&mut open(database)).unwrap();
            rows.into_iter().map(|row| row.value).collect()
        }
        Kind::Postgres => {
            let rows = database.connect().await.query(sql, &[]).await.unwrap();
            rows.iter().map(|row| row.get("value")).collect()
        }
    }
}

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// The database's plan for a query.
pub(crate) async fn plan(database: &Database, sql: &str) -> String {
    let steps: Vec<String> = match database.kind() {
        Kind::Sqlite => {
            let explain = sql_query(format!("EXPLAIN QUERY PLAN {sql}"));
            let steps: Vec<Step> = explain.load(&mut open(database)).unwrap();
            steps.into_iter().map(|step| step.detail).collect()
        }
        Kind::Postgres => {
            let explain = format!("EXPLAIN {sql}");
            let rows = database.connect().await.query(&explain, &[]).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        }
    };
    steps.join("\n")
}

/// SQLite's write lock, held until dropped.
pub(crate) struct WriteLock(SqliteConnection);

impl WriteLock {
    pub(crate) fn take(database: &Database) -> Self {
        let mut connection = open(database);
        connection.batch_execute("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        self.0.batch_execute("ROLLBACK").unwrap();
    }
}

fn open(database: &Database) -> SqliteConnection {
    let path = database.url().strip_prefix("sqlite:").expect("a SQLite database");
    let mut connection = SqliteConnection::establish(path).unwrap();
    connection.batch_execute("PRAGMA busy_timeout=5000").unwrap();
    connection
}
