//! `secrets`: sealed values and what may be shown of them.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::schema::secrets;
use super::{Conn, DbError};
use crate::domain::ids::{DataKeyId, OrganizationId, SecretId, WorkspaceId};
use crate::domain::names::SecretName;
use crate::domain::scope::WorkspaceScope;

/// One sealed secret.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = secrets)]
pub struct SecretRow {
    /// Its id.
    pub id: SecretId,
    /// The tenant.
    pub organization_id: OrganizationId,
    /// The workspace it belongs to.
    pub workspace_id: WorkspaceId,
    /// The data key that seals it.
    pub data_key_id: DataKeyId,
    /// Unique in the workspace.
    pub name: SecretName,
    /// What people noted about it.
    pub description: Option<String>,
    /// Counts the values it has had, from 1.
    pub version: i64,
    /// The sealed value.
    pub sealed: Vec<u8>,
    /// A short keyed fingerprint of the value.
    pub fingerprint: String,
    /// When it was made, UTC.
    pub created_at: NaiveDateTime,
    /// When it last changed, UTC.
    pub updated_at: NaiveDateTime,
}

/// Deletes all secrets of a workspace for good, sealed values included; how many there were.
pub async fn delete_workspace_secrets(
    conn: &mut Conn,
    scope: WorkspaceScope,
) -> Result<usize, DbError> {
    on!(conn, c => diesel::delete(secrets::table)
        .filter(secrets::organization_id.eq(scope.organization_id))
        .filter(secrets::workspace_id.eq(scope.workspace_id))
        .execute(c))
}

/// Those of the workspace's secrets that have one of these names.
pub async fn list_secrets_named(
    conn: &mut Conn,
    scope: WorkspaceScope,
    names: &[SecretName],
) -> Result<Vec<SecretRow>, DbError> {
    let names: Vec<String> = names.iter().map(|name| name.as_str().to_owned()).collect();
    on!(conn, c => secrets::table
        .filter(secrets::organization_id.eq(scope.organization_id))
        .filter(secrets::workspace_id.eq(scope.workspace_id))
        .filter(secrets::name.eq_any(names.clone()))
        .select(SecretRow::as_select())
        .load(c))
}
