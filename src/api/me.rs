//! `/me`: the key that a request is made with.

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
pub(super) struct Me {
    /// Rotation keeps it.
    pub(super) api_key_id: ApiKeyId,
    pub(super) name: String,
    /// The beginning of the key's newest credential.
    pub(super) short_key: String,
    pub(super) role: Role,
    pub(super) scope: ScopeKind,
    /// Null for platform keys.
    pub(super) organization_id: Option<OrganizationId>,
    /// Null for keys of the platform or of an organization.
    pub(super) workspace_id: Option<WorkspaceId>,
    pub(super) user_id: Option<UserId>,
    #[schema(example = json!(["workspaces:read", "gateway:invoke"]))]
    pub(super) permissions: Vec<&'static str>,
    /// When it expires; null for never.
    pub(super) expires_at: Option<DateTime<Utc>>,
}

/// Read the key of this request
///
/// With its scope, role and permissions.
#[utoipa::path(
    get,
    path = "/me",
    responses((status = 200, description = "The key", body = Me)),
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

pub(super) fn configure(routes: &mut Routes) {
    routes.tag("me").add(__path_get_me, get_me);
}
