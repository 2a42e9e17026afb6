//! Roles, what each may do, and who may grant which: holding and granting are separate questions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Something a principal may do. The text form is `what:verb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Permission {
    /// Create, list, read and update any organization, and issue keys in it.
    OrganizationsWrite,
    /// Read `/metrics` and the details of `/readyz`.
    OperationsRead,
    /// Read one's own organization.
    OrganizationRead,
    /// Change one's own organization; create and delete its workspaces.
    OrganizationManage,
    /// List and read workspaces.
    WorkspacesRead,
    /// Change a workspace's name and handle.
    WorkspacesWrite,
    /// List and read users.
    UsersRead,
    /// Create, change and deactivate users.
    UsersWrite,
    /// See which secrets there are. Their values are readable by nobody.
    SecretsRead,
    /// Store and delete secrets.
    SecretsWrite,
    /// List, read and check model configurations.
    ModelConfigurationsRead,
    /// Change those parts of a model configuration that do not say where requests and secrets go.
    ModelConfigurationsWrite,
    /// Create and delete model configurations, and say where requests and secrets go: provider,
    /// base URL, credential and headers.
    ModelConfigurationsConnect,
    /// List and read API keys.
    ApiKeysRead,
    /// Issue, change, rotate and revoke API keys.
    ApiKeysWrite,
    /// Read the audit log.
    AuditLogRead,
    /// Read what was used and spent, and the requests one by one.
    UsageRead,
    /// Call models through the gateway.
    GatewayInvoke,
}

impl Permission {
    /// The text form, as `GET /api/v1/me` and error messages show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrganizationsWrite => "organizations:write",
            Self::OperationsRead => "operations:read",
            Self::OrganizationRead => "organization:read",
            Self::OrganizationManage => "organization:manage",
            Self::WorkspacesRead => "workspaces:read",
            Self::WorkspacesWrite => "workspaces:write",
            Self::UsersRead => "users:read",
            Self::UsersWrite => "users:write",
            Self::SecretsRead => "secrets:read",
            Self::SecretsWrite => "secrets:write",
            Self::ModelConfigurationsRead => "model-configurations:read",
            Self::ModelConfigurationsWrite => "model-configurations:write",
            Self::ModelConfigurationsConnect => "model-configurations:connect",
            Self::ApiKeysRead => "api-keys:read",
            Self::ApiKeysWrite => "api-keys:write",
            Self::AuditLogRead => "audit-log:read",
            Self::UsageRead => "usage:read",
            Self::GatewayInvoke => "gateway:invoke",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a key reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScopeKind {
    /// The whole installation, but nothing inside an organization.
    Platform,
    /// One organization and all its workspaces.
    Organization,
    /// One workspace.
    Workspace,
}

/// What a key is for; its permissions follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// Runs the installation: organizations and operations.
    PlatformAdmin,
    /// Runs an organization.
    OrganizationAdmin,
    /// Sees an organization.
    OrganizationViewer,
    /// Runs a workspace, and may call models.
    WorkspaceAdmin,
    /// Tunes a workspace's model configurations.
    WorkspaceEditor,
    /// Sees a workspace.
    WorkspaceViewer,
    /// An application: may call models and nothing else.
    GatewayCaller,
}

/// The text is not a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such role")]
pub struct UnknownRole;

impl Role {
    /// Every role.
    pub const ALL: [Role; 7] = [
        Self::PlatformAdmin,
        Self::OrganizationAdmin,
        Self::OrganizationViewer,
        Self::WorkspaceAdmin,
        Self::WorkspaceEditor,
        Self::WorkspaceViewer,
        Self::GatewayCaller,
    ];

    /// The text form, as the API and the database hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PlatformAdmin => "PLATFORM_ADMIN",
            Self::OrganizationAdmin => "ORGANIZATION_ADMIN",
            Self::OrganizationViewer => "ORGANIZATION_VIEWER",
            Self::WorkspaceAdmin => "WORKSPACE_ADMIN",
            Self::WorkspaceEditor => "WORKSPACE_EDITOR",
            Self::WorkspaceViewer => "WORKSPACE_VIEWER",
            Self::GatewayCaller => "GATEWAY_CALLER",
        }
    }

    /// The scope that keys of this role have.
    pub fn scope(self) -> ScopeKind {
        match self {
            Self::PlatformAdmin => ScopeKind::Platform,
            Self::OrganizationAdmin | Self::OrganizationViewer => ScopeKind::Organization,
            Self::WorkspaceAdmin
            | Self::WorkspaceEditor
            | Self::WorkspaceViewer
            | Self::GatewayCaller => ScopeKind::Workspace,
        }
    }

    /// What a key of this role may do, within its scope.
    pub fn permissions(self) -> &'static [Permission] {
        use Permission::*;
        match self {
            Self::PlatformAdmin => &[OrganizationsWrite, OperationsRead, AuditLogRead, UsageRead],
            Self::OrganizationAdmin => &[
                OrganizationRead,
                OrganizationManage,
                WorkspacesRead,
                WorkspacesWrite,
                UsersRead,
                UsersWrite,
                SecretsRead,
                SecretsWrite,
                ModelConfigurationsRead,
                ModelConfigurationsWrite,
                ModelConfigurationsConnect,
                ApiKeysRead,
                ApiKeysWrite,
                AuditLogRead,
                UsageRead,
            ],
            Self::OrganizationViewer => &[
                OrganizationRead,
                WorkspacesRead,
                UsersRead,
                SecretsRead,
                ModelConfigurationsRead,
                ApiKeysRead,
                AuditLogRead,
                UsageRead,
            ],
            Self::WorkspaceAdmin => &[
                WorkspacesRead,
                WorkspacesWrite,
                SecretsRead,
                SecretsWrite,
                ModelConfigurationsRead,
                ModelConfigurationsWrite,
                ModelConfigurationsConnect,
                ApiKeysRead,
                ApiKeysWrite,
                AuditLogRead,
                UsageRead,
                GatewayInvoke,
            ],
            Self::WorkspaceEditor => &[
                WorkspacesRead,
                SecretsRead,
                ModelConfigurationsRead,
                ModelConfigurationsWrite,
                ApiKeysRead,
                UsageRead,
            ],
            Self::WorkspaceViewer => {
                &[WorkspacesRead, SecretsRead, ModelConfigurationsRead, ApiKeysRead, UsageRead]
            }
            Self::GatewayCaller => &[GatewayInvoke],
        }
    }

    /// Whether a key of this role may do it.
    pub fn may(self, permission: Permission) -> bool {
        self.permissions().contains(&permission)
    }

    /// Whether a key of this role may issue, change, rotate or revoke keys of the other role, in
    /// any place its own scope covers.
    pub fn may_grant(self, other: Role) -> bool {
        match self {
            Self::PlatformAdmin => true,
            Self::OrganizationAdmin => other.scope() != ScopeKind::Platform,
            Self::WorkspaceAdmin => other.scope() == ScopeKind::Workspace,
            Self::OrganizationViewer
            | Self::WorkspaceEditor
            | Self::WorkspaceViewer
            | Self::GatewayCaller => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_workspace_admins_and_callers_may_invoke() {
        let invokers: Vec<Role> =
            Role::ALL.into_iter().filter(|role| role.may(Permission::GatewayInvoke)).collect();
        assert_eq!(invokers, [Role::WorkspaceAdmin, Role::GatewayCaller]);
    }

    #[test]
    fn nobody_grants_beyond_their_scope() {
        for granter in Role::ALL {
            for granted in Role::ALL {
                let wider = (granted.scope() as u8) < (granter.scope() as u8);
                assert!(!(wider && granter.may_grant(granted)), "{granter} grants {granted}");
            }
        }
        assert!(!Role::OrganizationViewer.may_grant(Role::GatewayCaller));
        assert!(Role::OrganizationAdmin.may_grant(Role::WorkspaceAdmin));
    }

    #[test]
    fn text_forms_round_trip() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
    }
}
