//! Connection pools: pragmas for SQLite; TLS and session settings for PostgreSQL.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use diesel::result::DatabaseErrorKind;
use diesel::sql_types::Text;
use diesel::{ConnectionError, ConnectionResult, QueryResult};
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use futures_util::FutureExt;

use super::conn::Sqlite;
use super::{DbError, tls};

/// Settings of every SQLite connection. With `synchronous=FULL`, a commit survives a power cut. A writer
/// waits at most five seconds for another one.
const PRAGMAS: &str = "PRAGMA busy_timeout=5000; PRAGMA journal_mode=WAL; \
                       PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;";

/// Further settings of the SQLite connection that writes. Its cache holds all that one transaction of the
/// ledger changes; with the default of 2 MB, pages are written to the log several times in one
/// transaction. It is filled only when it is needed. The log is merged into the database at 32 MB (of pages
/// with 4 KB) instead of 4: pages that every transaction changes are merged once for many of them.
const WRITER_PRAGMAS: &str = "PRAGMA cache_size=-16384; PRAGMA wal_autocheckpoint=8192;";

/// Settings of every PostgreSQL session.
///
/// Writers wait for each other, so a replica that dies in a transaction would block all writes until the
/// server notices, which takes hours by default. Our transactions are idle for milliseconds between
/// statements, and we abort one that waits longer for a lock (see `Purpose::time_limit`). Commits have to be
/// synchronous whatever the server's default is: callers are answered, and records are removed from the
/// journal, once a transaction is committed.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '5s'; SET lock_timeout = '25s'; \
                       SELECT set_config('synchronous_commit', 'on', false) \
                       WHERE current_setting('synchronous_commit') = 'off'";

diesel::define_sql_function! {
    /// A setting of the session.
    fn current_setting(name: Text) -> Text;
}

/// A pool of one connection to SQLite that writes.
pub(super) fn sqlite_writer(path: &Path, wait: Duration) -> Result<Pool<Sqlite>, DbError> {
    sqlite_pool(path, 1, wait, WRITER_PRAGMAS)
}

/// A pool of connections to SQLite that read.
pub(super) fn sqlite_readers(
    path: &Path,
    size: usize,
    wait: Duration,
) -> Result<Pool<Sqlite>, DbError> {
    sqlite_pool(path, size, wait, "")
}

fn sqlite_pool(
    path: &Path,
    size: usize,
    wait: Duration,
    further_pragmas: &'static str,
) -> Result<Pool<Sqlite>, DbError> {
    let mut config = ManagerConfig::default();
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(move |path| {
        async move {
            let mut conn = Sqlite::establish(path).await?;
            for pragmas in [PRAGMAS, further_pragmas] {
                conn.batch_execute(pragmas)
                    .await
                    .map_err(ConnectionError::CouldntSetupConfiguration)?;
            }
            Ok(conn)
        }
        .boxed()
    });
    let path = path.to_str().ok_or_else(|| {
        DbError::Internal("the path of the SQLite database is not valid UTF-8".into())
    })?;
    build(AsyncDieselConnectionManager::new_with_config(path, config), size, wait)
}

/// A pool of connections to a PostgreSQL server.
pub(super) fn postgres_pool(
    url: &str,
    ca_pem: Option<Arc<[u8]>>,
    size: usize,
    wait: Duration,
) -> Result<Pool<AsyncPgConnection>, DbError> {
    let mut config = ManagerConfig::default();
    config.recycling_method =
        RecyclingMethod::CustomFunction(Box::new(|conn| check_writable(conn).boxed()));
    config.custom_setup = Box::new(move |url| {
        let ca_pem = ca_pem.clone();
        async move { postgres_connection(url, ca_pem.as_deref()).await }.boxed()
    });
    build(AsyncDieselConnectionManager::new_with_config(url, config), size, wait)
}

/// Fails unless the session is alive and may write. A session that began while the server was read-only,
/// for example during a failover, may stay read-only.
async fn check_writable(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    let query = diesel::select(current_setting("transaction_read_only"));
    match query.get_result::<String>(conn).await?.as_str() {
        "off" => Ok(()),
        _ => Err(diesel::result::Error::DatabaseError(
            DatabaseErrorKind::ReadOnlyTransaction,
            Box::new("the session is read-only".to_owned()),
        )),
    }
}

/// `wait` limits waiting for a free connection, opening one, and checking one that was idle.
fn build<C>(
    manager: AsyncDieselConnectionManager<C>,
    size: usize,
    wait: Duration,
) -> Result<Pool<C>, DbError>
where
    AsyncDieselConnectionManager<C>: deadpool::managed::Manager,
    C: AsyncConnection + 'static,
    Pool<C>: Sized,
{
    Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(wait))
        .create_timeout(Some(wait))
        .recycle_timeout(Some(wait))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .map_err(|error| DbError::Internal(error.to_string()))
}

/// Connects, with TLS according to the URL's `sslmode`.
pub(super) async fn postgres_connection(
    url: &str,
    ca_pem: Option<&[u8]>,
) -> ConnectionResult<AsyncPgConnection> {
    let failed = |error: tokio_postgres::Error| ConnectionError::BadConnection(describe(&error));
    let mut config: tokio_postgres::Config = url.parse().map_err(failed)?;
    detect_dead_peers(&mut config);
    let tls = tls::connector(config.get_ssl_mode(), ca_pem);
    let mut conn = match tls.map_err(ConnectionError::BadConnection)? {
        None => {
            let (client, connection) =
                config.connect(tokio_postgres::NoTls).await.map_err(failed)?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await?
        }
        Some(tls) => {
            let (client, connection) = config.connect(tls).await.map_err(failed)?;
            AsyncPgConnection::try_from_client_and_connection(client, connection).await?
        }
    };
    conn.batch_execute(SESSION).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

/// Sets timeouts with which a dead server or network is detected within half a minute, unless the URL
/// sets them. The operating system's defaults take two hours on an idle connection and 15 minutes on a
/// busy one.
fn detect_dead_peers(config: &mut tokio_postgres::Config) {
    let default = tokio_postgres::Config::new();
    if config.get_keepalives_idle() == default.get_keepalives_idle() {
        config.keepalives_idle(Duration::from_secs(10));
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(Duration::from_secs(5));
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(3);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(25));
    }
}

/// The error with its causes, which tokio-postgres leaves out of its text.
fn describe(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
