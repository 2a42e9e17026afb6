//! Logging.

/// Logging, to standard error.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Logs")]
pub struct LogSettings {
    /// Format of log lines; `auto` is pretty on a terminal and JSON elsewhere
    #[arg(long, env = "TOLLGATE_LOG_FORMAT", value_name = "FORMAT", default_value = "auto")]
    pub log_format: LogFormat,

    /// Log level, or `target=level` pairs, comma separated
    #[arg(long, env = "TOLLGATE_LOG_FILTER", value_name = "FILTER", default_value = "info")]
    pub log_filter: String,
}

/// The format of log lines.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}
