//! Gateway policies: spend caps, rate limits, model access, fallback chains and guards.

mod config;
mod epochs;
pub mod fallback;
mod matchers;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::money::NanoUsd;
use super::text_enum::text_enum;
use super::window::{RateWindow, SpendWindow};
pub use epochs::Epochs;
use fallback::{ModelFallback, RouteConfig};
pub use matchers::{Audience, MAX_MATCHERS, MatcherKey, Matchers, Subject, SubjectKind};

/// The most children of one default policy; further subjects share one set of limits.
pub const MAX_CHILDREN: u16 = 10_000;
/// The most children of all default policies of one organization.
pub const MAX_CHILDREN_OF_ORGANIZATION: u16 = 50_000;

/// A field of a policy with an invalid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidField {
    /// The path of the field, such as `config.limits[1].window`.
    pub field: String,
    /// What a valid value is.
    pub message: String,
}

impl InvalidField {
    /// Names the field and says what is valid.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

text_enum! {
    /// The type of a policy, which never changes.
    #[derive(Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum PolicyType {
        /// Limits what its subjects spend together in a calendar window.
        SpendCap = "spend_cap",
        /// Gives every subject of a kind a spend cap of its own.
        DefaultSpendCap = "default_spend_cap",
        /// Limits requests or tokens of its subjects together in a rolling window.
        RateLimit = "rate_limit",
        /// Gives every subject of a kind a rate limit of its own.
        DefaultRateLimit = "default_rate_limit",
        /// Limits the models that its subjects may use.
        ModelAccess = "model_access",
        /// Says where requests go next when their target fails.
        ModelFallback = "model_fallback",
        /// Names chains of model configurations, called as `/routes/{name}`.
        RouteConfig = "route_config",
        /// Says what is detected in requests and must not reach a provider.
        Guard = "guard",
    }
}

text_enum! {
    /// An organization has at most one policy of a family for the same subjects; of fallbacks, one of each
    /// name.
    pub enum PolicyFamily {
        Spend = "spend",
        Rate = "rate",
        ModelAccess = "model_access",
        Fallback = "fallback",
        Guard = "guard",
    }
}

impl PolicyType {
    /// The family that the type belongs to.
    pub fn family(self) -> PolicyFamily {
        match self {
            Self::SpendCap | Self::DefaultSpendCap => PolicyFamily::Spend,
            Self::RateLimit | Self::DefaultRateLimit => PolicyFamily::Rate,
            Self::ModelAccess => PolicyFamily::ModelAccess,
            Self::ModelFallback | Self::RouteConfig => PolicyFamily::Fallback,
            Self::Guard => PolicyFamily::Guard,
        }
    }

    /// Whether it is a template that gives each subject a policy of its own.
    pub fn is_default(self) -> bool {
        matches!(self, Self::DefaultSpendCap | Self::DefaultRateLimit)
    }

    /// The type of a default policy's children.
    pub fn child_type(self) -> Option<Self> {
        match self {
            Self::DefaultSpendCap => Some(Self::SpendCap),
            Self::DefaultRateLimit => Some(Self::RateLimit),
            _ => None,
        }
    }
}

/// The text is not a policy type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a policy type")]
pub struct UnknownPolicyType;

impl FromStr for PolicyType {
    type Err = UnknownPolicyType;

    fn from_str(text: &str) -> Result<Self, UnknownPolicyType> {
        Self::parse(text).ok_or(UnknownPolicyType)
    }
}

/// One condition on the subject of a request. Of the matchers with the same key, one has to match;
/// every key has to match.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(deny_unknown_fields)]
pub struct SubjectMatcher {
    /// `organization_id`, `workspace_id`, `user_id`, `api_key_id`, or a normalized `X-Gateway-*`
    /// header.
    #[schema(min_length = 1, max_length = 74)]
    pub key: String,
    /// Compared exactly. Empty in default policies.
    #[schema(max_length = 256)]
    pub value: String,
}

/// A parsed `config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyConfig {
    /// For spend caps and their defaults.
    Spend(SpendCap),
    /// For rate limits and their defaults. Each metric and window occurs once.
    Rate(Vec<RateLimit>),
    ModelAccess(Vec<ProviderAccess>),
    ModelFallback(ModelFallback),
    Route(RouteConfig),
    /// For guards: any object. `policy::guard` says what it means, since patterns are compiled to check
    /// them.
    Guard(serde_json::Value),
}

impl PolicyConfig {
    /// The names of the limits, in their order. Each name occurs once.
    pub fn limit_names(&self) -> Vec<&'static str> {
        match self {
            Self::Spend(cap) => {
                let name = |limit: &SpendLimit| match (limit.window, cap.include_subscriptions) {
                    (window, false) => window.as_str(),
                    // It counts more, so it is another limit.
                    (SpendWindow::Hourly, true) => "hourly_with_subscriptions",
                    (SpendWindow::Daily, true) => "daily_with_subscriptions",
                    (SpendWindow::Weekly, true) => "weekly_with_subscriptions",
                    (SpendWindow::Monthly, true) => "monthly_with_subscriptions",
                };
                cap.limits.iter().map(name).collect()
            }
            Self::Rate(limits) => limits.iter().map(RateLimit::name).collect(),
            Self::ModelAccess(_) | Self::ModelFallback(_) | Self::Route(_) | Self::Guard(_) => {
                Vec::new()
            }
        }
    }
}

/// What a spend cap counts, and how much of it may be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendCap {
    /// Each window occurs once.
    pub limits: Vec<SpendLimit>,
    /// Whether requests that a caller's own subscription pays for count, at their list price.
    pub include_subscriptions: bool,
}

/// The most money for a calendar window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SpendLimit {
    /// The calendar window.
    pub window: SpendWindow,
    /// The most that may be spent in the window.
    pub limit_usd: NanoUsd,
}

/// The most requests or tokens for a rolling window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// What is counted.
    pub metric: RateMetric,
    /// The rolling window.
    pub window: RateWindow,
    /// The limit; at least 1.
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

text_enum! {
    /// What a rate limit counts.
    #[derive(Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum RateMetric {
        Requests = "requests",
        /// Input and output tokens together.
        Tokens = "tokens",
    }
}

/// The models of one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderAccess {
    /// A provider's name, or `model_configuration` to list configurations by name.
    pub provider: String,
    /// `"all"`, or a list of names.
    pub models: Models,
}

/// The models of a provider that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Models {
    All,
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
        let invalid = || serde::de::Error::custom("must be \"all\" or a list of model names");
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) if text == "all" => Ok(Self::All),
            serde_json::Value::Array(names) => names
                .into_iter()
                .map(|name| name.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .map(Self::Named)
                .ok_or_else(invalid),
            _ => Err(invalid()),
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
