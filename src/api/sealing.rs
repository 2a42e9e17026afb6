//! From a secret's value to its sealed row and back, for the handlers that write secrets or begin
//! to use them. Nothing here answers a request or leaves this room.

use crate::audit::Actor;
use crate::crypto::{
    DataKey, EnvelopeError, KeyringError, KeyringHandle, RandomError, SecretBytes, SecretContext,
    WrappedDataKey, fingerprint, open, seal, system_random, unwrap_data_key, wrap_data_key,
};
use crate::db::Conn;
use crate::db::data_keys::{DataKeyRow, find_data_key, insert_data_key};
use crate::db::secrets::SecretRow;
use crate::domain::ids::{DataKeyId, SecretId};
use crate::domain::scope::WorkspaceScope;

use super::error::ApiError;

/// A value as its row keeps it.
pub(super) struct Sealed {
    /// The ciphertext.
    pub(super) bytes: Vec<u8>,
    /// The value's short keyed mark.
    pub(super) fingerprint: String,
}

/// The workspace's data key, made and wrapped if this is its first use. To be called inside a write
/// transaction.
pub(super) async fn data_key_for_writing(
    conn: &mut Conn,
    keyring: &KeyringHandle,
    actor: &Actor,
    scope: WorkspaceScope,
) -> Result<(DataKeyId, DataKey), ApiError> {
    if let Some(row) = find_data_key(conn, scope).await? {
        let id = row.id;
        return Ok((id, opened(keyring, row)?));
    }
    let id: DataKeyId = actor.clock.new_id();
    let data_key = DataKey::generate(&mut system_random).map_err(no_randomness)?;
    let workspace = scope.workspace_id.uuid();
    // A rotation by another process changes the file before it wraps the data keys that are there:
    // inside a write transaction, either it will see this one or we see its key.
    if let Err(error) = keyring.reload() {
        tracing::warn!(%error, "the master key file can't be read again; using what was read before");
    }
    let wrapped =
        wrap_data_key(&keyring.get(), &data_key, workspace, id.uuid(), &mut system_random)
            .map_err(internal)?;
    let now = actor.now.naive_utc();
    let row = DataKeyRow {
        id,
        organization_id: scope.organization_id,
        workspace_id: scope.workspace_id,
        master_key_id: wrapped.master_key_id,
        wrapped: wrapped.sealed,
        created_at: now,
        updated_at: now,
    };
    insert_data_key(conn, row).await?;
    Ok((id, data_key))
}

/// The workspace's data key, if it has one.
pub(super) async fn data_key_for_reading(
    conn: &mut Conn,
    keyring: &KeyringHandle,
    scope: WorkspaceScope,
) -> Result<Option<DataKey>, ApiError> {
    find_data_key(conn, scope).await?.map(|row| opened(keyring, row)).transpose()
}

/// Seals a value for its place.
pub(super) fn seal_value(
    data_key: &DataKey,
    scope: WorkspaceScope,
    id: SecretId,
    version: i64,
    value: &str,
) -> Result<Sealed, ApiError> {
    let context = context(scope, id, version);
    let bytes = seal(data_key, &context, value.as_bytes(), &mut system_random).map_err(internal)?;
    Ok(Sealed { bytes, fingerprint: fingerprint(data_key, value.as_bytes()) })
}

/// Opens a stored value.
pub(super) fn open_value(
    data_key: &DataKey,
    scope: WorkspaceScope,
    row: &SecretRow,
) -> Result<SecretBytes, ApiError> {
    open(data_key, &context(scope, row.id, row.version), &row.sealed).map_err(|_| {
        ApiError::Conflict {
            code: "secret_unavailable",
            detail: format!("The secret {} does not open; store its value again.", row.name),
        }
    })
}

/// Whether a value can be sent in a header: visible ASCII with spaces only inside (RFC 9110,
/// section 5.5, without what it calls obsolete).
pub(super) fn stands_in_header(value: &[u8]) -> bool {
    value.iter().all(|b| matches!(b, 0x20..=0x7e))
        && value.first().is_some_and(|b| *b != b' ')
        && value.last().is_some_and(|b| *b != b' ')
}

fn opened(keyring: &KeyringHandle, row: DataKeyRow) -> Result<DataKey, ApiError> {
    let keys = keyring.with_key(&row.master_key_id).map_err(|error| match error {
        KeyringError::UnknownKey { id, .. } => ApiError::Conflict {
            code: "master_key_missing",
            detail: format!(
                "The secrets of this workspace are sealed under the master key {id}, which this \
                 server does not have; add it to the master key file."
            ),
        },
        other => ApiError::Internal(other.to_string()),
    })?;
    let wrapped = WrappedDataKey { master_key_id: row.master_key_id, sealed: row.wrapped };
    unwrap_data_key(&keys, &wrapped, row.workspace_id.uuid(), row.id.uuid())
        .map_err(|error| ApiError::Internal(format!("data key {}: {error}", row.id)))
}

fn context(scope: WorkspaceScope, id: SecretId, version: i64) -> SecretContext {
    SecretContext { workspace_id: scope.workspace_id.uuid(), secret_id: id.uuid(), version }
}

fn internal(error: EnvelopeError) -> ApiError {
    ApiError::Internal(error.to_string())
}

fn no_randomness(error: RandomError) -> ApiError {
    ApiError::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_have_no_line_breaks_and_no_outer_spaces() {
        for good in ["sk-1", "Basic abc def", "~", "!"] {
            assert!(stands_in_header(good.as_bytes()), "{good}");
        }
        for bad in ["", " a", "a ", "a\n", "a\r\nb", "a\tb", "schlüssel", "\u{7f}", "\0"] {
            assert!(!stands_in_header(bad.as_bytes()), "{bad:?}");
        }
    }
}
