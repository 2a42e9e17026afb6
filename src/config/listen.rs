//! The addresses to listen on.

use std::net::SocketAddr;

use super::values::Networks;

/// The addresses to listen on, and the proxies in front.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Listening")]
pub struct ListenSettings {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "TOLLGATE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// A second address for the management plane, `/metrics` and the details of readiness, which
    /// are then not served on the first one (unset: one address for all)
    #[arg(long, env = "TOLLGATE_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<SocketAddr>,

    /// Networks of the proxies in front of Tollgate, comma separated. For requests from these,
    /// `X-Forwarded-For` gives the caller's address for logs and audit log (unset: the address of
    /// the connection)
    #[arg(
        long,
        env = "TOLLGATE_TRUSTED_PROXIES",
        value_name = "CIDRS",
        default_value = "",
        hide_default_value = true
    )]
    pub trusted_proxies: Networks,
}
