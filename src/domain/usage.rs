//! What was used, summed up: the figures, and what they can be grouped by.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::metadata::{MAX_KEY, normal, without_prefix};
use super::money::NanoUsd;
use super::text_enum::text_enum;
use super::tokens::TokenTotals;

/// How many things of the gateway's own one question may group by.
pub const MAX_DIMENSIONS: usize = 3;

/// The length of the period of one figure, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// From the top of an hour.
    Hour,
    /// From midnight.
    Day,
    /// From the first's midnight.
    Month,
}

text_enum! {
    /// What figures can be grouped by, besides time and the callers' metadata.
    pub enum Dimension {
        /// The tenant.
        Organization = "organization",
        /// The workspace of the key.
        Workspace = "workspace",
        /// The person whose key it is.
        User = "user",
        /// The key.
        ApiKey = "api_key",
        /// The model that upstreams were asked for.
        Model = "model",
        /// The model configuration.
        Configuration = "configuration",
    }
}

/// What figures are grouped by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupBy {
    /// In the order asked for, at most [`MAX_DIMENSIONS`], each once.
    pub dimensions: Vec<Dimension>,
    /// A key of the callers' metadata, normalized.
    pub metadata_key: Option<String>,
}

/// The text does not say what to group by; the words are for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGroupBy {
    #[error(
        "'{0}' is none of organization, workspace, user, api_key, model, configuration, \
         metadata.<key> and x-gateway-<name>"
    )]
    Unknown(String),
    #[error("'{0}' must be named once")]
    Twice(String),
    #[error("must name at most {MAX_DIMENSIONS} things besides a metadata key")]
    TooMany,
    #[error("must name at most one metadata key")]
    TooManyKeys,
}

impl FromStr for GroupBy {
    type Err = InvalidGroupBy;

    /// Reads names parted by commas: those of [`Dimension`], and at most one key of the callers'
    /// metadata, either normalized (`metadata.customer_id`) or as the header that carries it
    /// (`X-Gateway-Customer-Id`).
    fn from_str(text: &str) -> Result<Self, InvalidGroupBy> {
        let mut read = Self::default();
        for name in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            match (Dimension::parse(name), metadata_key(name)) {
                (Some(one), _) if read.dimensions.contains(&one) => {
                    return Err(InvalidGroupBy::Twice(name.to_owned()));
                }
                (Some(_), _) if read.dimensions.len() == MAX_DIMENSIONS => {
                    return Err(InvalidGroupBy::TooMany);
                }
                (Some(one), _) => read.dimensions.push(one),
                (None, Some(_)) if read.metadata_key.is_some() => {
                    return Err(InvalidGroupBy::TooManyKeys);
                }
                (None, Some(key)) => read.metadata_key = Some(key),
                (None, None) => {
                    return Err(InvalidGroupBy::Unknown(name.chars().take(100).collect()));
                }
            }
        }
        Ok(read)
    }
}

/// The metadata key that is meant: its normal form, or that of the header.
fn metadata_key(name: &str) -> Option<String> {
    let key: String = match name.strip_prefix("metadata.") {
        Some(key) => key.chars().all(|c| normal(c) == c).then(|| key.to_owned())?,
        None => without_prefix(name)?.chars().map(normal).collect(),
    };
    (1..=MAX_KEY).contains(&key.len()).then_some(key)
}

/// What was used, in sum. Sums stop at the largest number that fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct UsageTotals {
    #[serde(flatten)]
    pub tokens: TokenTotals,
    /// What it cost, as far as that is known.
    pub cost_usd: NanoUsd,
    /// Attempts of which it is not known what they cost.
    pub unknown_costs: i64,
    /// Requests, blocked ones included.
    pub requests: i64,
    /// Requests sent to upstreams.
    pub attempts: i64,
    /// Attempts that were not completed, or answered with a status from 400.
    pub errors: i64,
    /// Requests that a policy blocked.
    pub blocks: i64,
}

impl UsageTotals {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        self.with(other, i64::saturating_add, |a, b| a + b)
    }

    /// What is left of it without a part of it.
    pub fn minus(self, part: Self) -> Self {
        self.with(part, i64::saturating_sub, |a, b| a - b)
    }

    /// Whether there was nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn with(
        self,
        other: Self,
        count: impl Fn(i64, i64) -> i64,
        money: impl Fn(NanoUsd, NanoUsd) -> NanoUsd,
    ) -> Self {
        let mut tokens = self.tokens.sums();
        tokens
            .iter_mut()
            .zip(other.tokens.sums())
            .for_each(|(sum, other)| *sum = count(*sum, other));
        Self {
            tokens: tokens.into(),
            cost_usd: money(self.cost_usd, other.cost_usd),
            unknown_costs: count(self.unknown_costs, other.unknown_costs),
            requests: count(self.requests, other.requests),
            attempts: count(self.attempts, other.attempts),
            errors: count(self.errors, other.errors),
            blocks: count(self.blocks, other.blocks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<GroupBy, InvalidGroupBy> {
        text.parse()
    }

    #[test]
    fn groups_are_read_in_their_order() {
        let both = read("model, api_key,metadata.customer_id").unwrap();
        assert_eq!(both.dimensions, [Dimension::Model, Dimension::ApiKey]);
        assert_eq!(both.metadata_key.as_deref(), Some("customer_id"));
        assert_eq!(read("").unwrap(), GroupBy::default());
    }

    #[test]
    fn metadata_keys_are_named_in_either_form() {
        for name in ["metadata.customer_id", "x-gateway-customer-id", "X-Gateway-Customer.ID"] {
            let key = read(name).unwrap().metadata_key;
            assert_eq!(key.as_deref(), Some("customer_id"), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        use InvalidGroupBy::*;
        for (text, error) in [
            ("colour", Unknown("colour".into())),
            ("metadata.Customer", Unknown("metadata.Customer".into())),
            ("metadata.", Unknown("metadata.".into())),
            ("x-gateway-", Unknown("x-gateway-".into())),
            ("model,", Unknown(String::new())),
            ("model,model", Twice("model".into())),
            ("model,user,workspace,api_key", TooMany),
            ("metadata.a,metadata.b", TooManyKeys),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
        assert!(read("model,user,workspace,metadata.a").is_ok());
        assert!(read(&format!("metadata.{}", "a".repeat(65))).is_err());
    }
}
