//! Authentication: finds the credential in a request's headers, verifies it and makes the principal.

pub mod client_address;
pub mod issue;

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, Utc};

use crate::clock::Clock;
use crate::crypto::{ApiKeyText, KeyFormatError, ParsedApiKey};
use crate::directory::key::{KeyEntry, KeyState, SecretCheck};
use crate::directory::{Directory, Unavailable};
pub use crate::domain::principal::{Credential, Principal};
pub use crate::domain::scope::Scope;

/// Headers that hold nothing but a key. Constants, since a text would be parsed at every lookup.
const BARE_KEYS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
    // Of Azure's SDKs.
    HeaderName::from_static("api-key"),
];

/// Why a request was not authenticated.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("no API key was sent")]
    Missing,
    /// The text begins like an API key and is not one.
    #[error("{0}")]
    Malformed(#[from] KeyFormatError),
    /// There is no such key, or the secret is wrong.
    #[error("the API key is not valid")]
    Unknown,
    #[error("the API key has expired")]
    Expired,
    /// The key was revoked, or the credential replaced by a rotation.
    #[error("the API key was revoked")]
    Revoked,
    #[error("the API key is disabled")]
    Disabled,
    #[error("the user of this API key is deactivated")]
    UserDeactivated,
    #[error("the organization of this API key is suspended")]
    OrganizationSuspended,
    #[error("too many failed attempts with this API key")]
    Limited,
    /// The key cannot be looked up at the moment.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Authenticates a request by its headers. The state of a key and of its organization is only
/// disclosed to callers who present the right secret.
pub async fn authenticate(
    headers: &HeaderMap,
    directory: &Directory,
    clock: &Clock,
) -> Result<Principal, AuthError> {
    let key = presented_key(headers)?;
    let Some(entry) = directory.find_key(key.lookup_id()).await? else {
        return Err(AuthError::Unknown);
    };
    match directory.check_secret(&entry, &key) {
        SecretCheck::Cached | SecretCheck::Verified => {}
        SecretCheck::Wrong => return Err(AuthError::Unknown),
        SecretCheck::Limited => return Err(AuthError::Limited),
    }
    let now = clock.now();
    check_key_state(&entry, now)?;
    directory.note_use(&entry, now);
    Ok(principal(&entry))
}

/// The first Tollgate API key in `Authorization: Bearer` (the scheme in any letter case, RFC 9110,
/// section 11.1), `X-Api-Key`, `x-goog-api-key` and `api-key`. Other credentials in these headers are ignored.
fn presented_key(headers: &HeaderMap) -> Result<ParsedApiKey, AuthError> {
    let bearer = headers.get_all(AUTHORIZATION).filter_map(|value| {
        let (scheme, credential) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim())
    });
    let bare = BARE_KEYS
        .into_iter()
        .flat_map(|name| headers.get_all(name))
        .filter_map(|value| value.to_str().ok().map(str::trim));
    let key = bearer.chain(bare).find(|text| ApiKeyText::has_prefix(text));
    Ok(ApiKeyText::parse(key.ok_or(AuthError::Missing)?)?)
}

/// The first `Authorization: Bearer` whose credential is none of ours.
pub fn bearer_of_others(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get_all(AUTHORIZATION).find(|value| {
        let parts = value.to_str().ok().and_then(|text| text.split_once(' '));
        parts.is_some_and(|(scheme, credential)| {
            let credential = credential.trim();
            scheme.eq_ignore_ascii_case("bearer")
                && !credential.is_empty()
                && !ApiKeyText::has_prefix(credential)
        })
    })
}

fn check_key_state(entry: &KeyEntry, now: DateTime<Utc>) -> Result<(), AuthError> {
    match entry.state {
        KeyState::Active => {}
        KeyState::Revoked => return Err(AuthError::Revoked),
        KeyState::Disabled => return Err(AuthError::Disabled),
        KeyState::UserDeactivated => return Err(AuthError::UserDeactivated),
        KeyState::OrganizationSuspended => return Err(AuthError::OrganizationSuspended),
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
