//! Who a request was authenticated as.

use super::ids::{ApiKeyId, UserId};
use super::permissions::{Permission, PermissionSet, Role};
use super::scope::Scope;

/// How a request showed who it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// With a Tollgate API key.
    ApiKey(ApiKeyId),
}

/// Who a request was authenticated as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    pub credential: Credential,
    /// The person whose credential it is, if it belongs to one.
    pub user_id: Option<UserId>,
    /// Where the permissions hold.
    pub scope: Scope,
    pub permissions: PermissionSet,
}

impl Principal {
    /// The API key that was presented, if the credential is one.
    pub fn api_key_id(&self) -> Option<ApiKeyId> {
        let Credential::ApiKey(id) = self.credential;
        Some(id)
    }

    /// Whether the principal has the permission within its scope.
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(permission)
    }

    /// Whether the principal may manage API keys of the role within its scope.
    pub fn may_grant(&self, role: Role) -> bool {
        self.permissions.may_grant(self.scope.kind(), role)
    }
}
