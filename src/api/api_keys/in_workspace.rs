//! `/workspaces/{workspace_id}/api-keys`: the keys of one workspace.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use utoipa_actix_web::service_config::ServiceConfig;

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
use crate::api::shared::{InTheWay, Missing, Refused, Unfit, path_id};
use crate::auth::Scope;
use crate::domain::ids::{ApiKeyId, WorkspaceId};

/// Issue a workspace's key
///
/// Roles are `WORKSPACE_ADMIN`, `WORKSPACE_EDITOR`, `WORKSPACE_VIEWER` and `GATEWAY_CALLER`. The answer is the only one that shows the key.
#[utoipa::path(
    tag = "api-keys",
    operation_id = "create_workspace_api_key",
    params(("workspace_id" = WorkspaceId, Path, description = "The workspace")),
    request_body = CreateApiKey,
    responses(
        (status = 201, description = "The key, shown this once", body = IssuedApiKey),
        Refused, Missing, Unfit,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("api-keys:write"))),
)]
#[post("/workspaces/{workspace_id}/api-keys")]
async fn create_workspace_api_key(
    plane: web::Data<Management>,
    caller: InWorkspace<ApiKeysWrite>,
    body: Json<CreateApiKey>,
) -> Result<HttpResponse, ApiError> {
    let scope = Scope::Workspace(caller.scope);
    create_in(&plane, caller.principal, caller.actor, scope, body.0).await
}

/// List a workspace's keys
///
/// Oldest first, without revoked ones.
#[utoipa::path(
    tag = "api-keys",
    operation_id = "list_workspace_api_keys",
    params(("workspace_id" = WorkspaceId, Path, description = "The workspace"), ApiKeysQuery),
    responses(
        (status = 200, description = "A page", body = Paged<ApiKey>),
        Refused, Missing, Unfit,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("api-keys:read"))),
)]
#[get("/workspaces/{workspace_id}/api-keys")]
async fn list_workspace_api_keys(
    plane: web::Data<Management>,
    caller: InWorkspace<ApiKeysRead>,
    query: Query<ApiKeysQuery>,
) -> Result<web::Json<Paged<ApiKey>>, ApiError> {
    let scope = Scope::Workspace(caller.scope);
    Ok(web::Json(list_in(&plane, scope, &query.0).await?))
}

/// Read a workspace's key
#[utoipa::path(
    tag = "api-keys",
    operation_id = "get_workspace_api_key",
    params(
        ("workspace_id" = WorkspaceId, Path, description = "The workspace"),
        ("api_key_id" = ApiKeyId, Path, description = "The key"),
    ),
    responses((status = 200, description = "The key", body = ApiKey), Refused, Missing),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("api-keys:read"))),
)]
#[get("/workspaces/{workspace_id}/api-keys/{api_key_id}")]
async fn get_workspace_api_key(
    plane: web::Data<Management>,
    caller: InWorkspace<ApiKeysRead>,
    path: web::Path<(String, String)>,
) -> Result<web::Json<ApiKey>, ApiError> {
    let id = path_id(&path.1, "API key")?;
    Ok(web::Json(get_in(&plane, Scope::Workspace(caller.scope), id).await?))
}

/// Update a workspace's key
///
/// A JSON merge patch. Only for keys of roles that the caller may grant.
#[utoipa::path(
    tag = "api-keys",
    operation_id = "update_workspace_api_key",
    params(
        ("workspace_id" = WorkspaceId, Path, description = "The workspace"),
        ("api_key_id" = ApiKeyId, Path, description = "The key"),
    ),
    request_body(content = ApiKeyPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The key as it is now", body = ApiKey),
        Refused, Missing, Unfit,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("api-keys:write"))),
)]
#[patch("/workspaces/{workspace_id}/api-keys/{api_key_id}")]
async fn update_workspace_api_key(
    plane: web::Data<Management>,
    caller: InWorkspace<ApiKeysWrite>,
    path: web::Path<(String, String)>,
    patch: ApiKeyPatch,
) -> Result<web::Json<ApiKey>, ApiError> {
    let id = path_id(&path.1, "API key")?;
    let scope = Scope::Workspace(caller.scope);
    let key = update_in(&plane, caller.principal, caller.actor, scope, id, patch).await?;
    Ok(web::Json(key))
}

/// Revoke a workspace's key
///
/// It stops at once and for good. Only for keys of roles that the caller may grant.
#[utoipa::path(
    tag = "api-keys",
    operation_id = "delete_workspace_api_key",
    params(
        ("workspace_id" = WorkspaceId, Path, description = "The workspace"),
        ("api_key_id" = ApiKeyId, Path, description = "The key"),
    ),
    responses((status = 204, description = "The key is revoked"), Refused, Missing),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("api-keys:write"))),
)]
#[delete("/workspaces/{workspace_id}/api-keys/{api_key_id}")]
async fn delete_workspace_api_key(
    plane: web::Data<Management>,
    caller: InWorkspace<ApiKeysWrite>,
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
    tag = "api-keys",
    operation_id = "rotate_workspace_api_key",
    params(
        ("workspace_id" = WorkspaceId, Path, description = "The workspace"),
        ("api_key_id" = ApiKeyId, Path, description = "The key"),
    ),
    request_body = Option<RotateApiKey>,
    responses(
        (status = 200, description = "The key, its credential shown this once", body = IssuedApiKey),
        Refused, Missing, InTheWay, Unfit,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("api-keys:write"))),
)]
#[post("/workspaces/{workspace_id}/api-keys/{api_key_id}/rotate")]
async fn rotate_workspace_api_key(
    plane: web::Data<Management>,
    caller: InWorkspace<ApiKeysWrite>,
    path: web::Path<(String, String)>,
    rotation: Rotation,
) -> Result<HttpResponse, ApiError> {
    let id = path_id(&path.1, "API key")?;
    let scope = Scope::Workspace(caller.scope);
    rotate_in(&plane, caller.principal, caller.actor, scope, id, rotation).await
}

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(create_workspace_api_key)
        .service(list_workspace_api_keys)
        .service(get_workspace_api_key)
        .service(update_workspace_api_key)
        .service(delete_workspace_api_key)
        .service(rotate_workspace_api_key);
}
