//! `/organizations`: the tenants. A platform key manages all of them; an organization's own keys can
//! read it, and its administrators can rename it.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Management;
use super::access::{
    Authenticated, Caller, OrganizationManage, OrganizationRead, OrganizationsWrite, Permitted,
    RequiredPermission,
};
use super::api_keys::{ApiKey, CreateApiKey, IssuedApiKey, create_in};
use super::body::{Editable, Json, MergePatch};
use super::error::ApiError;
use super::page::{PageQuery, Paged};
use super::query::Query;
use super::routes::Routes;
use super::shared::{Audited, Conflicts, created, once, or_taken, path_id, record};
use crate::audit::Actor;
use crate::auth::issue::{NewKey, issue_key};
use crate::auth::{Principal, Scope};
use crate::crypto::SecretText;
use crate::db::organizations::{
    OrganizationChanges, OrganizationRow, find_organization, insert_organization,
    list_organizations as list_all, update_organization as update_row,
};
use crate::db::{ChangeScope, Conn};
use crate::domain::ids::{ApiKeyId, OrganizationId};
use crate::domain::names::DisplayName;
use crate::domain::permissions::{Permission, Role};

/// Whether an organization's keys are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OrganizationStatus {
    Active,
    /// Every one of its keys gets 403.
    Suspended,
}

impl OrganizationStatus {
    /// The value in the database.
    pub(super) fn as_str(self) -> &'static str {
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
#[schema(example = json!({"name": "Example Ltd"}))]
pub(super) struct CreateOrganization {
    /// Unique on this installation.
    #[schema(min_length = 1, max_length = 128)]
    pub(super) name: DisplayName,
}

/// The fields of an organization that can be set.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrganizationFields {
    /// Unique on this installation.
    #[schema(min_length = 1, max_length = 128)]
    pub(super) name: DisplayName,
    /// For platform keys only.
    pub(super) status: OrganizationStatus,
}

impl Editable for OrganizationFields {
    type Shown = Organization;
}

/// Has a name because utoipa's macros do not take a generic type here.
type OrganizationPatch = MergePatch<OrganizationFields>;

/// An organization: the tenant and the billing boundary.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Organization {
    pub(super) id: OrganizationId,
    #[serde(flatten)]
    pub(super) fields: OrganizationFields,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
}

impl Audited for Organization {
    const TYPE: &'static str = "organization";

    fn audit_id(&self) -> String {
        self.id.to_string()
    }
}

impl From<OrganizationRow> for Organization {
    fn from(row: OrganizationRow) -> Self {
        Self {
            id: row.id,
            fields: OrganizationFields {
                name: row.name,
                status: OrganizationStatus::read(&row.status),
            },
            created_at: row.created_at.and_utc(),
            updated_at: row.updated_at.and_utc(),
        }
    }
}

/// An organization with the first key of its administrator, which is shown only once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CreatedOrganization {
    #[serde(flatten)]
    pub(super) organization: Organization,
    /// The id of `admin_key`.
    pub(super) admin_key_id: ApiKeyId,
    /// A key of the role `ORGANIZATION_ADMIN`. It can't be shown again.
    #[serde(serialize_with = "once")]
    #[schema(value_type = String)]
    pub(super) admin_key: SecretText,
}

/// A caller who manages all organizations, or one with the permission `P` in their own organization.
#[derive(Debug)]
struct OverOrganizations<P> {
    /// The only organization that the caller may name; a platform key may name any.
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
/// Creates the organization and the first key of its administrator. Only this answer shows the key.
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
    let body = body.valid()?;
    let organization = plane
        .database
        .write(ChangeScope::Organization(id), async move |conn: &mut Conn| {
            insert_with_admin(conn, &actor, id, body.name).await
        })
        .await?;
    Ok(created(format!("/api/v1/organizations/{id}"), organization))
}

/// List organizations
///
/// A platform key sees all, oldest first; an organization's key only its own.
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
    let page = query.check(|query| query.page::<OrganizationId>())?;
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
/// A JSON merge patch. Only platform keys may change `status`; suspending an organization makes all of
/// its keys invalid at once.
#[utoipa::path(
    patch,
    path = "/organizations/{organization_id}",
    responses((status = 200, description = "The updated organization", body = Organization), Conflicts),
)]
async fn update_organization(
    caller: OverOrganizations<OrganizationManage>,
    plane: web::Data<Management>,
    path: web::Path<String>,
    patch: Json<OrganizationPatch>,
) -> Result<web::Json<Organization>, ApiError> {
    let id = caller.named(&path)?;
    let patch = patch.valid()?;
    let is_own = caller.own.is_some();
    let actor = caller.actor;
    let updated = plane
        .database
        .write(ChangeScope::Organization(id), async move |conn: &mut Conn| {
            let before = Organization::from(existing(conn, id).await?);
            let fields = patch.apply(&before.fields)?.valid()?;
            if is_own && fields.status != before.fields.status {
                return Err(ApiError::Forbidden {
                    code: "platform_key_needed",
                    detail: "Only a platform key can change 'status'; leave it out.".to_owned(),
                });
            }
            let changes = OrganizationChanges {
                name: fields.name,
                status: fields.status.as_str().to_owned(),
                updated_at: actor.now.naive_utc(),
            };
            let after = update_row(conn, id, changes).await.map_err(name_taken)?;
            let after = Organization::from(after);
            let scope = Scope::Organization(id);
            record(conn, &actor, scope, "update_organization", Some(&before), Some(&after)).await?;
            Ok::<_, ApiError>(after)
        })
        .await?;
    Ok(web::Json(updated))
}

/// Issue a key in an organization
///
/// For the operator of the installation, if an organization has lost its own keys. Roles are
/// `ORGANIZATION_ADMIN` and `ORGANIZATION_VIEWER`.
#[utoipa::path(
    post,
    path = "/organizations/{organization_id}/api-keys",
    request_body(content = CreateApiKey,
        example = json!({"name": "Auditor", "role": "ORGANIZATION_VIEWER"})),
    responses((status = 201, description = "The key; its secret is shown only now", body = IssuedApiKey)),
)]
async fn create_organization_api_key(
    caller: Permitted<OrganizationsWrite>,
    plane: web::Data<Management>,
    path: web::Path<String>,
    body: Json<CreateApiKey>,
) -> Result<HttpResponse, ApiError> {
    let id = path_id(&path, "organization")?;
    create_in(&plane, caller.principal, caller.actor, Scope::Organization(id), body).await
}

async fn existing(conn: &mut Conn, id: OrganizationId) -> Result<OrganizationRow, ApiError> {
    find_organization(conn, id).await?.ok_or(ApiError::NotFound("organization"))
}

/// Creates an organization and the first key of its administrator in the open transaction.
pub(super) async fn insert_with_admin(
    conn: &mut Conn,
    actor: &Actor,
    id: OrganizationId,
    name: DisplayName,
) -> Result<CreatedOrganization, ApiError> {
    let now = actor.now.naive_utc();
    let row = OrganizationRow {
        id,
        name,
        status: OrganizationStatus::Active.as_str().to_owned(),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    insert_organization(conn, row.clone()).await.map_err(name_taken)?;
    let organization = Organization::from(row);
    let scope = Scope::Organization(id);
    record(conn, actor, scope, "create_organization", None, Some(&organization)).await?;
    let admin = first_key("First admin key", scope, Role::OrganizationAdmin)?;
    let admin = issue_key(conn, actor, admin).await?;
    let admin_key_id = admin.row.id;
    let key = ApiKey::from(admin.row);
    record(conn, actor, scope, "create_api_key", None, Some(&key)).await?;
    Ok(CreatedOrganization { organization, admin_key_id, admin_key: admin.text })
}

/// A key that is issued without anybody asking for it.
pub(super) fn first_key(name: &str, scope: Scope, role: Role) -> Result<NewKey, ApiError> {
    let name = DisplayName::parse(name).map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(NewKey { scope, role, name, user_id: None, expires_at: None })
}

fn name_taken(error: crate::db::DbError) -> ApiError {
    or_taken(error, "name_taken", "Another organization has this name; choose another 'name'.")
}

pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("organizations")
        .add(__path_create_organization, create_organization)
        .add(__path_list_organizations, list_organizations)
        .add(__path_get_organization, get_organization)
        .add(__path_update_organization, update_organization)
        .add(__path_create_organization_api_key, create_organization_api_key);
}
