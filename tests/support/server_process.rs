//! The real binary serving over a case's database: for what only a process of its own can show, such
//! as its memory, a signal, or its exit code.

use std::net::SocketAddr;

use super::{
    app::{self, Keys, master_key_file, write_master_key},
    database::Database,
    fixture::Fixture,
    http::Client,
    process::{self, ChildProcess, Signal, tollgate},
    secrets,
};

/// A gateway as a child process. Killed when dropped.
pub(crate) struct ServerProcess {
    /// The process.
    pub(crate) process: ChildProcess,
    address: SocketAddr,
    keys: Keys,
    options: Vec<String>,
}

impl ServerProcess {
    /// Bootstraps an installation and serves it. Options are those of every test
    /// ([`app::options`]), with `more` over them.
    pub(crate) async fn start(database: &Database, more: &[(&str, &str)]) -> Self {
        write_master_key(&master_key_file(database));
        let mut options = app::options(database);
        for (name, value) in more {
            match options.iter().position(|option| option == name) {
                Some(at) => options[at + 1] = (*value).to_owned(),
                None => options.extend([(*name).to_owned(), (*value).to_owned()]),
            }
        }
        let bootstrap = command(&["bootstrap", "--organization", "The tests"], &options);
        let made = process::run(bootstrap).await;
        assert_eq!(made.code, Some(0), "bootstrap: {}", made.stderr);
        let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        let keys = Keys {
            organization_id: text("organization_id"),
            platform: text("platform_key"),
            admin: text("admin_key"),
        };
        secrets::register_key(&keys.platform);
        secrets::register_key(&keys.admin);
        let process = ChildProcess::start(command(&["serve"], &options));
        let address = process.address().await;
        Self { process, address, keys, options }
    }

    /// Ends it at once (SIGKILL), as a power cut would but for the disk's cache.
    pub(crate) async fn kill(&mut self) {
        self.process.kill();
        self.process.ended().await;
    }

    /// Asks it to stop, and waits until it has, with an exit code of 0.
    pub(crate) async fn stop(&mut self) {
        self.process.signal(Signal::Term);
        let status = self.process.ended().await;
        assert_eq!(status.code(), Some(0), "{:#?}", self.process.lines());
    }

    /// Starts a process in the place of one that has ended: the same options, and so the same
    /// journal; another port.
    pub(crate) async fn start_again(&mut self) {
        self.process = ChildProcess::start(command(&["serve"], &self.options));
        self.address = self.process.address().await;
    }

    /// The first organization's admin.
    pub(crate) fn admin(&self) -> Client {
        self.anonymous().with_key(&self.keys.admin)
    }

    /// The platform's admin.
    pub(crate) fn platform(&self) -> Client {
        self.anonymous().with_key(&self.keys.platform)
    }

    /// What bootstrap gave.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A caller without a key.
    pub(crate) fn anonymous(&self) -> Client {
        Client::new(self.address)
    }

    /// A workspace with an upstream, a secret, a configuration and a caller's key.
    pub(crate) async fn workspace(&self) -> Fixture {
        Fixture::create(&self.admin(), self.address).await
    }
}

fn command(name: &[&str], options: &[String]) -> std::process::Command {
    let mut command = tollgate(name);
    command.args(options);
    command
}
