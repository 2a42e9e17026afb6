//! Targets that failed are left out of chains for a while, on this process. When the time is over one
//! request tries the target again, and the others wait for what becomes of it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::ids::WorkspaceId;
use crate::domain::provider::UpstreamId;

/// After the first failure; twice as long after each further one.
const FIRST: Duration = Duration::from_secs(1);
/// After many failures.
const LONGEST: Duration = Duration::from_secs(30);
/// A credential that was refused stays so until somebody changes it.
const REFUSED_CREDENTIAL: Duration = Duration::from_secs(60);
/// The longest time that an upstream's `Retry-After` is heeded.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);
/// How long the others wait for the request that tries a target again.
const PROBE: Duration = Duration::from_secs(10);
/// Targets remembered. Beyond that, those whose time is over are forgotten.
const MAX_TARGETS: usize = 10_000;

/// A target, as one workspace uses it. Without a model, all its models: the credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CoolDownKey {
    pub workspace_id: WorkspaceId,
    pub upstream: UpstreamId,
    pub model: Option<String>,
}

/// What an upstream did that cools a target down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It answered with this status, and may have said when to come back.
    Status { status: u16, retry_after: Option<Duration> },
    /// It did not answer.
    NoAnswer,
}

/// Why a target is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooling {
    pub left: Duration,
    /// The upstream limits the rate.
    pub is_rate: bool,
}

#[derive(Debug)]
struct State {
    until: DateTime<Utc>,
    failures: u32,
    is_rate: bool,
}

/// The targets that failed lately.
#[derive(Debug, Default)]
pub struct CoolDowns(Mutex<HashMap<CoolDownKey, State>>);

impl CoolDowns {
    /// Whether the target has to be left out now. If its time is over, this request tries it.
    pub fn check(&self, key: &CoolDownKey, now: DateTime<Utc>) -> Option<Cooling> {
        let mut all = self.all();
        if all.is_empty() {
            return None;
        }
        let credential = CoolDownKey { model: None, ..key.clone() };
        let keys = [&credential, key];
        let cooling = keys.into_iter().filter_map(|key| all.get(key)).filter(|one| one.until > now);
        let longest = cooling.max_by_key(|one| one.until);
        if let Some(longest) = longest {
            return Some(Cooling {
                left: (longest.until - now).to_std().unwrap_or_default(),
                is_rate: longest.is_rate,
            });
        }
        for key in keys {
            if let Some(state) = all.get_mut(key) {
                state.until = now + PROBE;
            }
        }
        None
    }

    /// The target has answered.
    pub fn clear(&self, key: &CoolDownKey) {
        let mut all = self.all();
        if !all.is_empty() {
            all.remove(key);
            all.remove(&CoolDownKey { model: None, ..key.clone() });
        }
    }

    /// The target has failed. What says nothing of the target's state (404, or another mistake of the
    /// caller) cools nothing.
    pub fn failed(&self, key: &CoolDownKey, failure: Failure, now: DateTime<Utc>) {
        let (key, least, is_rate) = match failure {
            Failure::Status { status: 401..=403, .. } => {
                (CoolDownKey { model: None, ..key.clone() }, REFUSED_CREDENTIAL, false)
            }
            Failure::Status { status: 429, retry_after } => {
                (key.clone(), retry_after.unwrap_or(FIRST), true)
            }
            Failure::Status { status: 408 | 500..=599, retry_after } => {
                (key.clone(), retry_after.unwrap_or(FIRST), false)
            }
            Failure::Status { .. } => return,
            Failure::NoAnswer => (key.clone(), FIRST, false),
        };
        let mut all = self.all();
        if all.len() >= MAX_TARGETS && !all.contains_key(&key) {
            all.retain(|_, state| state.until > now);
            if all.len() >= MAX_TARGETS {
                return;
            }
        }
        let state = all.entry(key).or_insert(State { until: now, failures: 0, is_rate });
        let growing = FIRST.saturating_mul(1 << state.failures.min(10)).min(LONGEST);
        let time = least.min(LONGEST_RETRY_AFTER).max(growing);
        // A probe's own deadline is no cool-down.
        let earlier = if state.failures == 0 { now } else { state.until.min(now + time) };
        state.until = earlier.max(now + time);
        state.failures = state.failures.saturating_add(1);
        state.is_rate = is_rate;
    }

    fn all(&self) -> MutexGuard<'_, HashMap<CoolDownKey, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::provider::Provider;

    fn key(model: &str) -> CoolDownKey {
        CoolDownKey {
            workspace_id: WorkspaceId::from(uuid::Uuid::from_u128(1)),
            upstream: UpstreamId::Provider(Provider::Openai),
            model: Some(model.to_owned()),
        }
    }

    fn status(status: u16) -> Failure {
        Failure::Status { status, retry_after: None }
    }

    #[test]
    fn one_request_tries_again_when_the_time_is_over() {
        let (downs, now) = (CoolDowns::default(), DateTime::UNIX_EPOCH);
        assert_eq!(downs.check(&key("a"), now), None);
        downs.failed(&key("a"), status(500), now);
        assert_eq!(downs.check(&key("a"), now), Some(Cooling { left: FIRST, is_rate: false }));
        assert_eq!(downs.check(&key("b"), now), None);
        let later = now + FIRST;
        assert_eq!(downs.check(&key("a"), later), None, "the probe");
        assert!(downs.check(&key("a"), later).is_some(), "the others wait");
        downs.failed(&key("a"), status(500), later);
        assert_eq!(downs.check(&key("a"), later).unwrap().left, FIRST * 2);
        downs.clear(&key("a"));
        assert_eq!(downs.check(&key("a"), later), None);
    }

    #[test]
    fn the_upstream_says_how_long() {
        let (downs, now) = (CoolDowns::default(), DateTime::UNIX_EPOCH);
        let limited = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            Failure::Status { status: 429, retry_after }
        };
        downs.failed(&key("a"), limited(20), now);
        let cooling = downs.check(&key("a"), now).unwrap();
        assert_eq!(cooling, Cooling { left: Duration::from_secs(20), is_rate: true });
        downs.failed(&key("a"), limited(1_000_000), now);
        assert_eq!(downs.check(&key("a"), now).unwrap().left, LONGEST_RETRY_AFTER);
    }

    #[test]
    fn a_refused_credential_cools_all_models_and_a_mistake_none() {
        let (downs, now) = (CoolDowns::default(), DateTime::UNIX_EPOCH);
        for harmless in [400, 404, 413, 422] {
            downs.failed(&key("a"), status(harmless), now);
        }
        assert_eq!(downs.check(&key("a"), now), None);
        downs.failed(&key("a"), status(401), now);
        assert_eq!(downs.check(&key("b"), now).unwrap().left, REFUSED_CREDENTIAL);
        let other = WorkspaceId::from(uuid::Uuid::from_u128(2));
        assert_eq!(downs.check(&CoolDownKey { workspace_id: other, ..key("b") }, now), None);
    }

    #[test]
    fn few_targets_are_remembered() {
        let (downs, now) = (CoolDowns::default(), DateTime::UNIX_EPOCH);
        for number in 0..MAX_TARGETS + 10 {
            downs.failed(&key(&number.to_string()), Failure::NoAnswer, now);
        }
        assert_eq!(downs.all().len(), MAX_TARGETS);
        downs.failed(&key("later"), Failure::NoAnswer, now + LONGEST);
        assert_eq!(downs.all().len(), 1);
    }
}
