//! `/workspaces`: the teams of an organization. The organization's administrators create and delete
//! them; a workspace's own keys can read it, and its administrators can rename it.

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Management;
use super::access::{
    InOrganization, InWorkspace, OrganizationManage, Permitted, WorkspacesRead, WorkspacesWrite,
};
use super::body::{Editable, Json, MergePatch};
use super::error::ApiError;
use super::page::{PageQuery, Paged};
use super::query::Query;
use super::routes::Routes;
use super::shared::{Audited, Conflicts, as_json, created, or_taken, path_id, record};
use crate::audit::{self, Event};
use crate::auth::Scope;
use crate::db::api_keys::{count_live_api_keys, delete_workspace_api_keys};
use crate::db::data_keys::delete_data_key;
use crate::db::model_configurations::delete_workspace_model_configurations;
use crate::db::provider_settings::delete_workspace_provider_settings;
use crate::db::secrets::delete_workspace_secrets;
use crate::db::workspaces::{
    WorkspaceChanges, WorkspaceRow, delete_workspace as delete_row, find_workspace,
    insert_workspace, list_workspaces as list_rows, update_workspace as update_row,
};
use crate::db::{ChangeScope, Conn, DbError};
use crate::domain::ids::{OrganizationId, WorkspaceId};
use crate::domain::names::{DisplayName, Handle};
use crate::domain::permissions::Permission;
use crate::domain::scope::WorkspaceScope;

/// A new workspace.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Search team", "handle": "search-team"}))]
pub(super) struct CreateWorkspace {
    #[schema(min_length = 1, max_length = 128)]
    pub(super) name: DisplayName,
    /// Unique in the organization; derived from the name if it is left out. A name without a letter or digit
    /// of ASCII needs one.
    #[schema(min_length = 1, max_length = 63)]
    pub(super) handle: Option<Handle>,
}

/// The fields of a workspace that can be set.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkspaceFields {
    #[schema(min_length = 1, max_length = 128)]
    pub(super) name: DisplayName,
    /// Unique in the organization.
    #[schema(min_length = 1, max_length = 63)]
    pub(super) handle: Handle,
}

impl Editable for WorkspaceFields {
    type Shown = Workspace;
}

/// Has a name because utoipa's macros do not take a generic type here.
type WorkspacePatch = MergePatch<WorkspaceFields>;

/// The query of a deletion.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteWorkspaceQuery {
    /// Revoke the keys that are still valid, and delete the workspace.
    #[serde(default)]
    pub(super) force: bool,
}

/// A workspace: a team inside an organization.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Workspace {
    pub(super) id: WorkspaceId,
    pub(super) organization_id: OrganizationId,
    #[serde(flatten)]
    pub(super) fields: WorkspaceFields,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
}

impl Audited for Workspace {
    const TYPE: &'static str = "workspace";

    fn audit_id(&self) -> String {
        self.id.to_string()
    }
}

impl From<WorkspaceRow> for Workspace {
    fn from(row: WorkspaceRow) -> Self {
        Self {
            id: row.id,
            organization_id: row.organization_id,
            fields: WorkspaceFields { name: row.name, handle: row.handle },
            created_at: row.created_at.and_utc(),
            updated_at: row.updated_at.and_utc(),
        }
    }
}

/// Create a workspace
#[utoipa::path(
    post,
    path = "/workspaces",
    responses((status = 201, description = "The workspace", body = Workspace), Conflicts),
)]
async fn create_workspace(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    body: Json<CreateWorkspace>,
) -> Result<HttpResponse, ApiError> {
    let InOrganization { scope: organization_id, actor, .. } = caller;
    let (name, handle) = body.check(|CreateWorkspace { name, handle }| {
        let handle = handle.or_else(|| handle_from(&name)).ok_or_else(|| {
            ApiError::field("handle", "must be given, because none can be derived from this name")
        })?;
        Ok((name, handle))
    })?;
    let now = actor.now.naive_utc();
    let row = WorkspaceRow {
        id: actor.clock.new_id(),
        organization_id,
        name,
        handle,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    let scope = Scope::Workspace(WorkspaceScope { organization_id, workspace_id: row.id });
    let workspace = plane
        .database
        .write(ChangeScope::Organization(organization_id), async move |conn: &mut Conn| {
            insert_workspace(conn, row.clone()).await.map_err(handle_taken)?;
            let workspace = Workspace::from(row);
            record(conn, &actor, scope, "create_workspace", None, Some(&workspace)).await?;
            Ok::<_, ApiError>(workspace)
        })
        .await?;
    Ok(created(format!("/api/v1/workspaces/{}", workspace.id), workspace))
}

/// List workspaces
///
/// An organization's key sees all, oldest first; a workspace's key a list of its own.
#[utoipa::path(
    get,
    path = "/workspaces",
    params(PageQuery),
    responses((status = 200, description = "A page", body = Paged<Workspace>)),
)]
async fn list_workspaces(
    caller: Permitted<WorkspacesRead>,
    plane: web::Data<Management>,
    query: Query<PageQuery>,
) -> Result<web::Json<Paged<Workspace>>, ApiError> {
    let page = query.check(|query| query.page::<WorkspaceId>())?;
    let (organization_id, only) = match caller.scope {
        Scope::Organization(id) => (id, None),
        Scope::Workspace(own) => (own.organization_id, Some(own.workspace_id)),
        Scope::Platform => return Err(ApiError::MissingPermission(Permission::WorkspacesRead)),
    };
    let rows = plane
        .database
        .read(async move |conn: &mut Conn| list_rows(conn, organization_id, only, page).await)
        .await?;
    Ok(web::Json(Paged::of(rows, page, |row| row.id.uuid(), Workspace::from)))
}

/// Read a workspace
#[utoipa::path(
    get,
    path = "/workspaces/{workspace_id}",
    responses((status = 200, description = "The workspace", body = Workspace)),
)]
async fn get_workspace(
    caller: InWorkspace<WorkspacesRead>,
    plane: web::Data<Management>,
) -> Result<web::Json<Workspace>, ApiError> {
    let scope = caller.scope;
    let row = plane.database.read(async move |conn: &mut Conn| existing(conn, scope).await).await?;
    Ok(web::Json(row.into()))
}

/// Update a workspace
///
/// A JSON merge patch.
#[utoipa::path(
    patch,
    path = "/workspaces/{workspace_id}",
    responses((status = 200, description = "The updated workspace", body = Workspace), Conflicts),
)]
async fn update_workspace(
    caller: InWorkspace<WorkspacesWrite>,
    plane: web::Data<Management>,
    patch: Json<WorkspacePatch>,
) -> Result<web::Json<Workspace>, ApiError> {
    let InWorkspace { scope, actor, .. } = caller;
    let patch = patch.valid()?;
    let updated = plane
        .database
        .write(ChangeScope::Organization(scope.organization_id), async move |conn: &mut Conn| {
            let before = Workspace::from(existing(conn, scope).await?);
            let fields = patch.apply(&before.fields)?.valid()?;
            let changes = WorkspaceChanges {
                name: fields.name,
                handle: fields.handle,
                updated_at: actor.now.naive_utc(),
            };
            let after = update_row(conn, scope, changes).await.map_err(handle_taken)?;
            let after = Workspace::from(after);
            let scope = Scope::Workspace(scope);
            record(conn, &actor, scope, "update_workspace", Some(&before), Some(&after)).await?;
            Ok::<_, ApiError>(after)
        })
        .await?;
    Ok(web::Json(updated))
}

/// Delete a workspace
///
/// Refused while it has keys that are neither revoked nor expired, unless `force` is true, which
/// revokes them. Its model configurations, its secrets, the data key of the secrets and its settings of providers are
/// deleted.
#[utoipa::path(
    delete,
    path = "/workspaces/{workspace_id}",
    params(DeleteWorkspaceQuery),
    responses((status = 204, description = "The workspace is deleted"), Conflicts),
)]
async fn delete_workspace(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    path: web::Path<String>,
    query: Query<DeleteWorkspaceQuery>,
) -> Result<HttpResponse, ApiError> {
    let InOrganization { scope: organization_id, actor, .. } = caller;
    let workspace_id = path_id(&path, "workspace")?;
    let scope = WorkspaceScope { organization_id, workspace_id };
    let force = query.valid()?.force;
    plane
        .database
        .write(ChangeScope::Organization(organization_id), async move |conn: &mut Conn| {
            let before = Workspace::from(existing(conn, scope).await?);
            let now = actor.now.naive_utc();
            let live = count_live_api_keys(conn, scope, now).await?;
            if live > 0 && !force {
                return Err(ApiError::Conflict {
                    code: "workspace_in_use",
                    detail: format!(
                        "{live} of its API keys are still valid; revoke them first, or repeat the request \
                         with '?force=true', which revokes them."
                    ),
                });
            }
            let api_keys = delete_workspace_api_keys(conn, scope, now).await?;
            let configurations = delete_workspace_model_configurations(conn, scope, now).await?;
            let secrets = delete_workspace_secrets(conn, scope).await?;
            delete_data_key(conn, scope).await?;
            let provider_settings = delete_workspace_provider_settings(conn, scope).await?;
            delete_row(conn, scope, now).await?;
            let event = Event {
                operation: "delete_workspace",
                resource_type: "workspace",
                resource_id: workspace_id.to_string(),
                organization_id: Some(organization_id),
                workspace_id: Some(workspace_id),
                before: Some(as_json(&before)?),
                after: Some(json!({"deleted": {
                    "api_keys": api_keys,
                    "model_configurations": configurations,
                    "secrets": secrets,
                    "provider_settings": provider_settings,
                }})),
            };
            Ok(audit::record(conn, &actor, event).await?)
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn existing(conn: &mut Conn, scope: WorkspaceScope) -> Result<WorkspaceRow, ApiError> {
    find_workspace(conn, scope).await?.ok_or(ApiError::NotFound("workspace"))
}

fn handle_taken(error: DbError) -> ApiError {
    or_taken(
        error,
        "handle_taken",
        "Another workspace of the organization has this handle; give another 'handle'.",
    )
}

/// The name with lower-case ASCII letters and digits only, and hyphens for everything else. None if it
/// has no such characters.
fn handle_from(name: &DisplayName) -> Option<Handle> {
    /// The longest [`Handle`].
    const MAX_LENGTH: usize = 63;

    let mut handle = String::new();
    for letter in name.as_str().chars().map(|letter| letter.to_ascii_lowercase()) {
        if letter.is_ascii_alphanumeric() {
            handle.push(letter);
        } else if !handle.is_empty() && !handle.ends_with('-') {
            handle.push('-');
        }
    }
    handle.truncate(MAX_LENGTH);
    Handle::parse(handle.trim_end_matches('-')).ok()
}

pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("workspaces")
        .add(__path_create_workspace, create_workspace)
        .add(__path_list_workspaces, list_workspaces)
        .add(__path_get_workspace, get_workspace)
        .add(__path_update_workspace, update_workspace)
        .add(__path_delete_workspace, delete_workspace);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_derived_from_names() {
        let handle = |name: &str| {
            handle_from(&DisplayName::parse(name).unwrap()).map(|handle| handle.to_string())
        };
        assert_eq!(handle("Search team").as_deref(), Some("search-team"));
        assert_eq!(handle("  R&D / Berlin!  ").as_deref(), Some("r-d-berlin"));
        assert_eq!(handle(&format!("{} b", "a".repeat(62))), Some("a".repeat(62)));
        assert_eq!(handle("名前"), None);
    }
}
