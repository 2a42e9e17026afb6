//! The real application on a port of its own, over the case's database, and callers that hold its
//! keys.
//!
//! It is configured by the same options as the binary, so a test reads as an operator would write.

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
    eventually::{eventually, within},
    fixture::Fixture,
    http::Client,
    secrets,
};

/// A drain may take as long as its deadline; more is a hang.
const STOPPING: Duration = Duration::from_secs(60);

/// As the command line is read.
#[derive(clap::Parser)]
#[command(args_override_self = true)]
struct Options {
    #[command(flatten)]
    settings: Settings,
}

/// What `bootstrap` gave.
#[derive(Clone)]
pub(crate) struct Keys {
    /// The first organization.
    pub(crate) organization_id: String,
    /// A key of the platform.
    pub(crate) platform: String,
    /// A key of the organization's admin.
    pub(crate) admin: String,
}

/// A running gateway. Asked to stop when dropped; it holds the database until it has.
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
    /// One with the options that tests need, over an empty database, bootstrapped.
    pub(crate) async fn start(database: &Database) -> Self {
        Self::with(database, &[]).await
    }

    /// The same with more options, as on the command line: `&["--idle-timeout", "200ms"]`.
    pub(crate) async fn with(database: &Database, options: &[&str]) -> Self {
        write_master_key(&master_key_file(database));
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        Self::launch(Installation::of(database), options).await
    }

    /// The same with a clock that stands still but for [`Self::advance`] and [`Self::advance_to`].
    pub(crate) async fn with_stopped_clock(database: &Database, options: &[&str]) -> Self {
        write_master_key(&master_key_file(database));
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let installation = Installation::of(database);
        installation.clock.stop();
        Self::launch(installation, options).await
    }

    /// One over a database that was filled, and a master key that was written, by the case.
    pub(crate) async fn over(database: &Database, keys: Keys) -> Self {
        secrets::register_key(&keys.platform);
        secrets::register_key(&keys.admin);
        Self::launch(Installation { keys: Some(keys), ..Installation::of(database) }, Vec::new())
            .await
    }

    /// One more process of the same installation: same database, same master key.
    pub(crate) async fn replica(&self) -> Self {
        self.replica_over(&self.database).await
    }

    /// The same with more options.
    pub(crate) async fn replica_with(&self, options: &[&str]) -> Self {
        let more = options.iter().map(|&option| option.to_owned());
        let options = self.options.iter().cloned().chain(more).collect();
        Self::launch(self.beside(&self.database), options).await
    }

    /// One more with options of its own in place of these.
    pub(crate) async fn replica_with_only(&self, options: &[&str]) -> Self {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        Self::launch(self.beside(&self.database), options).await
    }

    /// The same over another way to the database, such as a [`Link`](super::cut::Link).
    pub(crate) async fn replica_over(&self, database: &Database) -> Self {
        Self::launch(self.beside(database), self.options.clone()).await
    }

    /// What another process of the same installation is made of: the clock is shared, the journal
    /// is its own.
    fn beside(&self, database: &Database) -> Installation {
        let (keys, clock) = (Some(self.keys.clone()), self.clock.clone());
        Installation { keys, clock, ..Installation::of(database) }
    }

    /// Bootstraps where there are no keys yet, then serves, on a thread and an actix system of its
    /// own. The thread bears the case's name, so the case answers for a panic there.
    async fn launch(installation: Installation, options: Vec<String>) -> Self {
        let Installation { database, keys, clock, journal } = installation;
        let case = thread::current().name().unwrap_or("test").to_owned();
        let (ready, started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let (held, mut given) = (database.clone(), options.clone());
        given.splice(0..0, ["--journal-dir".to_owned(), journal.display().to_string()]);
        let time = clock.clone();
        // Made where it runs: it need not be able to move to another thread.
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
            // Told, or dropped: both mean stop.
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

    /// Asks it to stop as SIGTERM does, and waits until it has: open streams get their deadline.
    pub(crate) async fn stop(mut self) {
        self.ask_to_stop();
        let thread = self.thread.take().expect("stopped once");
        let ended = tokio::task::spawn_blocking(move || thread.join());
        let ended = within(STOPPING, "the gateway stops", ended).await.unwrap();
        assert_eq!(ended.unwrap(), Ok(()));
    }

    /// Stops it, and starts another process of the same installation in its place.
    pub(crate) async fn restart(self) -> Self {
        let (beside, options) = (self.beside(&self.database), self.options.clone());
        let installation = Installation { journal: self.journal.clone(), ..beside };
        self.stop().await;
        Self::launch(installation, options).await
    }

    /// Asks it to stop without waiting: for tests of the drain.
    pub(crate) fn ask_to_stop(&mut self) {
        self.stop = None;
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it runs over.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// What time it is for it and its replicas.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Moves its time and its replicas' forward.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// The same up to this instant, which must not have passed.
    pub(crate) fn advance_to(&self, instant: DateTime<Utc>) {
        self.advance((instant - self.now()).to_std().expect("time goes forward"));
    }

    /// What bootstrap gave.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// A caller without a key.
    pub(crate) fn anonymous(&self) -> Client {
        Client::new(self.address)
    }

    /// A caller with this key.
    pub(crate) fn as_key(&self, key: &str) -> Client {
        self.anonymous().with_key(key)
    }

    /// The platform's admin.
    pub(crate) fn platform(&self) -> Client {
        self.as_key(&self.keys.platform)
    }

    /// The first organization's admin.
    pub(crate) fn admin(&self) -> Client {
        self.as_key(&self.keys.admin)
    }

    /// What `/metrics` says of a counter.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let text = self.platform().get("/metrics").await.expect(200).text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no counter {name}:\n{text}"))
    }

    /// Waits until this process has followed all that others have written so far, so that nothing
    /// it holds from now on is forgotten for an old reason.
    pub(crate) async fn caught_up(&self) {
        const READS: &str = "tollgate_database_housekeeping_transactions_total";
        let before = self.counter(READS).await;
        // The one that is under way may have begun too early, and another may be no reading of the
        // sequence; the next but one after those has seen everything.
        eventually("the sequence is read", async || self.counter(READS).await >= before + 4).await;
    }

    /// A workspace with an upstream, a secret, a configuration and a caller's key.
    pub(crate) async fn workspace(&self) -> Fixture {
        Fixture::create(&self.admin(), self.address).await
    }
}

/// What a process is started on.
struct Installation {
    database: Database,
    /// None before it is bootstrapped.
    keys: Option<Keys>,
    clock: Clock,
    journal: PathBuf,
}

impl Installation {
    /// A new one, or one more process, over this database: with a journal of its own.
    fn of(database: &Database) -> Self {
        let journal = database.directory().join(format!("journal-{}", Uuid::now_v7().simple()));
        Self { database: database.clone(), keys: None, clock: Clock::default(), journal }
    }
}

/// Where the master keys of a test's installation are.
pub(crate) fn master_key_file(database: &Database) -> PathBuf {
    database.directory().join("master.key")
}

/// Makes a master key file, as an operator who brings a key to PostgreSQL does.
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

/// The options that every test's gateway runs with. Later ones on the command line win.
pub(crate) fn options(database: &Database) -> Vec<String> {
    let file = master_key_file(database).display().to_string();
    let journal = database.directory().join("journal").display().to_string();
    let pairs = [
        ("--listen", "127.0.0.1:0"),
        ("--database-url", database.url()),
        // Several gateways share a server that takes 100 connections.
        ("--database-connections", "4"),
        ("--master-key-file", &file),
        ("--journal-dir", &journal),
        // Scripted upstreams live there.
        ("--egress-allow", "127.0.0.0/8,::1/128"),
        // A gateway that was dropped does not wait for the streams of a case that has ended.
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
