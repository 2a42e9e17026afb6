//! Results of comparing presented secrets with stored hashes: which digest is known to match, and how
//! many wrong secrets were presented recently.
//!
//! Kept separately from the entries of keys, which are loaded again after every change in their
//! organization. A verified caller must not be locked out by others who guess after such a change,
//! and the change must not reset the count of failures.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use quick_cache::sync::Cache;

use crate::crypto::{KeyDigest, LookupId};

/// The state of one credential.
#[derive(Default)]
pub(super) struct Verification {
    /// The stored hash that the other fields refer to.
    pub(super) secret_hash: String,
    /// The digest of the secret that matched the hash.
    pub(super) verified: Option<KeyDigest>,
    /// Wrong secrets since `window_began`.
    pub(super) failures: u32,
    pub(super) window_began: Option<Instant>,
}

/// The states of the credentials in use, bounded in number.
pub(super) struct Verifications(Cache<LookupId, Arc<Mutex<Verification>>>);

impl Verifications {
    pub(super) fn new(capacity: usize) -> Self {
        Self(Cache::new(capacity))
    }

    /// The state of the credential, created if there is none.
    pub(super) fn get_or_create(&self, id: LookupId) -> Arc<Mutex<Verification>> {
        let Ok(state) = self.0.get_or_insert_with(&id, || Ok::<_, Infallible>(Arc::default()));
        state
    }
}
