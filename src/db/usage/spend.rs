//! What has been spent since an hour began, as the policy engine asks for it.

use std::collections::BTreeSet;

use chrono::NaiveDateTime;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};

use super::{OTHER_KEYS, RollupRange};
use crate::db::ledger::ID_SLACK;
use crate::db::sql::{MAX_LISTED, Sql};
use crate::db::{Conn, DbError};
use crate::domain::ids::{ApiKeyId, AttemptId, OrganizationId, PolicyId, UserId, WorkspaceId};
use crate::domain::money::NanoUsd;

/// Whose spending is meant. All that is not empty has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpendConditions {
    pub workspaces: Vec<WorkspaceId>,
    /// By one of these people.
    pub users: Vec<UserId>,
    pub keys: Vec<ApiKeyId>,
    /// With one of these values, exactly, under each of these normalized metadata keys. No values
    /// match nothing.
    pub metadata: Vec<(String, Vec<String>)>,
    /// With this policy among those that matched.
    pub policy: Option<PolicyId>,
    /// Whether what callers' own subscriptions paid counts at its list price.
    pub with_subscriptions: bool,
}

#[derive(QueryableByName)]
struct Sum {
    #[diesel(sql_type = BigInt)]
    cost: i64,
}

#[derive(QueryableByName)]
struct One {
    #[diesel(sql_type = Text)]
    value: String,
}

/// What the organization's requests that meet the conditions have cost since `from`, the beginning
/// of an hour in UTC. Unknown costs are not in it.
///
/// Without metadata, and with one key of it, this reads roll-ups; with several keys, or where an
/// hour had more keys or values than are distinguished, the rows of the ledger.
pub async fn spend_since(
    conn: &mut Conn,
    organization_id: OrganizationId,
    conditions: &SpendConditions,
    from: NaiveDateTime,
) -> Result<NanoUsd, DbError> {
    let asked = SpendQuery { organization_id, conditions, from };
    match conditions.metadata.as_slice() {
        _ if conditions.metadata.iter().any(|(_, values)| values.is_empty()) => Ok(NanoUsd::ZERO),
        _ if conditions.policy.is_some() => asked.of_rows(conn).await,
        [] => asked.of_sums(conn).await,
        [(key, values)] if !asked.has_others(conn, key).await? => {
            asked.of_tagged_sums(conn, key, values).await
        }
        _ => asked.of_rows(conn).await,
    }
}

struct SpendQuery<'a> {
    organization_id: OrganizationId,
    conditions: &'a SpendConditions,
    from: NaiveDateTime,
}

impl SpendQuery<'_> {
    async fn of_sums(&self, conn: &mut Conn) -> Result<NanoUsd, DbError> {
        let mut spent = NanoUsd::ZERO;
        for range in self.ranges() {
            let mut sql = Sql::of(conn);
            sql.push("SELECT ").sum(self.rollup_cost()).push(" AS cost FROM usage_rollups");
            if !self.conditions.keys.is_empty() {
                sql.by_index("usage_rollups_key");
            } else if !self.conditions.users.is_empty() {
                sql.by_index("usage_rollups_user");
            }
            sql.push(" WHERE metadata_key = '' AND ");
            range.bind(&mut sql);
            self.bind(&mut sql);
            spent += total(sql, conn).await?;
        }
        Ok(spent)
    }

    async fn of_tagged_sums(
        &self,
        conn: &mut Conn,
        key: &str,
        values: &[String],
    ) -> Result<NanoUsd, DbError> {
        let mut spent = NanoUsd::ZERO;
        let values = distinct(values);
        for range in self.ranges() {
            for some in values.chunks(MAX_LISTED) {
                let mut sql = Sql::of(conn);
                sql.push("SELECT ").sum(self.rollup_cost()).push(" AS cost");
                self.push_from_tagged(&mut sql, range);
                sql.and_is("metadata_key", Some(key)).and_one_of("metadata_value", some);
                spent += total(sql, conn).await?;
            }
        }
        Ok(spent)
    }

    /// Whether values of the key were summed together, or the key may have been summed with others.
    async fn has_others(&self, conn: &mut Conn, key: &str) -> Result<bool, DbError> {
        for range in self.ranges() {
            let mut sql = Sql::of(conn);
            sql.push("SELECT metadata_value AS value");
            self.push_from_tagged(&mut sql, range);
            sql.and_one_of("metadata_key", &[key, OTHER_KEYS])
                .push(" AND metadata_value = '' LIMIT 1");
            if !sql.load::<One>(conn).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Workspace by workspace, since that is how the ledger's rows of a time are found.
    async fn of_rows(&self, conn: &mut Conn) -> Result<NanoUsd, DbError> {
        let mut workspaces = BTreeSet::new();
        for range in self.ranges() {
            let mut sql = Sql::of(conn);
            sql.push("SELECT DISTINCT workspace_id AS value FROM usage_rollups");
            sql.push(" WHERE metadata_key = '' AND ");
            range.bind(&mut sql);
            self.bind(&mut sql);
            workspaces.extend(sql.load::<One>(conn).await?.into_iter().map(|one| one.value));
        }
        let first = AttemptId::first_at(self.from.and_utc() - ID_SLACK);
        let mut spent = NanoUsd::ZERO;
        for workspace in workspaces {
            let mut sql = Sql::of(conn);
            let cost = match self.conditions.with_subscriptions {
                true => "(COALESCE(cost, 0) + COALESCE(list_cost, 0))",
                false => "cost",
            };
            sql.push("SELECT ").sum(cost).push(" AS cost FROM ledger");
            sql.by_index(match self.conditions.keys.is_empty() {
                true => "ledger_workspace",
                false => "ledger_key",
            });
            sql.push(" WHERE admitted_at >= ")
                .time(self.from)
                .push(" AND id >= ")
                .text(first.to_string());
            self.bind(&mut sql);
            sql.and_is("workspace_id", Some(workspace));
            for (key, values) in &self.conditions.metadata {
                for (at, value) in distinct(values).iter().enumerate() {
                    sql.push(if at == 0 { " AND (" } else { " OR " });
                    sql.contains("metadata", entry(key, value));
                }
                sql.push(")");
            }
            // A blocked request cost nothing, so the policy's place in the lists does not matter.
            if let Some(policy) = self.conditions.policy {
                sql.push(" AND ").contains("policies", format!("\"{policy}\""));
            }
            spent += total(sql, conn).await?;
        }
        Ok(spent)
    }

    /// The costs in a roll-up. Neither of them is more than half of the largest number.
    fn rollup_cost(&self) -> &'static str {
        match self.conditions.with_subscriptions {
            true => "(cost + subscription_cost)",
            false => "cost",
        }
    }

    fn ranges(&self) -> Vec<RollupRange> {
        RollupRange::split(self.from, None)
    }

    /// The roll-ups of the range by metadata, and what holds for them.
    fn push_from_tagged(&self, sql: &mut Sql, range: RollupRange) {
        // In the very words of the index.
        sql.push(" FROM usage_rollups").by_index("usage_rollups_value");
        sql.push(" WHERE metadata_key <> '' AND ");
        range.bind(sql);
        self.bind(sql);
    }

    /// What holds for roll-ups and for rows of the ledger.
    fn bind(&self, sql: &mut Sql) {
        sql.and_is("organization_id", Some(self.organization_id))
            .and_one_of("workspace_id", &self.conditions.workspaces)
            .and_one_of("user_id", &self.conditions.users)
            .and_one_of("api_key_id", &self.conditions.keys);
    }
}

async fn total(sql: Sql, conn: &mut Conn) -> Result<NanoUsd, DbError> {
    let rows = sql.load::<Sum>(conn).await?;
    Ok(rows.into_iter().map(|row| NanoUsd::from_nanos(row.cost)).sum())
}

fn distinct(values: &[String]) -> Vec<String> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.dedup();
    values
}

/// How the ledger's JSON writes an entry. Nothing else there reads the same: inside of a string
/// each quotation mark has a backslash before it, and only a key's is followed by a colon.
fn entry(key: &str, value: &str) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!("{}:{}", quoted(key), quoted(value))
}
