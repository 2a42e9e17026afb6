//! Who a request was authenticated as.

use crate::domain::ids::{ApiKeyId, OrganizationId, UserId};
use crate::domain::permissions::{Permission, Role, ScopeKind};
use crate::domain::scope::WorkspaceScope;

/// Where a principal's permissions hold.
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
}

/// Who a request was authenticated as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The key that was presented.
    pub key_id: ApiKeyId,
    /// The person whose key it is.
    pub user_id: Option<UserId>,
    /// The key's role.
    pub role: Role,
    /// Where the role holds.
    pub scope: Scope,
}

impl Principal {
    /// Whether the role allows it, somewhere; where is the scope's question.
    pub fn may(&self, permission: Permission) -> bool {
        self.role.may(permission)
    }
}
