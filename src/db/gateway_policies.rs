//! `gateway_policies`: policies that people created, default policies and the children of default
//! policies.

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
use super::filters::{deleted, filter_given, live_of};
use super::schema::gateway_policies;
use super::{Conn, DbError, optional};
use crate::domain::ids::{ApiKeyId, OrganizationId, PolicyId};
use crate::domain::policy::{PolicyFamily, PolicyType};

/// The most policies of one organization, without the children of default policies.
pub const MAX_POLICIES: i64 = 1_000;

/// One policy.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = gateway_policies)]
pub struct GatewayPolicyRow {
    /// A child's id is derived from its parent and its subject.
    pub id: PolicyId,
    pub organization_id: OrganizationId,
    /// A [`DisplayName`](crate::domain::names::DisplayName).
    pub name: String,
    pub description: Option<String>,
    pub policy_type: PolicyType,
    /// The text form of the type's [`PolicyFamily`].
    pub family: String,
    /// A list of [`SubjectMatcher`](crate::domain::policy::SubjectMatcher) in normal form.
    pub subject_matchers: Value,
    /// The [digest](crate::domain::policy::Audience::digest) of the matchers, unique in the
    /// organization and family among the policies that are not deleted.
    pub matchers_key: String,
    /// A valid [`PolicyConfig`](crate::domain::policy::PolicyConfig), as it was given.
    pub config: Value,
    /// `block`.
    pub action: String,
    pub enabled: bool,
    /// Lists are sorted by it, lowest first.
    pub priority: i64,
    pub created_by: Option<ApiKeyId>,
    /// Whether it is a child that was not edited.
    pub is_system_generated: bool,
    /// The default policy of a child.
    pub parent_policy_id: Option<PolicyId>,
    /// Whether it is a child that was edited and no longer changes with its parent.
    pub detached: bool,
    /// The [`Epochs`](crate::domain::policy::Epochs) of the limits. A child that is not detached uses
    /// those of its parent.
    pub epochs: Value,
    pub created_at: NaiveDateTime,
    pub updated_at: NaiveDateTime,
    pub deleted_at: Option<NaiveDateTime>,
}

/// The columns that an update sets.
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

/// The organization's policy with this id.
pub async fn find_gateway_policy(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: PolicyId,
) -> Result<Option<GatewayPolicyRow>, DbError> {
    optional(on!(conn, c => gateway_policies::table
        .filter(live_of!(gateway_policies, organization_id))
        .filter(gateway_policies::id.eq(id))
        .select(GatewayPolicyRow::as_select())
        .first(c)))
}

/// The organization's policy of the family for these subjects.
pub async fn find_gateway_policy_for(
    conn: &mut Conn,
    organization_id: OrganizationId,
    family: PolicyFamily,
    matchers_key: &str,
) -> Result<Option<GatewayPolicyRow>, DbError> {
    optional(on!(conn, c => gateway_policies::table
        .filter(live_of!(gateway_policies, organization_id))
        .filter(gateway_policies::family.eq(family.as_str().to_owned()))
        .filter(gateway_policies::matchers_key.eq(matchers_key.to_owned()))
        .select(GatewayPolicyRow::as_select())
        .first(c)))
}

/// How many policies the organization has, without the children of default policies.
pub async fn count_created_gateway_policies(
    conn: &mut Conn,
    organization_id: OrganizationId,
) -> Result<i64, DbError> {
    on!(conn, c => gateway_policies::table
        .filter(live_of!(gateway_policies, organization_id))
        .filter(gateway_policies::parent_policy_id.is_null())
        .count()
        .get_result(c))
}

/// A part of the organization's policies, sorted by priority, then newest first: `limit` after the first
/// `offset`.
pub async fn list_gateway_policies(
    conn: &mut Conn,
    organization_id: OrganizationId,
    policy_type: Option<PolicyType>,
    offset: i64,
    limit: i64,
) -> Result<Vec<GatewayPolicyRow>, DbError> {
    on!(conn, c => {
        let query = gateway_policies::table
            .filter(live_of!(gateway_policies, organization_id))
            .select(GatewayPolicyRow::as_select())
            .order((
                gateway_policies::priority,
                gateway_policies::created_at.desc(),
                gateway_policies::id.desc(),
            ))
            .offset(offset)
            .limit(limit)
            .into_boxed();
        filter_given(query, gateway_policies::policy_type, policy_type).load(c)
    })
}

/// The organization's policies that the data plane needs, sorted by id: those that are enabled, and
/// children that are disabled, since the parent does not apply to a subject that has a child. Their number
/// is limited by [`MAX_POLICIES`] and
/// [`MAX_CHILDREN_OF_ORGANIZATION`](crate::domain::policy::MAX_CHILDREN_OF_ORGANIZATION).
pub async fn list_effective_policies(
    conn: &mut Conn,
    organization_id: OrganizationId,
) -> Result<Vec<GatewayPolicyRow>, DbError> {
    on!(conn, c => gateway_policies::table
        .filter(live_of!(gateway_policies, organization_id))
        .filter(gateway_policies::enabled
            .eq(true)
            .or(gateway_policies::parent_policy_id.is_not_null()))
        .select(GatewayPolicyRow::as_select())
        .order(gateway_policies::id)
        .load(c))
}

/// Updates a policy.
pub async fn update_gateway_policy(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: PolicyId,
    changes: GatewayPolicyChanges,
) -> Result<GatewayPolicyRow, DbError> {
    on!(conn, c => diesel::update(gateway_policies::table)
        .filter(live_of!(gateway_policies, organization_id))
        .filter(gateway_policies::id.eq(id))
        .set(&changes)
        .returning(GatewayPolicyRow::as_returning())
        .get_result(c))
}

/// Marks a policy as deleted. Another policy for the same subjects can be created then.
pub async fn delete_gateway_policy(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: PolicyId,
    now: NaiveDateTime,
) -> Result<(), DbError> {
    let rows = on!(conn, c => diesel::update(gateway_policies::table)
        .filter(live_of!(gateway_policies, organization_id))
        .filter(gateway_policies::id.eq(id))
        .set(deleted!(gateway_policies, now))
        .execute(c))?;
    if rows == 0 { Err(DbError::NotFound) } else { Ok(()) }
}
