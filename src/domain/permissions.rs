//! Permissions, sets of them, and the roles that name a set when an API key is issued.

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
    /// List secrets. Their values cannot be read through the API.
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
    /// Every permission, in the order of the declaration.
    pub const ALL: [Permission; 18] = [
        Self::OrganizationsWrite,
        Self::OperationsRead,
        Self::OrganizationRead,
        Self::OrganizationManage,
        Self::WorkspacesRead,
        Self::WorkspacesWrite,
        Self::UsersRead,
        Self::UsersWrite,
        Self::SecretsRead,
        Self::SecretsWrite,
        Self::ModelConfigurationsRead,
        Self::ModelConfigurationsWrite,
        Self::ModelConfigurationsConnect,
        Self::ApiKeysRead,
        Self::ApiKeysWrite,
        Self::AuditLogRead,
        Self::UsageRead,
        Self::GatewayInvoke,
    ];

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

/// What a principal may do within its scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PermissionSet(u32);

impl PermissionSet {
    /// A set of these permissions.
    pub const fn of(permissions: &[Permission]) -> Self {
        let (mut bits, mut rest) = (0, permissions);
        while let [first, others @ ..] = rest {
            bits |= 1 << *first as u32;
            rest = others;
        }
        Self(bits)
    }

    /// Whether the set has the permission.
    pub fn contains(self, permission: Permission) -> bool {
        self.0 & 1 << permission as u32 != 0
    }

    /// The permissions, in the order of [`Permission::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| self.contains(*permission))
    }

    /// Whether a principal with these permissions in a scope of this kind may issue, change, rotate
    /// or revoke API keys of the role, in any place that its scope covers: only roles whose scope is
    /// not wider than its own.
    pub fn may_grant(self, scope: ScopeKind, role: Role) -> bool {
        let manages_keys = self.contains(Permission::ApiKeysWrite)
            || self.contains(Permission::OrganizationsWrite);
        manages_keys && scope <= role.scope()
    }
}

/// How far a credential reaches, from the widest scope to the narrowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScopeKind {
    /// The whole installation, but nothing inside an organization.
    Platform,
    /// One organization and all its workspaces.
    Organization,
    /// One workspace.
    Workspace,
}

/// Names the permissions and the scope of an API key when it is issued.
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

    /// What a key of this role may do within its scope.
    pub fn permissions(self) -> PermissionSet {
        use Permission::*;
        PermissionSet::of(match self {
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
        })
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
    fn a_set_has_the_permissions_that_it_is_made_of() {
        let set = PermissionSet::of(&[Permission::GatewayInvoke, Permission::UsersRead]);
        let all: Vec<Permission> = set.iter().collect();
        assert_eq!(all, [Permission::UsersRead, Permission::GatewayInvoke]);
        assert_eq!(PermissionSet::of(&Permission::ALL).iter().count(), Permission::ALL.len());
        assert_eq!(PermissionSet::default().iter().count(), 0);
    }

    #[test]
    fn only_workspace_admins_and_callers_may_invoke() {
        let may_invoke = |role: &Role| role.permissions().contains(Permission::GatewayInvoke);
        let roles: Vec<Role> = Role::ALL.into_iter().filter(may_invoke).collect();
        assert_eq!(roles, [Role::WorkspaceAdmin, Role::GatewayCaller]);
    }

    #[test]
    fn roles_grant_no_wider_scope_than_their_own() {
        let may_grant =
            |granter: Role, role: Role| granter.permissions().may_grant(granter.scope(), role);
        for granter in Role::ALL {
            let granted: Vec<Role> =
                Role::ALL.into_iter().filter(|role| may_grant(granter, *role)).collect();
            let expected = match granter {
                Role::PlatformAdmin => &Role::ALL[..],
                Role::OrganizationAdmin => &Role::ALL[1..],
                Role::WorkspaceAdmin => &Role::ALL[3..],
                _ => &[],
            };
            assert_eq!(granted, expected, "{granter}");
        }
    }

    #[test]
    fn text_forms_round_trip() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
    }
}
