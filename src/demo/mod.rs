//! The `demo` command: a new installation with a built-in upstream, which is set up through the management
//! API, called plain, streamed and in every format, and then kept running.
//!
//! `serve` uses nothing of this.

mod client;
mod directory;
mod report;
mod setup;
pub mod upstream;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::app::bootstrap::bootstrap;
use crate::app::open::open_store;
use crate::app::stop::stop_signals;
use crate::app::{Application, StartError};
use crate::clock::Clock;
use crate::config::{DatabaseUrl, LogFormat, Networks, Settings};
use crate::crypto::{SecretText, system_random};
use crate::domain::names::DisplayName;
use crate::telemetry::logs;
use client::GatewayClient;
use directory::DemoDirectory;
use upstream::DemoUpstream;

/// The options of `demo`.
#[derive(clap::Args, Clone, Debug)]
pub struct DemoSettings {
    /// Address and port of the gateway; port 0 takes a free one
    #[arg(long, env = "TOLLGATE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Loopback address and port of the built-in upstream; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub upstream_listen: SocketAddr,

    /// Directory of the installation, which is kept and must not contain one (unset: a temporary
    /// directory, removed at the end)
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,

    /// What is logged to standard error: a level, or `target=level` pairs, comma separated
    #[arg(long, env = "TOLLGATE_LOG_FILTER", value_name = "FILTER", default_value = "warn")]
    pub log_filter: String,
}

/// The demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Its keys cannot be shown again, so it cannot be used.
    #[error(
        "{} already exists. Serve it with `tollgate serve --database-url sqlite:{}`, or choose \
         another --directory for the demo", .0.display(), .0.display()
    )]
    NotFresh(PathBuf),
    #[error("the directory {}: {error}", path.display())]
    Directory { path: PathBuf, error: std::io::Error },
    /// The demo's egress rules allow only loopback addresses.
    #[error("--upstream-listen must be a loopback address, such as 127.0.0.1:0")]
    NotLoopback,
    #[error("{0} is in use by another program. `--listen 127.0.0.1:0` takes a free port")]
    PortTaken(SocketAddr),
    #[error("{request}: {problem}")]
    Call { request: String, problem: String },
    /// The installation can't be set up or served.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Sets up, calls, and serves until Ctrl-C, SIGTERM or SIGHUP.
pub async fn run(settings: DemoSettings) -> Result<(), DemoError> {
    if let Err(error) = logs::init(LogFormat::Auto, &settings.log_filter) {
        report::warn(&error);
    }
    if !settings.upstream_listen.ip().is_loopback() {
        return Err(DemoError::NotLoopback);
    }
    // Before the set-up, so that Ctrl-C during it also removes the directory.
    let (stop, stop_now) = stop_signals()?;
    let clock = Clock::default();
    let directory = DemoDirectory::make(settings.directory.as_deref(), &clock)?;
    let provider_key = new_provider_key()?;
    let upstream =
        DemoUpstream::start(settings.upstream_listen, provider_key.clone(), clock.clone())
            .map_err(|error| StartError::Listen(settings.upstream_listen, error))?;

    let gateway_settings = gateway_settings(&settings, &directory);
    let store = open_store(&gateway_settings).await?;
    let name = DisplayName::parse(setup::ORGANIZATION).map_err(StartError::from)?;
    let first = bootstrap(&store, &clock, name).await?;
    let application =
        Application::build_on(gateway_settings, store, clock).await.map_err(port_taken)?;

    let client = GatewayClient::new(reachable(application.address()));
    let workspace =
        setup::set_up(&client, &first.admin_key, &upstream.base_url(), &provider_key).await?;
    report::installation(&directory, &upstream, client.address());
    report::plain_call(&client, &workspace.caller_key).await?;
    report::streamed_call(&client, &workspace.caller_key).await?;
    report::calls_in_every_format(&client, &workspace.caller_key).await?;
    report::next_steps(client.address(), &first, &workspace);

    application.run_until(stop, stop_now).await?;
    upstream.stop().await;
    let (path, kept) = (directory.path().to_owned(), !directory.is_temporary());
    directory.close()?;
    report::stopped(&path, kept);
    Ok(())
}

fn gateway_settings(settings: &DemoSettings, directory: &DemoDirectory) -> Settings {
    let mut gateway = Settings::default();
    gateway.listen.listen = settings.listen;
    gateway.database.database_url = DatabaseUrl::Sqlite(directory.database());
    gateway.egress.egress_allow = loopback();
    gateway.logging.log_filter.clone_from(&settings.log_filter);
    // Shorter than the default of half a minute, since nobody depends on the streams of a demo.
    gateway.timeouts.shutdown_timeout = std::time::Duration::from_secs(2);
    gateway
}

fn port_taken(error: StartError) -> DemoError {
    match error {
        StartError::Listen(address, error) if error.kind() == ErrorKind::AddrInUse => {
            DemoError::PortTaken(address)
        }
        other => other.into(),
    }
}

/// The networks of `--egress-allow 127.0.0.0/8,::1`.
fn loopback() -> Networks {
    let v4 = ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8);
    let v6 = ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128);
    [v4.into(), v6.into()].into_iter().collect()
}

/// An address to connect to: an unspecified address is replaced by the loopback address.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// A random key for the built-in upstream, in the format of provider keys.
fn new_provider_key() -> Result<SecretText, StartError> {
    let mut random = [0; 24];
    system_random(&mut random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(SecretText::from(format!("sk-demo-{text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_called_on_loopback() {
        for (listens, called) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), called.parse().unwrap());
        }
    }

    #[test]
    fn loopback_equals_the_option_text() {
        assert_eq!(loopback(), "127.0.0.0/8,::1".parse().unwrap());
    }

    #[test]
    fn provider_keys_are_random() {
        let (one, other) = (new_provider_key().unwrap(), new_provider_key().unwrap());
        assert_ne!(one.expose(), other.expose());
        assert_eq!(one.len(), "sk-demo-".len() + 48);
    }
}
