//! `api_keys` and `api_key_credentials`: a key keeps its id, its credentials come and go.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::schema::{api_key_credentials, api_keys};
use super::{Conn, DbError, optional};
use crate::domain::ids::{ApiKeyId, OrganizationId, UserId, WorkspaceId};
use crate::domain::names::DisplayName;
use crate::domain::permissions::Role;

/// One API key.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = api_keys)]
pub struct ApiKeyRow {
    /// Its id, which rotation keeps.
    pub id: ApiKeyId,
    /// The tenant; platform keys have none.
    pub organization_id: Option<OrganizationId>,
    /// The workspace; only workspace keys have one.
    pub workspace_id: Option<WorkspaceId>,
    /// The person whose key it is.
    pub user_id: Option<UserId>,
    /// What people call it.
    pub name: DisplayName,
    /// What it is for.
    pub role: Role,
    /// The newest credential as it may be shown.
    pub short_key: String,
    /// Whether it is switched off.
    pub disabled: bool,
    /// When it stops, UTC.
    pub expires_at: Option<NaiveDateTime>,
    /// The key that made it.
    pub created_by: Option<ApiKeyId>,
    /// Roughly when it was last used, UTC.
    pub last_used_at: Option<NaiveDateTime>,
    /// When it was made, UTC.
    pub created_at: NaiveDateTime,
    /// When it last changed, UTC.
    pub updated_at: NaiveDateTime,
    /// When it was revoked, UTC.
    pub deleted_at: Option<NaiveDateTime>,
}

/// What a key is presented as.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = api_key_credentials)]
pub struct CredentialRow {
    /// The public half, by which it is found.
    pub lookup_id: String,
    /// The key it belongs to.
    pub api_key_id: ApiKeyId,
    /// The key's tenant.
    pub organization_id: Option<OrganizationId>,
    /// The argon2id hash of the secret half.
    pub secret_hash: String,
    /// When it stops because a newer one took its place, UTC.
    pub expires_at: Option<NaiveDateTime>,
    /// When it was made, UTC.
    pub created_at: NaiveDateTime,
}

/// Inserts a key with its first credential.
pub async fn insert_api_key(
    conn: &mut Conn,
    key: ApiKeyRow,
    credential: CredentialRow,
) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(api_keys::table).values(&key).execute(c))?;
    insert_credential(conn, credential).await
}

/// Adds a credential to a key.
pub async fn insert_credential(conn: &mut Conn, row: CredentialRow) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(api_key_credentials::table).values(&row).execute(c))
        .map(|_| ())
}

/// The credential of that lookup id with its key, revoked keys included: who presents one is told
/// so.
pub async fn find_credential(
    conn: &mut Conn,
    lookup_id: String,
) -> Result<Option<(CredentialRow, ApiKeyRow)>, DbError> {
    optional(on!(conn, c => api_key_credentials::table
        .inner_join(api_keys::table)
        .filter(api_key_credentials::lookup_id.eq(lookup_id.clone()))
        .select((CredentialRow::as_select(), ApiKeyRow::as_select()))
        .first(c)))
}

/// Writes down when keys were last used.
pub async fn update_last_used(
    conn: &mut Conn,
    uses: &[(ApiKeyId, NaiveDateTime)],
) -> Result<(), DbError> {
    for (id, at) in uses {
        on!(conn, c => diesel::update(api_keys::table.filter(api_keys::id.eq(id)))
            .set(api_keys::last_used_at.eq(Some(*at)))
            .execute(c))?;
    }
    Ok(())
}
