//! The providers that applications call by name, `/{provider}/...`: where each is reached, and which
//! secret of the workspace holds its key.

use std::str::FromStr;
use std::sync::Arc;

use crate::accounting::catalogue::Catalogue;
use crate::domain::names::{InvalidName, SecretName};
use crate::domain::provider::Provider;
use crate::domain::provider_settings::ProviderSettings;
use crate::upstream::{BaseUrl, BaseUrlError};

/// One row of the table.
struct Row {
    provider: Provider,
    origin: &'static str,
    /// Of the API with its version, below the origin.
    path: &'static str,
    secret_name: &'static str,
}

const fn row(
    provider: Provider,
    origin: &'static str,
    path: &'static str,
    secret_name: &'static str,
) -> Row {
    Row { provider, origin, path, secret_name }
}

/// As the providers' API references and SDKs have them.
const TABLE: [Row; 13] = [
    row(Provider::Anthropic, "https://api.anthropic.com", "/v1", "ANTHROPIC_API_KEY"),
    row(Provider::Baseten, "https://inference.baseten.co", "/v1", "BASETEN_API_KEY"),
    row(Provider::Cerebras, "https://api.cerebras.ai", "/v1", "CEREBRAS_API_KEY"),
    row(Provider::Deepseek, "https://api.deepseek.com", "/v1", "DEEPSEEK_API_KEY"),
    row(Provider::Fireworks, "https://api.fireworks.ai", "/inference/v1", "FIREWORKS_API_KEY"),
    row(Provider::Gemini, "https://generativelanguage.googleapis.com", "/v1beta", "GOOGLE_API_KEY"),
    row(Provider::Groq, "https://api.groq.com", "/openai/v1", "GROQ_API_KEY"),
    row(Provider::Mistral, "https://api.mistral.ai", "/v1", "MISTRAL_API_KEY"),
    row(Provider::Openai, "https://api.openai.com", "/v1", "OPENAI_API_KEY"),
    row(Provider::Openrouter, "https://openrouter.ai", "/api/v1", "OPENROUTER_API_KEY"),
    // Its paths have no version.
    row(Provider::Perplexity, "https://api.perplexity.ai", "", "PERPLEXITY_API_KEY"),
    row(Provider::Together, "https://api.together.xyz", "/v1", "TOGETHER_API_KEY"),
    row(Provider::Xai, "https://api.x.ai", "/v1", "XAI_API_KEY"),
];

/// The provider of the first segment of a path.
pub fn provider_of_segment(segment: &str) -> Option<Provider> {
    providers().find(|provider| provider.as_str() == segment)
}

/// All built-in providers.
pub fn providers() -> impl Iterator<Item = Provider> {
    TABLE.iter().map(|row| row.provider)
}

/// A built-in provider as this process reaches it.
#[derive(Clone, Debug)]
pub struct BuiltInProvider {
    pub provider: Provider,
    /// Of its API, with the version.
    pub base_url: BaseUrl,
    /// The secret that holds its key unless a setting says otherwise.
    pub usual_secret_name: &'static str,
    /// The catalogue's name for it, or its own where the catalogue does not know it.
    pub provider_name: String,
}

impl BuiltInProvider {
    /// The secret that holds its key under these settings.
    pub fn secret_name(&self, settings: &ProviderSettings) -> Result<SecretName, InvalidName> {
        match &settings.secret_name {
            Some(name) => Ok(name.clone()),
            None => SecretName::parse(self.usual_secret_name),
        }
    }
}

/// Another origin for a provider, as `openai=https://proxy.example.com`: for a proxy of the operator's, or a
/// provider's regional host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderOrigin {
    provider: Provider,
    origin: BaseUrl,
}

/// Why a text is not the origin of a provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderOriginError {
    /// No `=`.
    #[error("write NAME=URL, as in openai=https://proxy.example.com")]
    Form,
    /// Not in the table.
    #[error("`{0}` is no built-in provider")]
    Provider(String),
    /// Not a URL that an upstream can have.
    #[error(transparent)]
    Url(#[from] BaseUrlError),
    /// An origin has none.
    #[error("the URL must have no query")]
    Query,
}

impl FromStr for ProviderOrigin {
    type Err = ProviderOriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, url) = text.split_once('=').ok_or(ProviderOriginError::Form)?;
        let provider = provider_of_segment(name.trim())
            .ok_or_else(|| ProviderOriginError::Provider(name.trim().to_owned()))?;
        if url.contains('?') {
            return Err(ProviderOriginError::Query);
        }
        Ok(Self { provider, origin: BaseUrl::parse(url.trim())? })
    }
}

/// All built-in providers as this process reaches them.
#[derive(Clone, Debug)]
pub struct BuiltInProviders(Vec<Arc<BuiltInProvider>>);

impl BuiltInProviders {
    /// The table with the operator's origins in place of its own. The last one for a provider counts.
    pub fn new(origins: &[ProviderOrigin]) -> Result<Self, BaseUrlError> {
        let of_row = |row: &Row| {
            let own = origins.iter().rfind(|own| own.provider == row.provider);
            let origin = own.map_or(row.origin, |own| own.origin.as_str());
            let base_url = BaseUrl::parse(&format!("{origin}{}", row.path))?;
            let public_host = BaseUrl::parse(row.origin)?.host();
            let known = Catalogue::shipped().provider_at(&public_host);
            Ok(Arc::new(BuiltInProvider {
                provider: row.provider,
                base_url,
                usual_secret_name: row.secret_name,
                provider_name: known.unwrap_or(row.provider.catalogue_name()).to_owned(),
            }))
        };
        TABLE.iter().map(of_row).collect::<Result<_, _>>().map(Self)
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<BuiltInProvider>> {
        self.0.iter()
    }

    /// The built-in provider of that name; none of the names that stand for a kind of API.
    pub fn find(&self, provider: Provider) -> Option<&Arc<BuiltInProvider>> {
        self.0.iter().find(|built_in| built_in.provider == provider)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model_configuration::Placement;
    use crate::domain::provider::UpstreamApi;

    #[test]
    fn the_table_leads_to_the_providers_own_hosts() {
        let built_in = BuiltInProviders::new(&[]).unwrap();
        let shown: Vec<String> = built_in
            .0
            .iter()
            .map(|one| {
                let placement = one.provider.default_placement();
                let (name, url) = (one.provider.as_str(), one.base_url.as_str());
                format!("{name} {url} {} {placement}", one.usual_secret_name)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "anthropic https://api.anthropic.com/v1 ANTHROPIC_API_KEY x-api-key",
                "baseten https://inference.baseten.co/v1 BASETEN_API_KEY bearer",
                "cerebras https://api.cerebras.ai/v1 CEREBRAS_API_KEY bearer",
                "deepseek https://api.deepseek.com/v1 DEEPSEEK_API_KEY bearer",
                "fireworks https://api.fireworks.ai/inference/v1 FIREWORKS_API_KEY bearer",
                "gemini https://generativelanguage.googleapis.com/v1beta GOOGLE_API_KEY x-goog-api-key",
                "groq https://api.groq.com/openai/v1 GROQ_API_KEY bearer",
                "mistral https://api.mistral.ai/v1 MISTRAL_API_KEY bearer",
                "openai https://api.openai.com/v1 OPENAI_API_KEY bearer",
                "openrouter https://openrouter.ai/api/v1 OPENROUTER_API_KEY bearer",
                "perplexity https://api.perplexity.ai PERPLEXITY_API_KEY bearer",
                "together https://api.together.xyz/v1 TOGETHER_API_KEY bearer",
                "xai https://api.x.ai/v1 XAI_API_KEY bearer",
            ]
        );
        for one in &built_in.0 {
            assert!(SecretName::parse(one.usual_secret_name).is_ok(), "{}", one.usual_secret_name);
            let is_openai = one.provider.api() == UpstreamApi::OpenAi;
            assert_eq!(is_openai, one.provider.default_placement() == Placement::Bearer);
        }
    }

    #[test]
    fn kinds_of_apis_are_no_providers() {
        let built_in = BuiltInProviders::new(&[]).unwrap();
        for provider in Provider::ALL {
            let is_none = !provider.is_built_in();
            assert_eq!(built_in.find(provider).is_none(), is_none, "{}", provider.as_str());
            assert_eq!(provider_of_segment(provider.as_str()).is_none(), is_none);
        }
    }

    #[test]
    fn the_operator_can_replace_an_origin() {
        let origins: Vec<ProviderOrigin> = ["groq=http://127.0.0.1:9/", "groq=https://a.example/b"]
            .into_iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let built_in = BuiltInProviders::new(&origins).unwrap();
        let url = |provider| built_in.find(provider).unwrap().base_url.as_str().to_owned();
        assert_eq!(url(Provider::Groq), "https://a.example/b/openai/v1");
        assert_eq!(built_in.find(Provider::Groq).unwrap().provider_name, "groq");
        assert_eq!(url(Provider::Openai), "https://api.openai.com/v1");
        for wrong in ["groq", "nobody=https://a.example", "groq=ftp://a", "groq=https://a/?b=c"] {
            assert!(wrong.parse::<ProviderOrigin>().is_err(), "{wrong}");
        }
    }
}
