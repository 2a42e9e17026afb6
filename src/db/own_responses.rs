//! `own_responses`: which responses that a provider stores for an organization's account are a workspace's.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::filters::of_workspace;
use super::schema::own_responses;
use super::{Conn, DbError, optional};
use crate::domain::ids::{OrganizationId, WorkspaceId};
use crate::domain::provider::UpstreamId;
use crate::domain::scope::WorkspaceScope;

/// A response of a workspace.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = own_responses)]
pub struct OwnResponseRow {
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    /// Where it is stored.
    pub upstream: UpstreamId,
    /// The provider's id of it.
    pub response_id: String,
    pub created_at: NaiveDateTime,
    /// The id of its conversation, in base64, if it was made under a guard.
    pub guarded_conversation: Option<String>,
}

/// Inserts those that are not there yet.
pub async fn insert_own_responses(
    conn: &mut Conn,
    rows: Vec<OwnResponseRow>,
) -> Result<(), DbError> {
    for row in &rows {
        on!(conn, c => diesel::insert_into(own_responses::table)
            .values(row)
            .on_conflict_do_nothing()
            .execute(c))?;
    }
    Ok(())
}

/// The guarded conversation of a response that is the workspace's. `None` if it is not.
pub async fn find_own_response(
    conn: &mut Conn,
    scope: WorkspaceScope,
    upstream: UpstreamId,
    response_id: String,
) -> Result<Option<Option<String>>, DbError> {
    optional(on!(conn, c => own_responses::table
        .filter(of_workspace!(own_responses, scope))
        .filter(own_responses::upstream.eq(upstream))
        .filter(own_responses::response_id.eq(response_id.clone()))
        .select(own_responses::guarded_conversation)
        .first::<Option<String>>(c)))
}

/// Deletes those that were made before the instant.
pub async fn delete_own_responses_before(
    conn: &mut Conn,
    before: NaiveDateTime,
) -> Result<usize, DbError> {
    on!(conn, c =>
        diesel::delete(own_responses::table.filter(own_responses::created_at.lt(before)))
            .execute(c))
}
