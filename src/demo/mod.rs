//! The `demo` command: a fresh installation with a built-in upstream, set up as an admin would set
//! it up, called as an application would call it, and left running.
//!
//! It shows the gateway, it is not part of it: nothing here is reached by `serve`.

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

/// What the demonstration is told.
#[derive(clap::Args, Clone, Debug)]
pub struct DemoSettings {
    /// Address and port of the gateway; port 0 takes a free one
    #[arg(long, env = "TOLLGATE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Address and port of the demonstration upstream, which has to be a loopback one; port 0 takes
    /// a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub upstream_listen: SocketAddr,

    /// Where to put the installation, to be kept; it may not hold one (unset: a temporary directory,
    /// removed at the end)
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,

    /// What is logged to standard error: a level, or `target=level` pairs, comma separated
    #[arg(long, env = "TOLLGATE_LOG_FILTER", value_name = "FILTER", default_value = "warn")]
    pub log_filter: String,
}

/// Why the demonstration could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// There is an installation already, and its keys were shown when it was made.
    #[error(
        "{} holds a database already. Serve it with `tollgate serve --database-url sqlite:{}`, or \
         give the demonstration another --directory", .0.display(), .0.display()
    )]
    NotFresh(PathBuf),
    /// The directory can't be made or removed.
    #[error("the directory {}: {error}", path.display())]
    Directory { path: PathBuf, error: std::io::Error },
    /// The upstream has to be where the demonstration's egress rules allow it.
    #[error("--upstream-listen has to be a loopback address, such as 127.0.0.1:0")]
    NotLoopback,
    /// Somebody else listens there; with the usual port that happens easily.
    #[error("{0} is in use by another program. `--listen 127.0.0.1:0` takes a free port")]
    PortTaken(SocketAddr),
    /// The gateway did not answer as it should.
    #[error("{request}: {problem}")]
    Call {
        request: String,
        /// What came back instead of an answer.
        problem: String,
    },
}

/// Sets up, calls, and serves until Ctrl-C or SIGTERM.
pub async fn run(settings: DemoSettings) -> Result<(), StartError> {
    if let Err(error) = logs::init(LogFormat::Auto, &settings.log_filter) {
        report::warn(&error);
    }
    if !settings.upstream_listen.ip().is_loopback() {
        return Err(DemoError::NotLoopback.into());
    }
    // Asked for early, so that Ctrl-C during the set-up removes the directory as well.
    let (stop, stop_now) = stop_signals()?;
    let clock = Clock::default();
    let directory = DemoDirectory::make(settings.directory.as_deref(), &clock)?;
    let provider_key = new_provider_key()?;
    let upstream =
        DemoUpstream::start(settings.upstream_listen, provider_key.clone(), clock.clone())
            .map_err(|error| StartError::Listen(settings.upstream_listen, error))?;

    let gateway_settings = gateway_settings(&settings, &directory);
    let store = open_store(&gateway_settings).await?;
    let name = DisplayName::parse(setup::ORGANIZATION)?;
    let first = bootstrap(&store, &clock, name).await?;
    let application =
        Application::build_on(gateway_settings, store, clock).await.map_err(port_taken)?;

    let client = GatewayClient::new(reachable(application.address()));
    let team =
        setup::set_up(&client, &first.admin_key, &upstream.base_url(), &provider_key).await?;
    report::installation(&directory, &upstream, client.address());
    report::plain_call(&client, &team.caller_key).await?;
    report::streamed_call(&client, &team.caller_key).await?;
    report::what_to_try(client.address(), &first, &team);

    application.run_until(stop, stop_now).await?;
    upstream.stop().await;
    let (path, kept) = (directory.path().to_owned(), !directory.is_temporary());
    directory.end()?;
    report::farewell(&path, kept);
    Ok(())
}

fn gateway_settings(settings: &DemoSettings, directory: &DemoDirectory) -> Settings {
    let mut gateway = Settings::default();
    gateway.listen.listen = settings.listen;
    gateway.database.database_url = DatabaseUrl::Sqlite(directory.database());
    gateway.egress.egress_allow = loopback();
    gateway.logging.log_filter.clone_from(&settings.log_filter);
    // Open streams of a demonstration are not worth the usual half a minute.
    gateway.timeouts.shutdown_timeout = std::time::Duration::from_secs(2);
    gateway
}

fn port_taken(error: StartError) -> StartError {
    match error {
        StartError::Listen(address, error) if error.kind() == ErrorKind::AddrInUse => {
            DemoError::PortTaken(address).into()
        }
        other => other,
    }
}

/// What `--egress-allow 127.0.0.0/8,::1` says.
fn loopback() -> Networks {
    let v4 = ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8);
    let v6 = ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128);
    [v4.into(), v6.into()].into_iter().collect()
}

/// Where to call what listens there: nobody can connect to "everywhere".
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// The demonstration upstream's key, of the form that providers' keys have.
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
    fn everywhere_is_called_at_home() {
        for (listens, called) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), called.parse().unwrap());
        }
    }

    #[test]
    fn loopback_is_what_it_is() {
        assert_eq!(loopback(), "127.0.0.0/8,::1".parse().unwrap());
    }

    #[test]
    fn keys_differ() {
        let (one, other) = (new_provider_key().unwrap(), new_provider_key().unwrap());
        assert_ne!(one.expose(), other.expose());
        assert_eq!(one.len(), "sk-demo-".len() + 48);
    }
}
