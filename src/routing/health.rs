//! How targets of chains have done on this process. Those that failed lately are left out of chains for a
//! while. When the time is over one request tries the target again, and until it has an answer the others
//! leave the target out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
/// Targets remembered. Beyond that, those that do not cool down are forgotten.
const MAX_TARGETS: usize = 10_000;

/// A target, as one workspace uses it. Without a model, all its models: the credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetKey {
    pub workspace_id: WorkspaceId,
    pub upstream: UpstreamId,
    pub model: Option<String>,
}

impl TargetKey {
    fn of_credential(&self) -> Self {
        Self { model: None, ..self.clone() }
    }
}

/// An attempt at a target that led to the next one, or would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The upstream's; none if it did not answer, or failed with a success status.
    pub status: Option<u16>,
    /// When to come back, as the upstream said.
    pub retry_after: Option<Duration>,
    /// The stable code of what went wrong.
    pub code: &'static str,
}

/// Why a target cools down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CoolDownReason {
    /// It limits the rate (429).
    RateLimited,
    /// It refused the credential (401, 402), for all its models.
    CredentialRefused,
    /// It did not answer, or failed.
    Failing,
}

/// Why a target is left out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooling {
    pub until: DateTime<Utc>,
    pub left: Duration,
    pub reason: CoolDownReason,
}

impl Cooling {
    /// Whether the upstream limits the rate.
    pub fn is_rate(&self) -> bool {
        self.reason == CoolDownReason::RateLimited
    }

    /// The whole seconds after which the target may be tried again.
    pub fn seconds_left(&self) -> u32 {
        u32::try_from(self.left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
    }
}

/// What is known of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetReport {
    pub cooling: Option<Cooling>,
    /// The code of the last failure, and when it was.
    pub last_failure: Option<(&'static str, DateTime<Utc>)>,
    /// Attempts whose answer was the caller's.
    pub answered: u64,
    /// Attempts that failed.
    pub failed: u64,
}

/// How many targets cool down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct CoolingTargets {
    /// Targets that limit the rate (429).
    pub rate_limited: u64,
    /// Credentials that were refused (401, 402).
    pub credentials_refused: u64,
    /// Targets that did not answer, or failed.
    pub failing: u64,
}

impl CoolingTargets {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.rate_limited + self.credentials_refused + self.failing
    }
}

#[derive(Debug)]
struct State {
    until: DateTime<Utc>,
    /// Until when a request that tries the target has the time to learn how it is.
    probe_until: DateTime<Utc>,
    /// Failures since the last answer.
    failures: u32,
    reason: CoolDownReason,
    last_failure: Option<(&'static str, DateTime<Utc>)>,
    answered: u64,
    failed: u64,
}

impl State {
    fn new(now: DateTime<Utc>) -> Self {
        Self {
            until: now,
            probe_until: now,
            failures: 0,
            reason: CoolDownReason::Failing,
            last_failure: None,
            answered: 0,
            failed: 0,
        }
    }

    /// The end of the time in which others leave the target out.
    fn end(&self) -> DateTime<Utc> {
        self.until.max(self.probe_until)
    }

    fn end_cool_down(&mut self, now: DateTime<Utc>) {
        (self.until, self.probe_until, self.failures) = (now, now, 0);
    }

    fn cool_down(&mut self, least: Duration, reason: CoolDownReason, now: DateTime<Utc>) {
        // Requests that were under way together fail together: that is one failure.
        let is_another = self.until <= now;
        let growing = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        let time = least.min(LONGEST_RETRY_AFTER).max(if is_another { growing } else { FIRST });
        self.until = self.until.max(now + time);
        self.probe_until = self.until;
        self.failures = self.failures.saturating_add(u32::from(is_another));
        self.reason = reason;
    }
}

/// The targets that requests of chains were sent to. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct TargetHealth(Arc<Mutex<HashMap<TargetKey, State>>>);

impl TargetHealth {
    /// Whether the target has to be left out now.
    pub fn check(&self, key: &TargetKey, now: DateTime<Utc>) -> Option<Cooling> {
        check(&self.all(), key, now)
    }

    /// The same, for a request that is about to be sent to the target: if the target's time is over, it is
    /// this request that tries it.
    pub fn enter(&self, key: &TargetKey, now: DateTime<Utc>) -> Option<Cooling> {
        let mut all = self.all();
        let cooling = check(&all, key, now);
        if cooling.is_none() {
            for key in [&key.of_credential(), key] {
                if let Some(state) = all.get_mut(key).filter(|state| state.failures > 0) {
                    state.probe_until = now + PROBE;
                }
            }
        }
        cooling
    }

    /// The target has answered: with success, or because of a mistake of the caller's. That ends its
    /// cool-down.
    pub fn answered(&self, key: &TargetKey, now: DateTime<Utc>) {
        let mut all = self.all();
        end_cool_down(&mut all, key, now);
        if let Some(state) = state_of(&mut all, key, now) {
            state.answered += 1;
        }
    }

    /// The target has failed. An unknown model, and whatever else is no trouble of the target's, cools
    /// nothing and ends its cool-down.
    pub fn failed(&self, key: &TargetKey, failure: Failure, now: DateTime<Utc>) {
        let Failure { status, retry_after, code } = failure;
        let cool_down = match status {
            Some(401 | 402) => Some((REFUSED_CREDENTIAL, CoolDownReason::CredentialRefused)),
            Some(429) => Some((retry_after.unwrap_or(FIRST), CoolDownReason::RateLimited)),
            Some(408 | 500..=599) => Some((retry_after.unwrap_or(FIRST), CoolDownReason::Failing)),
            Some(_) => None,
            None => Some((FIRST, CoolDownReason::Failing)),
        };
        let mut all = self.all();
        match cool_down {
            None => end_cool_down(&mut all, key, now),
            Some((least, reason @ CoolDownReason::CredentialRefused)) => {
                if let Some(credential) = state_of(&mut all, &key.of_credential(), now) {
                    credential.cool_down(least, reason, now);
                }
            }
            Some(_) => {}
        }
        let Some(state) = state_of(&mut all, key, now) else { return };
        state.failed += 1;
        state.last_failure = Some((code, now));
        if let Some((least, reason)) = cool_down
            && reason != CoolDownReason::CredentialRefused
        {
            state.cool_down(least, reason, now);
        }
    }

    /// Ends the cool-downs of an upstream in a workspace, of all its models and of its credential.
    pub fn clear(&self, workspace_id: WorkspaceId, upstream: UpstreamId, now: DateTime<Utc>) {
        for (key, state) in self.all().iter_mut() {
            if key.workspace_id == workspace_id && key.upstream == upstream {
                state.end_cool_down(now);
            }
        }
    }

    /// What is known of a target.
    pub fn report(&self, key: &TargetKey, now: DateTime<Utc>) -> TargetReport {
        let all = self.all();
        let cooling = check(&all, key, now);
        let Some(state) = all.get(key) else {
            return TargetReport { cooling, ..Default::default() };
        };
        let State { last_failure, answered, failed, .. } = *state;
        TargetReport { cooling, last_failure, answered, failed }
    }

    /// How many targets cool down now.
    pub fn cooling(&self, now: DateTime<Utc>) -> CoolingTargets {
        let mut cooling = CoolingTargets::default();
        for state in self.all().values().filter(|state| state.end() > now) {
            match state.reason {
                CoolDownReason::RateLimited => cooling.rate_limited += 1,
                CoolDownReason::CredentialRefused => cooling.credentials_refused += 1,
                CoolDownReason::Failing => cooling.failing += 1,
            }
        }
        cooling
    }

    fn all(&self) -> MutexGuard<'_, HashMap<TargetKey, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a target; none if so many targets cool down that there is no room for another.
fn state_of<'a>(
    all: &'a mut HashMap<TargetKey, State>,
    key: &TargetKey,
    now: DateTime<Utc>,
) -> Option<&'a mut State> {
    if all.len() >= MAX_TARGETS && !all.contains_key(key) {
        all.retain(|_, state| state.until > now);
        if all.len() >= MAX_TARGETS {
            return None;
        }
    }
    Some(all.entry(key.clone()).or_insert_with(|| State::new(now)))
}

fn end_cool_down(all: &mut HashMap<TargetKey, State>, key: &TargetKey, now: DateTime<Utc>) {
    for key in [&key.of_credential(), key] {
        if let Some(state) = all.get_mut(key) {
            state.end_cool_down(now);
        }
    }
}

fn check(all: &HashMap<TargetKey, State>, key: &TargetKey, now: DateTime<Utc>) -> Option<Cooling> {
    let states = [all.get(&key.of_credential()), all.get(key)];
    let ends = states.into_iter().flatten().map(|state| (state.end(), state.reason));
    let (until, reason) = ends.filter(|(end, _)| *end > now).max_by_key(|(end, _)| *end)?;
    Some(Cooling { until, left: (until - now).to_std().unwrap_or_default(), reason })
}

#[cfg(test)]
mod tests;
