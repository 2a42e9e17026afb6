//! The prices that ship with the gateway: what providers publish, as of a date.

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::Price;
use super::model_names::{NameMatch, best, matches};

static SHIPPED: LazyLock<Catalogue> = LazyLock::new(|| {
    // A unit test reads it, so an empty one never ships.
    serde_json::from_str(include_str!("catalogue.json")).unwrap_or_default()
});

/// All providers and their models.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// What it is called.
    pub name: String,
    /// Part of price versions; changes with every change of the file.
    pub version: String,
    /// When its prices were looked up, as `2026-11-23`.
    pub date: String,
    /// What its readers should know.
    pub note: String,
    /// Every provider that is known, with models or without.
    pub providers: Vec<Provider>,
}

/// A provider: some hosts that serve models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its name: lower-case letters, digits, `_` and `-`.
    pub provider: String,
    /// Where it is reached: names, or patterns with `*`.
    pub hosts: Vec<String>,
    /// Where the prices were published.
    pub source: String,
    /// What its readers should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What it serves.
    pub models: Vec<Model>,
}

/// One model, or several with names of one pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its name, or a pattern with `*`.
    pub model: String,
    /// What it costs.
    pub price: Price,
    /// The most tokens that prompt and answer may have together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    /// The most tokens that an answer may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
}

impl Catalogue {
    /// The one that ships with the gateway.
    pub fn shipped() -> &'static Self {
        &SHIPPED
    }

    /// The provider that is reached at a host, as a base URL has it.
    pub fn provider_at(&self, host: &str) -> Option<&str> {
        let host = host.to_ascii_lowercase();
        self.providers
            .iter()
            .find(|one| one.hosts.iter().any(|pattern| matches(pattern, &host)))
            .map(|one| one.provider.as_str())
    }

    /// The first provider that has a model of this name, with or without its date.
    pub fn provider_of(&self, model: &str) -> Option<&str> {
        let names = self.providers.iter().map(|one| one.provider.as_str());
        names.into_iter().find(|provider| {
            let found = self.find(provider, model);
            found.is_some_and(|(_, by)| by != NameMatch::Pattern)
        })
    }

    /// The entry of a provider's model, and how its name was found.
    pub fn find(&self, provider: &str, model: &str) -> Option<(&Model, NameMatch)> {
        let provider = self.providers.iter().find(|one| one.provider == provider)?;
        best(provider.models.iter(), model, |model| (true, &model.model))
    }
}
