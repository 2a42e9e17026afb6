//! Rotating the master key while servers run.

use super::StartError;
use super::open::Store;
use crate::audit::{Actor, Event, record};
use crate::clock::Clock;
use crate::crypto::{KeyringError, KeyringHandle, WrappedDataKey, rewrap_data_key, system_random};
use crate::db::data_keys::{list_wrapped_by_others, update_wrapping};
use crate::db::{ChangeScope, Conn, DbError};

/// Data keys rewrapped in one transaction: few, so that other writers wait only briefly.
const BATCH_SIZE: i64 = 50;

/// The result of a rotation.
#[derive(Debug)]
pub struct Rotation {
    /// The active key.
    pub master_key_id: String,
    /// Data keys that it wraps and another one wrapped before.
    pub rewrapped: usize,
}

/// Creates a new master key, makes it the active one and wraps every data key with it. The old keys stay
/// in the file: other processes may still hold data keys that they wrapped, and the next rotation
/// finishes an interrupted one.
///
/// Keys in a variable can't be changed from here: the operator puts the new key first, and this wraps
/// every data key with it. If no data key is left to wrap, the error says what to do.
pub async fn rotate_master_key(store: &Store, clock: &Clock) -> Result<Rotation, StartError> {
    let rotated = store.keyring.rotate(&mut system_random);
    let (keyring, in_file) = match rotated {
        Err(KeyringError::NotAFile) => (store.keyring.get(), false),
        rotated => (rotated?, true),
    };
    let master_key_id = keyring.active_id().to_owned();
    let mut rewrapped = 0;
    loop {
        let (handle, clock) = (store.keyring.clone(), clock.clone());
        let done = store
            .database
            .write(ChangeScope::Everything, async move |conn: &mut Conn| {
                rewrap_batch(conn, &handle, &clock).await
            })
            .await?;
        if done == 0 {
            break;
        }
        rewrapped += done;
    }
    if rewrapped == 0 && !in_file {
        return Err(KeyringError::NotAFile.into());
    }
    Ok(Rotation { master_key_id, rewrapped })
}

async fn rewrap_batch(
    conn: &mut Conn,
    handle: &KeyringHandle,
    clock: &Clock,
) -> Result<usize, StartError> {
    let active = handle.get().active_id().to_owned();
    let rows = list_wrapped_by_others(conn, &active, BATCH_SIZE).await?;
    let done = rows.len();
    for row in rows {
        let keyring = handle.with_key(&row.master_key_id)?;
        let owner = row.owner();
        let wrapped = WrappedDataKey { master_key_id: row.master_key_id, sealed: row.wrapped };
        let rewrapped =
            rewrap_data_key(&keyring, &wrapped, owner.uuid(), row.id.uuid(), &mut system_random)
                .map_err(|error| DbError::Internal(format!("data key {}: {error}", row.id)))?;
        if let Some(rewrapped) = rewrapped {
            let now = clock.now().naive_utc();
            update_wrapping(conn, row.id, rewrapped.master_key_id, rewrapped.sealed, now).await?;
        }
    }
    if done > 0 {
        record(
            conn,
            &Actor::command_line(clock),
            Event {
                operation: "rotate_master_key",
                resource_type: "master_key",
                resource_id: active,
                organization_id: None,
                workspace_id: None,
                before: None,
                after: Some(serde_json::json!({ "data_keys": done })),
            },
        )
        .await?;
    }
    Ok(done)
}
