//! `/workspaces`: the teams of an organization. Its administrators make and delete them; a
//! workspace's own keys see, and its administrators may rename, their own.

use actix_web::http::header::LOCATION;
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
use super::shared::{Conflicts, as_json, or_taken, path_id};
use crate::audit::{self, Actor, Event};
use crate::auth::Scope;
use crate::db::api_keys::{count_live_api_keys, delete_workspace_api_keys};
use crate::db::data_keys::delete_data_key;
use crate::db::model_configurations::delete_workspace_model_configurations;
use crate::db::secrets::delete_workspace_secrets;
use crate::db::workspaces::{
    WorkspaceChanges, WorkspaceRow, delete_workspace as delete_row, find_workspace,
    insert_workspace, list_workspaces as list_rows, update_workspace as update_row,
};
use crate::db::{Concerns, Conn, DbError};
use crate::domain::ids::{OrganizationId, WorkspaceId};
use crate::domain::names::{DisplayName, Handle};
use crate::domain::permissions::Permission;
use crate::domain::scope::WorkspaceScope;

/// A new workspace.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWorkspace {
    /// What people call it.
    #[schema(min_length = 1, max_length = 128, example = "Search team")]
    pub name: DisplayName,
    /// Unique in the organization; made from the name if it is left out.
    #[schema(min_length = 1, max_length = 63, example = "search-team")]
    pub handle: Option<Handle>,
}

/// What may change about a workspace.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateWorkspace {
    /// What people call it.
    #[schema(min_length = 1, max_length = 128)]
    pub name: DisplayName,
    /// Unique in the organization.
    #[schema(min_length = 1, max_length = 63)]
    pub handle: Handle,
}

impl Editable for UpdateWorkspace {
    const READ_ONLY: &'static [&'static str] =
        &["id", "organization_id", "created_at", "updated_at"];
}

/// Named because the documentation takes no generic of our own.
type WorkspacePatch = MergePatch<UpdateWorkspace>;

/// The query of a deletion.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeleteWorkspaceQuery {
    /// Delete it although it has keys that still work, and revoke them.
    #[serde(default)]
    pub force: bool,
}

/// A workspace: a team inside an organization.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// The organization it belongs to.
    pub organization_id: OrganizationId,
    /// What people call it.
    pub name: DisplayName,
    /// Unique in the organization.
    pub handle: Handle,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl From<WorkspaceRow> for Workspace {
    fn from(row: WorkspaceRow) -> Self {
        Self {
            id: row.id,
            organization_id: row.organization_id,
            name: row.name,
            handle: row.handle,
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
    let InOrganization { organization_id, actor, .. } = caller;
    let CreateWorkspace { name, handle } = body.0;
    let handle = match handle {
        Some(handle) => handle,
        None => handle_from(&name).ok_or_else(|| {
            ApiError::field("handle", "must be given, since none can be made from this name")
        })?,
    };
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
    let created = plane
        .database
        .write(Concerns::Organization(organization_id), async move |conn: &mut Conn| {
            insert_workspace(conn, row.clone()).await.map_err(handle_taken)?;
            let created = Workspace::from(row);
            record(conn, &actor, "create_workspace", None, Some(&created)).await?;
            Ok::<_, ApiError>(created)
        })
        .await?;
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("/api/v1/workspaces/{}", created.id)))
        .json(created))
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
    let page = query.0.page::<WorkspaceId>()?;
    let (organization_id, only) = match caller.principal.scope {
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
    responses((status = 200, description = "The workspace as it is now", body = Workspace), Conflicts),
)]
async fn update_workspace(
    caller: InWorkspace<WorkspacesWrite>,
    plane: web::Data<Management>,
    patch: Json<WorkspacePatch>,
) -> Result<web::Json<Workspace>, ApiError> {
    let InWorkspace { scope, actor, .. } = caller;
    let updated = plane
        .database
        .write(Concerns::Organization(scope.organization_id), async move |conn: &mut Conn| {
            let before = Workspace::from(existing(conn, scope).await?);
            let fields = patch.0.apply(&UpdateWorkspace {
                name: before.name.clone(),
                handle: before.handle.clone(),
            })?;
            let changes = WorkspaceChanges {
                name: fields.name,
                handle: fields.handle,
                updated_at: actor.now.naive_utc(),
            };
            let after = update_row(conn, scope, changes).await.map_err(handle_taken)?;
            let after = Workspace::from(after);
            record(conn, &actor, "update_workspace", Some(&before), Some(&after)).await?;
            Ok::<_, ApiError>(after)
        })
        .await?;
    Ok(web::Json(updated))
}

/// Delete a workspace
///
/// Refused while it has keys that are neither revoked nor expired, unless `force` is true, which
/// revokes them. Its model configurations go with it; its secrets and the key that seals them are
/// destroyed.
#[utoipa::path(
    delete,
    path = "/workspaces/{workspace_id}",
    params(DeleteWorkspaceQuery),
    responses((status = 204, description = "The workspace is gone"), Conflicts),
)]
async fn delete_workspace(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    path: web::Path<String>,
    query: Query<DeleteWorkspaceQuery>,
) -> Result<HttpResponse, ApiError> {
    let InOrganization { organization_id, actor, .. } = caller;
    let workspace_id = path_id(&path, "workspace")?;
    let scope = WorkspaceScope { organization_id, workspace_id };
    let force = query.0.force;
    plane
        .database
        .write(Concerns::Organization(organization_id), async move |conn: &mut Conn| {
            let before = Workspace::from(existing(conn, scope).await?);
            let now = actor.now.naive_utc();
            let live = count_live_api_keys(conn, scope, now).await?;
            if live > 0 && !force {
                return Err(ApiError::Conflict {
                    code: "workspace_in_use",
                    detail: format!(
                        "{live} of its API keys still work; revoke them first, or repeat with \
                         '?force=true', which revokes them."
                    ),
                });
            }
            let api_keys = delete_workspace_api_keys(conn, scope, now).await?;
            let configurations = delete_workspace_model_configurations(conn, scope, now).await?;
            let secrets = delete_workspace_secrets(conn, scope).await?;
            delete_data_key(conn, scope).await?;
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

async fn record(
    conn: &mut Conn,
    actor: &Actor,
    operation: &'static str,
    before: Option<&Workspace>,
    after: Option<&Workspace>,
) -> Result<(), ApiError> {
    let either = before.or(after);
    let event = Event {
        operation,
        resource_type: "workspace",
        resource_id: either.map(|one| one.id.to_string()).unwrap_or_default(),
        organization_id: either.map(|one| one.organization_id),
        workspace_id: either.map(|one| one.id),
        before: before.map(as_json).transpose()?,
        after: after.map(as_json).transpose()?,
    };
    Ok(audit::record(conn, actor, event).await?)
}

fn handle_taken(error: DbError) -> ApiError {
    or_taken(
        error,
        "handle_taken",
        "Another workspace of the organization has this handle; give another 'handle'.",
    )
}

/// The name in the letters that a handle may have, with hyphens for the rest. None if the name has
/// no such letters.
fn handle_from(name: &DisplayName) -> Option<Handle> {
    /// What a [`Handle`] holds.
    const MOST: usize = 63;

    let mut handle = String::new();
    for letter in name.as_str().chars().map(|letter| letter.to_ascii_lowercase()) {
        if letter.is_ascii_alphanumeric() {
            handle.push(letter);
        } else if !handle.is_empty() && !handle.ends_with('-') {
            handle.push('-');
        }
    }
    handle.truncate(MOST);
    Handle::parse(handle.trim_end_matches('-')).ok()
}

/// Adds the operations.
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
    fn handles_are_made_from_names() {
        let handle = |name: &str| {
            handle_from(&DisplayName::parse(name).unwrap()).map(|handle| handle.to_string())
        };
        assert_eq!(handle("Search team").as_deref(), Some("search-team"));
        assert_eq!(handle("  R&D / Berlin!  ").as_deref(), Some("r-d-berlin"));
        assert_eq!(handle(&format!("{} b", "a".repeat(62))), Some("a".repeat(62)));
        assert_eq!(handle("名前"), None);
    }
}
