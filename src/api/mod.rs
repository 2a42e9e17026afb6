//! The management plane, `/api/v1`: one file a resource, with its types, documentation and handlers
//! together.

pub mod access;
pub mod api_keys;
pub mod audit_log;
pub mod body;
pub mod bootstrap;
pub mod client_address;
pub mod error;
pub mod me;
pub mod organizations;
pub mod page;
mod shared;
pub mod users;
pub mod workspaces;

use crate::clock::Clock;
use crate::crypto::keyring_handle::KeyringHandle;
use crate::db::Database;
use crate::directory::Directory;
use client_address::TrustedProxies;

/// What the handlers work with. One for all workers.
pub struct Management {
    /// The source of truth.
    pub database: Database,
    /// For authentication.
    pub directory: Directory,
    /// Opens and wraps data keys.
    pub keyring: KeyringHandle,
    /// What time it is.
    pub clock: Clock,
    /// Whose word about the caller's address counts.
    pub trusted_proxies: TrustedProxies,
}
