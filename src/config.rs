//! Every option: one struct a section, every field a flag with an environment variable.
//!
//! Values are parsed into types that hold only valid values; [`Settings::validate`] checks what depends
//! on several options. No other module reads the environment. The commands are defined in
//! [`crate::cli`] and flatten the sections that they need.

mod database;
mod directory;
mod egress;
mod keys;
mod ledger;
mod limits;
mod listen;
mod logging;
mod policies;
mod timeouts;
mod validate;
pub mod values;

use clap::{Args as _, FromArgMatches as _};

pub use database::{DatabaseSettings, DatabaseUrl, PostgresUrl};
pub use directory::DirectorySettings;
pub use egress::EgressSettings;
pub use keys::KeySettings;
pub use ledger::LedgerSettings;
pub use limits::LimitSettings;
pub use listen::ListenSettings;
pub use logging::{LogFormat, LogSettings};
pub use policies::{PolicySettings, RedisUrl, SpendWithoutRedis};
pub use timeouts::TimeoutSettings;
pub use validate::SettingsError;
pub use values::Networks;

/// All settings of a server. [`Default`] equals a command line without options.
#[derive(clap::Args, Clone, Debug)]
pub struct Settings {
    #[command(flatten)]
    pub listen: ListenSettings,
    #[command(flatten)]
    pub database: DatabaseSettings,
    #[command(flatten)]
    pub keys: KeySettings,
    #[command(flatten)]
    pub egress: EgressSettings,
    #[command(flatten)]
    pub limits: LimitSettings,
    #[command(flatten)]
    pub timeouts: TimeoutSettings,
    #[command(flatten)]
    pub directory: DirectorySettings,
    #[command(flatten)]
    pub ledger: LedgerSettings,
    #[command(flatten)]
    pub policies: PolicySettings,
    #[command(flatten)]
    pub logging: LogSettings,
}

impl Default for Settings {
    /// The values of a command line without options, whatever the environment says.
    #[expect(clippy::expect_used, reason = "the default values are constant and parsed in tests")]
    fn default() -> Self {
        let command = Self::augment_args(clap::Command::new("defaults"));
        let matches = command
            .mut_args(|arg| arg.env(None::<&'static str>))
            .try_get_matches_from(["defaults"]);
        matches
            .and_then(|matches| Self::from_arg_matches(&matches))
            .expect("the default values are valid")
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
