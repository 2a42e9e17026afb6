//! The database: runtime, pools, transactions, migrations, and one file for each table. Only this
//! module uses diesel. All times in rows are UTC.
//!
//! All work, including reads, runs to completion in tasks on a runtime of its own, so that a dropped
//! request leaves no open transaction and no connection in an undefined state.

pub mod api_keys;
pub mod audit_events;
mod changes;
mod conn;
pub mod data_keys;
mod error;
mod filters;
pub mod gateway_policies;
pub mod ledger;
mod migrate;
pub mod model_configurations;
pub mod model_prices;
pub mod names;
pub mod organizations;
pub mod own_responses;
mod page;
mod pool;
pub mod provider_settings;
pub mod requests;
mod schema;
#[cfg(test)]
mod schema_tests;
pub mod secrets;
mod sql;
mod tls;
mod types;
pub mod usage;
pub mod users;
pub mod workspaces;

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::StreamExt;

pub use changes::{Change, ChangeScope, changes_since, current_sequence};
pub use conn::Conn;
pub use error::DbError;
use error::optional;
pub use page::Page;
pub use types::CallerKey;

/// An async closure over a connection whose future is `Send`. The trait exists because this bound
/// cannot be put on `AsyncFnOnce` yet.
pub trait Work<C, R>: AsyncFnOnce(C) -> R + FnOnce(C) -> <Self as Work<C, R>>::Running {
    /// The future that the closure returns.
    type Running: Future<Output = R>;
}

impl<F, C, Fut, R> Work<C, R> for F
where
    F: AsyncFnOnce(C) -> R + FnOnce(C) -> Fut,
    Fut: Future<Output = R>,
{
    type Running = Fut;
}

/// The location of the database.
#[derive(Clone)]
pub enum Location {
    Sqlite(PathBuf),
    Postgres {
        /// Includes the password.
        url: String,
        /// Certificate authorities to trust in addition to the public ones, as PEM.
        ca_pem: Option<Arc<[u8]>>,
    },
}

enum Pools {
    /// One writer, since SQLite allows only one, and several readers.
    Sqlite {
        writer: Pool<conn::Sqlite>,
        readers: Pool<conn::Sqlite>,
    },
    Postgres {
        pool: Pool<AsyncPgConnection>,
        url: String,
        ca_pem: Option<Arc<[u8]>>,
    },
}

struct Inner {
    /// Taken when dropped, so that dropping does not wait for the threads.
    runtime: Option<tokio::runtime::Runtime>,
    pools: Pools,
    wait: Duration,
    on_commit: OnceLock<Box<dyn Fn(Change) + Send + Sync>>,
    requested: AtomicU64,
    housekeeping: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The database. Clones share pools and runtime.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

/// Counted separately: transactions of requests, and periodic ones.
#[derive(Clone, Copy)]
enum Purpose {
    Request,
    Housekeeping,
}

impl Purpose {
    /// How long a transaction may take. Periodic transactions are small, and a stuck one delays the
    /// next. Writers also wait for each other.
    fn time_limit(self, begin: Begin, wait: Duration) -> Duration {
        match (self, begin) {
            (Self::Housekeeping, _) => wait,
            (Self::Request, Begin::Read) => Duration::from_secs(10),
            (Self::Request, Begin::Write) => Duration::from_secs(20),
        }
    }
}

impl Database {
    /// Creates pools of at most `connections` connections without connecting. `wait` limits how long
    /// a transaction waits for a connection.
    pub fn open(location: Location, connections: usize, wait: Duration) -> Result<Self, DbError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("database")
            .enable_all()
            .build()
            .map_err(|error| {
                DbError::Internal(format!("cannot start the database runtime: {error}"))
            })?;
        let pools = match location {
            Location::Sqlite(path) => Pools::Sqlite {
                writer: pool::sqlite_writer(&path, wait)?,
                readers: pool::sqlite_readers(&path, connections.max(1), wait)?,
            },
            Location::Postgres { url, ca_pem } => Pools::Postgres {
                pool: pool::postgres_pool(&url, ca_pem.clone(), connections.max(1), wait)?,
                url,
                ca_pem,
            },
        };
        Ok(Self {
            inner: Arc::new(Inner {
                runtime: Some(runtime),
                pools,
                wait,
                on_commit: OnceLock::new(),
                requested: AtomicU64::new(0),
                housekeeping: AtomicU64::new(0),
            }),
        })
    }

    /// Sets the listener that is called with each write of this process, after the commit and before
    /// [`Self::write`] returns. Only the first call has an effect.
    pub fn on_commit(&self, listener: impl Fn(Change) + Send + Sync + 'static) {
        let _ = self.inner.on_commit.set(Box::new(listener));
    }

    /// Applies the pending migrations. Fails if a newer version of Tollgate has migrated the database.
    pub async fn migrate(&self) -> Result<(), DbError> {
        let this = self.clone();
        self.spawn(async move {
            match &this.inner.pools {
                Pools::Sqlite { writer, .. } => migrate::migrate_sqlite(writer).await,
                Pools::Postgres { pool, .. } => migrate::migrate_postgres(pool).await,
            }
        })
        .await
    }

    /// Runs a read transaction on one snapshot.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: for<'c> Work<&'c mut Conn, Result<T, E>, Running: Send> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        self.run(Purpose::Request, Begin::Read, work).await
    }

    /// Runs a write transaction: takes the next number of the change sequence, runs the work, commits
    /// and calls the listener. Writes run one after the other, so what the work reads does not change
    /// until it commits. `scope` says which cached entries the write invalidates.
    pub async fn write<T, E, F>(&self, scope: ChangeScope, work: F) -> Result<T, E>
    where
        F: for<'c> Work<&'c mut Conn, Result<T, E>, Running: Send> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let (change, value) = self
            .run(Purpose::Request, Begin::Write, async move |conn: &mut Conn| {
                let change = changes::next_change(conn, scope).await?;
                Ok::<_, E>((change, work(conn).await?))
            })
            .await?;
        if let Some(listener) = self.inner.on_commit.get() {
            listener(change);
        }
        Ok(value)
    }

    /// Runs a periodic read transaction.
    pub async fn housekeeping_read<T, F>(&self, work: F) -> Result<T, DbError>
    where
        F: for<'c> Work<&'c mut Conn, Result<T, DbError>, Running: Send> + Send + 'static,
        T: Send + 'static,
    {
        self.run(Purpose::Housekeeping, Begin::Read, work).await
    }

    /// Runs a periodic write transaction that invalidates no cached entries, such as the times of last
    /// use of keys.
    pub async fn housekeeping_write<T, F>(&self, work: F) -> Result<T, DbError>
    where
        F: for<'c> Work<&'c mut Conn, Result<T, DbError>, Running: Send> + Send + 'static,
        T: Send + 'static,
    {
        self.run(Purpose::Housekeeping, Begin::Write, work).await
    }

    /// Ends all work: waits briefly for open transactions and closes the connections. The embedded
    /// database's write-ahead log is merged into its file, so that the file alone is complete.
    pub async fn close(&self) {
        /// Open transactions get as long to end.
        const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

        let this = self.clone();
        let closed: Result<(), DbError> = self
            .spawn(async move {
                let pools = &this.inner.pools;
                let merged = tokio::time::timeout(CLOSE_TIMEOUT, pools.merge_log()).await;
                pools.close();
                let all_closed = async {
                    while pools.connections() > 0 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                if tokio::time::timeout(CLOSE_TIMEOUT, all_closed).await.is_err() {
                    tracing::warn!("some database connections are still in use at the end");
                }
                merged.unwrap_or_else(|_| Err(DbError::Unavailable("timed out".into())))
            })
            .await;
        if let Err(error) = closed {
            tracing::warn!(
                %error,
                "cannot merge the write-ahead log; back up the -wal file with the database"
            );
        }
    }

    /// The number of transactions of requests so far.
    pub fn requested_transactions(&self) -> u64 {
        self.inner.requested.load(Ordering::Relaxed)
    }

    /// The number of periodic transactions so far.
    pub fn housekeeping_transactions(&self) -> u64 {
        self.inner.housekeeping.load(Ordering::Relaxed)
    }

    /// Calls `wake` when a replica notifies of a write. Notifications can be lost, so the caller also
    /// has to poll the change sequence. Does nothing on SQLite.
    pub fn listen(&self, wake: impl Fn() + Send + Sync + 'static) {
        let Pools::Postgres { url, ca_pem, .. } = &self.inner.pools else { return };
        let (url, ca_pem) = (url.clone(), ca_pem.clone());
        let Some(runtime) = &self.inner.runtime else { return };
        runtime.spawn(async move {
            loop {
                let listening = tokio::time::timeout(changes::LISTEN_LIMIT, async {
                    let mut conn = pool::postgres_connection(&url, ca_pem.as_deref()).await.ok()?;
                    let listen = format!("LISTEN {}", changes::CHANNEL);
                    conn.batch_execute(&listen).await.ok().map(|()| conn)
                });
                if let Ok(Some(mut conn)) = listening.await {
                    // Notifications may have been missed before the connection was made.
                    wake();
                    let mut notices = std::pin::pin!(conn.notifications_stream());
                    while let Some(Ok(_)) = notices.next().await {
                        wake();
                    }
                }
                tokio::time::sleep(changes::LISTEN_RETRY).await;
            }
        });
    }

    /// Spawns a task on the database's runtime. It is aborted when the database is dropped.
    pub fn spawn_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.inner.runtime {
            runtime.spawn(task);
        }
    }

    async fn run<T, E, F>(&self, purpose: Purpose, begin: Begin, work: F) -> Result<T, E>
    where
        F: for<'c> Work<&'c mut Conn, Result<T, E>, Running: Send> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        match purpose {
            Purpose::Request => self.inner.requested.fetch_add(1, Ordering::Relaxed),
            Purpose::Housekeeping => self.inner.housekeeping.fetch_add(1, Ordering::Relaxed),
        };
        let this = self.clone();
        self.spawn(async move {
            let wait = this.inner.wait;
            let checkout = tokio::time::timeout(wait, this.inner.pools.checkout(begin));
            let mut conn = checkout
                .await
                .map_err(|_| DbError::Unavailable(format!("no connection within {wait:?}")))??;
            let time_limit = purpose.time_limit(begin, wait);
            let running = async {
                match transact(&mut conn, begin, work).await {
                    Ok(value) => Ok(value),
                    Err(error) => Err((error, conn.execute("ROLLBACK").await.err())),
                }
            };
            match tokio::time::timeout(time_limit, running).await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err((error, None))) => Err(error),
                Ok(Err((error, Some(rollback_error)))) => {
                    // The connection may still be in a transaction and must not be used again.
                    conn.discard();
                    match rollback_error {
                        // The server ended the session. Its first message is in the server's
                        // language, so `error` is not classified as unavailable.
                        DbError::Unavailable(_) => Err(rollback_error.into()),
                        _ => Err(error),
                    }
                }
                Err(_) => {
                    // The answer may never come, for example if the network drops packets.
                    conn.discard();
                    Err(DbError::Unavailable(format!("no answer within {time_limit:?}")).into())
                }
            }
        })
        .await
    }

    async fn spawn<T, E>(
        &self,
        task: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        /// Longer than every other time limit, so that it only ends tasks that are stuck.
        const TASK_LIMIT: Duration = Duration::from_secs(30);

        let Some(runtime) = &self.inner.runtime else {
            return Err(DbError::Unavailable("the database is shut down".into()).into());
        };
        let task = runtime.spawn(task);
        match tokio::time::timeout(TASK_LIMIT, task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Err(DbError::Internal(format!("database task: {error}")).into()),
            Err(_) => Err(DbError::Unavailable("no answer within 30 seconds".into()).into()),
        }
    }
}

/// Runs a transaction. If it fails, the caller has to roll it back.
async fn transact<T, E, F>(conn: &mut Conn, begin: Begin, work: F) -> Result<T, E>
where
    F: for<'c> Work<&'c mut Conn, Result<T, E>, Running: Send>,
    E: From<DbError>,
{
    conn.execute(begin.sql(conn)).await?;
    let value = work(conn).await?;
    conn.execute("COMMIT").await?;
    Ok(value)
}

/// How a transaction begins.
#[derive(Clone, Copy)]
enum Begin {
    Read,
    Write,
}

impl Begin {
    fn sql(self, conn: &Conn) -> &'static str {
        match (self, conn) {
            (Self::Read, Conn::Sqlite(_)) => "BEGIN DEFERRED",
            (Self::Write, Conn::Sqlite(_)) => "BEGIN IMMEDIATE",
            (Self::Read, Conn::Postgres(_)) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            // Each statement sees what was committed before it. Writers wait for each other at the
            // row of the change sequence.
            (Self::Write, Conn::Postgres(_)) => "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }
}

impl Pools {
    async fn checkout(&self, begin: Begin) -> Result<Conn, DbError> {
        match (self, begin) {
            (Self::Sqlite { readers, .. }, Begin::Read) => {
                readers.get().await.map(Conn::Sqlite).map_err(unavailable)
            }
            (Self::Sqlite { writer, .. }, Begin::Write) => {
                writer.get().await.map(Conn::Sqlite).map_err(unavailable)
            }
            (Self::Postgres { pool, .. }, _) => {
                pool.get().await.map(Conn::Postgres).map_err(unavailable)
            }
        }
    }
}

impl Pools {
    async fn merge_log(&self) -> Result<(), DbError> {
        match self {
            Self::Sqlite { .. } => {
                self.checkout(Begin::Write).await?.execute("PRAGMA wal_checkpoint(TRUNCATE)").await
            }
            Self::Postgres { .. } => Ok(()),
        }
    }

    /// Idle connections close at once, others when their work ends.
    fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                readers.close();
                writer.close();
            }
            Self::Postgres { pool, .. } => pool.close(),
        }
    }

    fn connections(&self) -> usize {
        match self {
            Self::Sqlite { writer, readers } => writer.status().size + readers.status().size,
            Self::Postgres { pool, .. } => pool.status().size,
        }
    }
}

impl Conn {
    async fn execute(&mut self, sql: &str) -> Result<(), DbError> {
        match self {
            Self::Sqlite(conn) => conn.batch_execute(sql).await?,
            Self::Postgres(conn) => conn.batch_execute(sql).await?,
        }
        Ok(())
    }

    /// Removes the connection from its pool and closes it.
    fn discard(self) {
        match self {
            Self::Sqlite(conn) => drop(deadpool::managed::Object::take(conn)),
            Self::Postgres(conn) => drop(deadpool::managed::Object::take(conn)),
        }
    }
}

fn unavailable(error: impl std::fmt::Display) -> DbError {
    DbError::Unavailable(error.to_string())
}
