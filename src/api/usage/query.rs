//! The query of `/usage`, and whether the caller may make it.

use chrono::{DateTime, Datelike, DurationRound, TimeDelta, Utc};
use serde::Deserialize;

use crate::api::date_time;
use crate::api::error::ApiError;
use crate::api::field_errors::both;
use crate::api::shared::upstream_filter;
use crate::db::Conn;
use crate::db::names::{find_organization_names, workspace_existed};
use crate::db::usage::UsageFilter;
use crate::domain::ids::{ApiKeyId, ConfigurationId, OrganizationId, UserId, WorkspaceId};
use crate::domain::provider::Provider;
use crate::domain::scope::{Scope, WorkspaceScope};
use crate::domain::usage::{Dimension, GroupBy, Interval};

/// The length of the report unless the query sets it.
const DEFAULT_DAYS: i64 = 30;
/// The longest report.
const MAX_DAYS: i64 = 400;
/// The longest name of a model, in bytes.
const MAX_MODEL: usize = 1024;
/// The longest `group_by`, in bytes.
const MAX_GROUP_BY: usize = 512;

/// The parameters of a usage report. All filters that are given apply.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct UsageParameters {
    /// Only what was admitted at this instant or later, at most 400 days before `to`; 30 days before
    /// `to` unless given. Moved forward to the next full hour, like `to`: an hour belongs to the range
    /// that holds its beginning, so that adjoining ranges add up.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub(super) from: Option<DateTime<Utc>>,
    /// Only what was admitted before this instant; now unless given. Moved forward to the next full
    /// hour.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub(super) to: Option<DateTime<Utc>>,
    /// The length of each figure's period; one figure for the whole time unless given.
    pub(super) interval: Option<Interval>,
    /// Up to three of `organization`, `workspace`, `user`, `api_key`, `model` and `configuration`,
    /// separated by commas, and at most one key of the callers' metadata: in its normal form, such as
    /// `metadata.customer_id`, or as the header, such as `X-Gateway-Customer-Id`.
    #[param(max_length = 512, example = "workspace,model")]
    pub(super) group_by: Option<String>,
    /// Only this organization. For platform keys; other keys see only their own organization.
    pub(super) organization_id: Option<OrganizationId>,
    /// Only this workspace.
    pub(super) workspace_id: Option<WorkspaceId>,
    /// Only this person.
    pub(super) user_id: Option<UserId>,
    /// Only this key.
    pub(super) api_key_id: Option<ApiKeyId>,
    /// Only this model configuration.
    pub(super) configuration_id: Option<ConfigurationId>,
    /// Only this provider, called by its name. Not together with `configuration_id`.
    pub(super) provider: Option<Provider>,
    /// Only this model, as model configurations name it.
    #[param(max_length = 1024)]
    pub(super) model: Option<String>,
}

/// A valid query that the caller may make.
pub(super) struct UsageQuery {
    pub(super) filter: UsageFilter,
    pub(super) interval: Option<Interval>,
    pub(super) group_by: GroupBy,
}

impl UsageQuery {
    pub(super) fn parse(
        query: UsageParameters,
        scope: Scope,
        now: DateTime<Utc>,
    ) -> Result<Self, ApiError> {
        let group_by = query.group_by.as_deref().unwrap_or_default();
        let group_by = match group_by.len() > MAX_GROUP_BY {
            true => {
                let message = format!("must be at most {MAX_GROUP_BY} bytes");
                Err(ApiError::field("group_by", message))
            }
            false => group_by.parse().map_err(|error| ApiError::field("group_by", error)),
        };
        let model = query.model.as_deref().unwrap_or_default();
        let model = match model.len() > MAX_MODEL || model.contains('\0') {
            true => {
                let message = format!("must be at most {MAX_MODEL} bytes of text");
                Err(ApiError::field("model", message))
            }
            false => Ok(()),
        };
        let upstream = upstream_filter(query.configuration_id, query.provider);
        let hours = hours(query.from, query.to, now);
        let ((group_by, ()), (upstream, (from, to))): ((GroupBy, ()), _) =
            both(both(group_by, model), both(upstream, hours))?;
        let filter = UsageFilter {
            from: from.naive_utc(),
            to: to.naive_utc(),
            organization_id: query.organization_id,
            workspace_id: query.workspace_id,
            user_id: query.user_id,
            api_key_id: query.api_key_id,
            configuration_id: upstream,
            model: query.model,
        };
        if scope == Scope::Platform {
            check_platform_query(&filter, &group_by)?;
        }
        Ok(Self { filter, interval: query.interval, group_by })
    }
}

/// The time range in whole hours. An hour belongs to the range that holds its beginning, so that
/// ranges that adjoin within an hour add up.
fn hours(
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(DateTime<Utc>, DateTime<Utc>), ApiError> {
    for (field, at) in [("from", from), ("to", to)] {
        // The hours that chrono can round to and databases can store.
        if at.is_some_and(|at| !(1970..=2200).contains(&at.year())) {
            return Err(ApiError::field(field, "must lie in the years 1970 to 2200"));
        }
    }
    let hour = TimeDelta::hours(1);
    let next_full_hour = |at: DateTime<Utc>| match at.duration_trunc(hour) {
        Ok(begin) if begin < at => begin + hour,
        _ => at,
    };
    let to = to.unwrap_or(now);
    if from.is_some_and(|from| from >= to) {
        return Err(ApiError::field("from", "must lie before 'to'"));
    }
    let end = next_full_hour(to);
    let from = next_full_hour(from.unwrap_or(end - TimeDelta::days(DEFAULT_DAYS)));
    if end - from > TimeDelta::days(MAX_DAYS) {
        let message = format!("must lie at most {MAX_DAYS} days before 'to'");
        return Err(ApiError::field("from", message));
    }
    Ok((from, end))
}

/// A platform key sees totals of organizations, and nothing inside of them.
fn check_platform_query(filter: &UsageFilter, group_by: &GroupBy) -> Result<(), ApiError> {
    let groups = group_by.dimensions.iter().all(|one| *one == Dimension::Organization)
        && group_by.metadata_key.is_none();
    let filters = filter.workspace_id.is_none()
        && filter.user_id.is_none()
        && filter.api_key_id.is_none()
        && filter.configuration_id.is_none()
        && filter.model.is_none();
    if groups && filters {
        return Ok(());
    }
    Err(ApiError::Forbidden {
        code: "organization_key_needed",
        detail: "A platform key may group usage by 'organization' and filter it by \
                 'organization_id' only. Use a key of the organization for more."
            .to_owned(),
    })
}

/// Checks that the organization and the workspace of the filter exist or existed, and that the caller
/// may see them.
pub(super) async fn check_filter(
    conn: &mut Conn,
    scope: Scope,
    filter: &UsageFilter,
) -> Result<(), ApiError> {
    if let Some(id) = filter.organization_id {
        let is_visible = match scope.organization_id() {
            Some(own) => own == id,
            None => !find_organization_names(conn, &[id.to_string()]).await?.is_empty(),
        };
        is_visible.then_some(()).ok_or(ApiError::NotFound("organization"))?;
    }
    if let Some(id) = filter.workspace_id {
        let is_visible = match scope {
            Scope::Workspace(own) => own.workspace_id == id,
            Scope::Organization(organization_id) => {
                workspace_existed(conn, WorkspaceScope { organization_id, workspace_id: id })
                    .await?
            }
            Scope::Platform => false,
        };
        is_visible.then_some(()).ok_or(ApiError::NotFound("workspace"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_time_range_has_the_hours_that_begin_in_it() {
        let now = at("2026-11-23T08:30:00Z");
        let read = |from: Option<&str>, to: Option<&str>| hours(from.map(at), to.map(at), now);
        let whole = read(None, None).unwrap();
        assert_eq!(whole, (at("2026-10-24T09:00:00Z"), at("2026-11-23T09:00:00Z")));
        let moved = read(Some("2026-11-01T01:59:59Z"), Some("2026-11-01T02:00:00.000001Z"));
        assert_eq!(moved.unwrap(), (at("2026-11-01T02:00:00Z"), at("2026-11-01T03:00:00Z")));
        let within = read(Some("2026-11-01T01:10:00Z"), Some("2026-11-01T01:50:00Z"));
        assert_eq!(within.unwrap(), (at("2026-11-01T02:00:00Z"), at("2026-11-01T02:00:00Z")));
        let exact = read(Some("2026-11-01T01:00:00Z"), Some("2026-11-01T02:00:00Z"));
        assert_eq!(exact.unwrap(), (at("2026-11-01T01:00:00Z"), at("2026-11-01T02:00:00Z")));
        assert!(read(Some("2026-11-01T02:00:00Z"), Some("2026-11-01T02:00:00Z")).is_err());
        assert!(read(Some("2025-01-01T00:00:00Z"), None).is_err());
        assert!(read(Some("1969-01-01T00:00:00Z"), None).is_err());
        assert!(read(None, Some("2300-01-01T00:00:00Z")).is_err());
    }
}
