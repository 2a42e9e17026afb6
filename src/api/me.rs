//! `/me`: who a key is, as the gateway sees it.

use actix_web::web;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Management;
use super::access::Authenticated;
use super::error::ApiError;
use super::routes::Routes;
use crate::db::Conn;
use crate::db::api_keys::find_api_key;
use crate::domain::ids::{ApiKeyId, OrganizationId, UserId, WorkspaceId};
use crate::domain::permissions::{Permission, Role, ScopeKind};

/// The key that the request was made with.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Me {
    /// The key's id, which rotation keeps.
    pub api_key_id: ApiKeyId,
    /// What people call the key.
    pub name: String,
    /// The newest credential of the key, as far as it may be shown.
    pub short_key: String,
    /// What the key is for.
    pub role: Role,
    /// How far the key reaches.
    pub scope: ScopeKind,
    /// Its organization; platform keys have none.
    pub organization_id: Option<OrganizationId>,
    /// Its workspace; only workspace keys have one.
    pub workspace_id: Option<WorkspaceId>,
    /// The person whose key it is.
    pub user_id: Option<UserId>,
    /// What it may do within its scope.
    #[schema(example = json!(["workspaces:read", "gateway:invoke"]))]
    pub permissions: Vec<&'static str>,
    /// When it stops; null for never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Who am I
///
/// Tells any good key its scope, role and permissions.
#[utoipa::path(
    get,
    path = "/me",
    responses((status = 200, description = "The key that asked", body = Me)),
)]
async fn get_me(
    caller: Authenticated,
    plane: web::Data<Management>,
) -> Result<web::Json<Me>, ApiError> {
    let principal = caller.principal;
    let row = plane
        .database
        .read(async move |conn: &mut Conn| {
            let id = principal.api_key_id().ok_or(ApiError::NotFound("API key"))?;
            find_api_key(conn, principal.scope, id).await?.ok_or(ApiError::NotFound("API key"))
        })
        .await?;
    Ok(web::Json(Me {
        api_key_id: row.id,
        name: row.name.into(),
        short_key: row.short_key,
        role: row.role,
        scope: principal.scope.kind(),
        organization_id: row.organization_id,
        workspace_id: row.workspace_id,
        user_id: row.user_id,
        permissions: principal.permissions.iter().map(Permission::as_str).collect(),
        expires_at: row.expires_at.map(|at| at.and_utc()),
    }))
}

/// Adds the operations.
pub(super) fn configure(routes: &mut Routes) {
    routes.tag("me").add(__path_get_me, get_me);
}
