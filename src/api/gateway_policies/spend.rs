//! What spend caps have spent in the window under way, as far as the roll-ups know.

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

/// A window's first and the next window's first instant.
type Window = (NaiveDateTime, NaiveDateTime);

/// What has to be summed up for one policy.
struct Asked {
    window: Window,
    matchers: Matchers,
}

/// What the subjects of each policy spent in the window of its first limit, in the order of the
/// policies. `None` for what is no spend cap, asks for more than one key of metadata (the roll-ups
/// hold each by itself), or is too much to sum up.
pub(super) async fn current_spend(
    conn: &mut Conn,
    organization_id: OrganizationId,
    now: DateTime<Utc>,
    policies: &[GatewayPolicyRow],
) -> Result<Vec<Option<NanoUsd>>, DbError> {
    let asked: Vec<Option<Asked>> = policies.iter().map(|row| asked(row, now)).collect();
    // One query for each window, and one for each key of metadata in it.
    let mut windows: BTreeSet<Window> = BTreeSet::new();
    let mut headers: BTreeMap<(Window, String), BTreeSet<String>> = BTreeMap::new();
    for Asked { window, matchers } in asked.iter().flatten() {
        match matchers.headers().iter().next() {
            None => {
                windows.insert(*window);
            }
            Some((key, values)) => {
                headers.entry((*window, key.clone())).or_default().extend(values.iter().cloned());
            }
        }
    }
    let mut by_window: HashMap<Window, Option<Spent>> = HashMap::new();
    for window in windows {
        let groups = sum_spend_by_subject(conn, organization_id, window).await?;
        by_window.insert(window, groups.map(|groups| groups.into_iter().collect()));
    }
    let mut by_header: HashMap<(Window, String), Option<HashMap<String, Spent>>> = HashMap::new();
    for ((window, key), values) in headers {
        let values: Vec<String> = values.into_iter().collect();
        let groups = sum_spend_by_metadata(conn, organization_id, window, &key, &values).await?;
        let by_value = groups.map(|groups| {
            let mut by_value: HashMap<String, Spent> = HashMap::new();
            for (value, group) in groups {
                by_value.entry(value).or_default().add(group);
            }
            by_value
        });
        by_header.insert((window, key), by_value);
    }
    let sum = |Asked { window, matchers }: &Asked| match matchers.headers().iter().next() {
        None => by_window.get(window)?.as_ref().map(|spent| spent.sum(organization_id, matchers)),
        Some((key, values)) => {
            let by_value = by_header.get(&(*window, key.clone()))?.as_ref()?;
            let spent = values.iter().filter_map(|value| by_value.get(value));
            Some(total(spent.map(|spent| spent.sum(organization_id, matchers))))
        }
    };
    Ok(asked.iter().map(|asked| asked.as_ref().and_then(sum)).collect())
}

fn asked(row: &GatewayPolicyRow, now: DateTime<Utc>) -> Option<Asked> {
    if row.policy_type != PolicyType::SpendCap {
        return None;
    }
    let Ok(PolicyConfig::Spend(limits)) = PolicyConfig::parse(row.policy_type, &row.config) else {
        return None;
    };
    let window = limits.first()?.window;
    let matchers = stored_matchers(row).ok()?;
    match Audience::parse(row.policy_type, &matchers) {
        Ok((Audience::Matching(matchers), _)) if matchers.headers().len() <= 1 => Some(Asked {
            window: (window.start(now).naive_utc(), window.end(now).naive_utc()),
            matchers,
        }),
        _ => None,
    }
}

/// Spending by key, found by whatever a policy asks for.
#[derive(Default)]
struct Spent {
    all: Vec<SubjectSpend>,
    by_workspace: HashMap<WorkspaceId, Vec<usize>>,
    by_user: HashMap<UserId, Vec<usize>>,
    by_key: HashMap<ApiKeyId, Vec<usize>>,
}

impl FromIterator<SubjectSpend> for Spent {
    fn from_iter<I: IntoIterator<Item = SubjectSpend>>(groups: I) -> Self {
        let mut spent = Self::default();
        groups.into_iter().for_each(|group| spent.add(group));
        spent
    }
}

impl Spent {
    fn add(&mut self, group: SubjectSpend) {
        let place = self.all.len();
        self.by_workspace.entry(group.workspace_id).or_default().push(place);
        if let Some(user_id) = group.user_id {
            self.by_user.entry(user_id).or_default().push(place);
        }
        self.by_key.entry(group.api_key_id).or_default().push(place);
        self.all.push(group);
    }

    /// What those spent whose identity matches. There may be thousands of policies, each for one
    /// of thousands of subjects, so only those are looked at that can match.
    fn sum(&self, organization_id: OrganizationId, matchers: &Matchers) -> NanoUsd {
        fn places<K: Hash + Eq>(map: &HashMap<K, Vec<usize>>, wanted: &[K]) -> Option<Vec<usize>> {
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
                api_key_id: Some(group.api_key_id),
                metadata: &none,
            };
            matchers.matches_identity(&subject).then_some(group.cost)
        };
        let places = places(&self.by_key, matchers.api_key_ids())
            .or_else(|| places(&self.by_user, matchers.user_ids()))
            .or_else(|| places(&self.by_workspace, matchers.workspace_ids()));
        match places {
            Some(places) => {
                total(places.iter().filter_map(|place| self.all.get(*place)).filter_map(cost))
            }
            None => total(self.all.iter().filter_map(cost)),
        }
    }
}

fn total(costs: impl Iterator<Item = NanoUsd>) -> NanoUsd {
    NanoUsd::from_ratio_up(costs.map(|cost| i128::from(cost.nanos())).sum(), 1)
}
