//! The operations on API keys. The path decides whose keys they are about.

use actix_web::{HttpRequest, HttpResponse, web};

use super::rotation::{RotateApiKey, rotate};
use super::{
    ApiKey, ApiKeyFields, ApiKeyPatch, ApiKeysQuery, CreateApiKey, IssuedApiKey, change_scope,
    check_exists, check_grant, check_unchangeable, create_in, existing,
};
use crate::api::Management;
use crate::api::access::{ApiKeysRead, ApiKeysWrite, ForOwner};
use crate::api::body::{Json, OptionalJson};
use crate::api::error::ApiError;
use crate::api::field_errors::both;
use crate::api::page::{Paged, page};
use crate::api::query::Query;
use crate::api::routes::Routes;
use crate::api::shared::{Conflicts, future, path_id, record};
use crate::auth::Scope;
use crate::db::Conn;
use crate::db::api_keys::{
    ApiKeyChanges, ApiKeyFilter, delete_api_key as delete_row, list_api_keys as list_rows,
    update_api_key as update_row,
};
use crate::domain::ids::ApiKeyId;

fn key_id(request: &HttpRequest) -> Result<ApiKeyId, ApiError> {
    path_id(request.match_info().get("api_key_id").unwrap_or_default(), "API key")
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

/// Issue a key
///
/// Roles of an organization's keys are `ORGANIZATION_ADMIN` and `ORGANIZATION_VIEWER`; of a workspace's
/// keys `WORKSPACE_ADMIN`, `WORKSPACE_EDITOR`, `WORKSPACE_VIEWER` and `GATEWAY_CALLER`. Only this answer
/// shows the key.
#[utoipa::path(
    post,
    path = "/api-keys",
    request_body(content = CreateApiKey, examples(
        ("of a workspace" = (value = json!({"name": "Search service", "role": "GATEWAY_CALLER"}))),
        ("of an organization" = (value = json!({"name": "Auditor", "role": "ORGANIZATION_VIEWER"}))),
    )),
    responses((status = 201, description = "The key; its secret is shown only now", body = IssuedApiKey)),
)]
async fn create_api_key(
    caller: ForOwner<ApiKeysWrite>,
    plane: web::Data<Management>,
    body: Json<CreateApiKey>,
) -> Result<HttpResponse, ApiError> {
    create_in(&plane, caller.principal, caller.actor, caller.scope.into(), body).await
}

/// List keys
///
/// Oldest first, without revoked ones.
#[utoipa::path(
    get,
    path = "/api-keys",
    params(ApiKeysQuery),
    responses((status = 200, description = "A page", body = Paged<ApiKey>)),
)]
async fn list_api_keys(
    caller: ForOwner<ApiKeysRead>,
    plane: web::Data<Management>,
    query: Query<ApiKeysQuery>,
) -> Result<web::Json<Paged<ApiKey>>, ApiError> {
    let scope = Scope::from(caller.scope);
    let (page, filter) = query.check(|query| {
        let page = page::<ApiKeyId>(query.limit, query.cursor.as_deref())?;
        Ok((page, ApiKeyFilter { role: query.role, user_id: query.user_id }))
    })?;
    let rows = plane
        .database
        .read(async move |conn: &mut Conn| {
            check_exists(conn, scope).await?;
            Ok::<_, ApiError>(list_rows(conn, scope, filter, page).await?)
        })
        .await?;
    Ok(web::Json(Paged::of(rows, page, |row| row.id.uuid(), ApiKey::from)))
}

/// Read a key
#[utoipa::path(
    get,
    path = "/api-keys/{api_key_id}",
    responses((status = 200, description = "The key", body = ApiKey)),
)]
async fn get_api_key(
    caller: ForOwner<ApiKeysRead>,
    plane: web::Data<Management>,
    request: HttpRequest,
) -> Result<web::Json<ApiKey>, ApiError> {
    let (id, scope) = (key_id(&request)?, Scope::from(caller.scope));
    let row = plane
        .database
        .read(async move |conn: &mut Conn| {
            check_exists(conn, scope).await?;
            existing(conn, scope, id).await
        })
        .await?;
    Ok(web::Json(row.into()))
}

/// Update a key
///
/// A JSON merge patch. Only for keys of roles that the caller may grant.
#[utoipa::path(
    patch,
    path = "/api-keys/{api_key_id}",
    responses((status = 200, description = "The updated key", body = ApiKey)),
)]
async fn update_api_key(
    caller: ForOwner<ApiKeysWrite>,
    plane: web::Data<Management>,
    request: HttpRequest,
    patch: Json<ApiKeyPatch>,
) -> Result<web::Json<ApiKey>, ApiError> {
    let id = key_id(&request)?;
    let patch = patch.valid()?;
    let ForOwner { scope: owner, principal, actor, .. } = caller;
    let scope = Scope::from(owner);
    let updated = plane
        .database
        .write(change_scope(scope), async move |conn: &mut Conn| {
            check_exists(conn, scope).await?;
            let row = existing(conn, scope, id).await?;
            check_grant(&principal, row.role)?;
            let before = ApiKey::from(row);
            let fields = patch.apply(&before.fields)?.check(|fields| {
                let (expires_at, ()) = both(
                    // A time in the past is no reason to refuse another change.
                    match fields.expires_at {
                        Some(at) if before.fields.expires_at != Some(at) => {
                            future("expires_at", at, actor.now).map(Some)
                        }
                        other => Ok(other),
                    },
                    check_unchangeable(&fields, &before.fields),
                )?;
                Ok(ApiKeyFields { expires_at, ..fields })
            })?;
            let changes = ApiKeyChanges {
                name: fields.name,
                short_key: before.short_key.clone(),
                disabled: fields.disabled,
                expires_at: fields.expires_at.map(|at| at.naive_utc()),
                updated_at: actor.now.naive_utc(),
            };
            let after = ApiKey::from(update_row(conn, scope, id, changes).await?);
            record(conn, &actor, scope, "update_api_key", Some(&before), Some(&after)).await?;
            Ok::<_, ApiError>(after)
        })
        .await?;
    Ok(web::Json(updated))
}

/// Revoke a key
///
/// It becomes invalid at once and for good. Only for keys of roles that the caller may grant.
#[utoipa::path(
    delete,
    path = "/api-keys/{api_key_id}",
    responses((status = 204, description = "The key is revoked")),
)]
async fn delete_api_key(
    caller: ForOwner<ApiKeysWrite>,
    plane: web::Data<Management>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let id = key_id(&request)?;
    let ForOwner { scope: owner, principal, actor, .. } = caller;
    let scope = Scope::from(owner);
    plane
        .database
        .write(change_scope(scope), async move |conn: &mut Conn| {
            check_exists(conn, scope).await?;
            let row = existing(conn, scope, id).await?;
            check_grant(&principal, row.role)?;
            delete_row(conn, scope, id, actor.now.naive_utc()).await?;
            let before = ApiKey::from(row);
            record(conn, &actor, scope, "delete_api_key", Some(&before), None).await
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Rotate a key
///
/// The key keeps its id and gets a new credential, which only this answer shows. The present one stays
/// valid for `grace_seconds`. Only for keys of roles that the caller may grant.
#[utoipa::path(
    post,
    path = "/api-keys/{api_key_id}/rotate",
    request_body = Option<RotateApiKey>,
    responses(
        (status = 200, description = "The key; its secret is shown only now", body = IssuedApiKey),
        Conflicts,
    ),
)]
async fn rotate_api_key(
    caller: ForOwner<ApiKeysWrite>,
    plane: web::Data<Management>,
    request: HttpRequest,
    rotation: OptionalJson<RotateApiKey>,
) -> Result<HttpResponse, ApiError> {
    let id = key_id(&request)?;
    rotate(&plane, caller.principal, caller.actor, caller.scope.into(), id, rotation.0).await
}
