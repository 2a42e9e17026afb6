//! The cached state of one API key credential.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::last_used::LastNoted;
use super::verification::{Verification, Verifications};
use crate::crypto::{KeyDigester, ParsedApiKey, verify_secret};
use crate::db::{Conn, DbError, api_keys, organizations, users, workspaces};
use crate::domain::ids::{ApiKeyId, OrganizationId, UserId};
use crate::domain::permissions::Role;
use crate::domain::scope::WorkspaceScope;

/// Wrong secrets that are compared for one lookup id within [`FAILURE_WINDOW`].
const MAX_FAILURES: u32 = 20;

const FAILURE_WINDOW: Duration = Duration::from_secs(10);

/// A credential and everything that decides whether it is accepted, from one database snapshot.
/// Readers compare the expiry times with the clock, so an entry does not become wrong with time.
pub struct KeyEntry {
    pub key_id: ApiKeyId,
    pub organization_id: Option<OrganizationId>,
    pub workspace: Option<WorkspaceScope>,
    pub user_id: Option<UserId>,
    pub role: Role,
    pub state: KeyState,
    pub key_expires_at: Option<DateTime<Utc>>,
    /// Set when a rotation replaced this credential.
    pub credential_expires_at: Option<DateTime<Utc>>,
    secret_hash: String,
    pub(super) last_noted: LastNoted,
    verification: OnceLock<Arc<Mutex<Verification>>>,
}

/// Whether a key is accepted, apart from its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    Active,
    /// The key was revoked, or its workspace or organization deleted.
    Revoked,
    Disabled,
    UserDeactivated,
    /// The key itself is valid: 403, not 401.
    OrganizationSuspended,
}

/// The result of comparing a presented secret with the stored hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretCheck {
    /// It matches a digest that was verified before.
    Cached,
    /// It matches the hash, which was computed.
    Verified,
    Wrong,
    /// Not compared: too many wrong secrets were presented recently.
    Limited,
}

impl KeyEntry {
    /// Compares a presented secret. The first use costs one argon2id hash, for which concurrent first
    /// uses wait; every later use costs one keyed digest.
    pub(super) fn check_secret(
        &self,
        key: &ParsedApiKey,
        digester: &KeyDigester,
        verifications: &Verifications,
    ) -> SecretCheck {
        let digest = digester.digest(key);
        let shared = self.verification.get_or_init(|| verifications.get_or_create(key.lookup_id()));
        let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if state.secret_hash != self.secret_hash {
            *state =
                Verification { secret_hash: self.secret_hash.clone(), ..Verification::default() };
        }
        if state.verified.as_ref().is_some_and(|verified| verified.matches(&digest)) {
            return SecretCheck::Cached;
        }
        if state.window_began.is_none_or(|began| began.elapsed() >= FAILURE_WINDOW) {
            state.window_began = Some(Instant::now());
            state.failures = 0;
        }
        if state.failures >= MAX_FAILURES {
            return SecretCheck::Limited;
        }
        if verify_secret(key, &self.secret_hash) {
            state.verified = Some(digest);
            return SecretCheck::Verified;
        }
        state.failures += 1;
        SecretCheck::Wrong
    }
}

/// Loads the entry from one snapshot.
pub(super) async fn load(conn: &mut Conn, lookup_id: String) -> Result<Option<KeyEntry>, DbError> {
    let Some((credential, key)) = api_keys::find_credential(conn, lookup_id).await? else {
        return Ok(None);
    };
    let mut workspace = None;
    let (mut deleted, mut suspended, mut user_deactivated) = (false, false, false);
    if let Some(organization_id) = key.organization_id {
        let organization = organizations::find_organization(conn, organization_id).await?;
        deleted = organization.is_none();
        suspended = organization.is_some_and(|organization| organization.status != "active");
        if let Some(workspace_id) = key.workspace_id {
            let scope = WorkspaceScope { organization_id, workspace_id };
            deleted |= workspaces::find_workspace(conn, scope).await?.is_none();
            workspace = Some(scope);
        }
        if let Some(user_id) = key.user_id {
            let user = users::find_user(conn, organization_id, user_id).await?;
            user_deactivated = user.is_none_or(|user| user.status != "active");
        }
    }
    let state = if key.deleted_at.is_some() || deleted {
        KeyState::Revoked
    } else if key.disabled {
        KeyState::Disabled
    } else if suspended {
        KeyState::OrganizationSuspended
    } else if user_deactivated {
        KeyState::UserDeactivated
    } else {
        KeyState::Active
    };
    Ok(Some(KeyEntry {
        key_id: key.id,
        organization_id: key.organization_id,
        workspace,
        user_id: key.user_id,
        role: key.role,
        state,
        key_expires_at: key.expires_at.map(|at| at.and_utc()),
        credential_expires_at: credential.expires_at.map(|at| at.and_utc()),
        secret_hash: credential.secret_hash,
        last_noted: LastNoted::default(),
        verification: OnceLock::new(),
    }))
}
