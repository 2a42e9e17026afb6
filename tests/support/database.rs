//! A database for each test: a fresh SQLite file, or a PostgreSQL database made for it and dropped
//! when the last that uses it is gone.
//!
//! The application under test runs on threads of its own and may outlive the case by a moment, so
//! what it holds ([`Database`] is shared) keeps the database; [`drop_leftovers`] takes what a case
//! that hung has kept.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio_postgres::NoTls;
use url::Url;
use uuid::Uuid;

/// The variable that names a PostgreSQL server, with the right to make and drop databases.
pub(crate) const POSTGRES_URL: &str = "TOLLGATE_TEST_POSTGRES_URL";

/// Databases made and not dropped yet.
static MADE: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);
/// Databases, of either kind, that somebody holds.
static HELD: AtomicUsize = AtomicUsize::new(0);
/// How long the end of the run waits for applications that are still stopping.
const STOPPING: Duration = Duration::from_secs(15);
/// Threads that are dropping one.
static DROPPING: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// Which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The embedded one.
    Sqlite,
    /// The one for several replicas.
    Postgres,
}

impl Kind {
    /// As it ends a case's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// A database of the case's own, empty at first, and a directory for what belongs to it. Clones
/// share it.
#[derive(Clone)]
pub(crate) struct Database {
    shared: Arc<Shared>,
    url: String,
}

struct Shared {
    kind: Kind,
    directory: TempDir,
    /// Where it is, past any link.
    url: String,
    /// PostgreSQL's name for it, where it has to be dropped.
    name: Option<String>,
}

/// The server's URL, when there is one.
pub(crate) fn postgres_url() -> Option<String> {
    std::env::var(POSTGRES_URL).ok().filter(|url| !url.trim().is_empty())
}

impl Database {
    /// Makes a fresh one. Blocks.
    pub(crate) fn create(kind: Kind) -> Result<Self, String> {
        let directory = directory_for_a_test()?;
        let (name, url) = match kind {
            Kind::Sqlite => {
                (None, format!("sqlite:{}", directory.path().join("tollgate.db").display()))
            }
            Kind::Postgres => {
                let name = format!("tollgate_test_{}", Uuid::now_v7().simple());
                let url = url_of(&name)?;
                // The other template may be in use, and a database can't be made from one that is.
                administer(&format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"))?;
                MADE.lock().unwrap().insert(name.clone());
                (Some(name), url)
            }
        };
        Ok(Self::of(Shared { kind, directory, url, name }))
    }

    /// The database of a server of the case's own, with which it goes.
    pub(crate) fn of_server(url: String) -> Self {
        let directory = directory_for_a_test().unwrap();
        Self::of(Shared { kind: Kind::Postgres, directory, url, name: None })
    }

    fn of(shared: Shared) -> Self {
        HELD.fetch_add(1, Ordering::SeqCst);
        Self { url: shared.url.clone(), shared: Arc::new(shared) }
    }

    /// Which kind it is.
    pub(crate) fn kind(&self) -> Kind {
        self.shared.kind
    }

    /// As `--database-url` takes it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The same database, reached by another way (a [`FaultProxy`](super::fault_proxy::Link)).
    pub(crate) fn reached_by(&self, url: String) -> Self {
        Self { shared: Arc::clone(&self.shared), url }
    }

    /// A directory that goes with the database.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.shared.directory.path()
    }

    /// A connection of the test's own, past any link. PostgreSQL only.
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.shared.url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::SeqCst);
        let Some(name) = self.name.take() else { return };
        // Not waited for here: this may run on a runtime's thread.
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

/// Waits until applications have stopped and drops are done, then drops what a hung case kept. For
/// the end of the run.
pub(crate) fn drop_leftovers() {
    let began = Instant::now();
    while HELD.load(Ordering::SeqCst) > 0 && began.elapsed() < STOPPING {
        thread::sleep(Duration::from_millis(20));
    }
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

/// `FORCE`: an application that has not closed its connections yet must not keep it.
fn drop_now(name: &str) -> Result<(), String> {
    administer(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
}

/// The server's URL with another database.
fn url_of(name: &str) -> Result<String, String> {
    let server = postgres_url().ok_or_else(|| format!("{POSTGRES_URL} is not set"))?;
    let mut url = Url::parse(&server).map_err(|error| format!("{POSTGRES_URL}: {error}"))?;
    url.set_path(name);
    Ok(url.into())
}

/// Runs one statement on the server, on a thread with a runtime of its own, so that it can be called
/// from anywhere. Blocks.
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
