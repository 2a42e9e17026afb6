//! `/api-keys` and `/workspaces/{workspace_id}/api-keys`: the keys of an organization and of a workspace,
//! and who may issue, change, rotate and revoke them.

mod operations;
mod rotation;

use actix_web::HttpResponse;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Management;
use super::body::{Editable, Json, MergePatch};
use super::date_time;
use super::error::{ApiError, FieldError};
use super::field_errors::both;
use super::routes::Routes;
use super::shared::{Audited, created, future, once, record};
use crate::audit::Actor;
use crate::auth::issue::{IssuedKey, NewKey, issue_key};
use crate::auth::{Principal, Scope};
use crate::crypto::SecretText;
use crate::db::api_keys::{ApiKeyRow, find_api_key};
use crate::db::organizations::find_organization;
use crate::db::users::find_user;
use crate::db::workspaces::find_workspace;
use crate::db::{ChangeScope, Conn};
use crate::domain::ids::{ApiKeyId, OrganizationId, UserId, WorkspaceId};
use crate::domain::names::DisplayName;
use crate::domain::permissions::{Role, ScopeKind};

/// A new key.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Search service, production", "role": "GATEWAY_CALLER"}))]
pub(super) struct CreateApiKey {
    #[schema(min_length = 1, max_length = 128)]
    pub(super) name: DisplayName,
    /// A workspace role in a workspace, an organization role elsewhere. The caller's own role must be
    /// allowed to grant it.
    pub(super) role: Role,
    /// The user whose key it is; deactivating the user makes the key invalid.
    pub(super) user_id: Option<UserId>,
    /// When it expires; never if this is left out.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub(super) expires_at: Option<DateTime<Utc>>,
}

/// The fields of a key that can be set. Those that can't change after its creation are here so that
/// an attempt to change them is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApiKeyFields {
    #[schema(min_length = 1, max_length = 128)]
    pub(super) name: DisplayName,
    /// When it expires; null for never.
    #[serde(default, deserialize_with = "date_time::optional")]
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) disabled: bool,
    /// Can't change.
    pub(super) role: Role,
    /// The user whose key it is; can't change.
    pub(super) user_id: Option<UserId>,
    /// Can't change; null for platform keys.
    pub(super) organization_id: Option<OrganizationId>,
    /// Can't change; null for keys of the platform or of an organization.
    pub(super) workspace_id: Option<WorkspaceId>,
}

impl Editable for ApiKeyFields {
    type Shown = ApiKey;
}

/// Has a name because utoipa's macros do not take a generic type here.
type ApiKeyPatch = MergePatch<ApiKeyFields>;

/// The query of a list of keys.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ApiKeysQuery {
    /// The largest number of items to return, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub(super) limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    pub(super) cursor: Option<String>,
    /// Only keys of this role.
    pub(super) role: Option<Role>,
    /// Only keys of this user.
    pub(super) user_id: Option<UserId>,
}

/// A key, without its secret.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ApiKey {
    /// Rotation keeps it.
    pub(super) id: ApiKeyId,
    #[serde(flatten)]
    pub(super) fields: ApiKeyFields,
    /// The beginning of its newest credential, by which people recognise it.
    pub(super) short_key: String,
    /// The key that created it; null for the command line.
    pub(super) created_by: Option<ApiKeyId>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
    /// When it was last used, to within some minutes.
    pub(super) last_used_at: Option<DateTime<Utc>>,
}

impl Audited for ApiKey {
    const TYPE: &'static str = "api_key";

    fn audit_id(&self) -> String {
        self.id.to_string()
    }
}

impl From<ApiKeyRow> for ApiKey {
    fn from(row: ApiKeyRow) -> Self {
        Self {
            id: row.id,
            fields: ApiKeyFields {
                name: row.name,
                expires_at: row.expires_at.map(|at| at.and_utc()),
                disabled: row.disabled,
                role: row.role,
                user_id: row.user_id,
                organization_id: row.organization_id,
                workspace_id: row.workspace_id,
            },
            short_key: row.short_key,
            created_by: row.created_by,
            created_at: row.created_at.and_utc(),
            updated_at: row.updated_at.and_utc(),
            last_used_at: row.last_used_at.map(|at| at.and_utc()),
        }
    }
}

/// A key with its secret, which is shown only once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct IssuedApiKey {
    #[serde(flatten)]
    pub(super) api_key: ApiKey,
    /// What its owner sends with requests. It can't be shown again.
    #[serde(serialize_with = "once")]
    #[schema(value_type = String)]
    pub(super) key: SecretText,
}

impl IssuedApiKey {
    fn of(issued: IssuedKey) -> Self {
        Self { api_key: issued.row.into(), key: issued.text }
    }
}

/// Issues a key in a scope that the caller may use.
pub(super) async fn create_in(
    plane: &Management,
    principal: Principal,
    actor: Actor,
    scope: Scope,
    body: Json<CreateApiKey>,
) -> Result<HttpResponse, ApiError> {
    let new = body.check(|CreateApiKey { name, role, user_id, expires_at }| {
        check_grant(&principal, role)?;
        let (expires_at, ()) = both(
            expires_at.map(|at| future("expires_at", at, actor.now)).transpose(),
            check_role_scope(role, scope),
        )?;
        Ok(NewKey { scope, role, name, user_id, expires_at })
    })?;
    let issued = plane
        .database
        .write(change_scope(scope), async move |conn: &mut Conn| {
            check_exists(conn, scope).await?;
            if let Some(user_id) = new.user_id {
                active_user(conn, scope, user_id).await?;
            }
            let issued = IssuedApiKey::of(issue_key(conn, &actor, new).await?);
            record(conn, &actor, scope, "create_api_key", None, Some(&issued.api_key)).await?;
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
    Ok(created(location, issued))
}

fn check_unchangeable(fields: &ApiKeyFields, before: &ApiKeyFields) -> Result<(), ApiError> {
    let differs = [
        ("role", fields.role != before.role),
        ("user_id", fields.user_id != before.user_id),
        ("organization_id", fields.organization_id != before.organization_id),
        ("workspace_id", fields.workspace_id != before.workspace_id),
    ];
    let message = "can't change; issue another key";
    let errors: Vec<FieldError> = differs
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(field, _)| FieldError { field: field.to_owned(), message: message.to_owned() })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(ApiError::Invalid(errors)) }
}

fn change_scope(scope: Scope) -> ChangeScope {
    scope.organization_id().map_or(ChangeScope::Everything, ChangeScope::Organization)
}

/// A caller who can create, change or rotate a key of a role can get that role. So each of these needs
/// the right to grant the role.
fn check_grant(principal: &Principal, role: Role) -> Result<(), ApiError> {
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

fn check_role_scope(role: Role, scope: Scope) -> Result<(), ApiError> {
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

/// Checks that the scope exists. For the key's own organization, authentication has done so; a
/// workspace, or an organization that a platform key names, may be missing.
async fn check_exists(conn: &mut Conn, scope: Scope) -> Result<(), ApiError> {
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

/// Adds the operations, for organizations and for workspaces.
pub(super) fn configure(routes: &mut Routes) {
    operations::configure(routes);
    let rename = |id: &str| id.replace("api_key", "workspace_api_key");
    routes.repeat("/workspaces/{workspace_id}", rename, operations::configure);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_only_valid_in_its_scope() {
        let organization = Scope::Organization(uuid::Uuid::nil().into());
        assert!(check_role_scope(Role::OrganizationViewer, organization).is_ok());
        let error = check_role_scope(Role::GatewayCaller, organization).unwrap_err().to_string();
        assert!(error.contains("ORGANIZATION_ADMIN, ORGANIZATION_VIEWER"), "{error}");
        assert!(check_role_scope(Role::OrganizationAdmin, Scope::Platform).is_err());
    }
}
