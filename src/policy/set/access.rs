//! Model access: the most specific tier with a matching policy decides, and all policies of that tier
//! have to allow the model.

use super::MatchedPolicy;
use crate::domain::policy::{Models, PolicyConfig, ProviderAccess};

/// The provider name that stands for model configurations.
const CONFIGURATIONS: &str = "model_configuration";

/// What a request wants to use.
#[derive(Clone, Copy, Debug)]
pub struct Target<'r> {
    /// The model configuration's name; none of a built-in provider.
    pub configuration: Option<&'r str>,
    /// The names that its provider goes by.
    pub providers: &'r [&'r str],
    /// The model that the upstream is asked for; none where it is asked for none, as for the list of its
    /// models.
    pub model: Option<&'r str>,
}

/// The places of the model access policies that deny the target.
pub(in crate::policy) fn denies_model<'a>(
    matched: &'a [MatchedPolicy<'_>],
    target: &'a Target<'_>,
) -> impl Iterator<Item = usize> + 'a {
    let access = move || {
        matched.iter().enumerate().filter_map(|(place, one)| match &one.policy.config {
            PolicyConfig::ModelAccess(allowed) => Some((place, one.policy.tier, allowed)),
            _ => None,
        })
    };
    let deciding = access().map(|(_, tier, _)| tier).max();
    access()
        .filter(move |(_, tier, allowed)| Some(*tier) == deciding && !allows(allowed, target))
        .map(|(place, ..)| place)
}

/// Whether the policies of model access among these allow the target.
pub fn allows_model(matched: &[MatchedPolicy<'_>], target: &Target<'_>) -> bool {
    denies_model(matched, target).next().is_none()
}

/// Whether a spend cap is among these, which needs a price.
pub fn has_spend_cap(matched: &[MatchedPolicy<'_>]) -> bool {
    matched.iter().any(|one| one.is_enforced && one.policy.is_spend())
}

fn allows(providers: &[ProviderAccess], target: &Target<'_>) -> bool {
    providers.iter().any(|access| {
        let wanted = if access.provider == CONFIGURATIONS {
            match target.configuration {
                Some(name) => Some(name),
                None => return false,
            }
        } else if target.providers.contains(&access.provider.as_str()) {
            target.model
        } else {
            return false;
        };
        match (&access.models, wanted) {
            (Models::All, _) | (_, None) => true,
            (Models::Named(names), Some(wanted)) => names.iter().any(|name| name == wanted),
        }
    })
}
