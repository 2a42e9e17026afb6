//! What the directory knows of one presented credential.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::last_used::Noted;
use super::verification::{Verification, Verifications};
use crate::crypto::{KeyDigester, ParsedApiKey, verify_secret};
use crate::db::{Conn, DbError, api_keys, organizations, users, workspaces};
use crate::domain::ids::{ApiKeyId, OrganizationId, UserId};
use crate::domain::permissions::Role;
use crate::domain::scope::WorkspaceScope;

/// How many wrong secrets one lookup id may be tried with in [`WINDOW`] before hashing stops.
const MOST_FAILURES: u32 = 20;

/// The window in which failures are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// A credential and all that decides whether it counts, as of one database snapshot. Times are
/// compared by the reader, so an entry does not go stale by itself.
pub struct KeyEntry {
    pub key_id: ApiKeyId,
    pub organization_id: Option<OrganizationId>,
    pub workspace: Option<WorkspaceScope>,
    pub user_id: Option<UserId>,
    pub role: Role,
    /// Why the key does not count, apart from time.
    pub refusal: Option<Refusal>,
    pub key_expires_at: Option<DateTime<Utc>>,
    /// When this credential stops because a newer one took its place.
    pub credential_expires_at: Option<DateTime<Utc>>,
    secret_hash: String,
    pub(super) noted: Noted,
    verification: OnceLock<Arc<Mutex<Verification>>>,
}

/// Why a known key does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was revoked, or its workspace or organization deleted.
    Revoked,
    /// It is switched off.
    Disabled,
    /// Its user is deactivated.
    UserDeactivated,
    /// Its organization is suspended. The key itself is good: 403, not 401.
    OrganizationSuspended,
}

/// How a secret compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It matches, and was seen to before.
    Known,
    /// It matches; a hash was computed.
    Verified,
    /// It does not match.
    Wrong,
    /// Too many wrong ones lately: not compared.
    Limited,
}

impl KeyEntry {
    /// Compares a presented secret. One that matched before costs one keyed digest; the first use
    /// costs one argon2id hash, which concurrent first uses share by waiting for it.
    pub(super) fn verify(
        &self,
        key: &ParsedApiKey,
        digester: &KeyDigester,
        verifications: &Verifications,
    ) -> Verdict {
        let digest = digester.digest(key);
        let shared = self.verification.get_or_init(|| verifications.of(key.lookup_id()));
        let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if state.secret_hash != self.secret_hash {
            *state =
                Verification { secret_hash: self.secret_hash.clone(), ..Verification::default() };
        }
        if state.known.as_ref().is_some_and(|known| known.matches(&digest)) {
            return Verdict::Known;
        }
        if state.window_began.is_none_or(|began| began.elapsed() >= WINDOW) {
            state.window_began = Some(Instant::now());
            state.failures = 0;
        }
        if state.failures >= MOST_FAILURES {
            return Verdict::Limited;
        }
        if verify_secret(key, &self.secret_hash) {
            state.known = Some(digest);
            return Verdict::Verified;
        }
        state.failures += 1;
        Verdict::Wrong
    }
}

/// Loads the entry from one snapshot.
pub(super) async fn load(conn: &mut Conn, lookup_id: String) -> Result<Option<KeyEntry>, DbError> {
    let Some((credential, key)) = api_keys::find_credential(conn, lookup_id).await? else {
        return Ok(None);
    };
    let mut refusal = match (key.deleted_at, key.disabled) {
        (Some(_), _) => Some(Refusal::Revoked),
        (None, true) => Some(Refusal::Disabled),
        (None, false) => None,
    };
    let mut workspace = None;
    if let Some(organization_id) = key.organization_id {
        let organization = organizations::find_organization(conn, organization_id).await?;
        let found = match organization.as_ref().map(|row| row.status.as_str()) {
            None => Some(Refusal::Revoked),
            Some("active") => None,
            Some(_) => Some(Refusal::OrganizationSuspended),
        };
        refusal = refusal.or(found);
        if let Some(workspace_id) = key.workspace_id {
            let scope = WorkspaceScope { organization_id, workspace_id };
            workspace = Some(scope);
            if workspaces::find_workspace(conn, scope).await?.is_none() {
                refusal = Some(Refusal::Revoked);
            }
        }
        if let Some(user_id) = key.user_id {
            let user = users::find_user(conn, organization_id, user_id).await?;
            if user.is_none_or(|user| user.status != "active") {
                refusal = refusal.or(Some(Refusal::UserDeactivated));
            }
        }
    }
    Ok(Some(KeyEntry {
        key_id: key.id,
        organization_id: key.organization_id,
        workspace,
        user_id: key.user_id,
        role: key.role,
        refusal,
        key_expires_at: key.expires_at.map(|at| at.and_utc()),
        credential_expires_at: credential.expires_at.map(|at| at.and_utc()),
        secret_hash: credential.secret_hash,
        noted: Noted::default(),
        verification: OnceLock::new(),
    }))
}
