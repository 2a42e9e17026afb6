//! `/api-keys`: the keys of an organization itself; those of its workspaces are elsewhere.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use utoipa_actix_web::service_config::ServiceConfig;

use super::rotation::{RotateApiKey, Rotation, rotate_in};
use super::{
    ApiKey, ApiKeyPatch, ApiKeysQuery, CreateApiKey, IssuedApiKey, create_in, delete_in, get_in,
    list_in, update_in,
};
use crate::api::Management;
use crate::api::access::{ApiKeysRead, ApiKeysWrite, InOrganization};
use crate::api::body::Json;
use crate::api::error::ApiError;
use crate::api::page::Paged;
use crate::api::query::Query;
use crate::api::shared::{InTheWay, Missing, Refused, Unfit, path_id};
use crate::auth::Scope;
use crate::domain::ids::ApiKeyId;

/// Issue an organization's key
///
/// Roles are `ORGANIZATION_ADMIN` and `ORGANIZATION_VIEWER`. The answer is the only one that shows the key.
#[utoipa::path(
    tag = "api-keys",
    operation_id = "create_api_key",
    request_body = CreateApiKey,
    responses(
        (status = 201, description = "The key, shown this once", body = IssuedApiKey),
        Refused, Unfit,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("api-keys:write"))),
)]
#[post("/api-keys")]
async fn create_api_key(
    plane: web::Data<Management>,
    caller: InOrganization<ApiKeysWrite>,
    body: Json<CreateApiKey>,
) -> Result<HttpResponse, ApiError> {
    let scope = Scope::Organization(caller.organization_id);
    create_in(&plane, caller.principal, caller.actor, scope, body.0).await
}

/// List an organization's keys
///
/// Oldest first, without revoked ones.
#[utoipa::path(
    tag = "api-keys",
    operation_id = "list_api_keys",
    params(ApiKeysQuery),
    responses(
        (status = 200, description = "A page", body = Paged<ApiKey>),
        Refused, Unfit,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("api-keys:read"))),
)]
#[get("/api-keys")]
async fn list_api_keys(
    plane: web::Data<Management>,
    caller: InOrganization<ApiKeysRead>,
    query: Query<ApiKeysQuery>,
) -> Result<web::Json<Paged<ApiKey>>, ApiError> {
    let scope = Scope::Organization(caller.organization_id);
    Ok(web::Json(list_in(&plane, scope, &query.0).await?))
}

/// Read an organization's key
#[utoipa::path(
    tag = "api-keys",
    operation_id = "get_api_key",
    params(("api_key_id" = ApiKeyId, Path, description = "The key")),
    responses((status = 200, description = "The key", body = ApiKey), Refused, Missing),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("api-keys:read"))),
)]
#[get("/api-keys/{api_key_id}")]
async fn get_api_key(
    plane: web::Data<Management>,
    caller: InOrganization<ApiKeysRead>,
    path: web::Path<String>,
) -> Result<web::Json<ApiKey>, ApiError> {
    let id = path_id(&path, "API key")?;
    Ok(web::Json(get_in(&plane, Scope::Organization(caller.organization_id), id).await?))
}

/// Update an organization's key
///
/// A JSON merge patch. Only for keys of roles that the caller may grant.
#[utoipa::path(
    tag = "api-keys",
    operation_id = "update_api_key",
    params(("api_key_id" = ApiKeyId, Path, description = "The key")),
    request_body(content = ApiKeyPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The key as it is now", body = ApiKey),
        Refused, Missing, Unfit,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("api-keys:write"))),
)]
#[patch("/api-keys/{api_key_id}")]
async fn update_api_key(
    plane: web::Data<Management>,
    caller: InOrganization<ApiKeysWrite>,
    path: web::Path<String>,
    patch: ApiKeyPatch,
) -> Result<web::Json<ApiKey>, ApiError> {
    let id = path_id(&path, "API key")?;
    let scope = Scope::Organization(caller.organization_id);
    let key = update_in(&plane, caller.principal, caller.actor, scope, id, patch).await?;
    Ok(web::Json(key))
}

/// Revoke an organization's key
///
/// It stops at once and for good. Only for keys of roles that the caller may grant.
#[utoipa::path(
    tag = "api-keys",
    operation_id = "delete_api_key",
    params(("api_key_id" = ApiKeyId, Path, description = "The key")),
    responses((status = 204, description = "The key is revoked"), Refused, Missing),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("api-keys:write"))),
)]
#[delete("/api-keys/{api_key_id}")]
async fn delete_api_key(
    plane: web::Data<Management>,
    caller: InOrganization<ApiKeysWrite>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = path_id(&path, "API key")?;
    let scope = Scope::Organization(caller.organization_id);
    delete_in(&plane, caller.principal, caller.actor, scope, id).await
}

/// Rotate an organization's key
///
/// The key keeps its id and gets a new credential, which only this answer shows. The present one
/// works for `grace_seconds` more. Only for keys of roles that the caller may grant.
#[utoipa::path(
    tag = "api-keys",
    operation_id = "rotate_api_key",
    params(("api_key_id" = ApiKeyId, Path, description = "The key")),
    request_body = Option<RotateApiKey>,
    responses(
        (status = 200, description = "The key, its credential shown this once", body = IssuedApiKey),
        Refused, Missing, InTheWay, Unfit,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("api-keys:write"))),
)]
#[post("/api-keys/{api_key_id}/rotate")]
async fn rotate_api_key(
    plane: web::Data<Management>,
    caller: InOrganization<ApiKeysWrite>,
    path: web::Path<String>,
    rotation: Rotation,
) -> Result<HttpResponse, ApiError> {
    let id = path_id(&path, "API key")?;
    let scope = Scope::Organization(caller.organization_id);
    rotate_in(&plane, caller.principal, caller.actor, scope, id, rotation).await
}

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(create_api_key)
        .service(list_api_keys)
        .service(get_api_key)
        .service(update_api_key)
        .service(delete_api_key)
        .service(rotate_api_key);
}
