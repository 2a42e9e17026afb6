//! The directory: what the data plane keeps in memory of the database.

use std::time::Duration;

use super::values::parse_duration;

/// The directory.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Directory")]
pub struct DirectorySettings {
    /// Keys and configurations kept in memory, of each this many, unknown ids included
    #[arg(
        long,
        env = "TOLLGATE_DIRECTORY_CAPACITY",
        value_name = "NUMBER",
        default_value_t = 100_000
    )]
    pub directory_capacity: usize,

    /// How long keys and configurations in memory are used while the database is unreachable
    #[arg(
        long,
        env = "TOLLGATE_DIRECTORY_MAX_STALE",
        value_name = "TIME",
        default_value = "1h",
        value_parser = parse_duration
    )]
    pub directory_max_stale: Duration,

    /// How often to look for changes made by other processes; the longest time that a key revoked
    /// by another process still works
    #[arg(
        long,
        env = "TOLLGATE_DIRECTORY_POLL",
        value_name = "TIME",
        default_value = "1s",
        value_parser = parse_duration
    )]
    pub directory_poll: Duration,
}
