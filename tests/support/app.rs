//! The real application on a port of its own, over the case's database, and callers that hold its
//! keys.
//!
//! It is configured by the same options as the binary, so a test reads as an operator would write.

use std::{
    net::SocketAddr,
    path::PathBuf,
    thread::{self, JoinHandle},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
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
    /// This process' own; another that is started in its place goes on with it.
    journal: PathBuf,
    keys: Keys,
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
        Self::launch(database, options, None, None).await
    }

    /// One more process of the same installation: same database, same master key.
    pub(crate) async fn replica(&self) -> Self {
        self.replica_over(&self.database).await
    }

    /// The same with more options.
    pub(crate) async fn replica_with(&self, options: &[&str]) -> Self {
        let more = options.iter().map(|&option| option.to_owned());
        let options = self.options.iter().cloned().chain(more).collect();
        Self::launch(&self.database, options, Some(self.keys.clone()), None).await
    }

    /// One more with options of its own in place of these.
    pub(crate) async fn replica_with_only(&self, options: &[&str]) -> Self {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        Self::launch(&self.database, options, Some(self.keys.clone()), None).await
    }

    /// The same over another way to the database, such as a [`Link`](super::cut::Link).
    pub(crate) async fn replica_over(&self, database: &Database) -> Self {
        Self::launch(database, self.options.clone(), Some(self.keys.clone()), None).await
    }

    /// Bootstraps where there are no keys yet, then serves, on a thread and an actix system of its
    /// own. The thread bears the case's name, so the case answers for a panic there.
    async fn launch(
        database: &Database,
        options: Vec<String>,
        keys: Option<Keys>,
        journal: Option<PathBuf>,
    ) -> Self {
        let journal = journal.unwrap_or_else(|| {
            database.directory().join(format!("journal-{}", Uuid::now_v7().simple()))
        });
        let case = thread::current().name().unwrap_or("test").to_owned();
        let (ready, started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let held = database.clone();
        // The options of the case come last, and win.
        let own = ["--journal-dir".to_owned(), journal.display().to_string()];
        let given: Vec<_> = own.into_iter().chain(options.iter().cloned()).collect();
        let serve = async move {
            let keys = match keys {
                Some(keys) => keys,
                None => first_keys(settings(&held, &given)?).await?,
            };
            let application = Application::build(settings(&held, &given)?).await.map_err(tell)?;
            let _ = ready.send((application.address(), keys));
            // Told, or dropped: both mean stop.
            let stopped = async { drop(stopped.await) };
            application.run_until(stopped).await.map_err(tell)
        };
        let thread = thread::Builder::new()
            .name(format!("{case}/gateway"))
            .stack_size(8 << 20)
            .spawn(move || actix_rt::System::new().block_on(serve))
            .unwrap();
        let Ok((address, keys)) = started.await else {
            panic!("the gateway did not start: {:?}", thread.join());
        };
        let database = database.clone();
        Self { address, database, options, journal, keys, stop: Some(stop), thread: Some(thread) }
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
        let (database, options) = (self.database.clone(), self.options.clone());
        let (keys, journal) = (self.keys.clone(), self.journal.clone());
        self.stop().await;
        Self::launch(&database, options, Some(keys), Some(journal)).await
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
        const READS: &str = "tollgate_database_housekeeping_total";
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
