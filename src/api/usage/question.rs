//! What is asked of `/usage`, and whether it may be.

use chrono::{DateTime, Datelike, DurationRound, TimeDelta, Utc};
use serde::Deserialize;

use crate::api::date_time;
use crate::api::error::ApiError;
use crate::db::Conn;
use crate::db::names::{find_organization_names, was_workspace};
use crate::db::usage::UsageFilter;
use crate::domain::ids::{ApiKeyId, ConfigurationId, OrganizationId, UserId, WorkspaceId};
use crate::domain::scope::{Scope, WorkspaceScope};
use crate::domain::usage::{Dimension, GroupBy, Interval};

/// The time that is reported on unless it is said.
const DEFAULT_DAYS: i64 = 30;
/// The most time that one question may be about.
const MAX_DAYS: i64 = 400;
/// Models have no longer names, in bytes.
const MAX_MODEL: usize = 1024;
/// What is listed of groups, in bytes.
const MAX_GROUP_BY: usize = 512;

/// The query of a usage report. All filters that are given have to hold.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UsageQuery {
    /// Only what was admitted at this instant or later, at most 400 days before `to`; 30 days before
    /// `to` unless given.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub from: Option<DateTime<Utc>>,
    /// Only what was admitted before this instant; the end of this hour unless given, or if later than
    /// now.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub to: Option<DateTime<Utc>>,
    /// How long each figure's period is; one figure for all of the time unless given.
    pub interval: Option<Interval>,
    /// Up to three of `organization`, `workspace`, `user`, `api_key`, `model` and `configuration`,
    /// parted by commas, and at most one key of the callers' metadata: in its normal form, such as
    /// `metadata.customer_id`, or as the header, such as `X-Gateway-Customer-Id`.
    #[param(max_length = 512, example = "workspace,model")]
    pub group_by: Option<String>,
    /// Only this organization. For platform keys; others see their own alone.
    pub organization_id: Option<OrganizationId>,
    /// Only this workspace.
    pub workspace_id: Option<WorkspaceId>,
    /// Only this person.
    pub user_id: Option<UserId>,
    /// Only this key.
    pub api_key_id: Option<ApiKeyId>,
    /// Only this model configuration.
    pub configuration_id: Option<ConfigurationId>,
    /// Only this model, as model configurations name it.
    #[param(max_length = 1024)]
    pub model: Option<String>,
}

/// A question that makes sense and is the caller's to ask.
pub(super) struct Question {
    pub(super) filter: UsageFilter,
    pub(super) interval: Option<Interval>,
    pub(super) group_by: GroupBy,
}

impl Question {
    pub(super) fn read(
        query: UsageQuery,
        scope: Scope,
        now: DateTime<Utc>,
    ) -> Result<Self, ApiError> {
        let (from, to) = range(query.from, query.to, now)?;
        let group_by = query.group_by.as_deref().unwrap_or_default();
        if group_by.len() > MAX_GROUP_BY {
            let message = format!("must be at most {MAX_GROUP_BY} bytes");
            return Err(ApiError::field("group_by", message));
        }
        let group_by: GroupBy =
            group_by.parse().map_err(|error| ApiError::field("group_by", error))?;
        if query.model.as_ref().is_some_and(|text| text.len() > MAX_MODEL || text.contains('\0')) {
            return Err(ApiError::field(
                "model",
                format!("must be at most {MAX_MODEL} bytes of text"),
            ));
        }
        let filter = UsageFilter {
            from: from.naive_utc(),
            to: to.naive_utc(),
            organization_id: query.organization_id,
            workspace_id: query.workspace_id,
            user_id: query.user_id,
            api_key_id: query.api_key_id,
            configuration_id: query.configuration_id,
            model: query.model,
        };
        if scope == Scope::Platform {
            from_outside(&filter, &group_by)?;
        }
        Ok(Self { filter, interval: query.interval, group_by })
    }
}

/// The time that is asked for. Up to now is up to the end of this hour, of which nothing more is there:
/// whole hours are cheaper to sum up.
fn range(
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(DateTime<Utc>, DateTime<Utc>), ApiError> {
    for (field, at) in [("from", from), ("to", to)] {
        // Hours that timestamps in nanoseconds can be rounded to, and databases hold.
        if at.is_some_and(|at| !(1970..=2200).contains(&at.year())) {
            return Err(ApiError::field(field, "must lie in the years 1970 to 2200"));
        }
    }
    let hour = TimeDelta::hours(1);
    let begin = |at: DateTime<Utc>| at.duration_trunc(hour).unwrap_or(at);
    let end = match to {
        Some(to) if to < now || begin(to) == to => to,
        to => begin(to.unwrap_or(now)) + hour,
    };
    let from = from.unwrap_or(begin(end) - TimeDelta::days(DEFAULT_DAYS));
    if from >= end {
        return Err(ApiError::field("from", "must lie before 'to'"));
    }
    if end - from > TimeDelta::days(MAX_DAYS) {
        let message = format!("must lie at most {MAX_DAYS} days before 'to'");
        return Err(ApiError::field("from", message));
    }
    Ok((from, end))
}

/// The platform has no say inside of organizations, and sees them as wholes.
fn from_outside(filter: &UsageFilter, group_by: &GroupBy) -> Result<(), ApiError> {
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
                 'organization_id'; what is inside of an organization is for the organization's own \
                 keys."
            .to_owned(),
    })
}

/// That what the filter names is there for the caller to see, or was once.
pub(super) async fn check_places(
    conn: &mut Conn,
    scope: Scope,
    filter: &UsageFilter,
) -> Result<(), ApiError> {
    if let Some(id) = filter.organization_id {
        let seen = match scope.organization_id() {
            Some(own) => own == id,
            None => !find_organization_names(conn, &[id.to_string()]).await?.is_empty(),
        };
        seen.then_some(()).ok_or(ApiError::NotFound("organization"))?;
    }
    if let Some(id) = filter.workspace_id {
        let seen = match scope {
            Scope::Workspace(own) => own.workspace_id == id,
            Scope::Organization(organization_id) => {
                was_workspace(conn, WorkspaceScope { organization_id, workspace_id: id }).await?
            }
            Scope::Platform => false,
        };
        seen.then_some(()).ok_or(ApiError::NotFound("workspace"))?;
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
    fn up_to_now_is_up_to_the_end_of_the_hour() {
        let now = at("2026-11-23T08:30:00Z");
        let read = |from: Option<&str>, to: Option<&str>| range(from.map(at), to.map(at), now);
        let usual = (at("2026-10-24T09:00:00Z"), at("2026-11-23T09:00:00Z"));
        assert_eq!(read(None, None).unwrap(), usual);
        assert_eq!(read(None, Some("2026-11-23T08:30:00Z")).unwrap(), usual);
        for (from, to) in [
            ("2026-11-01T01:59:59Z", "2026-11-01T02:00:00.000001Z"),
            ("2026-11-01T01:00:00Z", "2026-11-01T02:00:00Z"),
            ("2026-11-01T01:00:00Z", "2026-11-23T08:29:59Z"),
        ] {
            assert_eq!(read(Some(from), Some(to)).unwrap(), (at(from), at(to)));
        }
        assert!(read(Some("2026-11-01T02:00:00Z"), Some("2026-11-01T02:00:00Z")).is_err());
        assert!(read(Some("2025-01-01T00:00:00Z"), None).is_err());
        assert!(read(Some("1969-01-01T00:00:00Z"), None).is_err());
        assert!(read(None, Some("2300-01-01T00:00:00Z")).is_err());
    }
}
