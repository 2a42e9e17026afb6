//! Time limits. There is none on a whole request: models think, and streams run.

use std::time::Duration;

use super::values::parse_duration;

/// Time limits.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Time limits")]
pub struct TimeoutSettings {
    /// Time limit for receiving a request's head; 408 after it
    #[arg(
        long,
        env = "TOLLGATE_HEAD_TIMEOUT",
        value_name = "TIME",
        default_value = "10s",
        value_parser = parse_duration
    )]
    pub head_timeout: Duration,

    /// Time limit for receiving a request's body; 408 after it
    #[arg(
        long,
        env = "TOLLGATE_BODY_TIMEOUT",
        value_name = "TIME",
        default_value = "60s",
        value_parser = parse_duration
    )]
    pub body_timeout: Duration,

    /// Time limit for connecting to an upstream, TLS included; 504 after it
    #[arg(
        long,
        env = "TOLLGATE_CONNECT_TIMEOUT",
        value_name = "TIME",
        default_value = "10s",
        value_parser = parse_duration
    )]
    pub connect_timeout: Duration,

    /// Time limit for the first byte of an upstream's answer, from the end of the request; 504
    /// after it
    #[arg(
        long,
        env = "TOLLGATE_FIRST_BYTE_TIMEOUT",
        value_name = "TIME",
        default_value = "600s",
        value_parser = parse_duration
    )]
    pub first_byte_timeout: Duration,

    /// Time limit between two chunks of an upstream's answer
    #[arg(
        long,
        env = "TOLLGATE_IDLE_TIMEOUT",
        value_name = "TIME",
        default_value = "300s",
        value_parser = parse_duration
    )]
    pub idle_timeout: Duration,

    /// Time after which a caller that reads nothing, or hardly anything, of its answer is disconnected
    #[arg(
        long,
        env = "TOLLGATE_DOWNSTREAM_WRITE_TIMEOUT",
        value_name = "TIME",
        default_value = "60s",
        value_parser = parse_duration
    )]
    pub downstream_write_timeout: Duration,

    /// How long an idle connection of a caller stays open; should be longer than that of a load
    /// balancer in front
    // 75 s: past the 60 s after which common balancers drop an idle connection themselves.
    #[arg(
        long,
        env = "TOLLGATE_KEEP_ALIVE",
        value_name = "TIME",
        default_value = "75s",
        value_parser = parse_duration
    )]
    pub keep_alive: Duration,

    /// How long an idle connection to an upstream is kept; should be shorter than the upstream's
    /// own limit
    // 4 s: common servers close theirs at 5.
    #[arg(
        long,
        env = "TOLLGATE_UPSTREAM_KEEP_ALIVE",
        value_name = "TIME",
        default_value = "4s",
        value_parser = parse_duration
    )]
    pub upstream_keep_alive: Duration,

    /// At shutdown, how long requests are still accepted while readiness fails already, so that a
    /// load balancer notices
    #[arg(
        long,
        env = "TOLLGATE_SHUTDOWN_DELAY",
        value_name = "TIME",
        default_value = "0s",
        value_parser = parse_duration
    )]
    pub shutdown_delay: Duration,

    /// At shutdown, how long open requests and streams may take to end
    #[arg(
        long,
        env = "TOLLGATE_SHUTDOWN_TIMEOUT",
        value_name = "TIME",
        default_value = "30s",
        value_parser = parse_duration
    )]
    pub shutdown_timeout: Duration,
}
