//! The first organization and keys of an installation.

use super::StartError;
use super::open::Store;
use crate::api::bootstrap as api;
use crate::api::error::ApiError;
use crate::clock::Clock;
use crate::crypto::SecretText;
use crate::domain::names::DisplayName;

pub use api::Bootstrapped;

/// Creates the first organization, its admin key and the platform key. Fails if an organization
/// exists.
pub async fn bootstrap(
    store: &Store,
    clock: &Clock,
    organization: DisplayName,
) -> Result<Bootstrapped, StartError> {
    api::bootstrap(&store.database, clock, organization).await.map_err(|error| match error {
        ApiError::Conflict { .. } => StartError::AlreadyBootstrapped,
        other => StartError::Bootstrap(other.to_string()),
    })
}

/// Revokes every platform key and creates a new one.
pub async fn replace_platform_key(store: &Store, clock: &Clock) -> Result<SecretText, StartError> {
    let replaced = api::replace_platform_key(&store.database, clock).await;
    replaced.map_err(|error| StartError::Bootstrap(error.to_string()))
}
