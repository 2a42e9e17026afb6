//! Counting for gateway policies, and what guards need.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::values::{SecretParser, parse_duration};
use crate::crypto::SecretText;
use crate::upstream::BaseUrl;

/// Counting for gateway policies, and what guards need.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Policies")]
pub struct PolicySettings {
    /// Redis, which counts spend caps and rate limits for all replicas: `redis://...`, or
    /// `rediss://...` with TLS (unset: each process counts by itself)
    #[arg(
        long,
        env = "TOLLGATE_REDIS_URL",
        hide_env_values = true,
        value_name = "URL",
        value_parser = SecretParser::<RedisUrl>::default()
    )]
    pub redis_url: Option<RedisUrl>,

    /// PEM file of certificate authorities to trust for Redis, besides the public ones
    #[arg(long, env = "TOLLGATE_REDIS_CA_FILE", value_name = "PATH")]
    pub redis_ca_file: Option<PathBuf>,

    /// Time limit for an answer of Redis; after it, Redis counts as unreachable
    #[arg(
        long,
        env = "TOLLGATE_REDIS_TIMEOUT",
        value_name = "TIME",
        default_value = "250ms",
        value_parser = parse_duration
    )]
    pub redis_timeout: Duration,

    /// Requests under a spend cap while Redis is unreachable: `refuse` answers 503, `local` counts
    /// in each process, so that caps can be exceeded
    #[arg(
        long,
        env = "TOLLGATE_SPEND_WITHOUT_REDIS",
        value_name = "CHOICE",
        value_enum,
        default_value_t = SpendWithoutRedis::Refuse,
        hide_possible_values = true
    )]
    pub spend_without_redis: SpendWithoutRedis,

    /// Output tokens to reserve for a request without a limit on a model without a known limit;
    /// spend caps can be exceeded then
    #[arg(
        long,
        env = "TOLLGATE_ASSUMED_OUTPUT_TOKENS",
        value_name = "TOKENS",
        default_value_t = 32_768
    )]
    pub assumed_output_tokens: usize,

    /// Input tokens to reserve for a prompt whose size the body does not show (files, earlier
    /// responses) on a model without a known context window
    #[arg(
        long,
        env = "TOLLGATE_ASSUMED_CONTEXT_TOKENS",
        value_name = "TOKENS",
        default_value_t = 1_000_000
    )]
    pub assumed_context_tokens: usize,

    /// Presidio's analyzer, which recognizes names, places and organizations for guards: `https`, or an
    /// address in `--egress-allow` (unset: guards can't detect them)
    #[arg(long, env = "TOLLGATE_PRESIDIO_URL", value_name = "URL", value_parser = BaseUrl::parse)]
    pub presidio_url: Option<BaseUrl>,

    /// The language that Presidio takes texts for, one that its configuration has a model for
    #[arg(long, env = "TOLLGATE_PRESIDIO_LANGUAGE", value_name = "CODE", default_value = "en")]
    pub presidio_language: String,
}

/// Requests under a spend cap while Redis is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SpendWithoutRedis {
    /// They get 503.
    Refuse,
    /// Each process counts by itself, so caps can be exceeded.
    Local,
}

/// A Redis URL. It may hold a password: Debug shows nothing.
#[derive(Clone)]
pub struct RedisUrl(SecretText);

impl RedisUrl {
    /// The whole URL, for the connector alone.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RedisUrl(..)")
    }
}

/// The text is not a Redis URL. The message does not repeat it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis is `redis://USER:PASSWORD@HOST:PORT/NUMBER`, or `rediss://...` with TLS")]
pub struct RedisUrlError;

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).map_err(|_| RedisUrlError)?;
        let host = url.host_str().is_some_and(|host| !host.is_empty());
        let database = url.path().trim_matches('/');
        let known = matches!(url.scheme(), "redis" | "rediss")
            && host
            && (database.is_empty() || database.parse::<u16>().is_ok())
            && url.fragment().is_none();
        if known { Ok(Self(SecretText::from(text))) } else { Err(RedisUrlError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_urls() {
        for text in [
            "redis://127.0.0.1",
            "redis://cache.internal:6380/2",
            "rediss://default:hunter2@cache.internal",
        ] {
            let url: RedisUrl = text.parse().unwrap();
            assert_eq!(url.expose(), text);
            assert!(!format!("{url:?}").contains("hunter2"));
        }
        for text in
            ["", "cache:6379", "http://cache", "redis://", "rediss://h/#insecure", "redis://h/x"]
        {
            assert!(text.parse::<RedisUrl>().is_err(), "{text}");
        }
    }
}
