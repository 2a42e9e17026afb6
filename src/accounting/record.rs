//! What is recorded of an attempt: its beginning, its end, and the row of the ledger that both make.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::content_finding::ContentFindings;
use crate::domain::ids::{
    ApiKeyId, AttemptId, OrganizationId, PolicyId, RequestId, UserId, WorkspaceId,
};
use crate::domain::money::NanoUsd;
use crate::domain::provider::UpstreamId;
use crate::domain::text_enum::text_enum;
use crate::domain::tokens::TokenUsage;

/// What is known of an attempt when it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptStart {
    /// Its id, and its row's.
    pub id: AttemptId,
    pub request_id: RequestId,
    /// Its place among the request's attempts, from 1; 0 for a blocked request.
    pub attempt: u32,
    /// When the request was admitted, or blocked. What it costs belongs to this instant.
    pub admitted_at: DateTime<Utc>,
    pub organization_id: OrganizationId,
    /// Where the configuration belongs.
    pub workspace_id: WorkspaceId,
    /// The API key that was presented, if the credential was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_id: Option<ApiKeyId>,
    /// Whose key it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// What it was sent through.
    #[serde(rename = "configuration_id")]
    pub upstream: UpstreamId,
    /// Its name at the time.
    pub configuration: String,
    /// The label of the operation, such as `chat_completions`, or `check`.
    pub route: String,
    /// The model that the caller named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_asked: Option<String>,
    /// The model that the upstream was asked for.
    pub model: String,
    /// The caller's own id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_id: Option<String>,
    /// The policies that matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyId>,
    /// The caller's `X-Gateway-*` metadata, normalized.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The most that it may cost; unknown without a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<NanoUsd>,
    /// Which price applies to the model, and which version of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_version: Option<String>,
}

#[cfg(test)]
impl AttemptStart {
    /// An attempt of a new request.
    pub(super) fn sample(clock: &crate::clock::Clock) -> Self {
        Self {
            id: clock.new_id(),
            request_id: clock.new_id(),
            attempt: 1,
            admitted_at: clock.now(),
            organization_id: clock.new_id(),
            workspace_id: clock.new_id(),
            api_key_id: Some(clock.new_id()),
            user_id: Some(clock.new_id()),
            upstream: clock.new_id::<crate::domain::ids::ConfigurationId>().into(),
            configuration: "chat\nbot".to_owned(),
            route: "chat_completions".to_owned(),
            model_asked: Some("m\u{2028}".to_owned()),
            model: "gpt-4o-mini".to_owned(),
            client_request_id: None,
            policies: vec![clock.new_id(), clock.new_id()],
            metadata: BTreeMap::from([("team".to_owned(), "search".to_owned())]),
            reserved: Some(NanoUsd::from_nanos(123_456_789)),
            price_version: Some("catalogue:1:openai/gpt-4o-mini".to_owned()),
        }
    }
}

/// In place of a price's version: the caller's own subscription paid, so nothing is charged.
pub const SUBSCRIPTION: &str = "subscription";

text_enum! {
    /// How an attempt ended.
    #[derive(Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum AttemptOutcome {
        /// The upstream's answer was relayed to its end, whatever its status.
        Completed = "completed",
        /// No answer came: the upstream could not be reached or was too slow, or it sent an error, or
        /// nothing, with a success status.
        Failed = "failed",
        /// The upstream's answer broke off.
        UpstreamBroke = "upstream_broke",
        /// The caller hung up.
        CallerLeft = "caller_left",
        /// Sent on a connection that turned out to be closed, and sent again; nothing came back.
        Unknown = "unknown",
        /// Nobody knows: the process ended. Charged as reserved.
        Lost = "lost",
        /// A policy forbade it; nothing was sent.
        Blocked = "blocked",
    }
}

text_enum! {
    /// Where token counts come from.
    #[derive(Default, Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum UsageSource {
        /// There is nothing to count.
        #[default]
        None = "none",
        /// The provider said so.
        Provider = "provider",
        /// Counted or assumed by the gateway.
        Estimated = "estimated",
    }
}

/// What is known of an attempt when it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptEnd {
    pub id: AttemptId,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The status of the upstream's answer, or else the one that the caller saw; none if they left
    /// before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The stable code of what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The model that the upstream says it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_used: Option<String>,
    /// Tokens by kind.
    #[serde(default)]
    pub usage: TokenUsage,
    /// Where they come from.
    #[serde(default)]
    pub usage_source: UsageSource,
    /// What they cost; unknown without a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<NanoUsd>,
    /// What they would have cost if the caller's own subscription had not paid; `cost` is zero then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_cost: Option<NanoUsd>,
    /// The price of the model that answered, where the cost was computed with it instead of the
    /// start's price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_version: Option<String>,
    /// From the request's arrival to the upstream's first byte, in milliseconds. Of further attempts,
    /// from the attempt's beginning; so is `duration_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    /// From the request's arrival to its end, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The policies that forbade it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violated: Vec<PolicyId>,
    /// What guards found in the request and in the answer; with a request's last attempt.
    #[serde(default, skip_serializing_if = "ContentFindings::is_empty")]
    pub findings: ContentFindings,
}

/// One row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    pub start: Arc<AttemptStart>,
    pub end: AttemptEnd,
}

impl LedgerEntry {
    /// The row of an attempt whose end is not known: charged as reserved.
    pub fn lost(start: Arc<AttemptStart>) -> Self {
        let is_subscribed = start.price_version.as_deref() == Some(SUBSCRIPTION);
        let (cost, list_cost) = match is_subscribed {
            true => (Some(NanoUsd::ZERO), start.reserved),
            false => (start.reserved, None),
        };
        let end = AttemptEnd {
            id: start.id,
            outcome: AttemptOutcome::Lost,
            status: None,
            code: None,
            model_used: None,
            usage: TokenUsage::default(),
            usage_source: UsageSource::Estimated,
            cost,
            list_cost,
            price_version: None,
            first_byte_ms: None,
            duration_ms: None,
            violated: Vec::new(),
            findings: ContentFindings::default(),
        };
        Self { start, end }
    }
}
