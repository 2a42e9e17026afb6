//! The commands of the real binary on a test's database, with the options of every test.

use std::{net::SocketAddr, process::Command};

use serde_json::Value;

use super::{
    app::{master_key_file, options, write_master_key},
    database::Database,
    process::{ChildProcess, Ended, Signal, tollgate},
    secrets,
};

pub(crate) const BOOTSTRAP: &[&str] = &["bootstrap", "--organization", "First & Sons"];

pub(crate) fn command_with_key(database: &Database, name: &[&str]) -> Command {
    write_master_key(&master_key_file(database));
    command(database, name)
}

/// Without creating a master key first.
pub(crate) fn command(database: &Database, name: &[&str]) -> Command {
    let mut command = tollgate(name);
    command.args(options(database));
    command
}

/// The object on standard output; registers its keys as secrets.
pub(crate) fn first_keys(ended: &Ended) -> Value {
    let object: Value = serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} bytes, {}", ended.stdout.len(), ended.stderr));
    for name in ["platform_key", "admin_key"] {
        secrets::register_key(object[name].as_str().expect("a key"));
    }
    object
}

pub(crate) async fn serve(database: &Database) -> (ChildProcess, SocketAddr) {
    let serving = ChildProcess::start(command_with_key(database, &["serve"]));
    let address = serving.address().await;
    (serving, address)
}

pub(crate) async fn stop(mut serving: ChildProcess) {
    serving.signal(Signal::Term);
    let status = serving.ended().await;
    assert_eq!(status.code(), Some(0), "{:#?}", serving.lines());
}
