//! Permissions, sets of them, and the roles that name a set when an API key is issued.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::text_enum::text_enum;

text_enum! {
    /// Something a principal may do. The text form is `what:verb`.
    pub enum Permission {
        /// Create, list, read and update any organization, and issue keys in it.
        OrganizationsWrite = "organizations:write",
        /// Read `/metrics` and the details of `/readyz`.
        OperationsRead = "operations:read",
        /// Read one's own organization.
        OrganizationRead = "organization:read",
        /// Change one's own organization; create and delete its workspaces.
        OrganizationManage = "organization:manage",
        /// List and read workspaces.
        WorkspacesRead = "workspaces:read",
        /// Change a workspace's name and handle.
        WorkspacesWrite = "workspaces:write",
        /// List and read users.
        UsersRead = "users:read",
        /// Create, change and deactivate users.
        UsersWrite = "users:write",
        /// List secrets. Their values cannot be read through the API.
        SecretsRead = "secrets:read",
        /// Store and delete secrets.
        SecretsWrite = "secrets:write",
        /// List, read and check model configurations.
        ModelConfigurationsRead = "model-configurations:read",
        /// Change the parts of a model configuration that do not say where requests and secrets go.
        ModelConfigurationsWrite = "model-configurations:write",
        /// Create and delete model configurations, and say where requests and secrets go: provider,
        /// base URL, credential and headers.
        ModelConfigurationsConnect = "model-configurations:connect",
        /// List and read API keys.
        ApiKeysRead = "api-keys:read",
        /// Issue, change, rotate and revoke API keys.
        ApiKeysWrite = "api-keys:write",
        /// Read the audit log.
        AuditLogRead = "audit-log:read",
        /// Read usage, cost and single requests.
        UsageRead = "usage:read",
        /// Call models through the gateway.
        GatewayInvoke = "gateway:invoke",
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
    /// The whole installation, except what is inside organizations.
    Platform,
    /// One organization and all its workspaces.
    Organization,
    Workspace,
}

text_enum! {
    /// Names the permissions and the scope of an API key when it is issued.
    #[derive(Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    pub enum Role {
        /// Manages organizations and operates the installation.
        PlatformAdmin = "PLATFORM_ADMIN",
        /// Manages an organization.
        OrganizationAdmin = "ORGANIZATION_ADMIN",
        /// Reads an organization.
        OrganizationViewer = "ORGANIZATION_VIEWER",
        /// Manages a workspace and may call models.
        WorkspaceAdmin = "WORKSPACE_ADMIN",
        /// Changes the settings of a workspace's model configurations.
        WorkspaceEditor = "WORKSPACE_EDITOR",
        /// Reads a workspace.
        WorkspaceViewer = "WORKSPACE_VIEWER",
        /// An application: may call models only.
        GatewayCaller = "GATEWAY_CALLER",
    }
}

/// The text is not a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such role")]
pub struct UnknownRole;

impl Role {
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
        Self::parse(text).ok_or(UnknownRole)
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
