//! `api_keys` and `api_key_credentials`: a key keeps its id, its credentials come and go.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::conn::on;
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
    /// The newest credential as it may be shown.
    pub short_key: String,
    pub disabled: bool,
    pub expires_at: Option<NaiveDateTime>,
    pub created_by: Option<ApiKeyId>,
    /// Roughly when it was last used, UTC.
    pub last_used_at: Option<NaiveDateTime>,
    pub created_at: NaiveDateTime,
    pub updated_at: NaiveDateTime,
    pub deleted_at: Option<NaiveDateTime>,
}

/// What a key is presented as.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = api_key_credentials)]
pub struct CredentialRow {
    /// The public half, by which it is found.
    pub lookup_id: String,
    pub api_key_id: ApiKeyId,
    pub organization_id: Option<OrganizationId>,
    /// The argon2id hash of the secret half.
    pub secret_hash: String,
    /// When it stops because a newer one took its place, UTC.
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

/// Whether the organization, or a workspace of it, has this live key.
pub async fn has_api_key(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: ApiKeyId,
) -> Result<bool, DbError> {
    let keys: i64 = on!(conn, c => api_keys::table
        .filter(api_keys::organization_id.eq(organization_id))
        .filter(api_keys::id.eq(id))
        .filter(api_keys::deleted_at.is_null())
        .count()
        .get_result(c))?;
    Ok(keys > 0)
}

/// What an update may change.
#[derive(Clone, Debug, AsChangeset)]
#[diesel(table_name = api_keys, treat_none_as_null = true)]
pub struct ApiKeyChanges {
    pub name: DisplayName,
    /// The newest credential as it may be shown.
    pub short_key: String,
    pub disabled: bool,
    pub expires_at: Option<NaiveDateTime>,
    pub updated_at: NaiveDateTime,
}

/// Which keys a list shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApiKeyFilter {
    pub role: Option<Role>,
    pub user_id: Option<UserId>,
}

/// Binds a query on live keys to exactly this scope: an organization's own keys are not its
/// workspaces' keys.
macro_rules! of_scope {
    ($query:expr, $scope:expr) => {{
        let query = $query.filter(api_keys::deleted_at.is_null()).into_boxed();
        match $scope {
            Scope::Platform => query
                .filter(api_keys::organization_id.is_null())
                .filter(api_keys::workspace_id.is_null()),
            Scope::Organization(id) => query
                .filter(api_keys::organization_id.eq(id))
                .filter(api_keys::workspace_id.is_null()),
            Scope::Workspace(scope) => query
                .filter(api_keys::organization_id.eq(scope.organization_id))
                .filter(api_keys::workspace_id.eq(scope.workspace_id)),
        }
    }};
}

/// The scope's live key of that id.
pub async fn find_api_key(
    conn: &mut Conn,
    scope: Scope,
    id: ApiKeyId,
) -> Result<Option<ApiKeyRow>, DbError> {
    optional(on!(conn, c => {
        of_scope!(api_keys::table.select(ApiKeyRow::as_select()), scope)
            .filter(api_keys::id.eq(id))
            .first(c)
    }))
}

/// The scope's live keys, oldest first.
pub async fn list_api_keys(
    conn: &mut Conn,
    scope: Scope,
    filter: ApiKeyFilter,
    page: Page<ApiKeyId>,
) -> Result<Vec<ApiKeyRow>, DbError> {
    on!(conn, c => {
        let mut query = of_scope!(api_keys::table.select(ApiKeyRow::as_select()), scope)
            .order(api_keys::id)
            .limit(page.rows());
        if let Some(role) = filter.role {
            query = query.filter(api_keys::role.eq(role));
        }
        if let Some(user_id) = filter.user_id {
            query = query.filter(api_keys::user_id.eq(user_id));
        }
        if let Some(after) = page.after {
            query = query.filter(api_keys::id.gt(after));
        }
        query.load(c)
    })
}

/// Changes a live key of the scope.
pub async fn update_api_key(
    conn: &mut Conn,
    scope: Scope,
    id: ApiKeyId,
    changes: ApiKeyChanges,
) -> Result<ApiKeyRow, DbError> {
    on!(conn, c => {
        of_scope!(diesel::update(api_keys::table), scope)
            .filter(api_keys::id.eq(id))
            .set(&changes)
            .returning(ApiKeyRow::as_returning())
            .get_result(c)
    })
}

/// Revokes a live key of the scope.
pub async fn delete_api_key(
    conn: &mut Conn,
    scope: Scope,
    id: ApiKeyId,
    now: NaiveDateTime,
) -> Result<(), DbError> {
    on!(conn, c => {
        of_scope!(diesel::update(api_keys::table), scope)
            .filter(api_keys::id.eq(id))
            .set((api_keys::deleted_at.eq(Some(now)), api_keys::updated_at.eq(now)))
            .execute(c)
    })
    .map(|_| ())
}

/// How many of the workspace's keys are neither revoked nor over. A disabled key counts: it can be
/// switched on again.
pub async fn count_live_api_keys(
    conn: &mut Conn,
    scope: WorkspaceScope,
    now: NaiveDateTime,
) -> Result<i64, DbError> {
    on!(conn, c => {
        of_scope!(api_keys::table.count(), Scope::Workspace(scope))
            .filter(api_keys::expires_at.is_null().or(api_keys::expires_at.gt(now)))
            .get_result(c)
    })
}

/// Revokes all keys of the workspace; how many there were.
pub async fn delete_workspace_api_keys(
    conn: &mut Conn,
    scope: WorkspaceScope,
    now: NaiveDateTime,
) -> Result<usize, DbError> {
    on!(conn, c => {
        of_scope!(diesel::update(api_keys::table), Scope::Workspace(scope))
            .set((api_keys::deleted_at.eq(Some(now)), api_keys::updated_at.eq(now)))
            .execute(c)
    })
}

/// Gives the key's credentials an end: none works after `end`, and one that ends earlier still
/// does.
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

/// How many of the key's credentials still work.
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

/// Revokes every live platform key; which they were.
pub async fn delete_platform_keys(
    conn: &mut Conn,
    now: NaiveDateTime,
) -> Result<Vec<ApiKeyId>, DbError> {
    on!(conn, c => diesel::update(api_keys::table)
        .filter(api_keys::organization_id.is_null())
        .filter(api_keys::deleted_at.is_null())
        .set((api_keys::deleted_at.eq(Some(now)), api_keys::updated_at.eq(now)))
        .returning(api_keys::id)
        .get_results(c))
}
