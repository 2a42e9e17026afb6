//! Which price applies to a model: its configuration's own, then the organization's, then the
//! catalogue's.
//!
//! Resolved when a configuration is loaded into the directory: a change of a price makes the directory
//! forget the organization's configurations. Only where another model answers than the configured one
//! the price is resolved for the request.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::catalogue::Catalogue;
use crate::domain::ids::{ConfigurationId, ModelPriceId};
use crate::domain::pricing::{ANY, Price};

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

/// How a model's name was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameMatch {
    /// Character for character.
    Exact,
    /// Once its date, or `-latest`, was taken off its end.
    Undated,
    /// By a pattern with `*`.
    Pattern,
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
/// Of several names, an exact one comes first, then one without its date, then the pattern with the
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

/// Whether the model that answered is the pinned one, dates and letter case aside.
pub fn is_same_model(pinned: &str, used: &str) -> bool {
    let undated = |model| without_date(model).unwrap_or(model);
    undated(pinned).eq_ignore_ascii_case(undated(used))
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

/// The candidate whose name fits the model best. `name` tells whether a candidate is for this very
/// provider, and its model or pattern.
pub(super) fn best<'a, T: 'a>(
    candidates: impl Iterator<Item = &'a T>,
    model: &str,
    name: impl Fn(&T) -> (bool, &str),
) -> Option<(&'a T, NameMatch)> {
    let undated = without_date(model);
    candidates
        .filter_map(|candidate| {
            let by = fit(name(candidate).1, model, undated)?;
            Some((candidate, by))
        })
        .min_by(|(one, one_by), (other, other_by)| {
            let rank = |candidate: &T, by: NameMatch| {
                let (this_provider, text) = name(candidate);
                let stars = text.matches(ANY).count();
                (by, Reverse(text.len() - stars), !this_provider, stars)
            };
            let order = rank(one, *one_by).cmp(&rank(other, *other_by));
            order.then_with(|| name(one).1.cmp(name(other).1))
        })
}

fn fit(pattern: &str, model: &str, undated: Option<&str>) -> Option<NameMatch> {
    if pattern == model {
        Some(NameMatch::Exact)
    } else if undated == Some(pattern) {
        Some(NameMatch::Undated)
    } else if pattern.contains(ANY) && matches(pattern, model) {
        Some(NameMatch::Pattern)
    } else {
        None
    }
}

/// Whether the whole text is of the pattern, in which `*` stands for any characters. Takes steps in
/// proportion to the product of both lengths at the most.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut begin) = (0, 0);
    // Where to go on when the last star has to take one byte more.
    let mut retry: Option<(usize, usize)> = None;
    while begin < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, begin));
                at += 1;
            }
            Some(byte) if text.get(begin) == Some(byte) => {
                at += 1;
                begin += 1;
            }
            _ => match &mut retry {
                Some((after_star, from)) => {
                    *from += 1;
                    (at, begin) = (*after_star, *from);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|byte| *byte == b'*')
}

/// The name without what marks one release of a model at its end: `-2024-08-06`, `-20250514`,
/// `@20250514` or `-latest`. None if it has nothing of the kind.
pub fn without_date(model: &str) -> Option<&str> {
    let undated = model.strip_suffix("-latest").or_else(|| {
        let year_first = |rest: &str| rest.starts_with("20");
        let shapes: [&[u8]; 3] = [b"-dddd-dd-dd", b"-dddddddd", b"@dddddddd"];
        shapes.into_iter().find_map(|shape| {
            let at = model.len().checked_sub(shape.len())?;
            let (name, date) = model.split_at_checked(at)?;
            let fits = date.bytes().zip(shape).all(|(byte, expected)| match expected {
                b'd' => byte.is_ascii_digit(),
                other => byte == *other,
            });
            (fits && date.get(1..).is_some_and(year_first)).then_some(name)
        })
    });
    undated.filter(|name| !name.is_empty())
}
