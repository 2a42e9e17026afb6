//! A database for each test: a new SQLite file, or a new PostgreSQL database that is dropped when its
//! last user is gone.
//!
//! The application under test runs on its own threads and may outlive the test for a moment, so its
//! clone of [`Database`] keeps the database. [`drop_leftovers`] drops those of tests that hung.

use std::{
    collections::BTreeSet,
    sync::{Arc, Condvar, LazyLock, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use tempfile::TempDir;
use tokio_postgres::NoTls;
use tollgate::db::Location;
use url::Url;
use uuid::Uuid;

/// The URL of a PostgreSQL server, with a role that may create databases.
pub(crate) const POSTGRES_URL: &str = "TOLLGATE_TEST_POSTGRES_URL";

/// Databases that were created and not dropped yet.
static MADE: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);
/// The number of databases in use, of either kind.
static HELD: Mutex<usize> = Mutex::new(0);
/// Signalled when none is in use any more.
static NONE_HELD: Condvar = Condvar::new();
/// How long the end of the run waits for applications to stop.
const STOPPING: Duration = Duration::from_secs(15);
/// Threads that are dropping a database.
static DROPPING: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    /// The suffix of a case's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// A test's own database, empty at first, and a directory for its files. Clones share it.
#[derive(Clone)]
pub(crate) struct Database {
    shared: Arc<Shared>,
    url: String,
}

struct Shared {
    kind: Kind,
    directory: TempDir,
    /// Its own address, not that of a proxy.
    url: String,
    /// The name to drop on PostgreSQL.
    name: Option<String>,
}

/// The URL of the PostgreSQL server, if one was given.
pub(crate) fn postgres_url() -> Option<String> {
    std::env::var(POSTGRES_URL).ok().filter(|url| !url.trim().is_empty())
}

impl Database {
    /// Creates a new database. Blocks.
    pub(crate) fn create(kind: Kind) -> Result<Self, String> {
        let directory = directory_for_a_test()?;
        let (name, url) = match kind {
            Kind::Sqlite => {
                (None, format!("sqlite:{}", directory.path().join("tollgate.db").display()))
            }
            Kind::Postgres => {
                let name = format!("tollgate_test_{}", Uuid::now_v7().simple());
                let url = url_of(&name)?;
                // template1 may be in use, and then a database cannot be created from it.
                administer(&format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"))?;
                MADE.lock().unwrap().insert(name.clone());
                (Some(name), url)
            }
        };
        Ok(Self::of(Shared { kind, directory, url, name }))
    }

    /// The database of a server that the test itself started.
    pub(crate) fn of_server(url: String) -> Self {
        let directory = directory_for_a_test().unwrap();
        Self::of(Shared { kind: Kind::Postgres, directory, url, name: None })
    }

    fn of(shared: Shared) -> Self {
        *HELD.lock().unwrap() += 1;
        Self { url: shared.url.clone(), shared: Arc::new(shared) }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.shared.kind
    }

    /// The value for `--database-url`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The same database at another address, that of a [`FaultProxy`](super::fault_proxy::FaultProxy).
    pub(crate) fn reached_by(&self, url: String) -> Self {
        Self { shared: Arc::clone(&self.shared), url }
    }

    /// Opens it as the application does, with this number of connections.
    pub(crate) fn open(&self, connections: usize) -> tollgate::db::Database {
        let location = match self.kind() {
            Kind::Sqlite => Location::Sqlite(self.url.strip_prefix("sqlite:").unwrap().into()),
            Kind::Postgres => Location::Postgres { url: self.url.clone(), ca_pem: None },
        };
        tollgate::db::Database::open(location, connections, Duration::from_secs(5)).unwrap()
    }

    /// A directory that is removed with the database.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.shared.directory.path()
    }

    /// A direct connection. PostgreSQL only.
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.shared.url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap();
        *held -= 1;
        if *held == 0 {
            NONE_HELD.notify_all();
        }
        drop(held);
        let Some(name) = self.name.take() else { return };
        // Not awaited here: this may run on a runtime's thread.
        let dropping = thread::spawn(move || match drop_now(&name) {
            Ok(()) => {
                MADE.lock().unwrap().remove(&name);
            }
            Err(error) => eprintln!("a test database stays behind: {error}"),
        });
        DROPPING.lock().unwrap().push(dropping);
    }
}

fn directory_for_a_test() -> Result<TempDir, String> {
    let made = tempfile::Builder::new().prefix("tollgate-test-").tempdir();
    made.map_err(|error| format!("no directory for the test: {error}"))
}

/// At the end of the run: waits until applications have stopped and databases are dropped, then
/// drops those that hung tests kept.
pub(crate) fn drop_leftovers() {
    let held = HELD.lock().unwrap();
    drop(NONE_HELD.wait_timeout_while(held, STOPPING, |held| *held > 0));
    let dropping = std::mem::take(&mut *DROPPING.lock().unwrap());
    for thread in dropping {
        let _ = thread.join();
    }
    let left = std::mem::take(&mut *MADE.lock().unwrap());
    for name in left {
        if let Err(error) = drop_now(&name) {
            eprintln!("a test database stays behind: {error}");
        }
    }
}

/// `FORCE` closes connections that an application has not closed yet.
fn drop_now(name: &str) -> Result<(), String> {
    administer(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
}

/// The server's URL with another database name.
fn url_of(name: &str) -> Result<String, String> {
    let server = postgres_url().ok_or_else(|| format!("{POSTGRES_URL} is not set"))?;
    let mut url = Url::parse(&server).map_err(|error| format!("{POSTGRES_URL}: {error}"))?;
    url.set_path(name);
    Ok(url.into())
}

/// Runs one statement on the server, on a thread with its own runtime, so that it can be called from
/// anywhere. Blocks.
fn administer(statement: &str) -> Result<(), String> {
    let server = postgres_url().ok_or_else(|| format!("{POSTGRES_URL} is not set"))?;
    thread::scope(|scope| {
        let work = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(&server, NoTls).await?;
                let connection = tokio::spawn(connection);
                let done = client.batch_execute(statement).await;
                drop(client);
                let _ = connection.await;
                done
            })?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
        match work.join() {
            Ok(done) => done.map_err(|error| format!("{POSTGRES_URL}: {statement}: {error}")),
            Err(_) => Err(format!("{POSTGRES_URL}: {statement}: panicked")),
        }
    })
}
