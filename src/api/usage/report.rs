//! The figures as they are answered: groups with their names, and their sum.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::question::Question;
use crate::api::error::ApiError;
use crate::db::Conn;
use crate::db::names::{Named, find_names, find_organization_names};
use crate::db::usage::UsageGroup;
use crate::domain::scope::Scope;
use crate::domain::usage::{Dimension, Interval, UsageTotals};

/// The name of values beyond those that are kept separately.
const OTHER: &str = "(other)";

/// A group's id and name: of dimensions that were asked for, `null` where there is none.
type Group = Option<Option<String>>;

/// The usage of one group in one interval.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct UsageItem {
    /// When the interval begins; the first one may begin before `from`. Null without intervals.
    pub start: Option<DateTime<Utc>>,
    /// The organization, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid, required = false)]
    pub organization_id: Group,
    /// What it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub organization_name: Group,
    /// The workspace, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid, required = false)]
    pub workspace_id: Group,
    /// What it is, or was, called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub workspace_name: Group,
    /// The user, if asked for; null for keys that are nobody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid, required = false)]
    pub user_id: Group,
    /// What they are called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub user_name: Group,
    /// The key, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid, required = false)]
    pub api_key_id: Group,
    /// What it is, or was, called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub api_key_name: Group,
    /// The model configuration, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid, required = false)]
    pub configuration_id: Group,
    /// What it is, or was, called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub configuration_name: Group,
    /// The model, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub model: Group,
    /// The value of the metadata key, if asked for: null for requests that did not send it, empty for all
    /// values beyond the ten thousand of an hour that are kept separately, and for requests with a key
    /// beyond its first 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub metadata_value: Group,
    /// The same for people to read: `(other)` where the value is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub metadata_name: Group,
    /// The figures.
    #[serde(flatten)]
    pub totals: UsageTotals,
}

/// The answer.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct UsageReport {
    /// The beginning of the time that the figures are of.
    pub from: DateTime<Utc>,
    /// Its end, which is not part of it.
    pub to: DateTime<Utc>,
    /// How long each figure's period is.
    pub interval: Option<Interval>,
    /// What the groups are told apart by, in normal form.
    #[schema(example = json!(["workspace", "metadata.customer_id"]))]
    pub group_by: Vec<String>,
    /// The groups in which something was used.
    pub data: Vec<UsageItem>,
    /// All of them together.
    pub total: UsageTotals,
}

/// Names the groups and adds them up.
pub(super) async fn report(
    conn: &mut Conn,
    scope: Scope,
    question: Question,
    groups: Vec<UsageGroup>,
) -> Result<UsageReport, ApiError> {
    let Question { filter, interval, group_by } = question;
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
            let id = (!id.is_empty()).then_some(id);
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
