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
mod options;
mod policies;
mod timeouts;
mod validate;
pub mod values;

pub use database::{DatabaseSettings, DatabaseUrl, PostgresUrl};
pub use directory::DirectorySettings;
pub use egress::EgressSettings;
pub use keys::KeySettings;
pub use ledger::LedgerSettings;
pub use limits::LimitSettings;
pub use listen::ListenSettings;
pub use logging::{LogFormat, LogSettings};
pub use options::{OptionRow, option_rows, option_table_markdown};
pub use policies::{PolicySettings, RedisUrl, SpendWithoutRedis};
pub use timeouts::TimeoutSettings;
pub use validate::SettingsError;
pub use values::Networks;

/// All settings of a server. [`Default`] equals a command line without options.
#[derive(clap::Args, Clone, Debug, Default)]
#[expect(missing_docs, reason = "the names of the fields say it")]
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

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
