//! API keys: what is said of them, and who may issue, change, rotate and revoke which. The same in a
//! workspace and for a whole organization; the operations of either are in files of their own.

mod in_organization;
mod in_workspace;
mod rotation;

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Management;
use super::body::{Editable, MergePatch};
use super::date_time;
use super::error::ApiError;
use super::page::{Paged, page};
use super::routes::Routes;
use super::shared::{as_json, future, once};
use crate::audit::{self, Actor, Event};
use crate::auth::issue::{IssuedKey, NewKey, issue_key};
use crate::auth::{Principal, Scope};
use crate::crypto::SecretText;
use crate::db::api_keys::{
    ApiKeyChanges, ApiKeyFilter, ApiKeyRow, delete_api_key, find_api_key, list_api_keys,
    update_api_key,
};
use crate::db::organizations::find_organization;
use crate::db::users::find_user;
use crate::db::workspaces::find_workspace;
use crate::db::{Concerns, Conn};
use crate::domain::ids::{ApiKeyId, OrganizationId, UserId, WorkspaceId};
use crate::domain::names::DisplayName;
use crate::domain::permissions::{Role, ScopeKind};

/// A new key.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKey {
    /// What people call it.
    #[schema(min_length = 1, max_length = 128, example = "Search service, production")]
    pub name: DisplayName,
    /// What it is for: a workspace role in a workspace, an organization role elsewhere, and only
    /// one that the caller's own role may grant.
    pub role: Role,
    /// The person whose key it is; it stops when they are deactivated.
    pub user_id: Option<UserId>,
    /// When it stops; it never does if this is left out.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// What may change about a key.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateApiKey {
    /// What people call it.
    #[schema(min_length = 1, max_length = 128)]
    pub name: DisplayName,
    /// When it stops; null for never.
    #[serde(deserialize_with = "date_time::optional")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it is switched off.
    pub disabled: bool,
    /// What it is for; can't change.
    pub role: Role,
    /// The person whose key it is; can't change.
    pub user_id: Option<UserId>,
    /// The organization it belongs to; can't change.
    pub organization_id: Option<OrganizationId>,
    /// The workspace it belongs to; can't change.
    pub workspace_id: Option<WorkspaceId>,
}

impl Editable for UpdateApiKey {
    const READ_ONLY: &'static [&'static str] =
        &["id", "short_key", "created_by", "created_at", "updated_at", "last_used_at"];
}

/// Named because the documentation takes no generic of our own.
type ApiKeyPatch = MergePatch<UpdateApiKey>;

/// The query of a list of keys.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ApiKeysQuery {
    /// How many to return, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Only keys of this role.
    pub role: Option<Role>,
    /// Only this person's keys.
    pub user_id: Option<UserId>,
}

/// A key, without what it is presented as.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ApiKey {
    /// Its id, which rotation keeps.
    pub id: ApiKeyId,
    /// The organization it belongs to; platform keys have none.
    pub organization_id: Option<OrganizationId>,
    /// The workspace it belongs to; only workspace keys have one.
    pub workspace_id: Option<WorkspaceId>,
    /// What people call it.
    pub name: DisplayName,
    /// What it is for.
    pub role: Role,
    /// The beginning of its newest credential, by which people recognise it.
    pub short_key: String,
    /// The person whose key it is.
    pub user_id: Option<UserId>,
    /// The key that made it; null for the command line.
    pub created_by: Option<ApiKeyId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it stops; null for never.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Roughly when it was last used.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl From<ApiKeyRow> for ApiKey {
    fn from(row: ApiKeyRow) -> Self {
        Self {
            id: row.id,
            organization_id: row.organization_id,
            workspace_id: row.workspace_id,
            name: row.name,
            role: row.role,
            short_key: row.short_key,
            user_id: row.user_id,
            created_by: row.created_by,
            created_at: row.created_at.and_utc(),
            updated_at: row.updated_at.and_utc(),
            expires_at: row.expires_at.map(|at| at.and_utc()),
            disabled: row.disabled,
            last_used_at: row.last_used_at.map(|at| at.and_utc()),
        }
    }
}

/// A key with what it is presented as, which is shown this once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct IssuedApiKey {
    /// The key.
    #[serde(flatten)]
    pub api_key: ApiKey,
    /// What its owner presents. It can't be shown again.
    #[serde(serialize_with = "once")]
    #[schema(value_type = String)]
    pub key: SecretText,
}

impl IssuedApiKey {
    fn of(issued: IssuedKey) -> Self {
        Self { api_key: issued.row.into(), key: issued.text }
    }
}

/// Issues a key in a place that the caller was let into.
pub(super) async fn create_in(
    plane: &Management,
    principal: Principal,
    actor: Actor,
    scope: Scope,
    body: CreateApiKey,
) -> Result<HttpResponse, ApiError> {
    must_grant(&principal, body.role)?;
    role_fits(body.role, scope)?;
    let expires_at = body.expires_at.map(|at| future("expires_at", at, actor.now)).transpose()?;
    let new = NewKey { scope, role: body.role, name: body.name, user_id: body.user_id, expires_at };
    let issued = plane
        .database
        .write(concerns(scope), async move |conn: &mut Conn| {
            exists(conn, scope).await?;
            if let Some(user_id) = new.user_id {
                active_user(conn, scope, user_id).await?;
            }
            let issued = IssuedApiKey::of(issue_key(conn, &actor, new).await?);
            record_created(conn, &actor, scope, &issued.api_key).await?;
            Ok::<_, ApiError>(issued)
        })
        .await?;
    let id = issued.api_key.id;
    let location = match scope {
        Scope::Workspace(scope) => {
            format!("/api/v1/workspaces/{}/api-keys/{id}", scope.workspace_id)
        }
        Scope::Platform | Scope::Organization(_) => format!("/api/v1/api-keys/{id}"),
    };
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(issued))
}

async fn list_in(
    plane: &Management,
    scope: Scope,
    query: &ApiKeysQuery,
) -> Result<Paged<ApiKey>, ApiError> {
    let page = page::<ApiKeyId>(query.limit, query.cursor.as_deref())?;
    let filter = ApiKeyFilter { role: query.role, user_id: query.user_id };
    let rows = plane
        .database
        .read(async move |conn: &mut Conn| {
            exists(conn, scope).await?;
            Ok::<_, ApiError>(list_api_keys(conn, scope, filter, page).await?)
        })
        .await?;
    Ok(Paged::of(rows, page, |row| row.id.uuid(), ApiKey::from))
}

async fn get_in(plane: &Management, scope: Scope, id: ApiKeyId) -> Result<ApiKey, ApiError> {
    let row = plane
        .database
        .read(async move |conn: &mut Conn| {
            exists(conn, scope).await?;
            existing(conn, scope, id).await
        })
        .await?;
    Ok(row.into())
}

async fn update_in(
    plane: &Management,
    principal: Principal,
    actor: Actor,
    scope: Scope,
    id: ApiKeyId,
    patch: ApiKeyPatch,
) -> Result<ApiKey, ApiError> {
    plane
        .database
        .write(concerns(scope), async move |conn: &mut Conn| {
            exists(conn, scope).await?;
            let row = existing(conn, scope, id).await?;
            must_grant(&principal, row.role)?;
            let before = ApiKey::from(row);
            let fields = patch.apply(&UpdateApiKey {
                name: before.name.clone(),
                expires_at: before.expires_at,
                disabled: before.disabled,
                role: before.role,
                user_id: before.user_id,
                organization_id: before.organization_id,
                workspace_id: before.workspace_id,
            })?;
            is_for_the_same(&fields, &before)?;
            // An instant that has passed is no reason to refuse another change.
            let expires_at = match fields.expires_at {
                Some(at) if before.expires_at != Some(at) => {
                    Some(future("expires_at", at, actor.now)?)
                }
                other => other,
            };
            let changes = ApiKeyChanges {
                name: fields.name,
                short_key: before.short_key.clone(),
                disabled: fields.disabled,
                expires_at: expires_at.map(|at| at.naive_utc()),
                updated_at: actor.now.naive_utc(),
            };
            let after = ApiKey::from(update_api_key(conn, scope, id, changes).await?);
            record(conn, &actor, scope, "update_api_key", Some(&before), Some(&after)).await?;
            Ok::<_, ApiError>(after)
        })
        .await
}

/// Whoever asks for a key to be another one must not take it for done.
fn is_for_the_same(fields: &UpdateApiKey, before: &ApiKey) -> Result<(), ApiError> {
    let differs = [
        ("role", fields.role != before.role),
        ("user_id", fields.user_id != before.user_id),
        ("organization_id", fields.organization_id != before.organization_id),
        ("workspace_id", fields.workspace_id != before.workspace_id),
    ];
    match differs.into_iter().find(|(_, differs)| *differs) {
        Some((field, _)) => Err(ApiError::field(field, "can't change; issue another key")),
        None => Ok(()),
    }
}

async fn delete_in(
    plane: &Management,
    principal: Principal,
    actor: Actor,
    scope: Scope,
    id: ApiKeyId,
) -> Result<HttpResponse, ApiError> {
    plane
        .database
        .write(concerns(scope), async move |conn: &mut Conn| {
            exists(conn, scope).await?;
            let row = existing(conn, scope, id).await?;
            must_grant(&principal, row.role)?;
            delete_api_key(conn, scope, id, actor.now.naive_utc()).await?;
            record(conn, &actor, scope, "delete_api_key", Some(&row.into()), None).await
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Writes down that a key was made.
pub(super) async fn record_created(
    conn: &mut Conn,
    actor: &Actor,
    scope: Scope,
    key: &ApiKey,
) -> Result<(), ApiError> {
    record(conn, actor, scope, "create_api_key", None, Some(key)).await
}

async fn record(
    conn: &mut Conn,
    actor: &Actor,
    scope: Scope,
    operation: &'static str,
    before: Option<&ApiKey>,
    after: Option<&ApiKey>,
) -> Result<(), ApiError> {
    let event = Event {
        operation,
        resource_type: "api_key",
        resource_id: before.or(after).map(|key| key.id.to_string()).unwrap_or_default(),
        organization_id: scope.organization_id(),
        workspace_id: scope.workspace_id(),
        before: before.map(as_json).transpose()?,
        after: after.map(as_json).transpose()?,
    };
    Ok(audit::record(conn, actor, event).await?)
}

fn concerns(scope: Scope) -> Concerns {
    scope.organization_id().map_or(Concerns::Everybody, Concerns::Organization)
}

/// Whoever can make, change or rotate a key of a role can have that role: so granting is asked for
/// everything that is done to a key.
fn must_grant(principal: &Principal, role: Role) -> Result<(), ApiError> {
    if principal.may_grant(role) {
        return Ok(());
    }
    Err(ApiError::Forbidden {
        code: "role_not_grantable",
        detail: format!(
            "This key can't manage keys of the role {role}. Use a key with api-keys:write whose scope is at least as wide."
        ),
    })
}

fn role_fits(role: Role, scope: Scope) -> Result<(), ApiError> {
    if role.scope() == scope.kind() {
        return Ok(());
    }
    let right: Vec<&str> = Role::ALL
        .into_iter()
        .filter(|role| role.scope() == scope.kind())
        .map(Role::as_str)
        .collect();
    let place = match scope.kind() {
        ScopeKind::Platform => "the platform",
        ScopeKind::Organization => "an organization",
        ScopeKind::Workspace => "a workspace",
    };
    Err(ApiError::field("role", format!("in {place} must be one of {}", right.join(", "))))
}

/// The directory lets no key in whose organization is gone; workspaces, and organizations that a
/// platform key names, have to be looked for.
async fn exists(conn: &mut Conn, scope: Scope) -> Result<(), ApiError> {
    let (found, what) = match scope {
        Scope::Platform => (true, "platform"),
        Scope::Organization(id) => (find_organization(conn, id).await?.is_some(), "organization"),
        Scope::Workspace(scope) => (find_workspace(conn, scope).await?.is_some(), "workspace"),
    };
    if found { Ok(()) } else { Err(ApiError::NotFound(what)) }
}

async fn existing(conn: &mut Conn, scope: Scope, id: ApiKeyId) -> Result<ApiKeyRow, ApiError> {
    find_api_key(conn, scope, id).await?.ok_or(ApiError::NotFound("API key"))
}

async fn active_user(conn: &mut Conn, scope: Scope, id: UserId) -> Result<(), ApiError> {
    let user = match scope.organization_id() {
        Some(organization_id) => find_user(conn, organization_id, id).await?,
        None => None,
    };
    match user.as_ref().map(|user| user.status.as_str()) {
        Some("active") => Ok(()),
        Some(_) => Err(ApiError::field("user_id", format!("the user {id} is deactivated"))),
        None => {
            Err(ApiError::field("user_id", format!("there is no user {id} in this organization")))
        }
    }
}

/// Adds the operations.
pub(super) fn configure(routes: &mut Routes) {
    in_organization::configure(routes);
    in_workspace::configure(routes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_stands_where_it_counts() {
        let organization = Scope::Organization(uuid::Uuid::nil().into());
        assert!(role_fits(Role::OrganizationViewer, organization).is_ok());
        let error = role_fits(Role::GatewayCaller, organization).unwrap_err().to_string();
        assert!(error.contains("ORGANIZATION_ADMIN, ORGANIZATION_VIEWER"), "{error}");
        assert!(role_fits(Role::OrganizationAdmin, Scope::Platform).is_err());
    }
}
