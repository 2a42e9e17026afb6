//! Making keys: the one place that a credential comes from, for the API and the command line alike.
//! Who may have one made is not asked here.

use chrono::{DateTime, Utc};

use super::Scope;
use crate::audit::Actor;
use crate::crypto::{ApiKeyText, HashError, SecretText, hash_secret, system_random};
use crate::db::api_keys::{ApiKeyRow, CredentialRow, insert_api_key};
use crate::db::{Conn, DbError};
use crate::domain::ids::{ApiKeyId, UserId};
use crate::domain::names::DisplayName;
use crate::domain::permissions::Role;

/// No key was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// It could not be stored.
    #[error(transparent)]
    Database(#[from] DbError),
    /// It could not be made.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// What a key is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Where it counts; the role must fit.
    pub scope: Scope,
    pub role: Role,
    pub name: DisplayName,
    /// The person whose key it is, of the scope's organization.
    pub user_id: Option<UserId>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key that was made, and the one chance to show it.
#[derive(Debug)]
pub struct IssuedKey {
    /// As it is stored.
    pub row: ApiKeyRow,
    /// What its owner presents.
    pub text: SecretText,
}

/// A fresh credential for a key, not stored yet.
#[derive(Debug)]
pub struct IssuedCredential {
    /// What is stored of it.
    pub row: CredentialRow,
    /// How it may be shown.
    pub short_key: String,
    /// What its owner presents.
    pub text: SecretText,
}

/// Makes a key with its first credential and stores both in the open transaction.
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

/// Makes another credential for a key.
pub fn new_credential(
    key_id: ApiKeyId,
    scope: Scope,
    actor: &Actor,
) -> Result<IssuedCredential, IssueError> {
    let made = ApiKeyText::generate(&mut system_random).map_err(HashError::from)?;
    let row = CredentialRow {
        lookup_id: made.lookup_id.to_string(),
        api_key_id: key_id,
        organization_id: scope.organization_id(),
        secret_hash: hash_secret(&made.parsed, &mut system_random)?,
        expires_at: None,
        created_at: actor.now.naive_utc(),
    };
    Ok(IssuedCredential { row, short_key: made.short_key, text: made.text })
}
