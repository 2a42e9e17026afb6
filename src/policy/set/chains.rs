//! Fallback chains: which one a request is for.

use std::sync::Arc;

use super::{BadPolicy, StoredPolicy};
use crate::domain::ids::WorkspaceId;
use crate::domain::policy::fallback::{Candidate, RouteConfig, Selector, Step, Triggers};
use crate::domain::policy::{Audience, Matchers, PolicyConfig, Subject};

/// The targets of a request, in the order in which they are tried.
#[derive(Debug)]
pub struct Chain {
    /// The policy's, for logs.
    pub name: Arc<str>,
    pub triggers: Triggers,
    pub steps: Vec<Step>,
}

/// A chain as one workspace calls it.
#[derive(Clone, Copy, Debug)]
pub struct NamedChain<'s> {
    /// What its callers name as their model, if they have to.
    pub alias: Option<&'s str>,
    pub chain: &'s Arc<Chain>,
}

/// An organization's chains.
#[derive(Debug, Default)]
pub(super) struct Chains {
    selected: Vec<(Matchers, Selector, Arc<Chain>)>,
    routes: Vec<Route>,
}

#[derive(Debug)]
struct Route {
    matchers: Matchers,
    name: Arc<str>,
    chains: Vec<(Option<String>, Arc<Chain>)>,
}

impl Chains {
    /// Adds the chains of a policy. One with a matcher of its own for the caller comes before one of the
    /// whole workspace.
    pub(super) fn add(&mut self, stored: &StoredPolicy) -> Result<(), BadPolicy> {
        let bad = |invalid| BadPolicy::of(stored.id, invalid);
        let audience =
            Audience::parse(stored.policy_type, &stored.subject_matchers).map_err(bad)?;
        let Audience::Matching(matchers) = audience.0 else {
            return Err(BadPolicy::of(stored.id, Vec::new()));
        };
        let name: Arc<str> = stored.name.as_str().into();
        match PolicyConfig::parse(stored.policy_type, &stored.config).map_err(bad)? {
            PolicyConfig::ModelFallback(fallback) => {
                let first = fallback.first_target().cloned().map(Step::One);
                let steps = first.into_iter().chain(fallback.steps).collect();
                let chain = Chain { name, triggers: fallback.triggers, steps };
                self.selected.push((matchers, fallback.selector, Arc::new(chain)));
                self.selected.sort_by_key(|(matchers, ..)| !is_narrowed(matchers));
            }
            PolicyConfig::Route(RouteConfig { triggers, chains }) => {
                let chains = chains.into_iter().map(|chain| {
                    let (name, triggers) = (Arc::clone(&name), triggers.clone());
                    (chain.alias, Arc::new(Chain { name, triggers, steps: chain.steps }))
                });
                let chains = chains.collect();
                self.routes.push(Route { matchers, name, chains });
            }
            PolicyConfig::Spend(_)
            | PolicyConfig::Rate(_)
            | PolicyConfig::ModelAccess(_)
            | PolicyConfig::Guard(_) => {}
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.selected.is_empty()
    }

    pub(super) fn for_target(
        &self,
        subject: &Subject<'_>,
        target: &Candidate,
    ) -> Option<&Arc<Chain>> {
        self.select(subject, |selector| matches!(selector, Selector::Target(one) if one == target))
    }

    pub(super) fn for_alias(&self, subject: &Subject<'_>, alias: &str) -> Option<&Arc<Chain>> {
        self.select(subject, |selector| matches!(selector, Selector::Alias(one) if one == alias))
    }

    /// The aliases of chains for this caller, in alphabetical order.
    pub(super) fn aliases(&self, subject: &Subject<'_>) -> Vec<(&str, &Arc<Chain>)> {
        let selected = self.selected.iter().filter(|(matchers, ..)| matchers.matches_ids(subject));
        let mut aliases: Vec<_> = selected
            .filter_map(|(_, selector, chain)| match selector {
                Selector::Alias(alias) => Some((alias.as_str(), chain)),
                Selector::Target(_) => None,
            })
            .collect();
        // Stable: of several chains of an alias, the first is the caller's.
        aliases.sort_by_key(|(alias, _)| *alias);
        aliases.dedup_by_key(|(alias, _)| *alias);
        aliases
    }

    fn select(
        &self,
        subject: &Subject<'_>,
        is_meant: impl Fn(&Selector) -> bool,
    ) -> Option<&Arc<Chain>> {
        let mut selected = self.selected.iter();
        let found = selected
            .find(|(matchers, selector, _)| is_meant(selector) && matchers.matches_ids(subject));
        found.map(|(.., chain)| chain)
    }

    /// The workspace's chains whose alias, policy or route has that name.
    pub(super) fn named<'s>(
        &'s self,
        workspace_id: WorkspaceId,
        name: &'s str,
    ) -> impl Iterator<Item = NamedChain<'s>> {
        let is_of = move |matchers: &Matchers| matchers.workspace_ids().contains(&workspace_id);
        let selected = self.selected.iter().filter(move |(matchers, ..)| is_of(matchers));
        let selected = selected.filter_map(move |(_, selector, chain)| {
            let alias = match selector {
                Selector::Alias(alias) => Some(alias.as_str()),
                Selector::Target(_) => None,
            };
            let is_named = &*chain.name == name || alias == Some(name);
            is_named.then_some(NamedChain { alias, chain })
        });
        let routes = self.routes.iter().filter(move |route| is_of(&route.matchers));
        let routes = routes.filter(move |route| &*route.name == name).flat_map(|route| {
            let chains = route.chains.iter();
            chains.map(|(alias, chain)| NamedChain { alias: alias.as_deref(), chain })
        });
        selected.chain(routes)
    }

    /// All chains of the route with that name, each with its alias.
    pub(super) fn route(
        &self,
        subject: &Subject<'_>,
        name: &str,
    ) -> Option<&[(Option<String>, Arc<Chain>)]> {
        let mut routes = self.routes.iter();
        let found =
            routes.find(|route| &*route.name == name && route.matchers.matches_ids(subject));
        found.map(|route| route.chains.as_slice())
    }
}

fn is_narrowed(matchers: &Matchers) -> bool {
    !matchers.user_ids().is_empty() || !matchers.api_key_ids().is_empty()
}
