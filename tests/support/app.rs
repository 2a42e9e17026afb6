//! The real application on a free port over the test's database, and clients with its keys.
//!
//! It is configured by the same options as the binary.

use std::{
    future::pending,
    net::SocketAddr,
    path::PathBuf,
    thread::{self, JoinHandle},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use clap::Parser as _;
use tokio::sync::oneshot;
use tollgate::{
    app::{Application, bootstrap::bootstrap, open::open_store},
    clock::Clock,
    config::Settings,
    domain::names::DisplayName,
};
use uuid::Uuid;

use super::{
    database::Database,
    fixture::Fixture,
    http::Client,
    secrets,
    upstream::ScriptedUpstream,
    wait::{eventually, within},
};

/// Longer than any shutdown deadline in the tests.
const STOPPING: Duration = Duration::from_secs(60);

/// The options as the command line parses them.
#[derive(clap::Parser)]
#[command(args_override_self = true)]
struct Options {
    #[command(flatten)]
    settings: Settings,
}

/// The ids and keys that `bootstrap` made.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) organization_id: String,
    pub(crate) platform: String,
    pub(crate) admin: String,
}

/// A running gateway. Dropping it asks it to stop; it keeps the database until it has stopped.
pub(crate) struct TestApp {
    address: SocketAddr,
    database: Database,
    options: Vec<String>,
    keys: Keys,
    clock: Clock,
    journal: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl TestApp {
    /// Bootstraps an empty database and serves it with the options that tests need.
    pub(crate) async fn start(database: &Database) -> Self {
        Self::with(database, &[]).await
    }

    /// The same with a workspace.
    pub(crate) async fn start_with_workspace(database: &Database) -> (Self, Fixture) {
        let app = Self::start(database).await;
        let team = app.workspace().await;
        (app, team)
    }

    /// [`Self::start`] with additional options, as on the command line: `&["--idle-timeout", "200ms"]`.
    pub(crate) async fn with(database: &Database, options: &[&str]) -> Self {
        write_master_key(&master_key_file(database));
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        Self::launch(Installation::of(database), options).await
    }

    /// The same with a clock that only [`Self::advance`] and [`Self::advance_to`] move.
    pub(crate) async fn with_stopped_clock(database: &Database, options: &[&str]) -> Self {
        write_master_key(&master_key_file(database));
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let installation = Installation::of(database);
        installation.clock.stop();
        Self::launch(installation, options).await
    }

    /// One that calls a scripted upstream in place of these providers, and a workspace of it.
    pub(crate) async fn in_place_of(database: &Database, providers: &[&str]) -> (Self, Fixture) {
        let upstream = ScriptedUpstream::start().await;
        let origin = upstream.origin();
        let origins: Vec<_> = providers.iter().map(|name| format!("{name}={origin}")).collect();
        let app = Self::with(database, &["--provider-origin", &origins.join(",")]).await;
        let team = Fixture::before(&app.admin(), app.address, upstream).await;
        (app, team)
    }

    /// Serves a database and a master key that the test has prepared.
    pub(crate) async fn over(database: &Database, keys: Keys) -> Self {
        secrets::register_key(&keys.platform);
        secrets::register_key(&keys.admin);
        Self::launch(Installation { keys: Some(keys), ..Installation::of(database) }, Vec::new())
            .await
    }

    /// Starts another replica: same database, same master key, same options.
    pub(crate) async fn replica(&self) -> Self {
        self.replica_over(&self.database).await
    }

    /// The same with additional options.
    pub(crate) async fn replica_with(&self, options: &[&str]) -> Self {
        let more = options.iter().map(|&option| option.to_owned());
        let options = self.options.iter().cloned().chain(more).collect();
        Self::launch(self.beside(&self.database), options).await
    }

    /// The same with these options instead.
    pub(crate) async fn replica_with_only(&self, options: &[&str]) -> Self {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        Self::launch(self.beside(&self.database), options).await
    }

    /// The same with another connection to the database, such as a [`FaultProxy`](super::fault_proxy::FaultProxy).
    pub(crate) async fn replica_over(&self, database: &Database) -> Self {
        Self::launch(self.beside(database), self.options.clone()).await
    }

    /// The installation for another replica: it shares the clock and has its own journal.
    fn beside(&self, database: &Database) -> Installation {
        let (keys, clock) = (Some(self.keys.clone()), self.clock.clone());
        Installation { keys, clock, ..Installation::of(database) }
    }

    /// Bootstraps if there are no keys yet, then serves, on its own thread and actix system. The
    /// thread has the test's name, so a panic there fails the test.
    async fn launch(installation: Installation, options: Vec<String>) -> Self {
        let Installation { database, keys, clock, journal } = installation;
        let case = thread::current().name().unwrap_or("test").to_owned();
        let (ready, started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let (held, mut given) = (database.clone(), options.clone());
        given.splice(0..0, ["--journal-dir".to_owned(), journal.display().to_string()]);
        let time = clock.clone();
        // Built on its thread, because it is not `Send`.
        let serve = async move || {
            let keys = match keys {
                Some(keys) => keys,
                None => first_keys(settings(&held, &given)?).await?,
            };
            let settings = settings(&held, &given)?;
            settings.validate().map_err(tell)?;
            let store = open_store(&settings).await.map_err(tell)?;
            let application = Application::build_on(settings, store, time).await.map_err(tell)?;
            let _ = ready.send((application.address(), keys));
            // A message and a dropped sender both mean stop.
            let stopped = async { drop(stopped.await) };
            application.run_until(stopped, pending()).await.map(|_| ()).map_err(tell)
        };
        let thread = thread::Builder::new()
            .name(format!("{case}/gateway"))
            .stack_size(8 << 20)
            .spawn(move || actix_rt::System::new().block_on(serve()))
            .unwrap();
        let Ok((address, keys)) = started.await else {
            panic!("the gateway did not start: {:?}", thread.join());
        };
        let (stop, thread) = (Some(stop), Some(thread));
        Self { address, database, options, keys, clock, journal, stop, thread }
    }

    /// Stops it as SIGTERM does and waits until it has stopped.
    pub(crate) async fn stop(mut self) {
        self.ask_to_stop();
        let thread = self.thread.take().expect("stopped once");
        let ended = tokio::task::spawn_blocking(move || thread.join());
        let ended = within(STOPPING, "the gateway stops", ended).await.unwrap();
        assert_eq!(ended.unwrap(), Ok(()));
    }

    /// Stops it and starts a new process with the same journal.
    pub(crate) async fn restart(self) -> Self {
        let (beside, options) = (self.beside(&self.database), self.options.clone());
        let installation = Installation { journal: self.journal.clone(), ..beside };
        self.stop().await;
        Self::launch(installation, options).await
    }

    /// Asks it to stop without waiting.
    pub(crate) fn ask_to_stop(&mut self) {
        self.stop = None;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// The time for it and its replicas.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Advances the time for it and its replicas.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Advances the time to this instant, which must not have passed.
    pub(crate) fn advance_to(&self, instant: DateTime<Utc>) {
        self.advance((instant - self.now()).to_std().expect("time goes forward"));
    }

    /// What is in the files of the journal.
    pub(crate) fn journal_bytes(&self) -> Vec<u8> {
        let files = std::fs::read_dir(&self.journal).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.is_file()).flat_map(|path| std::fs::read(path).unwrap()).collect()
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn anonymous(&self) -> Client {
        Client::new(self.address)
    }

    pub(crate) fn as_key(&self, key: &str) -> Client {
        self.anonymous().with_key(key)
    }

    /// A client with the platform key.
    pub(crate) fn platform(&self) -> Client {
        self.as_key(&self.keys.platform)
    }

    /// A client with the organization's admin key.
    pub(crate) fn admin(&self) -> Client {
        self.as_key(&self.keys.admin)
    }

    /// The value of a counter in `/metrics`.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        self.metric(name).await
    }

    /// The value of a counter or a gauge in `/metrics`.
    pub(crate) async fn metric<T: std::str::FromStr>(&self, name: &str) -> T {
        let text = self.platform().get("/metrics").await.expect(200).text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name}:\n{text}"))
    }

    /// Waits until this process has read all changes so far, so that no earlier change invalidates
    /// what it caches from now on.
    pub(crate) async fn caught_up(&self) {
        const READS: &str = "tollgate_database_housekeeping_transactions_total";
        let before = self.counter(READS).await;
        // One transaction may have begun before the change, and others may not read the change
        // sequence: four of them include a later reading.
        eventually("the sequence is read", async || self.counter(READS).await >= before + 4).await;
    }

    /// Creates a workspace with an upstream, a secret, a configuration and a caller's key.
    pub(crate) async fn workspace(&self) -> Fixture {
        Fixture::create(&self.admin(), self.address).await
    }
}

/// What a process is started with.
struct Installation {
    database: Database,
    /// `None` before bootstrap.
    keys: Option<Keys>,
    clock: Clock,
    journal: PathBuf,
}

impl Installation {
    /// One over this database with a new journal.
    fn of(database: &Database) -> Self {
        let journal = database.directory().join(format!("journal-{}", Uuid::now_v7().simple()));
        Self { database: database.clone(), keys: None, clock: Clock::default(), journal }
    }
}

pub(crate) fn master_key_file(database: &Database) -> PathBuf {
    database.directory().join("master.key")
}

/// Creates a master key file, as operators do for PostgreSQL.
pub(crate) fn write_master_key(path: &std::path::Path) {
    use std::os::unix::fs::OpenOptionsExt as _;

    if path.exists() {
        return;
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).unwrap();
    let text = BASE64_STANDARD.encode(key);
    secrets::register(&text);
    secrets::register(&key.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    std::io::Write::write_all(&mut file.unwrap(), format!("test {text}\n").as_bytes()).unwrap();
}

/// The options of every test's gateway. Later options on the command line override them.
pub(crate) fn options(database: &Database) -> Vec<String> {
    let file = master_key_file(database).display().to_string();
    let journal = database.directory().join("journal").display().to_string();
    let pairs = [
        ("--listen", "127.0.0.1:0"),
        ("--database-url", database.url()),
        // Several gateways share a server with 100 connections.
        ("--database-connections", "4"),
        ("--master-key-file", &file),
        ("--journal-dir", &journal),
        // Scripted upstreams listen there.
        ("--egress-allow", "127.0.0.0/8,::1/128"),
        // A dropped gateway does not wait for the streams of an ended test.
        ("--shutdown-timeout", "2s"),
    ];
    pairs.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]).collect()
}

fn settings(database: &Database, more: &[String]) -> Result<Settings, String> {
    let arguments = ["tollgate".to_owned()].into_iter().chain(options(database));
    let parsed = Options::try_parse_from(arguments.chain(more.iter().cloned()));
    parsed.map(|options| options.settings).map_err(tell)
}

async fn first_keys(settings: Settings) -> Result<Keys, String> {
    let store = open_store(&settings).await.map_err(tell)?;
    let name = DisplayName::parse("The tests").map_err(tell)?;
    let made = bootstrap(&store, &Clock::default(), name).await.map_err(tell)?;
    let keys = Keys {
        organization_id: made.organization_id.to_string(),
        platform: made.platform_key.expose().to_owned(),
        admin: made.admin_key.expose().to_owned(),
    };
    secrets::register_key(&keys.platform);
    secrets::register_key(&keys.admin);
    Ok(keys)
}

fn tell(error: impl std::fmt::Display) -> String {
    error.to_string()
}
