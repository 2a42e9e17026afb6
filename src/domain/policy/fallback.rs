//! Fallback chains: which targets a request may be sent to, one after another, and what leads to the next.

use super::super::ids::ConfigurationId;
use super::super::provider::Provider;

/// The most targets of a chain.
pub const MAX_CANDIDATES: usize = 5;
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

/// Which requests a chain is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Those that go to this target; it is tried first.
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
    /// Whether an answer with this status leads to the next target. The upstream's time-outs, limits and
    /// failures always do, and so do a credential that it refuses (401, 402, 403) and a model that it does
    /// not know (404).
    pub fn include(&self, status: u16) -> bool {
        matches!(status, 401..=404 | 408 | 429 | 500..=599) || self.status_codes.contains(&status)
    }
}

/// The `config` of `model_fallback`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFallback {
    pub selector: Selector,
    pub triggers: Triggers,
    /// The targets after the selected one; of an alias, all. 1 to 5.
    pub candidates: Vec<Candidate>,
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
    /// 1 to 5.
    pub candidates: Vec<ConfigurationId>,
}
