//! The application: built from settings, run until told to stop, drained.

mod accounting;
pub mod bootstrap;
pub mod drain;
pub mod open;
pub mod rotate;
mod server;
pub mod stop;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use actix_web::dev::ServerHandle;

use crate::accounting::engine::Accounting;
use crate::clock::Clock;
use crate::config::{Settings, SettingsError};
use crate::crypto::{KeyDigester, KeyringError, RandomError, system_random};
use crate::db::DbError;
use crate::directory::{Directory, DirectoryOptions};
use crate::telemetry::Metrics;
use crate::telemetry::readiness::Readiness;
use open::{Store, open_store};

/// How often the uses of keys are written down.
const WRITE_USES: Duration = Duration::from_secs(30);

/// How long the end waits for a database that may be away.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Why the application did not start, in words that say what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings contradict themselves.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The database.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The master keys can't be read, or one that the database needs is missing.
    #[error("{0}{hint}", hint = keyring_hint(.0))]
    Keyring(#[from] KeyringError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// PostgreSQL without a master key.
    #[error(
        "no master key: give --master-key-file or TOLLGATE_MASTER_KEY, the same for every replica"
    )]
    NoMasterKey,
    /// The database is not new and there is no key file.
    #[error(
        "the master key file {} does not exist, and the database is not a new one. Put the file \
         back from its backup, or name the right one with --master-key-file", .0.display()
    )]
    MasterKeyFileMissing(PathBuf),
    /// A key of the right id that does not open anything.
    #[error(
        "the master key '{0}' is not the one that the database was sealed with, although it has \
         its id. Put the right key file back from its backup"
    )]
    WrongMasterKey(String),
    /// `bootstrap` on a database that has organizations.
    #[error(
        "there is an organization already, so there is nothing to bootstrap. Use the platform key \
         that the first bootstrap printed"
    )]
    AlreadyBootstrapped,
    /// The first organization, or a platform key, could not be made.
    #[error("the keys could not be made: {0}")]
    Bootstrap(String),
    /// The name is not one.
    #[error("the organization's name {0}")]
    Name(#[from] crate::domain::names::InvalidName),
    /// The embedded database's file can't be made.
    #[error("the database {} can't be made: {error}", path.display())]
    DatabaseFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// `drain-journal` on what is none.
    #[error("{} is no journal", .0.display())]
    NoJournal(PathBuf),
    /// `drain-journal` into a database that would have to be made.
    #[error("the database {} does not exist", .0.display())]
    NoDatabase(PathBuf),
    /// `drain-journal` while Redis can't be told.
    #[error(
        "Redis can't be reached; without --redis-url it is not told, and keeps what was reserved"
    )]
    CountersAway,
    /// `drain-journal` had to leave something out.
    #[error(
        "not all of the journal could be brought into the ledger: {} has the rest",
        .0.display()
    )]
    NotAllDrained(PathBuf),
    /// The journal or the ledger.
    #[error(transparent)]
    Ledger(#[from] crate::accounting::ledger::LedgerError),
    /// Where limits are counted.
    #[error(transparent)]
    Counters(#[from] crate::policy::limits::RedisSetupError),
    /// The database CA file.
    #[error("--database-ca-file can't be read: {0}")]
    DatabaseCa(std::io::Error),
    /// The upstream CA file.
    #[error("--upstream-ca-file: {0}")]
    UpstreamCa(String),
    /// An address that can't be listened on.
    #[error("can't listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The demonstration.
    #[error(transparent)]
    Demo(#[from] crate::demo::DemoError),
    /// Something else about the process.
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

/// A running application: its ports are bound and served.
pub struct Application {
    settings: Settings,
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    handles: Vec<ServerHandle>,
    running: Vec<tokio::task::JoinHandle<std::io::Result<()>>>,
    directory: Directory,
    accounting: Accounting,
    readiness: Readiness,
    clock: Clock,
    metrics: Metrics,
}

impl Application {
    /// Opens the store, binds the ports and begins to serve. Must run inside an actix system.
    pub async fn build(settings: Settings) -> Result<Self, StartError> {
        settings.validate()?;
        let store = open_store(&settings).await?;
        Self::build_on(settings, store, Clock::default()).await
    }

    /// The same on a store that is open already, at the time that the clock tells.
    pub async fn build_on(
        settings: Settings,
        store: Store,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        let readiness = Readiness::default();
        let options = DirectoryOptions {
            capacity: settings.directory.directory_capacity,
            max_stale: settings.directory.directory_max_stale,
            poll: settings.directory.directory_poll,
        };
        let digester = KeyDigester::new(&mut system_random)?;
        let directory =
            Directory::start(store.database.clone(), options, digester, metrics.clone()).await?;
        let accounting =
            accounting::open(&settings, &store, &directory, &clock, &metrics, &readiness).await?;
        server::watch_counters(&metrics, &store);
        let parts = server::Parts {
            store,
            directory: directory.clone(),
            accounting: accounting.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            readiness: readiness.clone(),
        };
        let bound = server::start(&settings, parts)?;
        readiness.is_ready();
        write_uses_now_and_then(&directory);
        Ok(Self {
            settings,
            address: bound.address,
            admin_address: bound.admin_address,
            handles: bound.servers.iter().map(actix_web::dev::Server::handle).collect(),
            running: bound.servers.into_iter().map(actix_web::rt::spawn).collect(),
            directory,
            accounting,
            readiness,
            clock,
            metrics,
        })
    }

    /// Where callers are served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where admins are served, if apart.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The clock that everything here goes by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The metrics, as `/metrics` shows them.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Serves until `stop` resolves, then drains: readiness fails first, then no more connections
    /// are taken and open requests have their deadline.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let ended = futures_util::future::select_all(self.running.iter_mut());
        tokio::select! {
            () = stop => {}
            // A server that ends by itself has failed.
            (outcome, _, _) = ended => {
                outcome.map_err(std::io::Error::other)??;
            }
        }
        self.readiness.is_draining();
        tracing::info!(open_streams = self.metrics.open_streams(), "draining");
        tokio::time::sleep(self.settings.timeouts.shutdown_delay).await;
        futures_util::future::join_all(self.handles.iter().map(|handle| handle.stop(true))).await;
        accounting::close(&self.accounting).await;
        match tokio::time::timeout(LAST_WRITE, self.directory.write_uses()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the last uses of keys could not be written");
            }
            Err(_) => tracing::warn!("the last uses of keys could not be written in time"),
        }
        tracing::info!("stopped");
        Ok(())
    }
}

fn write_uses_now_and_then(directory: &Directory) {
    let directory = directory.clone();
    actix_web::rt::spawn(async move {
        let mut tick = tokio::time::interval(WRITE_USES);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = directory.write_uses().await {
                tracing::debug!(%error, "uses of keys could not be written");
            }
        }
    });
}
