//! Guards: what the policies that match a request detect, joined once for each group of policies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

use super::{BadPolicy, Policy, PolicySet, Rule};
use crate::domain::ids::PolicyId;
use crate::domain::policy::{InvalidField, PolicyConfig, Subject};
use crate::policy::guard::policy::{Guard, GuardConfig};

/// The most joined guards that are kept; beyond it, they are made anew.
const MAX_JOINED: usize = 256;

/// The places of policies among the set's rules, in ascending order.
type RulePlaces = SmallVec<[usize; 4]>;

/// An organization's guard policies.
#[derive(Debug, Default)]
pub(super) struct Guards {
    /// By the place of the rule.
    configs: Vec<(usize, GuardConfig)>,
    joined: Mutex<HashMap<RulePlaces, Arc<Guard>>>,
}

/// The guard of a request.
#[derive(Debug)]
pub struct MatchedGuard<'s> {
    /// What all of its policies say together.
    pub guard: Arc<Guard>,
    /// The broadest first.
    pub policies: SmallVec<[(&'s Policy, &'s GuardConfig); 4]>,
}

impl Guards {
    pub(super) fn of(rules: &[Rule]) -> Result<Self, BadPolicy> {
        let mut configs = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            let PolicyConfig::Guard(config) = &rule.policy.config else { continue };
            let bad = |invalid| BadPolicy::of(rule.policy.id, invalid);
            let config = GuardConfig::parse(config).map_err(|invalid| bad(vec![invalid]))?;
            // Without a service that recognizes names, requests fail, not the whole set.
            let invalid = config.check(true);
            if !invalid.is_empty() {
                return Err(bad(invalid));
            }
            configs.push((place, config));
        }
        Ok(Self { configs, joined: Mutex::default() })
    }

    fn join(
        &self,
        places: RulePlaces,
        configs: &[GuardConfig],
    ) -> Result<Option<Arc<Guard>>, InvalidField> {
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guard) = joined.get(&places) {
            return Ok(Some(Arc::clone(guard)));
        }
        let guard = Guard::new(configs)
            .map_err(|error| InvalidField::new("config.detect.custom", error.to_string()))?;
        let Some(guard) = guard.map(Arc::new) else { return Ok(None) };
        if joined.len() >= MAX_JOINED {
            joined.clear();
        }
        joined.insert(places, Arc::clone(&guard));
        Ok(Some(guard))
    }
}

impl PolicySet {
    /// The guard of the request; `None` if no guard policy matches. The check of the policies when the set
    /// was made leaves no reason for an error.
    pub fn guard(&self, subject: &Subject<'_>) -> Result<Option<MatchedGuard<'_>>, InvalidField> {
        if self.guards.configs.is_empty() {
            return Ok(None);
        }
        let mut places = RulePlaces::new();
        let mut policies = SmallVec::new();
        for (place, config) in &self.guards.configs {
            if let Some(rule) = self.rules.get(*place).filter(|one| one.matchers.matches(subject)) {
                places.push(*place);
                policies.push((&*rule.policy, config));
            }
        }
        let configs: Vec<GuardConfig> =
            policies.iter().map(|(_, config): &(_, &GuardConfig)| (*config).clone()).collect();
        let guard = self.guards.join(places, &configs)?;
        Ok(guard.map(|guard| MatchedGuard { guard, policies }))
    }
}

impl MatchedGuard<'_> {
    /// The ids of its policies.
    pub fn ids(&self) -> Vec<PolicyId> {
        self.policies.iter().map(|(policy, _)| policy.id).collect()
    }
}
