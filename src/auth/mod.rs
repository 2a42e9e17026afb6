//! From a credential to a principal: extraction, verification, and why not.

pub mod issue;

use actix_web::http::header::HeaderMap;
use chrono::{DateTime, Utc};

use crate::clock::Clock;
use crate::crypto::{ApiKeyText, KeyFormatError, ParsedApiKey};
use crate::directory::key::{KeyEntry, Refusal, Verdict};
use crate::directory::{Directory, Unavailable};
pub use crate::domain::principal::{Credential, Principal};
pub use crate::domain::scope::Scope;

/// Why a request has no principal.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No credential of ours in any of the three headers.
    #[error("no API key was sent")]
    Missing,
    /// It has our prefix but is not one of our keys by form.
    #[error("{0}")]
    Malformed(#[from] KeyFormatError),
    /// No such key, or the secret is wrong.
    #[error("the API key is not valid")]
    Unknown,
    /// Its time is over.
    #[error("the API key has expired")]
    Expired,
    /// It was revoked, or replaced by rotation.
    #[error("the API key was revoked")]
    Revoked,
    /// It is switched off.
    #[error("the API key is disabled")]
    Disabled,
    /// Its user is deactivated.
    #[error("the user of this API key is deactivated")]
    UserDeactivated,
    /// Its organization is suspended.
    #[error("the organization of this API key is suspended")]
    OrganizationSuspended,
    /// Too many wrong secrets for this key lately.
    #[error("too many failed attempts with this API key")]
    Limited,
    /// Nobody can tell at the moment.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Finds out who sent the headers. Suspension of the organization is told only to holders of a
/// good key.
pub async fn authenticate(
    headers: &HeaderMap,
    directory: &Directory,
    clock: &Clock,
) -> Result<Principal, AuthError> {
    let key = presented_key(headers)?;
    let Some(entry) = directory.find_key(key.lookup_id()).await? else {
        return Err(AuthError::Unknown);
    };
    match directory.verify(&entry, &key) {
        Verdict::Known | Verdict::Verified => {}
        Verdict::Wrong => return Err(AuthError::Unknown),
        Verdict::Limited => return Err(AuthError::Limited),
    }
    let now = clock.now();
    standing(&entry, now)?;
    directory.note_use(&entry, now);
    Ok(principal(&entry))
}

/// The first of our keys in `Authorization: Bearer` (the scheme in any case, RFC 9110 section
/// 11.1), `X-Api-Key` and `x-goog-api-key`. A value in one of them that is not ours does not hide
/// a key of ours in the next.
fn presented_key(headers: &HeaderMap) -> Result<ParsedApiKey, AuthError> {
    let bearer = headers.get_all("authorization").filter_map(|value| {
        let (scheme, credential) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim())
    });
    let bare = ["x-api-key", "x-goog-api-key"]
        .into_iter()
        .flat_map(|name| headers.get_all(name))
        .filter_map(|value| value.to_str().ok().map(str::trim));
    let key = bearer.chain(bare).find(|text| ApiKeyText::is_ours(text));
    Ok(ApiKeyText::parse(key.ok_or(AuthError::Missing)?)?)
}

fn standing(entry: &KeyEntry, now: DateTime<Utc>) -> Result<(), AuthError> {
    match entry.refusal {
        None => {}
        Some(Refusal::Revoked) => return Err(AuthError::Revoked),
        Some(Refusal::Disabled) => return Err(AuthError::Disabled),
        Some(Refusal::UserDeactivated) => return Err(AuthError::UserDeactivated),
        Some(Refusal::OrganizationSuspended) => return Err(AuthError::OrganizationSuspended),
    }
    if entry.key_expires_at.is_some_and(|at| at <= now) {
        return Err(AuthError::Expired);
    }
    if entry.credential_expires_at.is_some_and(|at| at <= now) {
        return Err(AuthError::Revoked);
    }
    Ok(())
}

fn principal(entry: &KeyEntry) -> Principal {
    Principal {
        credential: Credential::ApiKey(entry.key_id),
        user_id: entry.user_id,
        permissions: entry.role.permissions(),
        scope: match (entry.organization_id, entry.workspace) {
            (_, Some(scope)) => Scope::Workspace(scope),
            (Some(id), None) => Scope::Organization(id),
            (None, None) => Scope::Platform,
        },
    }
}
