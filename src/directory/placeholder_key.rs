//! The cached key that a workspace's placeholders are derived from.

use std::sync::OnceLock;

use zeroize::Zeroizing;

use crate::crypto::{KeyringHandle, WrappedDataKey, unwrap_data_key};
use crate::db::data_keys::{DataKeyRow, find_data_key};
use crate::db::{Conn, DbError};
use crate::domain::scope::{Owner, WorkspaceScope};

/// The key of one workspace: from its data key, or from the master key while it has no data key, that is,
/// no secret.
pub struct PlaceholderKeyEntry {
    pub(super) scope: WorkspaceScope,
    data_key: Option<DataKeyRow>,
    opened: OnceLock<Zeroizing<[u8; 32]>>,
}

/// Loads the workspace's data key, still wrapped.
pub(super) async fn load(
    conn: &mut Conn,
    scope: WorkspaceScope,
) -> Result<Option<PlaceholderKeyEntry>, DbError> {
    let owner = Owner::of(scope.organization_id, Some(scope.workspace_id));
    let data_key = find_data_key(conn, owner).await?;
    Ok(Some(PlaceholderKeyEntry { scope, data_key, opened: OnceLock::new() }))
}

impl PlaceholderKeyEntry {
    /// The key, or why the data key can't be used.
    pub fn open(&self, keyring: &KeyringHandle) -> Result<&[u8; 32], String> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let opened = match &self.data_key {
            Some(row) => {
                let keyring =
                    keyring.with_key(&row.master_key_id).map_err(|error| error.to_string())?;
                let wrapped = WrappedDataKey {
                    master_key_id: row.master_key_id.clone(),
                    sealed: row.wrapped.clone(),
                };
                unwrap_data_key(&keyring, &wrapped, row.owner().uuid(), row.id.uuid())
                    .map_err(|error| error.to_string())?
                    .placeholder_key()
            }
            None => keyring.get().placeholder_key(self.scope.workspace_id.uuid()),
        };
        Ok(self.opened.get_or_init(|| opened))
    }
}
