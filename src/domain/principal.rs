//! Who a request was authenticated as.

use super::ids::{ApiKeyId, UserId};
use super::permissions::{Permission, Role};
use super::scope::Scope;

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
