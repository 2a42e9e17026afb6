//! The real binary serving a test's database, for tests of signals, memory, exit codes and kills.

use std::net::SocketAddr;

use super::{
    app::{self, Keys, master_key_file, write_master_key},
    commands::first_keys,
    database::Database,
    fixture::Fixture,
    http::Client,
    process::{self, ChildProcess, Signal, tollgate},
};

/// A gateway in a child process. Killed when dropped.
pub(crate) struct ServerProcess {
    pub(crate) process: ChildProcess,
    address: SocketAddr,
    keys: Keys,
    options: Vec<String>,
}

impl ServerProcess {
    /// Bootstraps the database and serves it with the options of every test ([`app::options`]); `more`
    /// adds to or replaces them.
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
        let made = first_keys(&made);
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        let keys = Keys {
            organization_id: text("organization_id"),
            platform: text("platform_key"),
            admin: text("admin_key"),
        };
        let process = ChildProcess::start(command(&["serve"], &options));
        let address = process.address().await;
        Self { process, address, keys, options }
    }

    /// Kills it (SIGKILL).
    pub(crate) async fn kill(&mut self) {
        self.process.kill();
        self.process.ended().await;
    }

    /// Stops it (SIGTERM) and checks that it exits with code 0.
    pub(crate) async fn stop(&mut self) {
        self.process.signal(Signal::Term);
        let status = self.process.ended().await;
        assert_eq!(status.code(), Some(0), "{:#?}", self.process.lines());
    }

    /// Starts a new process after one that has ended, with the same options and journal on another port.
    pub(crate) async fn start_again(&mut self) {
        self.process = ChildProcess::start(command(&["serve"], &self.options));
        self.address = self.process.address().await;
    }

    /// A client with the organization's admin key.
    pub(crate) fn admin(&self) -> Client {
        self.anonymous().with_key(&self.keys.admin)
    }

    /// A client with the platform key.
    pub(crate) fn platform(&self) -> Client {
        self.anonymous().with_key(&self.keys.platform)
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn anonymous(&self) -> Client {
        Client::new(self.address)
    }

    /// Creates a workspace with an upstream, a secret, a configuration and a caller's key.
    pub(crate) async fn workspace(&self) -> Fixture {
        Fixture::create(&self.admin(), self.address).await
    }
}

fn command(name: &[&str], options: &[String]) -> std::process::Command {
    let mut command = tollgate(name);
    command.args(options);
    command
}
