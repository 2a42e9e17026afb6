//! The addresses that upstreams may have.

use std::path::PathBuf;

use super::values::Networks;
use crate::providers::built_in::ProviderOrigin;

/// The addresses that upstreams may have.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Egress")]
pub struct EgressSettings {
    /// Non-public networks in which upstreams are allowed, comma separated; plain `http` is allowed
    /// to these only (unset: public addresses over TLS only)
    #[arg(
        long,
        env = "TOLLGATE_EGRESS_ALLOW",
        value_name = "CIDRS",
        default_value = "",
        hide_default_value = true
    )]
    pub egress_allow: Networks,

    /// PEM file of certificate authorities to trust for upstreams, besides the public ones
    #[arg(long, env = "TOLLGATE_UPSTREAM_CA_FILE", value_name = "PATH")]
    pub upstream_ca_file: Option<PathBuf>,

    /// Another origin for a built-in provider, as in `openai=https://proxy.example.com`, comma separated:
    /// the provider's own path is appended to it; `entra` is that of Microsoft Entra's token endpoints,
    /// `google-token` the whole URL of Google's
    #[arg(
        long = "provider-origin",
        env = "TOLLGATE_PROVIDER_ORIGIN",
        value_name = "NAME=URL",
        value_delimiter = ','
    )]
    pub provider_origins: Vec<ProviderOrigin>,
}
