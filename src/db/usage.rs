//! The ledger's roll-ups, read: `usage_rollups`. The ledger's writer adds to them.

mod rollup_range;
mod select;
mod spend;

use std::collections::HashMap;

use chrono::NaiveDateTime;

pub(super) use rollup_range::{Period, RollupRange};
pub use spend::{SpendConditions, spend_since};

use self::select::UsageSelect;
use super::{Conn, DbError};
use crate::domain::ids::{ApiKeyId, OrganizationId, UserId, WorkspaceId};
use crate::domain::provider::UpstreamId;
use crate::domain::scope::Scope;
use crate::domain::usage::{GroupBy, Interval, UsageTotals};

/// The metadata key of rows with a key that has no sums of its own in their hour. No caller's key is the
/// same.
pub(super) const OTHER_KEYS: &str = "*";

/// Which usage is summed up: all that is given has to hold, and the time always.
#[derive(Clone, Debug)]
pub struct UsageFilter {
    /// From this hour on, UTC.
    pub from: NaiveDateTime,
    /// Before this hour, UTC.
    pub to: NaiveDateTime,
    /// For the platform's eyes: only this tenant's.
    pub organization_id: Option<OrganizationId>,
    /// Only this workspace's.
    pub workspace_id: Option<WorkspaceId>,
    /// Only this person's.
    pub user_id: Option<UserId>,
    /// Only this key's.
    pub api_key_id: Option<ApiKeyId>,
    /// Only that of this model configuration.
    pub configuration_id: Option<UpstreamId>,
    /// Only that of this model.
    pub model: Option<String>,
}

/// The usage of one group in one interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageGroup {
    /// When the interval begins, UTC; none where one figure covers all of the time.
    pub start: Option<NaiveDateTime>,
    /// What the group has of each dimension, in the order asked for. No user and no API key are the empty text.
    pub dimensions: Vec<String>,
    /// The value of the metadata key: none where it was not sent, the empty text for all values
    /// beyond those that are distinguished, and for what may have one in an hour of too many keys.
    pub metadata: Option<String>,
    pub totals: UsageTotals,
}

/// What the scope used, by time and group, ordered by both; none if there are more than `most`
/// groups. Intervals and groups in which nothing was used are left out.
pub async fn list_usage(
    conn: &mut Conn,
    scope: Scope,
    filter: &UsageFilter,
    interval: Option<Interval>,
    group_by: &GroupBy,
    most: usize,
) -> Result<Option<Vec<UsageGroup>>, DbError> {
    let asked = UsageSelect { scope, filter, interval, group_by, most };
    let mut groups = asked.sums(conn).await?;
    if groups.len() > most {
        return Ok(None);
    }
    if group_by.metadata_key.is_some() {
        let by_others = GroupBy { dimensions: group_by.dimensions.clone(), metadata_key: None };
        let whole = UsageSelect { group_by: &by_others, ..asked }.sums(conn).await?;
        if whole.len() > most {
            return Ok(None);
        }
        groups.extend(untagged(whole, &groups));
        if groups.len() > most {
            return Ok(None);
        }
    }
    groups.sort_by(|a, b| {
        let place =
            |group: &UsageGroup| (group.start, group.dimensions.clone(), group.metadata.clone());
        place(a).cmp(&place(b))
    });
    Ok(Some(groups))
}

/// What is left of the whole without the groups that have the metadata key.
fn untagged(whole: Vec<UsageGroup>, tagged: &[UsageGroup]) -> Vec<UsageGroup> {
    let mut parts: HashMap<(Option<NaiveDateTime>, &[String]), UsageTotals> = HashMap::new();
    for group in tagged {
        let part = parts.entry((group.start, &group.dimensions)).or_default();
        *part = part.plus(group.totals);
    }
    let rest = |mut group: UsageGroup| {
        let part = parts.get(&(group.start, group.dimensions.as_slice())).copied();
        group.totals = group.totals.minus(part.unwrap_or_default());
        (!group.totals.is_nothing()).then_some(group)
    };
    whole.into_iter().filter_map(rest).collect()
}
