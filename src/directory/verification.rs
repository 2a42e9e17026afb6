//! What presented secrets have shown of themselves: which is known to match, and how many wrong ones
//! came lately. Kept apart from the entries of keys, which every change nearby has loaded again:
//! whoever was verified must not be lockable out by those who guess after each change, and those who
//! guess get no fresh start by one.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use quick_cache::sync::Cache;

use crate::crypto::{KeyDigest, LookupId};

/// The state of one credential.
#[derive(Default)]
pub(super) struct Verification {
    /// The stored hash that the rest is about.
    pub(super) secret_hash: String,
    /// The digest of the secret that matched it.
    pub(super) known: Option<KeyDigest>,
    /// Wrong secrets since the window began.
    pub(super) failures: u32,
    /// When the first of them came.
    pub(super) window_began: Option<Instant>,
}

/// The states of all credentials in use, bounded in number.
pub(super) struct Verifications(Cache<LookupId, Arc<Mutex<Verification>>>);

impl Verifications {
    pub(super) fn new(capacity: usize) -> Self {
        Self(Cache::new(capacity))
    }

    /// The state of the credential, made where there is none.
    pub(super) fn of(&self, id: LookupId) -> Arc<Mutex<Verification>> {
        if let Some(known) = self.0.get(&id) {
            return known;
        }
        let made = Arc::default();
        match self
            .0
            .get_or_insert_with::<_, std::convert::Infallible>(&id, || Ok(Arc::clone(&made)))
        {
            Ok(kept) => kept,
            Err(never) => match never {},
        }
    }
}
