//! The usage report: groups with their names, and the total.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::query::UsageQuery;
use crate::api::error::ApiError;
use crate::db::Conn;
use crate::db::names::{Named, find_names, find_organization_names};
use crate::db::usage::UsageGroup;
use crate::domain::provider::Provider;
use crate::domain::scope::Scope;
use crate::domain::usage::{Dimension, Interval, UsageTotals};

/// The name of the group of all values that have no group of their own.
const OTHER: &str = "(other)";

/// An id or a name of a group: absent unless the report is grouped by it, null where a request has none.
type Group = Option<Option<String>>;

/// The usage of one group in one interval.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub(super) struct UsageItem {
    /// The beginning of the interval; the first one may begin before `from`. Null without intervals.
    pub(super) start: Option<DateTime<Utc>>,
    /// If grouped by `organization`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid, required = false)]
    pub(super) organization_id: Group,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub(super) organization_name: Group,
    /// If grouped by `workspace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid, required = false)]
    pub(super) workspace_id: Group,
    /// The present name, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub(super) workspace_name: Group,
    /// If grouped by `user`; null for keys without a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid, required = false)]
    pub(super) user_id: Group,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub(super) user_name: Group,
    /// If grouped by `api_key`; null for callers without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid, required = false)]
    pub(super) api_key_id: Group,
    /// The present name, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub(super) api_key_name: Group,
    /// If grouped by `configuration`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid, required = false)]
    pub(super) configuration_id: Group,
    /// The present name, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub(super) configuration_name: Group,
    /// If grouped by `model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub(super) model: Group,
    /// The value of the metadata key, if grouped by one: null for requests that did not send it. Empty
    /// for all values beyond the first ten thousand of an hour, and for requests with more than 64
    /// keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub(super) metadata_value: Group,
    /// The value for people to read: `(other)` where it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub(super) metadata_name: Group,
    #[serde(flatten)]
    pub(super) totals: UsageTotals,
}

/// A usage report.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct UsageReport {
    /// The beginning of the reported time, which is the beginning of an hour.
    pub(super) from: DateTime<Utc>,
    /// The end of the reported time, which is not part of it.
    pub(super) to: DateTime<Utc>,
    /// The length of each figure's period.
    pub(super) interval: Option<Interval>,
    /// The dimensions of the groups, in normal form.
    #[schema(example = json!(["workspace", "metadata.customer_id"]))]
    pub(super) group_by: Vec<String>,
    /// The groups with usage.
    pub(super) data: Vec<UsageItem>,
    /// The sum of all groups.
    pub(super) total: UsageTotals,
}

/// Adds the names of the groups and the total.
pub(super) async fn report(
    conn: &mut Conn,
    scope: Scope,
    query: UsageQuery,
    groups: Vec<UsageGroup>,
) -> Result<UsageReport, ApiError> {
    let UsageQuery { filter, interval, group_by } = query;
    let mut names = Vec::new();
    for (at, dimension) in group_by.dimensions.iter().enumerate() {
        let ids: BTreeSet<&String> =
            groups.iter().filter_map(|group| group.dimensions.get(at)).collect();
        let ids = ids.into_iter().filter(|id| !id.is_empty()).cloned().collect();
        names.push(names_of(conn, scope, *dimension, ids).await?);
    }
    let total = groups.iter().fold(UsageTotals::default(), |sum, group| sum.plus(group.totals));
    let mut data = Vec::with_capacity(groups.len());
    for group in groups {
        let mut item = UsageItem {
            start: group.start.map(|start| start.and_utc()),
            totals: group.totals,
            ..UsageItem::default()
        };
        let dimensions = group_by.dimensions.iter().zip(group.dimensions).zip(&names);
        for ((dimension, id), names) in dimensions {
            let name = names.get(&id).cloned();
            // A provider that was called by its name has no id.
            let (id, name) = match Provider::parse(&id) {
                Some(_) if *dimension == Dimension::Configuration => (None, Some(id)),
                _ => ((!id.is_empty()).then_some(id), name),
            };
            let (id_field, name_field) = match dimension {
                Dimension::Organization => (&mut item.organization_id, &mut item.organization_name),
                Dimension::Workspace => (&mut item.workspace_id, &mut item.workspace_name),
                Dimension::User => (&mut item.user_id, &mut item.user_name),
                Dimension::ApiKey => (&mut item.api_key_id, &mut item.api_key_name),
                Dimension::Configuration => {
                    (&mut item.configuration_id, &mut item.configuration_name)
                }
                Dimension::Model => {
                    item.model = Some(id);
                    continue;
                }
            };
            *id_field = Some(id);
            *name_field = Some(name);
        }
        if group_by.metadata_key.is_some() {
            let other = |value: &String| {
                if value.is_empty() { OTHER.to_owned() } else { value.clone() }
            };
            item.metadata_name = Some(group.metadata.as_ref().map(other));
            item.metadata_value = Some(group.metadata);
        }
        data.push(item);
    }
    let key = group_by.metadata_key.map(|key| format!("metadata.{key}"));
    let dimensions = group_by.dimensions.iter().map(|one| one.as_str().to_owned());
    Ok(UsageReport {
        from: filter.from.and_utc(),
        to: filter.to.and_utc(),
        interval,
        group_by: dimensions.chain(key).collect(),
        data,
        total,
    })
}

async fn names_of(
    conn: &mut Conn,
    scope: Scope,
    dimension: Dimension,
    ids: Vec<String>,
) -> Result<HashMap<String, String>, ApiError> {
    let what = match dimension {
        Dimension::Organization => return Ok(find_organization_names(conn, &ids).await?),
        Dimension::Model => return Ok(HashMap::new()),
        Dimension::Workspace => Named::Workspace,
        Dimension::User => Named::User,
        Dimension::ApiKey => Named::ApiKey,
        Dimension::Configuration => Named::Configuration,
    };
    match scope.organization_id() {
        Some(organization_id) => Ok(find_names(conn, organization_id, what, &ids).await?),
        None => Ok(HashMap::new()),
    }
}
