//! The real binary serving over a case's database: for what only a process of its own can show, such
//! as its memory, a signal, or its exit code.

use std::net::SocketAddr;

use super::{
    app::{self, Keys, master_key_file, write_master_key},
    database::Database,
    fixture::Fixture,
    http::Client,
    process::{self, Running, tollgate},
    secrets,
};

/// A gateway as a child process. Killed when dropped.
pub(crate) struct Served {
    /// The process.
    pub(crate) process: Running,
    address: SocketAddr,
    keys: Keys,
}

impl Served {
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
        let with = |command: &[&str]| {
            let rest = options.iter().map(String::as_str);
            tollgate(&command.iter().copied().chain(rest).collect::<Vec<_>>())
        };
        let made = process::run(with(&["bootstrap", "--organization", "The tests"])).await;
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
        let process = Running::start(with(&["serve"]));
        let address = process.address().await;
        Self { process, address, keys }
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
        Fixture::create(&self.anonymous().with_key(&self.keys.admin), self.address).await
    }
}
