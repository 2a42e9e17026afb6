//! Targets that failed are left out of chains for a while, on this process. When the time is over one
//! request tries the target again, and until it has an answer the others leave the target out.

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
/// How long the others leave a target out that a request tries again.
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

impl CoolDownKey {
    fn of_credential(&self) -> Self {
        Self { model: None, ..self.clone() }
    }
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
    /// Until when a request that tries the target has the time to learn how it is.
    probe_until: DateTime<Utc>,
    failures: u32,
    is_rate: bool,
}

/// The targets that failed lately.
#[derive(Debug, Default)]
pub struct CoolDowns(Mutex<HashMap<CoolDownKey, State>>);

impl CoolDowns {
    /// Whether the target has to be left out now.
    pub fn check(&self, key: &CoolDownKey, now: DateTime<Utc>) -> Option<Cooling> {
        check(&self.all(), key, now)
    }

    /// The same, for a request that is about to be sent to the target: if the target's time is over, it is
    /// this request that tries it.
    pub fn enter(&self, key: &CoolDownKey, now: DateTime<Utc>) -> Option<Cooling> {
        let mut all = self.all();
        let cooling = check(&all, key, now);
        if cooling.is_none() {
            for key in [&key.of_credential(), key] {
                if let Some(state) = all.get_mut(key) {
                    state.probe_until = now + PROBE;
                }
            }
        }
        cooling
    }

    /// The target has answered, or failed. An answer that is no failure of the target's (a success, or a
    /// mistake of the caller's) ends its cool-down.
    pub fn failed(&self, key: &CoolDownKey, failure: Failure, now: DateTime<Utc>) {
        let (key, least, is_rate) = match failure {
            Failure::Status { status: 401 | 402, .. } => {
                (key.of_credential(), REFUSED_CREDENTIAL, false)
            }
            Failure::Status { status: 429, retry_after } => {
                (key.clone(), retry_after.unwrap_or(FIRST), true)
            }
            Failure::Status { status: 408 | 500..=599, retry_after } => {
                (key.clone(), retry_after.unwrap_or(FIRST), false)
            }
            Failure::Status { .. } => return self.clear(key),
            Failure::NoAnswer => (key.clone(), FIRST, false),
        };
        let mut all = self.all();
        if all.len() >= MAX_TARGETS && !all.contains_key(&key) {
            all.retain(|_, state| state.until > now);
            if all.len() >= MAX_TARGETS {
                return;
            }
        }
        let new = State { until: now, probe_until: now, failures: 0, is_rate };
        let state = all.entry(key).or_insert(new);
        // Requests that were under way together fail together: that is one failure.
        let is_another = state.until <= now;
        let growing = FIRST.saturating_mul(1 << state.failures.min(10)).min(LONGEST);
        let time = least.min(LONGEST_RETRY_AFTER).max(if is_another { growing } else { FIRST });
        state.until = state.until.max(now + time);
        state.probe_until = state.until;
        state.failures = state.failures.saturating_add(u32::from(is_another));
        state.is_rate = is_rate;
    }

    fn clear(&self, key: &CoolDownKey) {
        let mut all = self.all();
        if !all.is_empty() {
            all.remove(key);
            all.remove(&key.of_credential());
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<CoolDownKey, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(
    all: &HashMap<CoolDownKey, State>,
    key: &CoolDownKey,
    now: DateTime<Utc>,
) -> Option<Cooling> {
    if all.is_empty() {
        return None;
    }
    let states = [all.get(&key.of_credential()), all.get(key)];
    let end = |state: &&State| state.until.max(state.probe_until);
    let longest = states.into_iter().flatten().filter(|state| end(state) > now).max_by_key(end)?;
    let left = (end(&longest) - now).to_std().unwrap_or_default();
    Some(Cooling { left, is_rate: longest.is_rate })
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
        assert_eq!(downs.check(&key("a"), later), None, "looking is not trying");
        assert_eq!(downs.enter(&key("a"), later), None, "one request tries it");
        assert!(downs.enter(&key("a"), later).is_some(), "the others do not");
        assert!(downs.check(&key("a"), later).is_some());
        downs.failed(&key("a"), status(500), later);
        assert_eq!(downs.check(&key("a"), later).unwrap().left, FIRST * 2);
        downs.failed(&key("a"), status(200), later);
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
        // One that was under way as well says less.
        downs.failed(&key("a"), status(500), now);
        assert_eq!(downs.check(&key("a"), now).unwrap().left, Duration::from_secs(20));
        downs.failed(&key("a"), limited(1_000_000), now);
        assert_eq!(downs.check(&key("a"), now).unwrap().left, LONGEST_RETRY_AFTER);
    }

    #[test]
    fn a_refused_credential_cools_all_models_and_a_mistake_none() {
        let (downs, now) = (CoolDowns::default(), DateTime::UNIX_EPOCH);
        for harmless in [400, 403, 404, 413, 422] {
            downs.failed(&key("a"), status(harmless), now);
        }
        assert_eq!(downs.check(&key("a"), now), None);
        downs.failed(&key("a"), status(401), now);
        assert_eq!(downs.check(&key("b"), now).unwrap().left, REFUSED_CREDENTIAL);
        let later = now + REFUSED_CREDENTIAL;
        assert_eq!(downs.enter(&key("b"), later), None);
        downs.failed(&key("b"), status(400), later);
        assert_eq!(downs.check(&key("a"), later), None, "a caller's mistake shows that it answers");
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
