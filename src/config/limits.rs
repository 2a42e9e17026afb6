//! Limits on sizes and numbers.

use std::num::NonZeroUsize;

use super::values::parse_size;

/// Limits on sizes and numbers.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitSettings {
    /// Largest request body
    #[arg(
        long,
        env = "TOLLGATE_MAX_BODY_BYTES",
        value_name = "SIZE",
        default_value = "32MiB",
        value_parser = parse_size
    )]
    pub max_body_bytes: usize,

    /// Largest body of a request to an unmetered endpoint, which is streamed
    #[arg(
        long,
        env = "TOLLGATE_MAX_UNMETERED_BODY_BYTES",
        value_name = "SIZE",
        default_value = "512MiB",
        value_parser = parse_size
    )]
    pub max_unmetered_body_bytes: usize,

    /// Memory for all buffered request bodies together; a request that exceeds it gets 503
    #[arg(
        long,
        env = "TOLLGATE_BODY_MEMORY_BYTES",
        value_name = "SIZE",
        default_value = "512MiB",
        value_parser = parse_size
    )]
    pub body_memory_bytes: usize,

    /// Open connections of callers in the process; further ones wait to be accepted
    #[arg(long, env = "TOLLGATE_MAX_CONNECTIONS", value_name = "NUMBER", default_value_t = 25_000)]
    pub max_connections: usize,

    /// Proxied requests in progress in the process; further ones get 503
    #[arg(
        long,
        env = "TOLLGATE_MAX_CONCURRENT_REQUESTS",
        value_name = "NUMBER",
        default_value_t = 10_000
    )]
    pub max_concurrent_requests: usize,

    /// Worker threads (unset: one per core)
    #[arg(long, env = "TOLLGATE_WORKERS", value_name = "NUMBER")]
    pub workers: Option<NonZeroUsize>,
}

impl LimitSettings {
    /// Worker threads to start.
    pub fn workers(&self) -> usize {
        // Respects a container's share of the cores.
        self.workers
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get)
    }

    /// Connections per worker, as the HTTP server counts them.
    pub fn connections_per_worker(&self) -> usize {
        self.max_connections.div_ceil(self.workers()).max(1)
    }
}
