//! `/workspaces/{workspace_id}/api-keys`: the keys of one workspace.

use actix_web::{HttpResponse, web};

use super::rotation::{RotateApiKey, Rotation, rotate_in};
use super::{
    ApiKey, ApiKeyPatch, ApiKeysQuery, CreateApiKey, IssuedApiKey, create_in, delete_in, get_in,
    list_in, update_in,
};
use crate::api::Management;
use crate::api::access::{ApiKeysRead, ApiKeysWrite, InWorkspace};
use crate::api::body::Json;
use crate::api::error::ApiError;
use crate::api::page::Paged;
use crate::api::query::Query;
use crate::api::routes::Routes;
use crate::api::shared::{Conflicts, path_id};
use crate::auth::Scope;

/// Issue a workspace's key
///
/// Roles are `WORKSPACE_ADMIN`, `WORKSPACE_EDITOR`, `WORKSPACE_VIEWER` and `GATEWAY_CALLER`. The answer is the only one that shows the key.
#[utoipa::path(
    post,
    path = "/workspaces/{workspace_id}/api-keys",
    responses((status = 201, description = "The key, shown this once", body = IssuedApiKey)),
)]
async fn create_workspace_api_key(
    caller: InWorkspace<ApiKeysWrite>,
    plane: web::Data<Management>,
    body: Json<CreateApiKey>,
) -> Result<HttpResponse, ApiError> {
    let scope = Scope::Workspace(caller.scope);
    create_in(&plane, caller.principal, caller.actor, scope, body.0).await
}

/// List a workspace's keys
///
/// Oldest first, without revoked ones.
#[utoipa::path(
    get,
    path = "/workspaces/{workspace_id}/api-keys",
    params(ApiKeysQuery),
    responses((status = 200, description = "A page", body = Paged<ApiKey>)),
)]
async fn list_workspace_api_keys(
    caller: InWorkspace<ApiKeysRead>,
    plane: web::Data<Management>,
    query: Query<ApiKeysQuery>,
) -> Result<web::Json<Paged<ApiKey>>, ApiError> {
    let scope = Scope::Workspace(caller.scope);
    Ok(web::Json(list_in(&plane, scope, &query.0).await?))
}

/// Read a workspace's key
#[utoipa::path(
    get,
    path = "/workspaces/{workspace_id}/api-keys/{api_key_id}",
    responses((status = 200, description = "The key", body = ApiKey)),
)]
async fn get_workspace_api_key(
    caller: InWorkspace<ApiKeysRead>,
    plane: web::Data<Management>,
    path: web::Path<(String, String)>,
) -> Result<web::Json<ApiKey>, ApiError> {
    let id = path_id(&path.1, "API key")?;
    Ok(web::Json(get_in(&plane, Scope::Workspace(caller.scope), id).await?))
}

/// Update a workspace's key
///
/// A JSON merge patch. Only for keys of roles that the caller may grant.
#[utoipa::path(
    patch,
    path = "/workspaces/{workspace_id}/api-keys/{api_key_id}",
    responses((status = 200, description = "The key as it is now", body = ApiKey)),
)]
async fn update_workspace_api_key(
    caller: InWorkspace<ApiKeysWrite>,
    plane: web::Data<Management>,
    path: web::Path<(String, String)>,
    patch: Json<ApiKeyPatch>,
) -> Result<web::Json<ApiKey>, ApiError> {
    let id = path_id(&path.1, "API key")?;
    let scope = Scope::Workspace(caller.scope);
    let key = update_in(&plane, caller.principal, caller.actor, scope, id, patch.0).await?;
    Ok(web::Json(key))
}

/// Revoke a workspace's key
///
/// It stops at once and for good. Only for keys of roles that the caller may grant.
#[utoipa::path(
    delete,
    path = "/workspaces/{workspace_id}/api-keys/{api_key_id}",
    responses((status = 204, description = "The key is revoked")),
)]
async fn delete_workspace_api_key(
    caller: InWorkspace<ApiKeysWrite>,
    plane: web::Data<Management>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let id = path_id(&path.1, "API key")?;
    let scope = Scope::Workspace(caller.scope);
    delete_in(&plane, caller.principal, caller.actor, scope, id).await
}

/// Rotate a workspace's key
///
/// The key keeps its id and gets a new credential, which only this answer shows. The present one
/// works for `grace_seconds` more. Only for keys of roles that the caller may grant.
#[utoipa::path(
    post,
    path = "/workspaces/{workspace_id}/api-keys/{api_key_id}/rotate",
    request_body = Option<RotateApiKey>,
    responses((status = 200, description = "The key, its credential shown this once", body = IssuedApiKey), Conflicts),
)]
async fn rotate_workspace_api_key(
    caller: InWorkspace<ApiKeysWrite>,
    plane: web::Data<Management>,
    path: web::Path<(String, String)>,
    rotation: Rotation,
) -> Result<HttpResponse, ApiError> {
    let id = path_id(&path.1, "API key")?;
    let scope = Scope::Workspace(caller.scope);
    rotate_in(&plane, caller.principal, caller.actor, scope, id, rotation).await
}

pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("api-keys")
        .add(__path_create_workspace_api_key, create_workspace_api_key)
        .add(__path_list_workspace_api_keys, list_workspace_api_keys)
        .add(__path_get_workspace_api_key, get_workspace_api_key)
        .add(__path_update_workspace_api_key, update_workspace_api_key)
        .add(__path_delete_workspace_api_key, delete_workspace_api_key)
        .add(__path_rotate_workspace_api_key, rotate_workspace_api_key);
}
