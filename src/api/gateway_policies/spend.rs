//! The current spend of the subjects of spend caps, from the roll-ups.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use chrono::{DateTime, NaiveDateTime, Utc};

use crate::db::gateway_policies::{
    GatewayPolicyRow, SubjectSpend, sum_spend_by_metadata, sum_spend_by_subject,
};
use crate::db::{Conn, DbError};
use crate::domain::ids::{ApiKeyId, OrganizationId, UserId, WorkspaceId};
use crate::domain::metadata::Metadata;
use crate::domain::money::NanoUsd;
use crate::domain::policy::{Audience, Matchers, PolicyConfig, PolicyType, Subject};

use super::stored_matchers;

/// The beginning of a window and of the next one.
type Window = (NaiveDateTime, NaiveDateTime);

/// The spend to sum up for one policy.
struct SpendQuery {
    window: Window,
    matchers: Matchers,
    /// Whether what callers' own subscriptions paid counts at its list price.
    with_subscriptions: bool,
}

/// The spend of each policy's subjects in the present window of its first limit, in the order of the
/// policies. `None` for a policy that is not a spend cap, that matches more than one key of metadata (the
/// roll-ups keep each key separately), or that has too many rows to sum up.
pub(super) async fn current_spend(
    conn: &mut Conn,
    organization_id: OrganizationId,
    now: DateTime<Utc>,
    policies: &[GatewayPolicyRow],
) -> Result<Vec<Option<NanoUsd>>, DbError> {
    let queries: Vec<Option<SpendQuery>> =
        policies.iter().map(|row| spend_query(row, now)).collect();
    // One query for each window, and one for each key of metadata in it.
    let mut windows: BTreeSet<Window> = BTreeSet::new();
    let mut headers: BTreeMap<(Window, String), BTreeSet<String>> = BTreeMap::new();
    for SpendQuery { window, matchers, .. } in queries.iter().flatten() {
        match matchers.headers().iter().next() {
            None => {
                windows.insert(*window);
            }
            Some((key, values)) => {
                headers.entry((*window, key.clone())).or_default().extend(values.iter().cloned());
            }
        }
    }
    let mut by_window: HashMap<Window, Option<SubjectSpends>> = HashMap::new();
    for window in windows {
        let groups = sum_spend_by_subject(conn, organization_id, window).await?;
        by_window.insert(window, groups.map(|groups| groups.into_iter().collect()));
    }
    let mut by_header: HashMap<(Window, String), Option<HashMap<String, SubjectSpends>>> =
        HashMap::new();
    for ((window, key), values) in headers {
        let values: Vec<String> = values.into_iter().collect();
        let groups = sum_spend_by_metadata(conn, organization_id, window, &key, &values).await?;
        let by_value = groups.map(|groups| {
            let mut by_value: HashMap<String, SubjectSpends> = HashMap::new();
            for (value, group) in groups {
                by_value.entry(value).or_default().add(group);
            }
            by_value
        });
        by_header.insert((window, key), by_value);
    }
    let sum = |query: &SpendQuery| match query.matchers.headers().iter().next() {
        None => {
            by_window.get(&query.window)?.as_ref().map(|spent| spent.sum(organization_id, query))
        }
        Some((key, values)) => {
            let by_value = by_header.get(&(query.window, key.clone()))?.as_ref()?;
            let spent = values.iter().filter_map(|value| by_value.get(value));
            Some(total(spent.map(|spent| spent.sum(organization_id, query))))
        }
    };
    Ok(queries.iter().map(|query| query.as_ref().and_then(sum)).collect())
}

fn spend_query(row: &GatewayPolicyRow, now: DateTime<Utc>) -> Option<SpendQuery> {
    if row.policy_type != PolicyType::SpendCap {
        return None;
    }
    let Ok(PolicyConfig::Spend(cap)) = PolicyConfig::parse(row.policy_type, &row.config) else {
        return None;
    };
    let window = cap.limits.first()?.window;
    let matchers = stored_matchers(row).ok()?;
    match Audience::parse(row.policy_type, &matchers) {
        Ok((Audience::Matching(matchers), _)) if matchers.headers().len() <= 1 => {
            Some(SpendQuery {
                window: (window.start(now).naive_utc(), window.end(now).naive_utc()),
                matchers,
                with_subscriptions: cap.include_subscriptions,
            })
        }
        _ => None,
    }
}

/// Spend of subjects, indexed by the keys that policies match.
#[derive(Default)]
struct SubjectSpends {
    all: Vec<SubjectSpend>,
    by_workspace: HashMap<WorkspaceId, Vec<usize>>,
    by_user: HashMap<UserId, Vec<usize>>,
    by_key: HashMap<ApiKeyId, Vec<usize>>,
}

impl FromIterator<SubjectSpend> for SubjectSpends {
    fn from_iter<I: IntoIterator<Item = SubjectSpend>>(groups: I) -> Self {
        let mut spent = Self::default();
        groups.into_iter().for_each(|group| spent.add(group));
        spent
    }
}

impl SubjectSpends {
    fn add(&mut self, group: SubjectSpend) {
        let index = self.all.len();
        self.by_workspace.entry(group.workspace_id).or_default().push(index);
        if let Some(user_id) = group.user_id {
            self.by_user.entry(user_id).or_default().push(index);
        }
        if let Some(api_key_id) = group.api_key_id {
            self.by_key.entry(api_key_id).or_default().push(index);
        }
        self.all.push(group);
    }

    /// The spend of the subjects that match. There may be thousands of policies, each for one of thousands
    /// of subjects, so an index is used to visit only subjects that can match.
    fn sum(&self, organization_id: OrganizationId, query: &SpendQuery) -> NanoUsd {
        let SpendQuery { matchers, with_subscriptions, .. } = query;
        fn indices<K: Hash + Eq>(map: &HashMap<K, Vec<usize>>, wanted: &[K]) -> Option<Vec<usize>> {
            if wanted.is_empty() {
                return None;
            }
            Some(wanted.iter().filter_map(|key| map.get(key)).flatten().copied().collect())
        }
        let none = Metadata::default();
        let cost = |group: &SubjectSpend| {
            let subject = Subject {
                organization_id,
                workspace_id: group.workspace_id,
                user_id: group.user_id,
                api_key_id: group.api_key_id,
                metadata: &none,
            };
            let paid = if *with_subscriptions { group.subscription_cost } else { NanoUsd::ZERO };
            matchers.matches_ids(&subject).then(|| group.cost + paid)
        };
        let indices = indices(&self.by_key, matchers.api_key_ids())
            .or_else(|| indices(&self.by_user, matchers.user_ids()))
            .or_else(|| indices(&self.by_workspace, matchers.workspace_ids()));
        match indices {
            Some(indices) => {
                total(indices.iter().filter_map(|index| self.all.get(*index)).filter_map(cost))
            }
            None => total(self.all.iter().filter_map(cost)),
        }
    }
}

fn total(costs: impl Iterator<Item = NanoUsd>) -> NanoUsd {
    NanoUsd::from_ratio_up(costs.map(|cost| i128::from(cost.nanos())).sum(), 1)
}
