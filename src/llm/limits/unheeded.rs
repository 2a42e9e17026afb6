//! Limits on the answer that a provider takes and passes over, so that they bound nothing there.

/// Providers by the catalogue's names, with fields of OpenAI's API that they know under another name
/// only, and do not refuse.
const UNHEEDED: &[(&str, &[&str])] = &[("deepseek", &["max_completion_tokens"])];

/// The limits that a provider passes over.
pub fn unheeded(provider: &str) -> &'static [&'static str] {
    UNHEEDED.iter().find(|(name, _)| *name == provider).map_or(&[], |(_, fields)| fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounting::catalogue::Catalogue;

    #[test]
    fn providers_are_those_of_the_catalogue() {
        for (name, _) in UNHEEDED {
            assert!(
                Catalogue::shipped().providers.iter().any(|one| one.provider == *name),
                "{name}"
            );
        }
        let fields = Catalogue::shipped().provider_at("api.deepseek.com").map(unheeded);
        assert_eq!(fields, Some(&["max_completion_tokens"][..]));
        assert!(unheeded("openai").is_empty() && unheeded("openai_compatible").is_empty());
    }
}
