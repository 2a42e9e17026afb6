//! Every option: one struct a section, every field a flag with an environment variable.
//!
//! Values are parsed here, at the edge, into types that cannot hold nonsense; [`Settings::validate`]
//! checks what only several of them together can tell. Nothing else in the house reads the
//! environment. Commands are not defined here: they flatten the sections that they need.

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

/// All settings of a server. [`Default`] is what a command line without options gives, so a test
/// names only what it changes.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Settings {
    /// Where we listen, and whom we believe about addresses.
    #[command(flatten)]
    pub listen: ListenSettings,
    /// Where state is kept.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// The master keys.
    #[command(flatten)]
    pub keys: KeySettings,
    /// Where we may connect to.
    #[command(flatten)]
    pub egress: EgressSettings,
    /// How much of everything.
    #[command(flatten)]
    pub limits: LimitSettings,
    /// How long for everything.
    #[command(flatten)]
    pub timeouts: TimeoutSettings,
    /// The read model.
    #[command(flatten)]
    pub directory: DirectorySettings,
    /// The journal and the ledger.
    #[command(flatten)]
    pub ledger: LedgerSettings,
    /// What limits are counted with.
    #[command(flatten)]
    pub policies: PolicySettings,
    /// What is logged, and how.
    #[command(flatten)]
    pub logging: LogSettings,
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
