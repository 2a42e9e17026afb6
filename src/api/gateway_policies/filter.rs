//! Which policies a list shows.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

use crate::api::error::ApiError;
use crate::db::gateway_policies::{GatewayPolicyRow, list_gateway_policies};
use crate::db::{Conn, DbError};
use crate::domain::ids::OrganizationId;
use crate::domain::policy::{MatcherKey, PolicyType};

/// The most policies that one answer holds.
pub(super) const MAX_LISTED: usize = 20_000;
/// The most values that a search takes.
const MOST_VALUES: usize = 1_000;
/// Rows that are looked at together.
const BATCH: i64 = 1_000;

/// The query of a list of policies.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct GatewayPoliciesQuery {
    /// Only those of this type.
    pub policy_type: Option<PolicyType>,
    /// Only those with a matcher of this key.
    pub subject_matcher_key: Option<String>,
    /// Only those whose matcher of that key has this value; empty finds defaults.
    pub subject_matcher_value: Option<String>,
    /// How many to return, 1 to 20,000; as many unless given.
    #[param(minimum = 1, maximum = 20_000)]
    pub limit: Option<usize>,
    /// How many to pass over first.
    pub offset: Option<usize>,
}

/// A search for the policies of many subjects.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchGatewayPolicies {
    /// Only those of this type.
    #[serde(default)]
    pub policy_type: Option<PolicyType>,
    /// The key of the matcher that is looked at.
    #[serde(default)]
    pub subject_matcher_key: Option<String>,
    /// Only those whose matcher of that key has one of these values, at most 1,000; none asks for
    /// no subject in particular.
    #[serde(default)]
    #[schema(max_items = 1_000)]
    pub subject_matcher_values: Option<Vec<String>>,
}

/// What is asked for, in normal form.
#[derive(Debug)]
pub(super) struct Filter {
    policy_type: Option<PolicyType>,
    /// A key, and the values of which one has to be there, if any is asked for.
    subject: Option<(MatcherKey, Option<HashSet<String>>)>,
    limit: usize,
    offset: usize,
}

/// What was found.
pub(super) struct Found {
    pub(super) rows: Vec<GatewayPolicyRow>,
    /// How many there are beyond limit and offset.
    pub(super) total: usize,
}

impl Filter {
    pub(super) fn of_query(query: GatewayPoliciesQuery) -> Result<Self, ApiError> {
        let limit = query.limit.unwrap_or(MAX_LISTED);
        if !(1..=MAX_LISTED).contains(&limit) {
            return Err(ApiError::field("limit", format!("must be 1 to {MAX_LISTED}")));
        }
        let values = query.subject_matcher_value.map(|value| vec![value]);
        let subject = subject(query.subject_matcher_key, values, "subject_matcher_value")?;
        Ok(Self {
            policy_type: query.policy_type,
            subject,
            limit,
            offset: query.offset.unwrap_or_default(),
        })
    }

    pub(super) fn of_search(search: SearchGatewayPolicies) -> Result<Self, ApiError> {
        let values = search.subject_matcher_values.filter(|values| !values.is_empty());
        if values.as_ref().is_some_and(|values| values.len() > MOST_VALUES) {
            let message = format!("must be at most {MOST_VALUES}");
            return Err(ApiError::field("subject_matcher_values", message));
        }
        let key = search.subject_matcher_key;
        let some = values.is_some();
        let subject = subject(key, values, "subject_matcher_values")?.filter(|_| some);
        Ok(Self { policy_type: search.policy_type, subject, limit: MAX_LISTED, offset: 0 })
    }

    /// Finds them, by priority, then newest first. Belongs in one transaction, since it reads in
    /// batches.
    pub(super) async fn find(
        &self,
        conn: &mut Conn,
        organization_id: OrganizationId,
    ) -> Result<Found, DbError> {
        let mut found = Found { rows: Vec::new(), total: 0 };
        let mut read = 0;
        loop {
            let batch =
                list_gateway_policies(conn, organization_id, self.policy_type, read, BATCH).await?;
            let last = i64::try_from(batch.len()).unwrap_or(BATCH) < BATCH;
            for row in batch.into_iter().filter(|row| self.holds(row)) {
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

    fn holds(&self, row: &GatewayPolicyRow) -> bool {
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
    // What can't be a value is nobody's.
    let normal = |value: String| key.normal_value(&value).unwrap_or(value);
    let values = values.map(|values| values.into_iter().map(normal).collect());
    Ok(Some((key, values)))
}
