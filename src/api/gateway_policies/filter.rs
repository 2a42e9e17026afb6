//! The filters of the lists of policies.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

use crate::api::error::ApiError;
use crate::api::field_errors::both;
use crate::db::gateway_policies::{GatewayPolicyRow, list_gateway_policies};
use crate::db::{Conn, DbError};
use crate::domain::ids::OrganizationId;
use crate::domain::policy::{MatcherKey, PolicyType};

/// The largest number of policies in one answer.
pub(super) const MAX_LISTED: usize = 20_000;
/// The largest number of values in a search.
const MAX_VALUES: usize = 1_000;
/// The number of rows that are read at once.
const BATCH: i64 = 1_000;

/// The query of a list of policies.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct GatewayPoliciesQuery {
    /// Only policies of this type.
    pub(super) policy_type: Option<PolicyType>,
    /// Only policies with a matcher of this key.
    #[param(min_length = 1, max_length = 74)]
    pub(super) subject_matcher_key: Option<String>,
    /// Only policies whose matcher of that key has this value; an empty value finds defaults.
    pub(super) subject_matcher_value: Option<String>,
    /// The largest number of policies to return, 1 to 20,000; 20,000 unless given.
    #[param(minimum = 1, maximum = 20_000)]
    pub(super) limit: Option<usize>,
    /// The number of policies to skip.
    pub(super) offset: Option<usize>,
}

/// A search for the policies of many subjects.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "policy_type": "spend_cap", "subject_matcher_key": "customer_id",
    "subject_matcher_values": ["42", "43"],
}))]
pub(super) struct SearchGatewayPolicies {
    /// Only policies of this type.
    #[serde(default)]
    pub(super) policy_type: Option<PolicyType>,
    /// The key of the matcher.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 74)]
    pub(super) subject_matcher_key: Option<String>,
    /// Only policies whose matcher of that key has one of these values, at most 1,000; an empty list does
    /// not filter.
    #[serde(default)]
    #[schema(max_items = 1_000)]
    pub(super) subject_matcher_values: Option<Vec<String>>,
}

/// A valid filter in normal form.
#[derive(Debug)]
pub(super) struct Filter {
    policy_type: Option<PolicyType>,
    /// A key, and the values of which the matcher must have one.
    subject: Option<(MatcherKey, Option<HashSet<String>>)>,
    limit: usize,
    offset: usize,
}

/// The policies that a filter selects.
pub(super) struct FilteredPolicies {
    pub(super) rows: Vec<GatewayPolicyRow>,
    /// Their number without limit and offset.
    pub(super) total: usize,
}

impl Filter {
    pub(super) fn of_query(query: GatewayPoliciesQuery) -> Result<Self, ApiError> {
        let limit = query.limit.unwrap_or(MAX_LISTED);
        let limit = match (1..=MAX_LISTED).contains(&limit) {
            true => Ok(limit),
            false => Err(ApiError::field("limit", format!("must be 1 to {MAX_LISTED}"))),
        };
        let values = query.subject_matcher_value.map(|value| vec![value]);
        let subject = subject(query.subject_matcher_key, values, "subject_matcher_value");
        let (limit, subject) = both(limit, subject)?;
        Ok(Self {
            policy_type: query.policy_type,
            subject,
            limit,
            offset: query.offset.unwrap_or_default(),
        })
    }

    pub(super) fn of_search(search: SearchGatewayPolicies) -> Result<Self, ApiError> {
        let values = search.subject_matcher_values.filter(|values| !values.is_empty());
        if values.as_ref().is_some_and(|values| values.len() > MAX_VALUES) {
            let message = format!("must be at most {MAX_VALUES}");
            return Err(ApiError::field("subject_matcher_values", message));
        }
        let key = search.subject_matcher_key;
        let some = values.is_some();
        let subject = subject(key, values, "subject_matcher_values")?.filter(|_| some);
        Ok(Self { policy_type: search.policy_type, subject, limit: MAX_LISTED, offset: 0 })
    }

    /// The policies by priority, then newest first. Has to run in one transaction, because it reads in
    /// batches.
    pub(super) async fn find(
        &self,
        conn: &mut Conn,
        organization_id: OrganizationId,
    ) -> Result<FilteredPolicies, DbError> {
        let mut found = FilteredPolicies { rows: Vec::new(), total: 0 };
        let mut read = 0;
        loop {
            let batch =
                list_gateway_policies(conn, organization_id, self.policy_type, read, BATCH).await?;
            let last = i64::try_from(batch.len()).unwrap_or(BATCH) < BATCH;
            for row in batch.into_iter().filter(|row| self.matches(row)) {
                if found.total >= self.offset && found.rows.len() < self.limit {
                    found.rows.push(row);
                }
                found.total += 1;
            }
            if last {
                return Ok(found);
            }
            read += BATCH;
        }
    }

    fn matches(&self, row: &GatewayPolicyRow) -> bool {
        let Some((key, values)) = &self.subject else { return true };
        row.subject_matchers.as_array().into_iter().flatten().any(|matcher| {
            let part = |name: &str| matcher.get(name).and_then(Value::as_str);
            part("key") == Some(key.as_str())
                && values
                    .as_ref()
                    .is_none_or(|values| part("value").is_some_and(|value| values.contains(value)))
        })
    }
}

type SubjectFilter = Option<(MatcherKey, Option<HashSet<String>>)>;

fn subject(
    key: Option<String>,
    values: Option<Vec<String>>,
    field: &'static str,
) -> Result<SubjectFilter, ApiError> {
    let key = match (key, &values) {
        (Some(key), _) => key,
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            let message = format!("must be given together with {field}");
            return Err(ApiError::field("subject_matcher_key", message));
        }
    };
    let key = MatcherKey::parse(&key)
        .map_err(|message| ApiError::field("subject_matcher_key", message))?;
    // A value that is not valid matches no policy.
    let normal = |value: String| key.normal_value(&value).unwrap_or(value);
    let values = values.map(|values| values.into_iter().map(normal).collect());
    Ok(Some((key, values)))
}
