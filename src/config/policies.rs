//! What limits are counted with, and what is assumed where nobody knows.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::values::parse_duration;
use crate::crypto::SecretText;

/// What limits are counted with.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Policies")]
pub struct PolicySettings {
    /// Redis, for spend caps and rate limits over several replicas: `redis://...`, or `rediss://...`
    /// with TLS; without it, each process counts for itself
    #[arg(
        long,
        env = "TOLLGATE_REDIS_URL",
        hide_env_values = true,
        value_name = "URL",
        value_parser = RedisUrlParser
    )]
    pub redis_url: Option<RedisUrl>,

    /// PEM file of authorities to trust besides the public ones when Redis speaks TLS (`rediss://`)
    #[arg(long, env = "TOLLGATE_REDIS_CA_FILE", value_name = "PATH")]
    pub redis_ca_file: Option<PathBuf>,

    /// For Redis to answer; past it, Redis counts as away
    #[arg(
        long,
        env = "TOLLGATE_REDIS_TIMEOUT",
        value_name = "TIME",
        default_value = "250ms",
        value_parser = parse_duration
    )]
    pub redis_timeout: Duration,

    /// What becomes of requests under a spend cap while Redis is away: `refuse` answers 503, `local`
    /// counts in each process, so that caps can be passed
    #[arg(
        long,
        env = "TOLLGATE_SPEND_WITHOUT_REDIS",
        value_name = "CHOICE",
        value_enum,
        default_value_t = SpendWithoutRedis::Refuse,
        hide_possible_values = true
    )]
    pub spend_without_redis: SpendWithoutRedis,

    /// Output that is reserved for a request that sets no limit, on a model whose limit nobody knows;
    /// a spend cap is not hard then
    #[arg(
        long,
        env = "TOLLGATE_ASSUMED_OUTPUT_TOKENS",
        value_name = "TOKENS",
        default_value_t = 32_768
    )]
    pub assumed_output_tokens: usize,

    /// Input that is reserved for a prompt that the body does not bound (files, earlier responses), on
    /// a model whose context window nobody knows
    #[arg(
        long,
        env = "TOLLGATE_ASSUMED_CONTEXT_TOKENS",
        value_name = "TOKENS",
        default_value_t = 1_000_000
    )]
    pub assumed_context_tokens: usize,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            redis_url: None,
            redis_ca_file: None,
            redis_timeout: Duration::from_millis(250),
            spend_without_redis: SpendWithoutRedis::Refuse,
            assumed_output_tokens: 32_768,
            assumed_context_tokens: 1_000_000,
        }
    }
}

/// What becomes of spend caps while Redis is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SpendWithoutRedis {
    /// Who is under one is refused.
    Refuse,
    /// Each process counts for itself: caps can be passed.
    Local,
}

/// Where Redis is. It may hold a password: Debug is silent.
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

/// Why a text is no Redis URL. Never repeats the text, which may hold a password.
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

/// Reads the option. Clap's own message would repeat a mistyped URL, password and all.
#[derive(Clone)]
struct RedisUrlParser;

impl clap::builder::TypedValueParser for RedisUrlParser {
    type Value = RedisUrl;

    fn parse_ref(
        &self,
        _command: &clap::Command,
        _arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Self::Value, clap::Error> {
        value.to_str().ok_or(RedisUrlError).and_then(str::parse).map_err(|error| {
            let message = format!("--redis-url cannot be used: {error}\n");
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, message)
        })
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
