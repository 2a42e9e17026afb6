//! Creates API keys and their credentials, for the API and the command line. Does not check whether the
//! caller may create one.

use chrono::{DateTime, Utc};

use super::Scope;
use crate::audit::Actor;
use crate::crypto::{ApiKeyText, HashError, SecretText, hash_secret, system_random};
use crate::db::api_keys::{ApiKeyRow, CredentialRow, insert_api_key};
use crate::db::{Conn, DbError};
use crate::domain::ids::{ApiKeyId, UserId};
use crate::domain::names::DisplayName;
use crate::domain::permissions::Role;

/// Creating a key failed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// The properties of a key to be created.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Has to be of the role's kind.
    pub scope: Scope,
    pub role: Role,
    pub name: DisplayName,
    /// A user of the scope's organization.
    pub user_id: Option<UserId>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key that was created.
#[derive(Debug)]
pub struct IssuedKey {
    pub row: ApiKeyRow,
    /// The whole key. It is shown once and not stored.
    pub text: SecretText,
}

/// A credential of a key, not stored yet.
#[derive(Debug)]
pub struct IssuedCredential {
    pub row: CredentialRow,
    /// The part of the key that may be shown.
    pub short_key: String,
    /// The whole key. It is shown once and not stored.
    pub text: SecretText,
}

/// Creates a key with its first credential and inserts both.
pub async fn issue_key(
    conn: &mut Conn,
    actor: &Actor,
    new: NewKey,
) -> Result<IssuedKey, IssueError> {
    let id: ApiKeyId = actor.clock.new_id();
    let credential = new_credential(id, new.scope, actor)?;
    let now = actor.now.naive_utc();
    let row = ApiKeyRow {
        id,
        organization_id: new.scope.organization_id(),
        workspace_id: new.scope.workspace_id(),
        user_id: new.user_id,
        name: new.name,
        role: new.role,
        short_key: credential.short_key,
        disabled: false,
        expires_at: new.expires_at.map(|at| at.naive_utc()),
        created_by: actor.principal.and_then(|principal| principal.api_key_id()),
        last_used_at: None,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    insert_api_key(conn, row.clone(), credential.row).await?;
    Ok(IssuedKey { row, text: credential.text })
}

/// Creates another credential for a key, without inserting it.
pub fn new_credential(
    key_id: ApiKeyId,
    scope: Scope,
    actor: &Actor,
) -> Result<IssuedCredential, IssueError> {
    let key = ApiKeyText::generate(&mut system_random).map_err(HashError::from)?;
    let row = CredentialRow {
        lookup_id: key.lookup_id.to_string(),
        api_key_id: key_id,
        organization_id: scope.organization_id(),
        secret_hash: hash_secret(&key.parsed, &mut system_random)?,
        expires_at: None,
        created_at: actor.now.naive_utc(),
    };
    Ok(IssuedCredential { row, short_key: key.short_key, text: key.text })
}
