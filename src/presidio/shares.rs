//! How many of the calls each tenant may have at a time, so that none waits for another one's long prompts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use uuid::Uuid;

/// The most calls of one tenant at a time; further ones wait, within their deadlines.
const MAX_CALLS_OF_TENANT: usize = 8;
/// Tenants are forgotten once there are so many, unless they have calls.
const MAX_KNOWN: usize = 1_000;

#[derive(Default)]
pub(super) struct Shares(Mutex<HashMap<Uuid, Arc<Semaphore>>>);

impl Shares {
    /// The tenant's turns.
    pub(super) fn of(&self, tenant: Uuid) -> Arc<Semaphore> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN && !known.contains_key(&tenant) {
            known.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        let new = || Arc::new(Semaphore::new(MAX_CALLS_OF_TENANT));
        Arc::clone(known.entry(tenant).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_have_shares_of_their_own_and_idle_ones_are_forgotten() {
        let shares = Shares::default();
        let busy = shares.of(Uuid::from_u128(0));
        assert!(Arc::ptr_eq(&busy, &shares.of(Uuid::from_u128(0))));
        let _turns = busy.try_acquire_many(MAX_CALLS_OF_TENANT as u32).unwrap();
        assert!(shares.of(Uuid::from_u128(0)).try_acquire().is_err());
        for other in 1..=MAX_KNOWN as u128 {
            assert!(shares.of(Uuid::from_u128(other)).try_acquire().is_ok());
        }
        assert!(shares.0.lock().unwrap().len() <= MAX_KNOWN);
        assert!(shares.of(Uuid::from_u128(0)).try_acquire().is_err());
    }
}
