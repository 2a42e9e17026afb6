//! Model access: the most specific tier that matches decides, and its policies have to agree.

use super::Applied;
use crate::domain::policy::{Models, PolicyConfig};

/// What stands for the model configurations in place of a provider.
const CONFIGURATIONS: &str = "model_configuration";

/// What a request wants to use.
#[derive(Clone, Copy, Debug)]
pub struct Target<'r> {
    /// The model configuration's name.
    pub configuration: &'r str,
    /// The names that its provider goes by.
    pub providers: &'r [&'r str],
    /// The model that the upstream is asked for.
    pub model: &'r str,
}

/// The model access policies that forbid it, of those that apply.
pub(in crate::policy) fn forbidding<'a, 's>(
    applied: &'a [Applied<'s>],
    target: &Target<'_>,
) -> impl Iterator<Item = &'a Applied<'s>> {
    let is_access = |one: &&Applied<'_>| matches!(one.policy.config, PolicyConfig::ModelAccess(_));
    let decides = applied.iter().filter(is_access).map(|one| one.policy.tier).max();
    applied
        .iter()
        .filter(is_access)
        .filter(move |one| Some(one.policy.tier) == decides)
        .filter(|one| !allows(&one.policy.config, target))
}

fn allows(config: &PolicyConfig, target: &Target<'_>) -> bool {
    let PolicyConfig::ModelAccess(providers) = config else { return true };
    providers.iter().any(|access| {
        let wanted = if access.provider == CONFIGURATIONS {
            target.configuration
        } else if target.providers.contains(&access.provider.as_str()) {
            target.model
        } else {
            return false;
        };
        match &access.models {
            Models::All => true,
            Models::Named(names) => names.iter().any(|name| name == wanted),
        }
    })
}
