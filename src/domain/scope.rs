//! Scopes. Functions of the tables take a scope instead of separate ids, so that every query is bound
//! to its tenant.

use uuid::Uuid;

use super::ids::{OrganizationId, WorkspaceId};
use super::permissions::ScopeKind;

/// One workspace. Queries filter on both ids, so a workspace of another organization is not found
/// even if its id is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkspaceScope {
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
}

/// Whom secrets and settings of providers belong to: an organization as a whole, whose workspaces inherit
/// them, or one workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    Organization(OrganizationId),
    Workspace(WorkspaceScope),
}

impl Owner {
    /// The owner with these ids.
    pub fn of(organization_id: OrganizationId, workspace_id: Option<WorkspaceId>) -> Self {
        match workspace_id {
            Some(workspace_id) => Self::Workspace(WorkspaceScope { organization_id, workspace_id }),
            None => Self::Organization(organization_id),
        }
    }

    /// The organization that it is or belongs to.
    pub fn organization_id(self) -> OrganizationId {
        match self {
            Self::Organization(id) => id,
            Self::Workspace(scope) => scope.organization_id,
        }
    }

    /// The workspace, unless it is an organization.
    pub fn workspace_id(self) -> Option<WorkspaceId> {
        match self {
            Self::Organization(_) => None,
            Self::Workspace(scope) => Some(scope.workspace_id),
        }
    }

    /// The owner's own id, which its encrypted values are bound to.
    pub fn uuid(self) -> Uuid {
        match self {
            Self::Organization(id) => id.uuid(),
            Self::Workspace(scope) => scope.workspace_id.uuid(),
        }
    }
}

impl From<WorkspaceScope> for Owner {
    fn from(scope: WorkspaceScope) -> Self {
        Self::Workspace(scope)
    }
}

impl From<Owner> for Scope {
    fn from(owner: Owner) -> Self {
        match owner {
            Owner::Organization(id) => Self::Organization(id),
            Owner::Workspace(scope) => Self::Workspace(scope),
        }
    }
}

/// Where the permissions of a principal hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The installation, except what is inside organizations.
    Platform,
    /// One organization and its workspaces.
    Organization(OrganizationId),
    Workspace(WorkspaceScope),
}

impl Scope {
    /// The kind of scope.
    pub fn kind(self) -> ScopeKind {
        match self {
            Self::Platform => ScopeKind::Platform,
            Self::Organization(_) => ScopeKind::Organization,
            Self::Workspace(_) => ScopeKind::Workspace,
        }
    }

    /// The organization of the scope.
    pub fn organization_id(self) -> Option<OrganizationId> {
        match self {
            Self::Platform => None,
            Self::Organization(id) => Some(id),
            Self::Workspace(scope) => Some(scope.organization_id),
        }
    }

    /// The workspace of the scope.
    pub fn workspace_id(self) -> Option<WorkspaceId> {
        match self {
            Self::Platform | Self::Organization(_) => None,
            Self::Workspace(scope) => Some(scope.workspace_id),
        }
    }
}
