//! `/organizations`: the tenants. A platform key runs them all; an organization's own keys see, and
//! may rename, their own.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::LOCATION;
use actix_web::{FromRequest, HttpRequest, HttpResponse, get, patch, post, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa_actix_web::service_config::ServiceConfig;

use super::Management;
use super::access::{
    Authenticated, Needs, OrganizationManage, OrganizationRead, OrganizationsWrite, Permitted,
};
use super::api_keys::{CreateApiKey, IssuedApiKey, create_in};
use super::body::{Editable, Json, MergePatch};
use super::bootstrap::insert_with_admin;
use super::error::ApiError;
use super::page::{PageQuery, Paged};
use super::query::Query;
use super::shared::{InTheWay, Missing, Refused, Unfit, as_json, once, or_taken, path_id};
use crate::audit::{self, Actor, Event};
use crate::auth::{Principal, Scope};
use crate::crypto::SecretText;
use crate::db::organizations::{
    OrganizationChanges, OrganizationRow, find_organization, list_organizations as list_all,
    update_organization as update_row,
};
use crate::db::{ChangeScope, Conn};
use crate::domain::ids::{ApiKeyId, OrganizationId};
use crate::domain::names::DisplayName;
use crate::domain::permissions::Permission;

/// Whether an organization's keys count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrganizationStatus {
    /// They do.
    Active,
    /// Every one of them gets 403.
    Suspended,
}

impl OrganizationStatus {
    /// As the database holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }

    fn read(text: &str) -> Self {
        if text == "active" { Self::Active } else { Self::Suspended }
    }
}

/// A new organization.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateOrganization {
    /// Unique on this installation.
    #[schema(min_length = 1, max_length = 128, example = "Example Ltd")]
    pub name: DisplayName,
}

/// What may change about an organization.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateOrganization {
    /// Unique on this installation.
    #[schema(min_length = 1, max_length = 128)]
    pub name: DisplayName,
    /// For platform keys only.
    pub status: OrganizationStatus,
}

impl Editable for UpdateOrganization {
    const READ_ONLY: &'static [&'static str] = &["id", "created_at", "updated_at"];
}

/// Named because the documentation takes no generic of our own.
type OrganizationPatch = MergePatch<UpdateOrganization>;

/// An organization: the tenant and the billing boundary.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// Unique on this installation.
    pub name: DisplayName,
    /// Whether its keys count.
    pub status: OrganizationStatus,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl From<OrganizationRow> for Organization {
    fn from(row: OrganizationRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            status: OrganizationStatus::read(&row.status),
            created_at: row.created_at.and_utc(),
            updated_at: row.updated_at.and_utc(),
        }
    }
}

/// An organization with the first key of its administrator, which is shown this once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct CreatedOrganization {
    /// The organization.
    #[serde(flatten)]
    pub organization: Organization,
    /// The id of `admin_key`.
    pub admin_key_id: ApiKeyId,
    /// A key of the role `ORGANIZATION_ADMIN`. It can't be shown again.
    #[serde(serialize_with = "once")]
    #[schema(value_type = String)]
    pub admin_key: SecretText,
}

/// Somebody who runs all organizations, or holds the permission in one.
#[derive(Debug)]
pub struct OverOrganizations<P> {
    /// The one organization it is about; a platform key may name any.
    own: Option<OrganizationId>,
    actor: Actor,
    needs: PhantomData<P>,
}

impl<P: Needs> OverOrganizations<P> {
    fn of(principal: Principal, actor: Actor) -> Result<Self, ApiError> {
        let own = match principal.scope {
            Scope::Platform if principal.may(Permission::OrganizationsWrite) => None,
            Scope::Organization(id) if principal.may(P::PERMISSION) => Some(id),
            _ => return Err(ApiError::MissingPermission(P::PERMISSION)),
        };
        Ok(Self { own, actor, needs: PhantomData })
    }

    /// The organization that the path names, if it is one that the caller may see.
    fn named(&self, path: &str) -> Result<OrganizationId, ApiError> {
        let id = path_id(path, "organization")?;
        match self.own {
            Some(own) if own != id => Err(ApiError::NotFound("organization")),
            _ => Ok(id),
        }
    }
}

impl<P: Needs> FromRequest for OverOrganizations<P> {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Authenticated::from_request(request, payload);
        Box::pin(async move {
            let Authenticated { principal, actor } = caller.await?;
            Self::of(principal, actor)
        })
    }
}

/// Create an organization
///
/// Makes the organization and the first key of its administrator. The answer is the only one that
/// shows that key.
#[utoipa::path(
    tag = "organizations",
    operation_id = "create_organization",
    request_body = CreateOrganization,
    responses(
        (status = 201, description = "The organization and its first key", body = CreatedOrganization),
        Refused, InTheWay, Unfit,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("organizations:write"))),
)]
#[post("/organizations")]
async fn create_organization(
    plane: web::Data<Management>,
    caller: Permitted<OrganizationsWrite>,
    body: Json<CreateOrganization>,
) -> Result<HttpResponse, ApiError> {
    let actor = caller.actor;
    let id: OrganizationId = actor.clock.new_id();
    let created = plane
        .database
        .write(ChangeScope::Organization(id), async move |conn: &mut Conn| {
            insert_with_admin(conn, &actor, id, body.0.name).await
        })
        .await?;
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("/api/v1/organizations/{id}")))
        .json(created))
}

/// List organizations
///
/// A platform key sees all, oldest first; an organization's key a list of its own.
#[utoipa::path(
    tag = "organizations",
    operation_id = "list_organizations",
    params(PageQuery),
    responses((status = 200, description = "A page", body = Paged<Organization>), Refused, Unfit),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("organizations:write|organization:read"))),
)]
#[get("/organizations")]
async fn list_organizations(
    plane: web::Data<Management>,
    caller: OverOrganizations<OrganizationRead>,
    query: Query<PageQuery>,
) -> Result<web::Json<Paged<Organization>>, ApiError> {
    let page = query.0.page::<OrganizationId>()?;
    let own = caller.own;
    let rows = plane
        .database
        .read(async move |conn: &mut Conn| match own {
            None => Ok::<_, ApiError>(list_all(conn, page).await?),
            Some(id) if page.after.is_some_and(|after| after >= id) => Ok(Vec::new()),
            Some(id) => Ok(find_organization(conn, id).await?.into_iter().collect()),
        })
        .await?;
    Ok(web::Json(Paged::of(rows, page, |row| row.id.uuid(), Organization::from)))
}

/// Read an organization
#[utoipa::path(
    tag = "organizations",
    operation_id = "get_organization",
    params(("organization_id" = OrganizationId, Path, description = "The organization")),
    responses(
        (status = 200, description = "The organization", body = Organization),
        Refused, Missing,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("organizations:write|organization:read"))),
)]
#[get("/organizations/{organization_id}")]
async fn get_organization(
    plane: web::Data<Management>,
    caller: OverOrganizations<OrganizationRead>,
    path: web::Path<String>,
) -> Result<web::Json<Organization>, ApiError> {
    let id = caller.named(&path)?;
    let row = plane.database.read(async move |conn: &mut Conn| existing(conn, id).await).await?;
    Ok(web::Json(row.into()))
}

/// Update an organization
///
/// A JSON merge patch. The `status` is for platform keys; suspending an organization stops all its
/// keys at once.
#[utoipa::path(
    tag = "organizations",
    operation_id = "update_organization",
    params(("organization_id" = OrganizationId, Path, description = "The organization")),
    request_body(content = OrganizationPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The organization as it is now", body = Organization),
        Refused, Missing, InTheWay, Unfit,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("organizations:write|organization:manage"))),
)]
#[patch("/organizations/{organization_id}")]
async fn update_organization(
    plane: web::Data<Management>,
    caller: OverOrganizations<OrganizationManage>,
    path: web::Path<String>,
    patch: OrganizationPatch,
) -> Result<web::Json<Organization>, ApiError> {
    let id = caller.named(&path)?;
    let is_own = caller.own.is_some();
    let actor = caller.actor;
    let updated = plane
        .database
        .write(ChangeScope::Organization(id), async move |conn: &mut Conn| {
            let before = Organization::from(existing(conn, id).await?);
            let fields = patch
                .apply(&UpdateOrganization { name: before.name.clone(), status: before.status })?;
            if is_own && fields.status != before.status {
                return Err(ApiError::Forbidden {
                    code: "platform_key_needed",
                    detail: "Whether an organization is active is for whoever runs this \
                             installation to say; leave out 'status'."
                        .to_owned(),
                });
            }
            let changes = OrganizationChanges {
                name: fields.name,
                status: fields.status.as_str().to_owned(),
                updated_at: actor.now.naive_utc(),
            };
            let after = update_row(conn, id, changes).await.map_err(name_taken)?;
            let after = Organization::from(after);
            let event = Event {
                operation: "update_organization",
                resource_type: "organization",
                resource_id: id.to_string(),
                organization_id: Some(id),
                workspace_id: None,
                before: Some(as_json(&before)?),
                after: Some(as_json(&after)?),
            };
            audit::record(conn, &actor, event).await?;
            Ok::<_, ApiError>(after)
        })
        .await?;
    Ok(web::Json(updated))
}

/// Issue a key in an organization
///
/// For whoever runs the installation, should an organization have lost its own keys. Roles are the
/// organization's: `ORGANIZATION_ADMIN` and `ORGANIZATION_VIEWER`.
#[utoipa::path(
    tag = "organizations",
    operation_id = "create_organization_api_key",
    params(("organization_id" = OrganizationId, Path, description = "The organization")),
    request_body = CreateApiKey,
    responses(
        (status = 201, description = "The key, shown this once", body = IssuedApiKey),
        Refused, Missing, Unfit,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("organizations:write"))),
)]
#[post("/organizations/{organization_id}/api-keys")]
async fn create_organization_api_key(
    plane: web::Data<Management>,
    caller: Permitted<OrganizationsWrite>,
    path: web::Path<String>,
    body: Json<CreateApiKey>,
) -> Result<HttpResponse, ApiError> {
    let id = path_id(&path, "organization")?;
    create_in(&plane, caller.principal, caller.actor, Scope::Organization(id), body.0).await
}

async fn existing(conn: &mut Conn, id: OrganizationId) -> Result<OrganizationRow, ApiError> {
    find_organization(conn, id).await?.ok_or(ApiError::NotFound("organization"))
}

pub(super) fn name_taken(error: crate::db::DbError) -> ApiError {
    or_taken(error, "name_taken", "Another organization has this name; choose another 'name'.")
}

/// Adds the operations.
pub fn configure(config: &mut ServiceConfig<'_>) {
    config
        .service(create_organization)
        .service(list_organizations)
        .service(get_organization)
        .service(update_organization)
        .service(create_organization_api_key);
}
