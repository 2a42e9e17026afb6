//! `api_keys` and `api_key_credentials`. Rotation adds a credential to a key and ends the others; the
//! key's id stays.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::filters::{deleted, filter_given, live_of, of_workspace, paged};
use super::page::Page;
use super::schema::{api_key_credentials, api_keys};
use super::{Conn, DbError, optional};
use crate::domain::ids::{ApiKeyId, OrganizationId, UserId, WorkspaceId};
use crate::domain::names::DisplayName;
use crate::domain::permissions::Role;
use crate::domain::scope::{Scope, WorkspaceScope};

/// One API key.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = api_keys)]
pub struct ApiKeyRow {
    pub id: ApiKeyId,
    pub organization_id: Option<OrganizationId>,
    pub workspace_id: Option<WorkspaceId>,
    pub user_id: Option<UserId>,
    pub name: DisplayName,
    pub role: Role,
    /// The part of the newest credential that may be shown.
    pub short_key: String,
    pub disabled: bool,
    pub expires_at: Option<NaiveDateTime>,
    pub created_by: Option<ApiKeyId>,
    /// Accurate to about a minute.
    pub last_used_at: Option<NaiveDateTime>,
    pub created_at: NaiveDateTime,
    pub updated_at: NaiveDateTime,
    pub deleted_at: Option<NaiveDateTime>,
}

/// A credential of a key.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = api_key_credentials)]
pub struct CredentialRow {
    /// The public part, which identifies the credential.
    pub lookup_id: String,
    pub api_key_id: ApiKeyId,
    pub organization_id: Option<OrganizationId>,
    /// The argon2id hash of the secret part.
    pub secret_hash: String,
    /// Set when a rotation replaced the credential.
    pub expires_at: Option<NaiveDateTime>,
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

/// The credential with this lookup id and its key. Includes revoked keys, for which the caller gets a
/// specific error.
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

/// Whether the organization or one of its workspaces has this key.
pub async fn has_api_key(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: ApiKeyId,
) -> Result<bool, DbError> {
    let keys: i64 = on!(conn, c => api_keys::table
        .filter(live_of!(api_keys, organization_id))
        .filter(api_keys::id.eq(id))
        .count()
        .get_result(c))?;
    Ok(keys > 0)
}

/// The columns that an update sets.
#[derive(Clone, Debug, AsChangeset)]
#[diesel(table_name = api_keys, treat_none_as_null = true)]
pub struct ApiKeyChanges {
    pub name: DisplayName,
    /// The part of the newest credential that may be shown.
    pub short_key: String,
    pub disabled: bool,
    pub expires_at: Option<NaiveDateTime>,
    pub updated_at: NaiveDateTime,
}

/// Filters a list of keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApiKeyFilter {
    pub role: Option<Role>,
    pub user_id: Option<UserId>,
}

/// Restricts a query to keys of exactly this scope that are not revoked. An organization's scope does not
/// include the keys of its workspaces.
macro_rules! in_scope {
    ($query:expr, $scope:expr) => {{
        let query = $query.filter(api_keys::deleted_at.is_null()).into_boxed();
        match $scope {
            Scope::Platform => query
                .filter(api_keys::organization_id.is_null())
                .filter(api_keys::workspace_id.is_null()),
            Scope::Organization(id) => query
                .filter(api_keys::organization_id.eq(id))
                .filter(api_keys::workspace_id.is_null()),
            Scope::Workspace(scope) => query.filter(of_workspace!(api_keys, scope)),
        }
    }};
}

/// The scope's key with this id.
pub async fn find_api_key(
    conn: &mut Conn,
    scope: Scope,
    id: ApiKeyId,
) -> Result<Option<ApiKeyRow>, DbError> {
    optional(on!(conn, c => {
        in_scope!(api_keys::table.select(ApiKeyRow::as_select()), scope)
            .filter(api_keys::id.eq(id))
            .first(c)
    }))
}

/// The scope's keys, oldest first.
pub async fn list_api_keys(
    conn: &mut Conn,
    scope: Scope,
    filter: ApiKeyFilter,
    page: Page<ApiKeyId>,
) -> Result<Vec<ApiKeyRow>, DbError> {
    on!(conn, c => {
        let query = in_scope!(api_keys::table.select(ApiKeyRow::as_select()), scope);
        let query = filter_given(query, api_keys::role, filter.role);
        let query = filter_given(query, api_keys::user_id, filter.user_id);
        paged(query, api_keys::id, page).load(c)
    })
}

/// Updates a key of the scope.
pub async fn update_api_key(
    conn: &mut Conn,
    scope: Scope,
    id: ApiKeyId,
    changes: ApiKeyChanges,
) -> Result<ApiKeyRow, DbError> {
    on!(conn, c => {
        in_scope!(diesel::update(api_keys::table), scope)
            .filter(api_keys::id.eq(id))
            .set(&changes)
            .returning(ApiKeyRow::as_returning())
            .get_result(c)
    })
}

/// Revokes a key of the scope.
pub async fn delete_api_key(
    conn: &mut Conn,
    scope: Scope,
    id: ApiKeyId,
    now: NaiveDateTime,
) -> Result<(), DbError> {
    on!(conn, c => {
        in_scope!(diesel::update(api_keys::table), scope)
            .filter(api_keys::id.eq(id))
            .set(deleted!(api_keys, now))
            .execute(c)
    })
    .map(|_| ())
}

/// How many of the workspace's keys are neither revoked nor expired. Disabled keys count, since they can
/// be enabled again.
pub async fn count_live_api_keys(
    conn: &mut Conn,
    scope: WorkspaceScope,
    now: NaiveDateTime,
) -> Result<i64, DbError> {
    on!(conn, c => {
        in_scope!(api_keys::table.count(), Scope::Workspace(scope))
            .filter(api_keys::expires_at.is_null().or(api_keys::expires_at.gt(now)))
            .get_result(c)
    })
}

/// Revokes all keys of the workspace. Returns their number.
pub async fn delete_workspace_api_keys(
    conn: &mut Conn,
    scope: WorkspaceScope,
    now: NaiveDateTime,
) -> Result<usize, DbError> {
    on!(conn, c => {
        in_scope!(diesel::update(api_keys::table), Scope::Workspace(scope))
            .set(deleted!(api_keys, now))
            .execute(c)
    })
}

/// Makes the key's credentials expire at `end`, except those that expire earlier.
pub async fn end_credentials(
    conn: &mut Conn,
    key: &ApiKeyRow,
    end: NaiveDateTime,
) -> Result<(), DbError> {
    on!(conn, c => diesel::update(api_key_credentials::table)
        .filter(api_key_credentials::api_key_id.eq(key.id))
        .filter(
            api_key_credentials::expires_at.is_null().or(api_key_credentials::expires_at.gt(end)),
        )
        .set(api_key_credentials::expires_at.eq(Some(end)))
        .execute(c))
    .map(|_| ())
}

/// How many of the key's credentials have not expired.
pub async fn count_live_credentials(
    conn: &mut Conn,
    key: &ApiKeyRow,
    now: NaiveDateTime,
) -> Result<i64, DbError> {
    on!(conn, c => api_key_credentials::table
        .filter(api_key_credentials::api_key_id.eq(key.id))
        .filter(
            api_key_credentials::expires_at.is_null().or(api_key_credentials::expires_at.gt(now)),
        )
        .count()
        .get_result(c))
}

/// Writes the times of last use of keys.
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

/// Revokes all platform keys. Returns their ids.
pub async fn delete_platform_keys(
    conn: &mut Conn,
    now: NaiveDateTime,
) -> Result<Vec<ApiKeyId>, DbError> {
    on!(conn, c => diesel::update(api_keys::table)
        .filter(api_keys::organization_id.is_null())
        .filter(api_keys::deleted_at.is_null())
        .set(deleted!(api_keys, now))
        .returning(api_keys::id)
        .get_results(c))
}
