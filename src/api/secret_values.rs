//! Encrypts and decrypts the values of secrets, for the handlers that write secrets or begin to use
//! them. Nothing here builds a response.

use crate::audit::Actor;
use crate::crypto::{
    DataKey, EnvelopeError, KeyringError, KeyringHandle, RandomError, SecretBytes, SecretContext,
    WrappedDataKey, fingerprint, open, seal, system_random, unwrap_data_key, wrap_data_key,
};
use crate::db::Conn;
use crate::db::data_keys::{DataKeyRow, find_data_key, insert_data_key};
use crate::db::secrets::SecretRow;
use crate::domain::ids::{DataKeyId, SecretId};
use crate::domain::scope::Owner;

use super::error::ApiError;

pub(super) struct EncryptedValue {
    pub(super) bytes: Vec<u8>,
    /// A short keyed hash of the value.
    pub(super) fingerprint: String,
}

/// The owner's data key, which is created at its first use. To be called inside a write
/// transaction.
pub(super) async fn data_key_for_writing(
    conn: &mut Conn,
    keyring: &KeyringHandle,
    actor: &Actor,
    owner: Owner,
) -> Result<(DataKeyId, DataKey), ApiError> {
    if let Some(row) = find_data_key(conn, owner).await? {
        let id = row.id;
        return Ok((id, unwrap(keyring, row)?));
    }
    let id: DataKeyId = actor.clock.new_id();
    let data_key = DataKey::generate(&mut system_random).map_err(randomness_error)?;
    // A rotation in another process changes the file before it re-wraps the data keys. Inside a write
    // transaction, either the rotation sees this data key, or this process reads the new master key.
    if let Err(error) = keyring.reload() {
        tracing::warn!(%error, "can't reload the master key file; using the master keys loaded before");
    }
    let wrapped =
        wrap_data_key(&keyring.get(), &data_key, owner.uuid(), id.uuid(), &mut system_random)
            .map_err(envelope_error)?;
    let now = actor.now.naive_utc();
    let row = DataKeyRow {
        id,
        organization_id: owner.organization_id(),
        workspace_id: owner.workspace_id(),
        master_key_id: wrapped.master_key_id,
        wrapped: wrapped.sealed,
        created_at: now,
        updated_at: now,
    };
    insert_data_key(conn, row).await?;
    Ok((id, data_key))
}

/// The owner's data key, if it has one.
pub(super) async fn data_key_for_reading(
    conn: &mut Conn,
    keyring: &KeyringHandle,
    owner: Owner,
) -> Result<Option<DataKey>, ApiError> {
    find_data_key(conn, owner).await?.map(|row| unwrap(keyring, row)).transpose()
}

/// Encrypts a value. The owner, the secret and the version are authenticated with it.
pub(super) fn encrypt_value(
    data_key: &DataKey,
    owner: Owner,
    id: SecretId,
    version: i64,
    value: &str,
) -> Result<EncryptedValue, ApiError> {
    let context = context(owner, id, version);
    let bytes =
        seal(data_key, &context, value.as_bytes(), &mut system_random).map_err(envelope_error)?;
    Ok(EncryptedValue { bytes, fingerprint: fingerprint(data_key, value.as_bytes()) })
}

pub(super) fn decrypt_value(data_key: &DataKey, row: &SecretRow) -> Result<SecretBytes, ApiError> {
    open(data_key, &context(row.owner(), row.id, row.version), &row.sealed).map_err(|_| {
        ApiError::Conflict {
            code: "secret_unavailable",
            detail: format!("The secret {} can't be decrypted; store its value again.", row.name),
        }
    })
}

/// Whether a value can be sent in a header: visible ASCII with spaces only inside (RFC 9110,
/// section 5.5, without what it calls obsolete).
pub(super) fn is_header_value(value: &[u8]) -> bool {
    value.iter().all(|b| matches!(b, 0x20..=0x7e))
        && value.first().is_some_and(|b| *b != b' ')
        && value.last().is_some_and(|b| *b != b' ')
}

fn unwrap(keyring: &KeyringHandle, row: DataKeyRow) -> Result<DataKey, ApiError> {
    let keys = keyring.with_key(&row.master_key_id).map_err(|error| match error {
        KeyringError::UnknownKey { id, .. } => ApiError::Conflict {
            code: "master_key_missing",
            detail: format!(
                "These secrets are encrypted under the master key {id}, which this \
                 server does not have; add it to the master key file."
            ),
        },
        other => ApiError::Internal(other.to_string()),
    })?;
    let owner = row.owner();
    let wrapped = WrappedDataKey { master_key_id: row.master_key_id, sealed: row.wrapped };
    unwrap_data_key(&keys, &wrapped, owner.uuid(), row.id.uuid())
        .map_err(|error| ApiError::Internal(format!("data key {}: {error}", row.id)))
}

fn context(owner: Owner, id: SecretId, version: i64) -> SecretContext {
    SecretContext { owner_id: owner.uuid(), secret_id: id.uuid(), version }
}

fn envelope_error(error: EnvelopeError) -> ApiError {
    ApiError::Internal(error.to_string())
}

fn randomness_error(error: RandomError) -> ApiError {
    ApiError::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_have_no_line_breaks_and_no_outer_spaces() {
        for good in ["sk-1", "Basic abc def", "~", "!"] {
            assert!(is_header_value(good.as_bytes()), "{good}");
        }
        for bad in ["", " a", "a ", "a\n", "a\r\nb", "a\tb", "schlüssel", "\u{7f}", "\0"] {
            assert!(!is_header_value(bad.as_bytes()), "{bad:?}");
        }
    }
}
