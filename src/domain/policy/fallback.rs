//! Fallback chains: which targets a request may be sent to, one after another, and what leads to the next.

use super::super::ids::ConfigurationId;
use super::super::provider::Provider;

/// The most targets of a chain.
pub const MAX_CANDIDATES: usize = 5;
/// The largest weight of a target within a step.
pub const MAX_WEIGHT: u32 = 1_000;
/// The most chains of a route.
pub const MAX_ROUTE_CHAINS: usize = 20;

/// One target of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// A model of a built-in provider.
    Model { provider: Provider, model: String },
    /// A model configuration of the caller's workspace, with its model.
    Configuration(ConfigurationId),
}

/// A place in a chain: the targets of the next step are tried when all of this one have failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    One(Candidate),
    /// Requests are spread over these targets in proportion to their weights, which are 1 or more.
    Weighted(Vec<(u32, Candidate)>),
}

impl Step {
    /// The targets with their weights.
    pub fn members(&self) -> impl Iterator<Item = (u32, &Candidate)> {
        let (one, many) = match self {
            Self::One(candidate) => (Some((1, candidate)), [].as_slice()),
            Self::Weighted(members) => (None, members.as_slice()),
        };
        one.into_iter().chain(many.iter().map(|(weight, candidate)| (*weight, candidate)))
    }

    /// Whether requests are spread over several targets with this one among them.
    pub fn spreads(&self, target: &Candidate) -> bool {
        matches!(self, Self::Weighted(members) if members.iter().any(|(_, one)| one == target))
    }
}

/// Every target of these steps with the path of its field. `list` is the path of the steps' own field,
/// whose last name their members' field has, too.
pub fn fields_of<'s>(list: &str, steps: &'s [Step]) -> Vec<(String, &'s Candidate)> {
    let name = list.rsplit('.').next().unwrap_or(list);
    let mut fields = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        for (place, (_, candidate)) in step.members().enumerate() {
            fields.push(match step {
                Step::One(_) => (format!("{list}[{at}]"), candidate),
                Step::Weighted(_) => (format!("{list}[{at}].{name}[{place}]"), candidate),
            });
        }
    }
    fields
}

/// Which requests a chain is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Those that go to this target; it is tried first, unless the first step spreads requests over it and
    /// others.
    Target(Candidate),
    /// Those that name this as their model.
    Alias(String),
}

/// What leads to the next target, beyond what always does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Triggers {
    /// Statuses of upstreams.
    pub status_codes: Vec<u16>,
    /// The longest time to the first byte of an answer, in milliseconds, in place of the target's own.
    pub first_byte_timeout_ms: Option<u32>,
}

impl Triggers {
    /// Whether an answer with this status leads to the next target, whatever it says. The upstream's
    /// time-outs, limits and failures always do, and so do a credential that it refuses (401, 402) and a
    /// model that it does not know (404). A 403 may be about the credential or the caller's content.
    pub fn include(&self, status: u16) -> bool {
        matches!(status, 401 | 402 | 404 | 408 | 429 | 500..=599)
            || self.status_codes.contains(&status)
    }
}

/// The `config` of `model_fallback`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFallback {
    pub selector: Selector,
    pub triggers: Triggers,
    /// After the selected target; of an alias, all. They have 1 to 5 targets in all.
    pub steps: Vec<Step>,
}

impl ModelFallback {
    /// The selected target, if it is tried before the steps.
    pub fn first_target(&self) -> Option<&Candidate> {
        match &self.selector {
            Selector::Target(target) => Some(target)
                .filter(|target| !self.steps.first().is_some_and(|one| one.spreads(target))),
            Selector::Alias(_) => None,
        }
    }
}

/// The `config` of `route_config`, which is called as `/routes/{name}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    pub triggers: Triggers,
    /// At least one.
    pub chains: Vec<RouteChain>,
}

/// One chain of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChain {
    /// Requests with this model are for this chain.
    pub alias: Option<String>,
    /// They have 1 to 5 targets in all, which are configurations.
    pub steps: Vec<Step>,
}
