//! Migrations: brings a database to the schema of this version.

use diesel::dsl::sql;
use diesel::sql_types::Text;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::DbError;
use super::conn::Sqlite;

pub(super) const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// The advisory lock with which one replica migrates at a time ("tollgate" in ASCII).
const LOCK: i64 = 0x746f_6c6c_6761_7465;

/// Reads the applied migrations and applies the pending ones under one lock, so that two processes do not
/// apply the same one.
pub(super) async fn migrate_sqlite(pool: &Pool<Sqlite>) -> Result<(), DbError> {
    let mut conn = pool.get().await.map_err(super::unavailable)?;
    conn.spawn_blocking(|conn| Ok(conn.immediate_transaction(|conn| run(conn, SQLITE)))).await?
}

/// Migrates PostgreSQL, one replica at a time.
pub(super) async fn migrate_postgres(pool: &Pool<AsyncPgConnection>) -> Result<(), DbError> {
    let mut conn = pool.get().await.map_err(super::unavailable)?;
    check_encoding(&mut conn).await?;
    // Wait for another replica's migration, however long it takes.
    conn.batch_execute(&format!("SET lock_timeout = 0; SELECT pg_advisory_lock({LOCK})")).await?;
    let mut harness = AsyncMigrationHarness::new(conn);
    let outcome = run(&mut harness, POSTGRES);
    let mut conn = harness.into_inner();
    // The session's settings were changed: close it instead of returning it to the pool.
    let unlocked = conn.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})")).await;
    drop(deadpool::managed::Object::take(conn));
    unlocked?;
    outcome
}

/// Text of callers and upstreams is in every script. `SQL_ASCII` stores bytes unchanged.
async fn check_encoding(conn: &mut AsyncPgConnection) -> Result<(), DbError> {
    let query = diesel::select(sql::<Text>("getdatabaseencoding()::text"));
    let encoding: String = query.get_result(conn).await?;
    if ["UTF8", "SQL_ASCII"].contains(&encoding.as_str()) {
        return Ok(());
    }
    Err(DbError::Internal(format!(
        "the database's encoding is {encoding}, which cannot represent all text. \
         Create one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
    )))
}

fn run<DB, H>(harness: &mut H, migrations: EmbeddedMigrations) -> Result<(), DbError>
where
    DB: diesel::backend::Backend,
    H: MigrationHarness<DB>,
    EmbeddedMigrations: diesel::migration::MigrationSource<DB>,
{
    use diesel::migration::MigrationSource;

    let internal = |error: Box<dyn std::error::Error + Send + Sync>| {
        DbError::Internal(format!("migration failed: {error}"))
    };
    let known: Vec<String> = MigrationSource::<DB>::migrations(&migrations)
        .map_err(internal)?
        .iter()
        .map(|migration| migration.name().version().to_string())
        .collect();
    let applied = harness.applied_migrations().map_err(internal)?;
    if let Some(newer) = applied.iter().find(|version| !known.contains(&version.to_string())) {
        return Err(DbError::Internal(format!(
            "the database has schema version {newer}, which this version of Tollgate does not know: \
             it was migrated by a newer version. Start that version or a later one, or restore a backup"
        )));
    }
    harness.run_pending_migrations(migrations).map_err(internal)?;
    Ok(())
}
