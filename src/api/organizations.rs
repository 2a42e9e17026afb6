//! `/organizations`: the tenants. A platform key runs them all; an organization's own keys see, and
//! may rename, their own.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::LOCATION;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Management;
use super::access::{
    Authenticated, Caller, OrganizationManage, OrganizationRead, OrganizationsWrite, Permitted,
    RequiredPermission,
};
use super::api_keys::{CreateApiKey, IssuedApiKey, create_in};
use super::body::{Editable, Json, MergePatch};
use super::bootstrap::insert_with_admin;
use super::error::ApiError;
use super::page::{PageQuery, Paged};
use super::query::Query;
use super::routes::Routes;
use super::shared::{Conflicts, as_json, once, or_taken, path_id};
use crate::audit::{self, Actor, Event};
use crate::auth::{Principal, Scope};
use crate::crypto::SecretText;
use crate::db::organizations::{
    OrganizationChanges, OrganizationRow, find_organization, list_organizations as list_all,
    update_organization as update_row,
};
use crate::db::{Concerns, Conn};
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
struct OverOrganizations<P> {
    /// The one organization it is about; a platform key may name any.
    own: Option<OrganizationId>,
    actor: Actor,
    permission: PhantomData<P>,
}

impl<P: RequiredPermission> OverOrganizations<P> {
    fn of(principal: Principal, actor: Actor) -> Result<Self, ApiError> {
        let own = match principal.scope {
            Scope::Platform if principal.may(Permission::OrganizationsWrite) => None,
            Scope::Organization(id) if principal.may(P::PERMISSION) => Some(id),
            _ => return Err(ApiError::MissingPermission(P::PERMISSION)),
        };
        Ok(Self { own, actor, permission: PhantomData })
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

impl<P: RequiredPermission> Caller for OverOrganizations<P> {
    fn permission() -> String {
        format!("{}|{}", Permission::OrganizationsWrite, P::PERMISSION)
    }
}

impl<P: RequiredPermission> FromRequest for OverOrganizations<P> {
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
    post,
    path = "/organizations",
    responses((status = 201, description = "The organization and its first key", body = CreatedOrganization), Conflicts),
)]
async fn create_organization(
    caller: Permitted<OrganizationsWrite>,
    plane: web::Data<Management>,
    body: Json<CreateOrganization>,
) -> Result<HttpResponse, ApiError> {
    let actor = caller.actor;
    let id: OrganizationId = actor.clock.new_id();
    let created = plane
        .database
        .write(Concerns::Organization(id), async move |conn: &mut Conn| {
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
    get,
    path = "/organizations",
    params(PageQuery),
    responses((status = 200, description = "A page", body = Paged<Organization>)),
)]
async fn list_organizations(
    caller: OverOrganizations<OrganizationRead>,
    plane: web::Data<Management>,
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
    get,
    path = "/organizations/{organization_id}",
    responses((status = 200, description = "The organization", body = Organization)),
)]
async fn get_organization(
    caller: OverOrganizations<OrganizationRead>,
    plane: web::Data<Management>,
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
    patch,
    path = "/organizations/{organization_id}",
    responses((status = 200, description = "The organization as it is now", body = Organization), Conflicts),
)]
async fn update_organization(
    caller: OverOrganizations<OrganizationManage>,
    plane: web::Data<Management>,
    path: web::Path<String>,
    patch: Json<OrganizationPatch>,
) -> Result<web::Json<Organization>, ApiError> {
    let id = caller.named(&path)?;
    let is_own = caller.own.is_some();
    let actor = caller.actor;
    let updated = plane
        .database
        .write(Concerns::Organization(id), async move |conn: &mut Conn| {
            let before = Organization::from(existing(conn, id).await?);
            let fields = patch
                .0
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
    post,
    path = "/organizations/{organization_id}/api-keys",
    responses((status = 201, description = "The key, shown this once", body = IssuedApiKey)),
)]
async fn create_organization_api_key(
    caller: Permitted<OrganizationsWrite>,
    plane: web::Data<Management>,
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
pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("organizations")
        .add(__path_create_organization, create_organization)
        .add(__path_list_organizations, list_organizations)
        .add(__path_get_organization, get_organization)
        .add(__path_update_organization, update_organization)
        .add(__path_create_organization_api_key, create_organization_api_key);
}
