//! Gateway policies: who may use what, how fast, and for how much.

mod config;
mod epochs;
mod matchers;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::money::NanoUsd;
use super::window::{RateWindow, SpendWindow};
pub use epochs::Epochs;
pub use matchers::{Audience, MOST_MATCHERS, MatcherKey, Matchers, Subject, SubjectKind};

/// The most live children of one default policy; further subjects share a bucket.
pub const MOST_CHILDREN: u16 = 10_000;
/// The most live children of all default policies of one organization.
pub const MOST_CHILDREN_OF_ORGANIZATION: u16 = 50_000;

/// A field of a policy that is wrong, and how; the words are for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Its path, such as `config.limits[1].window`.
    pub field: String,
    /// What would be right.
    pub message: String,
}

impl Mistake {
    /// A mistake in a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// What a policy is; it never changes.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PolicyType {
    /// Caps what its subjects spend together in a calendar window.
    SpendCap,
    /// Gives every subject of a kind a spend cap of its own.
    DefaultSpendCap,
    /// Limits requests or tokens of its subjects together in a rolling window.
    RateLimit,
    /// Gives every subject of a kind a rate limit of its own.
    DefaultRateLimit,
    /// Says which models its subjects may use.
    ModelAccess,
}

/// Policies of one family and for the same subject are one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyFamily {
    /// Spend caps and their defaults.
    Spend,
    /// Rate limits and their defaults.
    Rate,
    /// Model access.
    ModelAccess,
}

impl PolicyType {
    /// Every type.
    pub const ALL: [Self; 5] = [
        Self::SpendCap,
        Self::DefaultSpendCap,
        Self::RateLimit,
        Self::DefaultRateLimit,
        Self::ModelAccess,
    ];

    /// The text form, as the API and the database hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SpendCap => "spend_cap",
            Self::DefaultSpendCap => "default_spend_cap",
            Self::RateLimit => "rate_limit",
            Self::DefaultRateLimit => "default_rate_limit",
            Self::ModelAccess => "model_access",
        }
    }

    /// The family.
    pub fn family(self) -> PolicyFamily {
        match self {
            Self::SpendCap | Self::DefaultSpendCap => PolicyFamily::Spend,
            Self::RateLimit | Self::DefaultRateLimit => PolicyFamily::Rate,
            Self::ModelAccess => PolicyFamily::ModelAccess,
        }
    }

    /// Whether it is a template for children rather than a rule.
    pub fn is_default(self) -> bool {
        matches!(self, Self::DefaultSpendCap | Self::DefaultRateLimit)
    }

    /// The type of a default policy's children.
    pub fn of_children(self) -> Option<Self> {
        match self {
            Self::DefaultSpendCap => Some(Self::SpendCap),
            Self::DefaultRateLimit => Some(Self::RateLimit),
            _ => None,
        }
    }
}

/// The text is no policy type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no policy type")]
pub struct UnknownPolicyType;

impl FromStr for PolicyType {
    type Err = UnknownPolicyType;

    fn from_str(text: &str) -> Result<Self, UnknownPolicyType> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or(UnknownPolicyType)
    }
}

impl PolicyFamily {
    /// The text form, as the database holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spend => "spend",
            Self::Rate => "rate",
            Self::ModelAccess => "model_access",
        }
    }
}

/// One condition on who a request is from. Values under one key are alternatives; all keys of a
/// policy have to match.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(deny_unknown_fields)]
pub struct SubjectMatcher {
    /// `organization_id`, `workspace_id`, `user_id`, `api_key_id`, or a normalized `X-Gateway-*`
    /// header.
    pub key: String,
    /// What it has to be, exactly; empty in default policies.
    pub value: String,
}

/// What a policy says, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyConfig {
    /// Of spend caps and their defaults; each window once.
    Spend(Vec<SpendLimit>),
    /// Of rate limits and their defaults; each metric and window once.
    Rate(Vec<RateLimit>),
    /// Of model access.
    ModelAccess(Vec<ProviderAccess>),
}

impl PolicyConfig {
    /// What its limits are called, in their order: each name once.
    pub fn limit_names(&self) -> Vec<&'static str> {
        match self {
            Self::Spend(limits) => limits.iter().map(|limit| limit.window.as_str()).collect(),
            Self::Rate(limits) => limits.iter().map(RateLimit::name).collect(),
            Self::ModelAccess(_) => Vec::new(),
        }
    }
}

/// So much money in a calendar window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SpendLimit {
    /// The window.
    pub window: SpendWindow,
    /// The most that may be spent in it.
    pub limit_usd: NanoUsd,
}

/// So much of something in a rolling window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// What is counted.
    pub metric: RateMetric,
    /// The window.
    pub window: RateWindow,
    /// The most that may be in it; at least 1.
    pub value: u64,
}

impl RateLimit {
    fn name(&self) -> &'static str {
        match (self.metric, self.window) {
            (RateMetric::Requests, RateWindow::Minute) => "requests/minute",
            (RateMetric::Requests, RateWindow::Hour) => "requests/hour",
            (RateMetric::Tokens, RateWindow::Minute) => "tokens/minute",
            (RateMetric::Tokens, RateWindow::Hour) => "tokens/hour",
        }
    }
}

/// What a rate limit counts.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RateMetric {
    /// Requests.
    Requests,
    /// Input and output tokens together.
    Tokens,
}

impl RateMetric {
    /// The text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        }
    }
}

/// The models of one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderAccess {
    /// A provider's name, or `model_configuration`, whose models are names of configurations.
    pub provider: String,
    /// `"all"`, or a list of names.
    pub models: Models,
}

/// Which models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Models {
    /// Every one.
    All,
    /// These.
    Named(Vec<String>),
}

impl Serialize for Models {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Named(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Models {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || serde::de::Error::custom("must be \"all\" or a list of model names");
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) if text == "all" => Ok(Self::All),
            serde_json::Value::Array(names) => names
                .into_iter()
                .map(|name| name.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .map(Self::Named)
                .ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

impl utoipa::PartialSchema for Models {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        let all = utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .enum_values(Some(["all"]));
        utoipa::openapi::OneOfBuilder::new().item(all).item(Vec::<String>::schema()).into()
    }
}

impl utoipa::ToSchema for Models {}
