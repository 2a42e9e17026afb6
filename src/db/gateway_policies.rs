//! `gateway_policies`: rules that people made, defaults, and the children of defaults.

mod children;
mod spend;

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

pub use children::{
    ChildOutcome, delete_attached_children, ensure_children, update_attached_children,
};

pub use spend::{SubjectSpend, sum_spend_by_metadata, sum_spend_by_subject};

use super::conn::on;
use super::schema::gateway_policies;
use super::{Conn, DbError, optional};
use crate::domain::ids::{ApiKeyId, OrganizationId, PolicyId};
use crate::domain::policy::{PolicyFamily, PolicyType};

/// The most policies that people make in one organization.
pub const MOST_POLICIES: i64 = 1_000;

/// One policy.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = gateway_policies)]
pub struct GatewayPolicyRow {
    /// Its id; a child's is made of its parent and its subject.
    pub id: PolicyId,
    pub organization_id: OrganizationId,
    /// What people call it; a [`DisplayName`](crate::domain::names::DisplayName).
    pub name: String,
    pub description: Option<String>,
    pub policy_type: PolicyType,
    /// The type's [`PolicyFamily`], as text.
    pub family: String,
    /// A list of [`SubjectMatcher`](crate::domain::policy::SubjectMatcher), in normal form.
    pub subject_matchers: Value,
    /// The [digest](crate::domain::policy::Audience::digest) of the matchers: one for each subject
    /// among the live ones of organization and family.
    pub matchers_key: String,
    /// As it was given; a valid [`PolicyConfig`](crate::domain::policy::PolicyConfig).
    pub config: Value,
    /// `block`.
    pub action: String,
    pub enabled: bool,
    /// Its place in lists, lowest first.
    pub priority: i64,
    pub created_by: Option<ApiKeyId>,
    /// Whether it is a child that nobody has edited.
    pub is_system_generated: bool,
    /// The default policy that it was made for.
    pub parent_policy_id: Option<PolicyId>,
    /// Whether it is a child that was edited by hand and no longer changes with its parent.
    pub detached: bool,
    /// Its limits' [`Epochs`](crate::domain::policy::Epochs); an attached child goes by its
    /// default's.
    pub epochs: Value,
    pub created_at: NaiveDateTime,
    pub updated_at: NaiveDateTime,
    pub deleted_at: Option<NaiveDateTime>,
}

/// What an update may change.
#[derive(Clone, Debug, AsChangeset)]
#[diesel(table_name = gateway_policies, treat_none_as_null = true)]
pub struct GatewayPolicyChanges {
    pub name: String,
    pub description: Option<String>,
    pub subject_matchers: Value,
    pub matchers_key: String,
    pub config: Value,
    /// `block`.
    pub action: String,
    pub enabled: bool,
    pub priority: i64,
    pub is_system_generated: bool,
    pub detached: bool,
    pub epochs: Value,
    pub updated_at: NaiveDateTime,
}

/// Inserts a policy.
pub async fn insert_gateway_policy(conn: &mut Conn, row: GatewayPolicyRow) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(gateway_policies::table).values(&row).execute(c)).map(|_| ())
}

/// The organization's live policy of that id.
pub async fn find_gateway_policy(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: PolicyId,
) -> Result<Option<GatewayPolicyRow>, DbError> {
    optional(on!(conn, c => gateway_policies::table
        .filter(gateway_policies::organization_id.eq(organization_id))
        .filter(gateway_policies::id.eq(id))
        .filter(gateway_policies::deleted_at.is_null())
        .select(GatewayPolicyRow::as_select())
        .first(c)))
}

/// The organization's live policy of the family for that subject.
pub async fn find_gateway_policy_for(
    conn: &mut Conn,
    organization_id: OrganizationId,
    family: PolicyFamily,
    matchers_key: &str,
) -> Result<Option<GatewayPolicyRow>, DbError> {
    optional(on!(conn, c => gateway_policies::table
        .filter(gateway_policies::organization_id.eq(organization_id))
        .filter(gateway_policies::family.eq(family.as_str().to_owned()))
        .filter(gateway_policies::matchers_key.eq(matchers_key.to_owned()))
        .filter(gateway_policies::deleted_at.is_null())
        .select(GatewayPolicyRow::as_select())
        .first(c)))
}

/// How many live policies of the organization people made; edited children are not among them.
pub async fn count_made_gateway_policies(
    conn: &mut Conn,
    organization_id: OrganizationId,
) -> Result<i64, DbError> {
    on!(conn, c => gateway_policies::table
        .filter(gateway_policies::organization_id.eq(organization_id))
        .filter(gateway_policies::parent_policy_id.is_null())
        .filter(gateway_policies::deleted_at.is_null())
        .count()
        .get_result(c))
}

/// Some of the organization's live policies, by priority, then newest first: `limit` after the
/// first `offset`.
pub async fn list_gateway_policies(
    conn: &mut Conn,
    organization_id: OrganizationId,
    policy_type: Option<PolicyType>,
    offset: i64,
    limit: i64,
) -> Result<Vec<GatewayPolicyRow>, DbError> {
    on!(conn, c => {
        let mut query = gateway_policies::table
            .filter(gateway_policies::organization_id.eq(organization_id))
            .filter(gateway_policies::deleted_at.is_null())
            .select(GatewayPolicyRow::as_select())
            .order((
                gateway_policies::priority,
                gateway_policies::created_at.desc(),
                gateway_policies::id.desc(),
            ))
            .offset(offset)
            .limit(limit)
            .into_boxed();
        if let Some(policy_type) = policy_type {
            query = query.filter(gateway_policies::policy_type.eq(policy_type));
        }
        query.load(c)
    })
}

/// What the data plane has to know of the organization: its live policies that are enabled, and
/// children that are not, since a subject with a child of its own is not its parent's any more.
/// At most [`MOST_POLICIES`] and [`MOST_CHILDREN_OF_ORGANIZATION`](crate::domain::policy::MOST_CHILDREN_OF_ORGANIZATION) together; by id.
pub async fn list_live_policies(
    conn: &mut Conn,
    organization_id: OrganizationId,
) -> Result<Vec<GatewayPolicyRow>, DbError> {
    on!(conn, c => gateway_policies::table
        .filter(gateway_policies::organization_id.eq(organization_id))
        .filter(gateway_policies::deleted_at.is_null())
        .filter(gateway_policies::enabled
            .eq(true)
            .or(gateway_policies::parent_policy_id.is_not_null()))
        .select(GatewayPolicyRow::as_select())
        .order(gateway_policies::id)
        .load(c))
}

/// Changes a live policy.
pub async fn update_gateway_policy(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: PolicyId,
    changes: GatewayPolicyChanges,
) -> Result<GatewayPolicyRow, DbError> {
    on!(conn, c => diesel::update(gateway_policies::table)
        .filter(gateway_policies::organization_id.eq(organization_id))
        .filter(gateway_policies::id.eq(id))
        .filter(gateway_policies::deleted_at.is_null())
        .set(&changes)
        .returning(GatewayPolicyRow::as_returning())
        .get_result(c))
}

/// Marks a live policy as deleted and lets go of its subject.
pub async fn delete_gateway_policy(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: PolicyId,
    now: NaiveDateTime,
) -> Result<(), DbError> {
    let rows = on!(conn, c => diesel::update(gateway_policies::table)
        .filter(gateway_policies::organization_id.eq(organization_id))
        .filter(gateway_policies::id.eq(id))
        .filter(gateway_policies::deleted_at.is_null())
        .set((
            gateway_policies::deleted_at.eq(Some(now)),
            gateway_policies::updated_at.eq(now),
        ))
        .execute(c))?;
    if rows == 0 { Err(DbError::NotFound) } else { Ok(()) }
}
