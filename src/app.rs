//! The application: built from settings, run until it is stopped, drained.

mod accounting;
pub mod bootstrap;
mod database_lock;
pub mod drain;
mod http1;
mod management_log;
pub mod open;
pub mod rotate;
mod server;
pub mod stop;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;

use crate::accounting::Accounting;
use crate::clock::Clock;
use crate::config::{Settings, SettingsError};
use crate::crypto::{KeyDigester, KeyringError, RandomError, system_random};
use crate::db::organizations::any_organization;
use crate::db::{Conn, Database, DbError};
use crate::directory::{Directory, DirectoryOptions};
use crate::presidio::Presidio;
use crate::telemetry::Metrics;
use crate::telemetry::readiness::Readiness;
use crate::upstream::EgressRules;
use database_lock::DatabaseLock;
use open::{Store, open_store};
use server::Listeners;

/// How often the times at which keys were last used are written to the database.
const KEY_USE_INTERVAL: Duration = Duration::from_secs(30);

/// How long shutdown waits for a database that may be unreachable.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a command failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings contradict each other.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The database refuses or can't be reached.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The master keys can't be read, or one that the database needs is missing.
    #[error("{0}{hint}", hint = keyring_hint(.0))]
    Keyring(#[from] KeyringError),
    #[error("--provider-origin: {0}")]
    ProviderOrigin(String),
    #[error(transparent)]
    Random(#[from] RandomError),
    /// PostgreSQL without a master key.
    #[error(
        "no master key: give --master-key-file or TOLLGATE_MASTER_KEY, the same for every replica"
    )]
    NoMasterKey,
    #[error(
        "the master key file {} does not exist, and the database is not a new one. Restore the file \
         from its backup, or name the right one with --master-key-file", .0.display()
    )]
    MasterKeyFileMissing(PathBuf),
    #[error(
        "the master key '{0}' has the id that the database names, but does not open its secrets. \
         Restore the right key file from its backup"
    )]
    WrongMasterKey(String),
    /// `bootstrap` on a database that has organizations.
    #[error(
        "there is an organization already, so there is nothing to bootstrap. Use the platform key \
         that the first bootstrap printed, or make a new one with `tollgate replace-platform-key`"
    )]
    AlreadyBootstrapped,
    #[error("the keys could not be created: {0}")]
    Bootstrap(String),
    #[error("the organization's name {0}")]
    Name(#[from] crate::domain::names::InvalidName),
    #[error("the database {path} can't be created: {1}", path = .0.display())]
    DatabaseFile(PathBuf, std::io::Error),
    #[error(
        "another `tollgate serve` uses the database {}. Limits are counted in the memory of one \
         process, so an embedded database is served by one process at a time; use PostgreSQL and \
         Redis for several processes", .0.display()
    )]
    DatabaseInUse(PathBuf),
    #[error("the lock file {path} can't be used: {1}", path = .0.display())]
    DatabaseLock(PathBuf, std::io::Error),
    /// `drain-journal` on a directory without a journal.
    #[error("{} is no journal", .0.display())]
    NoJournal(PathBuf),
    /// `drain-journal` into a database that does not exist.
    #[error("the database {} does not exist", .0.display())]
    NoDatabase(PathBuf),
    /// `drain-journal` while Redis can't be reached.
    #[error(
        "Redis can't be reached, so nothing was drained. Try again when it is back; without \
         --redis-url the rows are drained, and counters in Redis keep what was reserved"
    )]
    RedisUnreachable,
    /// `drain-journal` had to leave something out.
    #[error(
        "not all of the journal could be brought into the ledger: {} has the rest",
        .0.display()
    )]
    NotAllDrained(PathBuf),
    #[error(transparent)]
    Ledger(#[from] crate::accounting::ledger::LedgerError),
    #[error(transparent)]
    Counters(#[from] crate::policy::limits::RedisSetupError),
    #[error("--database-ca-file can't be read: {0}")]
    DatabaseCa(std::io::Error),
    #[error("--upstream-ca-file: {0}")]
    UpstreamCa(String),
    /// An address of Presidio that egress rules refuse.
    #[error(
        "--presidio-url: {0}. Texts of requests go there: give an https URL with a public address, or \
         name its network in --egress-allow"
    )]
    Presidio(crate::upstream::EgressRefusal),
    #[error("can't listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// Any other failure of the operating system.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

fn keyring_hint(error: &KeyringError) -> &'static str {
    match error {
        KeyringError::UnknownKey { .. } => {
            ". The database holds secrets that only its own master keys open: put the file back from \
             its backup, or name the right one with --master-key-file"
        }
        _ => "",
    }
}

/// How a served application ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Open requests were finished, or reached the drain's time limit.
    Drained,
    /// It had to stop at once; open requests were cut off.
    Interrupted,
}

/// A running application: its ports are bound and served.
pub struct Application {
    settings: Settings,
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    handles: Vec<ServerHandle>,
    running: Vec<tokio::task::JoinHandle<std::io::Result<()>>>,
    database: Database,
    directory: Directory,
    accounting: Arc<Accounting>,
    readiness: Readiness,
    metrics: Metrics,
    /// Held until the end.
    _lock: Option<DatabaseLock>,
}

impl Application {
    /// Binds the ports, opens the store, and begins to serve. Must run inside an actix system.
    ///
    /// An address that is in use, or an embedded database that another process serves, fails before
    /// a database, a master key or a journal is created.
    pub async fn build(settings: Settings) -> Result<Self, StartError> {
        settings.validate()?;
        let listeners = Listeners::bind(&settings.listen)?;
        let lock = DatabaseLock::acquire(&settings.database.database_url)?;
        let store = open_store(&settings).await?;
        warn_without_organization(&store.database).await?;
        Self::serve(settings, listeners, store, Clock::default(), lock).await
    }

    /// The same on a store that is open already, with a given clock, and without the lock of an
    /// embedded database.
    pub async fn build_on(
        settings: Settings,
        store: Store,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let listeners = Listeners::bind(&settings.listen)?;
        Self::serve(settings, listeners, store, clock, None).await
    }

    async fn serve(
        settings: Settings,
        listeners: Listeners,
        store: Store,
        clock: Clock,
        lock: Option<DatabaseLock>,
    ) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        let readiness = Readiness::default();
        let options = DirectoryOptions {
            capacity: settings.directory.directory_capacity,
            max_stale: settings.directory.directory_max_stale,
            poll: settings.directory.directory_poll,
        };
        let digester = KeyDigester::new(&mut system_random)?;
        let database = store.database.clone();
        let directory =
            Directory::start(database.clone(), options, digester, metrics.clone()).await?;
        let accounting =
            accounting::open(&settings, &store, &directory, &clock, &metrics, &readiness).await?;
        server::watch_counters(&metrics, &database);
        let presidio = open_presidio(&settings, &clock, &metrics).await?;
        let parts = server::Parts {
            store,
            directory: directory.clone(),
            accounting: accounting.clone(),
            clock,
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            presidio,
        };
        let bound = server::start(&settings, listeners, parts)?;
        readiness.set_ready();
        spawn_key_use_writer(&directory);
        Ok(Self {
            settings,
            address: bound.address,
            admin_address: bound.admin_address,
            handles: bound.servers.iter().map(actix_web::dev::Server::handle).collect(),
            running: bound.servers.into_iter().map(actix_web::rt::spawn).collect(),
            database,
            directory,
            accounting,
            readiness,
            metrics,
            _lock: lock,
        })
    }

    /// The address that callers use.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The management plane's own address, if it has one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Serves until `stop` resolves, then drains: readiness fails first, then no more connections
    /// are accepted and open requests have until the drain's time limit. When `stop_now` resolves,
    /// what is left of that is skipped: the journal is closed, and the next process brings its rows
    /// into the ledger.
    pub async fn run_until(
        mut self,
        stop: impl Future<Output = ()>,
        stop_now: impl Future<Output = ()>,
    ) -> Result<Stopped, StartError> {
        let ended = futures_util::future::select_all(self.running.iter_mut());
        tokio::select! {
            () = stop => {}
            // A server that ends by itself has failed.
            (outcome, _, _) = ended => {
                outcome.map_err(std::io::Error::other)??;
            }
        }
        self.readiness.set_draining();
        tracing::info!(
            open_streams = self.metrics.open_streams(),
            "draining: new requests are refused soon, open ones may finish"
        );
        let stopped = tokio::select! {
            () = self.drain() => Stopped::Drained,
            () = stop_now => {
                tracing::warn!("told to stop at once; open requests are cut off");
                self.accounting.ledger.close_journal();
                self.accounting.reporter.flush();
                Stopped::Interrupted
            }
        };
        self.database.close().await;
        tracing::info!("stopped");
        Ok(stopped)
    }

    async fn drain(&self) {
        tokio::time::sleep(self.settings.timeouts.shutdown_delay).await;
        futures_util::future::join_all(self.handles.iter().map(|handle| handle.stop(true))).await;
        accounting::close(&self.accounting).await;
        match tokio::time::timeout(LAST_WRITE_TIMEOUT, self.directory.write_uses()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot write when keys were last used");
            }
            Err(_) => tracing::warn!("cannot write when keys were last used: timed out"),
        }
    }
}

/// The client of Presidio, if its address is given and may be called.
async fn open_presidio(
    settings: &Settings,
    clock: &Clock,
    metrics: &Metrics,
) -> Result<Option<Presidio>, StartError> {
    if let Some(url) = &settings.policies.presidio_url {
        let rules = EgressRules::new(settings.egress.egress_allow.0.clone());
        url.check_egress(&rules).await.map_err(StartError::Presidio)?;
    }
    Ok(Presidio::new(&settings.policies, clock.clone(), metrics.clone()))
}

/// Nobody can call an installation without an organization, which is easily taken for a wrong key.
async fn warn_without_organization(database: &Database) -> Result<(), DbError> {
    let exists = database.housekeeping_read(async |conn: &mut Conn| any_organization(conn).await);
    if !exists.await? {
        tracing::warn!(
            "the database has no organization, so every request gets 401. Create one with `tollgate \
             bootstrap --organization NAME`, with the same database and master key options"
        );
    }
    Ok(())
}

fn spawn_key_use_writer(directory: &Directory) {
    let directory = directory.clone();
    actix_web::rt::spawn(async move {
        let mut tick = tokio::time::interval(KEY_USE_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = directory.write_uses().await {
                tracing::debug!(%error, "cannot write when keys were last used");
            }
        }
    });
}
