//! `/api-keys`: the keys of an organization itself; those of its workspaces are elsewhere.

use actix_web::{HttpResponse, web};

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
use crate::api::routes::Routes;
use crate::api::shared::{Conflicts, path_id};
use crate::auth::Scope;

/// Issue an organization's key
///
/// Roles are `ORGANIZATION_ADMIN` and `ORGANIZATION_VIEWER`. The answer is the only one that shows the key.
#[utoipa::path(
    post,
    path = "/api-keys",
    responses((status = 201, description = "The key, shown this once", body = IssuedApiKey)),
)]
async fn create_api_key(
    caller: InOrganization<ApiKeysWrite>,
    plane: web::Data<Management>,
    body: Json<CreateApiKey>,
) -> Result<HttpResponse, ApiError> {
    let scope = Scope::Organization(caller.organization_id);
    create_in(&plane, caller.principal, caller.actor, scope, body.0).await
}

/// List an organization's keys
///
/// Oldest first, without revoked ones.
#[utoipa::path(
    get,
    path = "/api-keys",
    params(ApiKeysQuery),
    responses((status = 200, description = "A page", body = Paged<ApiKey>)),
)]
async fn list_api_keys(
    caller: InOrganization<ApiKeysRead>,
    plane: web::Data<Management>,
    query: Query<ApiKeysQuery>,
) -> Result<web::Json<Paged<ApiKey>>, ApiError> {
    let scope = Scope::Organization(caller.organization_id);
    Ok(web::Json(list_in(&plane, scope, &query.0).await?))
}

/// Read an organization's key
#[utoipa::path(
    get,
    path = "/api-keys/{api_key_id}",
    responses((status = 200, description = "The key", body = ApiKey)),
)]
async fn get_api_key(
    caller: InOrganization<ApiKeysRead>,
    plane: web::Data<Management>,
    path: web::Path<String>,
) -> Result<web::Json<ApiKey>, ApiError> {
    let id = path_id(&path, "API key")?;
    Ok(web::Json(get_in(&plane, Scope::Organization(caller.organization_id), id).await?))
}

/// Update an organization's key
///
/// A JSON merge patch. Only for keys of roles that the caller may grant.
#[utoipa::path(
    patch,
    path = "/api-keys/{api_key_id}",
    responses((status = 200, description = "The key as it is now", body = ApiKey)),
)]
async fn update_api_key(
    caller: InOrganization<ApiKeysWrite>,
    plane: web::Data<Management>,
    path: web::Path<String>,
    patch: Json<ApiKeyPatch>,
) -> Result<web::Json<ApiKey>, ApiError> {
    let id = path_id(&path, "API key")?;
    let scope = Scope::Organization(caller.organization_id);
    let key = update_in(&plane, caller.principal, caller.actor, scope, id, patch.0).await?;
    Ok(web::Json(key))
}

/// Revoke an organization's key
///
/// It stops at once and for good. Only for keys of roles that the caller may grant.
#[utoipa::path(
    delete,
    path = "/api-keys/{api_key_id}",
    responses((status = 204, description = "The key is revoked")),
)]
async fn delete_api_key(
    caller: InOrganization<ApiKeysWrite>,
    plane: web::Data<Management>,
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
    post,
    path = "/api-keys/{api_key_id}/rotate",
    request_body = Option<RotateApiKey>,
    responses((status = 200, description = "The key, its credential shown this once", body = IssuedApiKey), Conflicts),
)]
async fn rotate_api_key(
    caller: InOrganization<ApiKeysWrite>,
    plane: web::Data<Management>,
    path: web::Path<String>,
    rotation: Rotation,
) -> Result<HttpResponse, ApiError> {
    let id = path_id(&path, "API key")?;
    let scope = Scope::Organization(caller.organization_id);
    rotate_in(&plane, caller.principal, caller.actor, scope, id, rotation).await
}

pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("api-keys")
        .add(__path_create_api_key, create_api_key)
        .add(__path_list_api_keys, list_api_keys)
        .add(__path_get_api_key, get_api_key)
        .add(__path_update_api_key, update_api_key)
        .add(__path_delete_api_key, delete_api_key)
        .add(__path_rotate_api_key, rotate_api_key);
}
