//! Changing the master key while serving.

use super::StartError;
use super::open::Store;
use crate::audit::{Actor, Event, record};
use crate::clock::Clock;
use crate::crypto::{KeyringError, KeyringHandle, WrappedDataKey, rewrap_data_key, system_random};
use crate::db::data_keys::{list_wrapped_by_others, update_wrapping};
use crate::db::{ChangeScope, Conn, DbError};

/// Data keys wrapped anew in one transaction: few, so that other writers wait only a moment.
const BATCH: i64 = 50;

/// What a rotation did.
#[derive(Debug)]
pub struct Rotation {
    /// The id of the key that is active now.
    pub master_key_id: String,
    /// How many data keys it wraps that another one wrapped before.
    pub rewrapped: usize,
}

/// Makes a new master key active and wraps every data key with it. The old keys stay in the file:
/// other processes may still hold what they wrapped, and an interrupted rotation is finished by
/// the next.
///
/// Keys in a variable can't be changed from here: there the operator has put the new key in front,
/// and this wraps every data key with it. With nothing left to wrap it says what to do.
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
                rewrap_some(conn, &handle, &clock).await
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

async fn rewrap_some(
    conn: &mut Conn,
    handle: &KeyringHandle,
    clock: &Clock,
) -> Result<usize, StartError> {
    let active = handle.get().active_id().to_owned();
    let rows = list_wrapped_by_others(conn, &active, BATCH).await?;
    let done = rows.len();
    for row in rows {
        let keyring = handle.with_key(&row.master_key_id)?;
        let wrapped = WrappedDataKey { master_key_id: row.master_key_id, sealed: row.wrapped };
        let anew = rewrap_data_key(
            &keyring,
            &wrapped,
            row.workspace_id.uuid(),
            row.id.uuid(),
            &mut system_random,
        )
        .map_err(|error| DbError::Internal(format!("data key {}: {error}", row.id)))?;
        if let Some(anew) = anew {
            let now = clock.now().naive_utc();
            update_wrapping(conn, row.id, anew.master_key_id, anew.sealed, now).await?;
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
