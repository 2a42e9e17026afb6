//! The data keys of an upstream's secrets: the workspace's, its organization's, or both. Each is unwrapped
//! when the first request needs it.

use std::sync::OnceLock;

use crate::crypto::{DataKey, KeyringHandle, WrappedDataKey, unwrap_data_key};
use crate::db::data_keys::{DataKeyRow, find_data_key};
use crate::db::secrets::SecretRow;
use crate::db::{Conn, DbError};
use crate::domain::ids::{DataKeyId, OrganizationId};
use crate::domain::scope::Owner;

/// The data keys of some secrets.
#[derive(Default)]
pub(super) struct DataKeys(Vec<OwnersKey>);

struct OwnersKey {
    id: DataKeyId,
    owner: Owner,
    wrapped: WrappedDataKey,
    unwrapped: OnceLock<DataKey>,
}

impl DataKeys {
    /// Loads the keys of these secrets of one organization and its workspaces.
    pub(super) async fn load(
        conn: &mut Conn,
        organization_id: OrganizationId,
        secrets: &[SecretRow],
    ) -> Result<Self, DbError> {
        let mut keys: Vec<OwnersKey> = Vec::new();
        for secret in secrets {
            if keys.iter().any(|key| key.id == secret.data_key_id) {
                continue;
            }
            let owner = Owner::of(organization_id, secret.workspace_id);
            if let Some(row) = find_data_key(conn, owner).await? {
                keys.push(OwnersKey::of(row));
            }
        }
        Ok(Self(keys))
    }

    /// The key with this id, or why it can't be used.
    pub(super) fn open(&self, id: DataKeyId, keyring: &KeyringHandle) -> Result<&DataKey, String> {
        let key = self.0.iter().find(|key| key.id == id);
        let key = key.ok_or_else(|| "its data key does not exist".to_owned())?;
        if let Some(unwrapped) = key.unwrapped.get() {
            return Ok(unwrapped);
        }
        let keyring =
            keyring.with_key(&key.wrapped.master_key_id).map_err(|error| error.to_string())?;
        let unwrapped = unwrap_data_key(&keyring, &key.wrapped, key.owner.uuid(), id.uuid())
            .map_err(|error| error.to_string())?;
        Ok(key.unwrapped.get_or_init(|| unwrapped))
    }
}

impl OwnersKey {
    fn of(row: DataKeyRow) -> Self {
        Self {
            id: row.id,
            owner: row.owner(),
            wrapped: WrappedDataKey { master_key_id: row.master_key_id, sealed: row.wrapped },
            unwrapped: OnceLock::new(),
        }
    }
}
