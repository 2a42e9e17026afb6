//! Which price applies to a model: its configuration's own, then the organization's, then the
//! catalogue's.
//!
//! Resolved when a configuration is loaded into the directory: a change of a price makes the directory
//! forget the organization's configurations. Only where another model answers than the configured one
//! the price is resolved for the request.

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::catalogue::Catalogue;
use super::model_names::{NameMatch, best, is_same_model};
use super::{ANY, Price};
use crate::domain::ids::{ConfigurationId, ModelPriceId};

/// Where a price comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PriceOrigin {
    /// The model configuration has it.
    Configuration,
    /// The organization set it for the model.
    Organization,
    /// It ships with the gateway.
    Catalogue,
}

/// The price that applies, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedPrice {
    pub price: Price,
    /// Names the price and its version in the ledger.
    pub version: String,
    /// Where it comes from.
    pub origin: PriceOrigin,
    /// The provider and the model, or the pattern, that it was set for; none for a configuration's
    /// own.
    pub matched: Option<Matched>,
}

/// What a price was set for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Matched {
    /// The provider, or `*`.
    pub provider: String,
    /// The model, or a pattern with `*`.
    pub model: String,
    /// How the model's name was found.
    pub by: NameMatch,
}

/// What is known of a model's price and its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// The price, if one is known.
    pub price: Option<ResolvedPrice>,
    /// How many tokens prompt and answer may have together.
    pub context_window: Option<u64>,
    pub max_output_tokens: Option<u64>,
}

/// What a model configuration says of itself.
#[derive(Clone, Debug)]
pub struct ConfigurationPrice {
    pub id: ConfigurationId,
    /// When it last changed, which is its price's version.
    pub updated_at: DateTime<Utc>,
    /// Its own price.
    pub price: Option<Price>,
    /// See [`Resolution::context_window`].
    pub context_window: Option<u64>,
    /// See [`Resolution::max_output_tokens`].
    pub max_output_tokens: Option<u64>,
}

/// A price that an organization set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationPrice {
    pub id: ModelPriceId,
    /// Counts its changes.
    pub version: i64,
    /// The provider that it is for, or `*` for all.
    pub provider: String,
    /// The model that it is for, or a pattern with `*`.
    pub model: String,
    /// What tokens cost.
    pub price: Price,
}

/// The prices that an organization set; at least those for the provider that is asked about.
#[derive(Clone, Debug, Default)]
pub struct PriceList(pub Vec<OrganizationPrice>);

/// Which price applies to a provider's model, and what is known of its limits. `provider` is a name
/// of the catalogue or the configuration's own word for it.
///
/// If several names match, an exact one comes first, then one without its date, then the pattern with the
/// most characters that are not `*`; of two such, the one for this very provider, then the one with
/// fewer `*`, then the first by alphabet.
pub fn resolve(
    provider: &str,
    model: &str,
    configuration: Option<&ConfigurationPrice>,
    organization: &PriceList,
) -> Resolution {
    let catalogue = Catalogue::shipped();
    let listed = catalogue.find(provider, model);
    let own = configuration.and_then(|configuration| {
        Some(ResolvedPrice {
            price: configuration.price.clone()?,
            version: format!(
                "configuration:{}:{}",
                configuration.id,
                configuration.updated_at.timestamp_micros()
            ),
            origin: PriceOrigin::Configuration,
            matched: None,
        })
    });
    let price = own.or_else(|| organization.find(provider, model)).or_else(|| {
        let (entry, by) = listed?;
        Some(ResolvedPrice {
            price: entry.price.clone(),
            version: format!("catalogue:{}:{provider}/{}", catalogue.version, entry.model),
            origin: PriceOrigin::Catalogue,
            matched: Some(Matched {
                provider: provider.to_owned(),
                model: entry.model.clone(),
                by,
            }),
        })
    });
    let limit = |own: fn(&ConfigurationPrice) -> Option<u64>| configuration.and_then(own);
    let entry = listed.map(|(entry, _)| entry);
    Resolution {
        price,
        context_window: limit(|own| own.context_window)
            .or_else(|| entry.and_then(|entry| entry.context_window)),
        max_output_tokens: limit(|own| own.max_output_tokens)
            .or_else(|| entry.and_then(|entry| entry.max_output_tokens)),
    }
}

/// The price of the model that answered, where that is another than the pinned one and its price is
/// known; otherwise `None`, and the price of the pinned model applies.
///
/// A configuration's own price applies to whatever its upstream answers with.
pub fn price_of_used(
    provider: &str,
    pinned: &str,
    used: &str,
    pinned_price: Option<&ResolvedPrice>,
    organization: &PriceList,
) -> Option<ResolvedPrice> {
    let is_own = pinned_price.is_some_and(|price| price.origin == PriceOrigin::Configuration);
    if is_own || is_same_model(pinned, used) {
        return None;
    }
    resolve(provider, used, None, organization).price
}

impl PriceList {
    fn find(&self, provider: &str, model: &str) -> Option<ResolvedPrice> {
        let (found, by) = best(
            self.0.iter().filter(|price| price.provider == provider || price.provider == ANY),
            model,
            |price| (price.provider == provider, &price.model),
        )?;
        Some(ResolvedPrice {
            price: found.price.clone(),
            version: format!("organization:{}:{}", found.id, found.version),
            origin: PriceOrigin::Organization,
            matched: Some(Matched {
                provider: found.provider.clone(),
                model: found.model.clone(),
                by,
            }),
        })
    }
}
