//! Scopes. Functions of the tables take a scope instead of separate ids, so that every query is bound
//! to its tenant.

use super::ids::{OrganizationId, WorkspaceId};
use super::permissions::ScopeKind;

/// One workspace. Queries filter on both ids, so a workspace of another organization is not found
/// even if its id is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkspaceScope {
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
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
