//! Where an operation takes place. Table functions take one of these instead of loose ids, so that
//! every query is bound to its tenant.

use super::ids::{OrganizationId, WorkspaceId};
use super::permissions::ScopeKind;

/// Inside one workspace. Queries filter on both ids, so a workspace of another organization is not
/// found even if its id is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkspaceScope {
    pub organization_id: OrganizationId,
    /// The workspace in it.
    pub workspace_id: WorkspaceId,
}

/// Where a key's permissions hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The installation, but nothing inside an organization.
    Platform,
    /// One organization and its workspaces.
    Organization(OrganizationId),
    /// One workspace.
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

    /// The organization that it lies in.
    pub fn organization_id(self) -> Option<OrganizationId> {
        match self {
            Self::Platform => None,
            Self::Organization(id) => Some(id),
            Self::Workspace(scope) => Some(scope.organization_id),
        }
    }

    /// The workspace that it is.
    pub fn workspace_id(self) -> Option<WorkspaceId> {
        match self {
            Self::Platform | Self::Organization(_) => None,
            Self::Workspace(scope) => Some(scope.workspace_id),
        }
    }
}
