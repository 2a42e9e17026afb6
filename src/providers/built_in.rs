//! The providers that applications call by name, `/{provider}/...`: where each is reached, and which
//! secret of the workspace holds its key.

use std::str::FromStr;
use std::sync::Arc;

use super::cloud::{CloudOrigins, credential_sets, usual_secret_names};
use crate::domain::names::{InvalidName, SecretName};
use crate::domain::pricing::catalogue::Catalogue;
use crate::domain::provider::Provider;
use crate::domain::provider_settings::ProviderSettings;
use crate::upstream::{BaseUrl, BaseUrlError, EndpointUrl};

/// One provider with a host of its own.
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

/// Those whose host follows from a region or an account.
const CLOUDS: [Provider; 3] = [Provider::Azure, Provider::Bedrock, Provider::Vertex];

/// The provider of the first segment of a path.
pub fn provider_of_segment(segment: &str) -> Option<Provider> {
    providers().find(|provider| provider.as_str() == segment)
}

/// All built-in providers.
pub fn providers() -> impl Iterator<Item = Provider> {
    TABLE.iter().map(|row| row.provider).chain(CLOUDS)
}

/// A built-in provider as this process reaches it.
#[derive(Clone, Debug)]
pub struct BuiltInProvider {
    pub provider: Provider,
    pub address: ProviderAddress,
    /// The secret that holds its key unless a setting says otherwise. Cloud providers have several: see
    /// [`credential_sets`].
    pub usual_secret_name: &'static str,
    /// The catalogue's name for it, or its own where the catalogue does not know it.
    pub provider_name: String,
}

impl BuiltInProvider {
    /// The secrets that it can be called with under these settings, the one that holds its key first.
    pub fn secret_names(
        &self,
        settings: &ProviderSettings,
    ) -> Result<Vec<SecretName>, InvalidName> {
        if let (Some(name), ProviderAddress::Fixed(_)) = (&settings.secret_name, &self.address) {
            return Ok(vec![name.clone()]);
        }
        let more = usual_secret_names(self.provider);
        let mut names: Vec<SecretName> = Vec::new();
        for name in std::iter::once(self.usual_secret_name).chain(more) {
            let name = match settings.secret_names.get(name) {
                Some(other) => other.clone(),
                None => SecretName::parse(name)?,
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }
}

/// Where a built-in provider is.
#[derive(Clone, Debug)]
pub enum ProviderAddress {
    /// The URL of its API, with the version.
    Fixed(BaseUrl),
    /// Follows from a region or an account.
    Cloud(Box<CloudOrigins>),
}

/// Another origin for a provider, as `openai=https://proxy.example.com`: for a proxy of the operator's, or a
/// provider's regional host. `google-token` and `entra` are for token endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderOrigin(Origin);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Provider(Provider, BaseUrl),
    /// The whole URL of Google's token endpoint.
    GoogleToken(EndpointUrl),
    /// The origin of Microsoft Entra's.
    Entra(BaseUrl),
}

const GOOGLE_TOKEN: &str = "google-token";
const ENTRA: &str = "entra";

/// Why a text is not the origin of a provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderOriginError {
    #[error("write NAME=URL, as in openai=https://proxy.example.com")]
    Form,
    #[error("`{0}` is no built-in provider, nor {GOOGLE_TOKEN} or {ENTRA}")]
    Provider(String),
    /// Not a URL that an upstream can have.
    #[error(transparent)]
    Url(#[from] BaseUrlError),
    #[error("the URL must have no query")]
    Query,
}

impl FromStr for ProviderOrigin {
    type Err = ProviderOriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, url) = text.split_once('=').ok_or(ProviderOriginError::Form)?;
        let (name, url) = (name.trim(), url.trim());
        if url.contains('?') {
            return Err(ProviderOriginError::Query);
        }
        Ok(Self(match name {
            GOOGLE_TOKEN => Origin::GoogleToken(EndpointUrl::parse(url)?),
            ENTRA => Origin::Entra(BaseUrl::parse(url)?),
            _ => {
                let provider = provider_of_segment(name)
                    .ok_or_else(|| ProviderOriginError::Provider(name.to_owned()))?;
                Origin::Provider(provider, BaseUrl::parse(url)?)
            }
        }))
    }
}

/// All built-in providers as this process reaches them.
#[derive(Clone, Debug)]
pub struct BuiltInProviders(Vec<Arc<BuiltInProvider>>);

impl BuiltInProviders {
    /// The table with the operator's origins in place of its own. The last one for a provider counts.
    pub fn new(origins: &[ProviderOrigin]) -> Result<Self, BaseUrlError> {
        let own_of = |provider| {
            origins.iter().rev().find_map(|origin| match &origin.0 {
                Origin::Provider(of, origin) if *of == provider => Some(origin),
                _ => None,
            })
        };
        let of_row = |row: &Row| {
            let origin = own_of(row.provider).map_or(row.origin, BaseUrl::as_str);
            let base_url = BaseUrl::parse(&format!("{origin}{}", row.path))?;
            let public_host = BaseUrl::parse(row.origin)?.host();
            let known = Catalogue::shipped().provider_at(&public_host);
            Ok(Arc::new(BuiltInProvider {
                provider: row.provider,
                address: ProviderAddress::Fixed(base_url),
                usual_secret_name: row.secret_name,
                provider_name: known.unwrap_or(row.provider.catalogue_name()).to_owned(),
            }))
        };
        let of_cloud = |provider: Provider| {
            let google_token = origins.iter().rev().find_map(|origin| match &origin.0 {
                Origin::GoogleToken(url) => Some(url.clone()),
                _ => None,
            });
            let entra = origins.iter().rev().find_map(|origin| match &origin.0 {
                Origin::Entra(url) => Some(url.clone()),
                _ => None,
            });
            let api = own_of(provider).cloned();
            let secrets = credential_sets(provider).first().map_or(&[][..], |set| set.required);
            Arc::new(BuiltInProvider {
                provider,
                address: ProviderAddress::Cloud(Box::new(CloudOrigins {
                    api,
                    google_token,
                    entra,
                })),
                usual_secret_name: secrets.first().copied().unwrap_or_default(),
                provider_name: provider.catalogue_name().to_owned(),
            })
        };
        let rows = TABLE.iter().map(of_row);
        rows.chain(CLOUDS.map(of_cloud).into_iter().map(Ok)).collect::<Result<_, _>>().map(Self)
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<BuiltInProvider>> {
        self.0.iter()
    }

    /// The built-in provider of that name; none of the names of a kind of API.
    pub fn find(&self, provider: Provider) -> Option<&Arc<BuiltInProvider>> {
        self.0.iter().find(|built_in| built_in.provider == provider)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model_configuration::Placement;
    use crate::domain::provider::UpstreamApi;
    use crate::llm::format::{Format, Operation};
    use crate::providers::cloud::Account;

    /// Where a provider with a host of its own is.
    fn url(one: &BuiltInProvider) -> Option<&str> {
        match &one.address {
            ProviderAddress::Fixed(url) => Some(url.as_str()),
            ProviderAddress::Cloud(_) => None,
        }
    }

    #[test]
    fn the_table_leads_to_the_providers_own_hosts() {
        let built_in = BuiltInProviders::new(&[]).unwrap();
        let shown: Vec<String> = built_in
            .0
            .iter()
            .filter_map(|one| {
                let placement = one.provider.default_placement();
                let (name, url) = (one.provider.as_str(), url(one)?);
                Some(format!("{name} {url} {} {placement}", one.usual_secret_name))
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
            let is_bearer = one.provider.default_placement() == Placement::Bearer;
            assert!(url(one).is_none() || is_openai == is_bearer);
        }
    }

    #[test]
    fn the_clouds_lead_to_their_own_hosts() {
        let built_in = BuiltInProviders::new(&[]).unwrap();
        let account = Account {
            region: "eu-west-1",
            project: "my-project",
            resource: "my-resource",
            version: "v1beta1",
        };
        let url = |provider, operation: &Operation, account| {
            let found = built_in.find(provider).unwrap();
            let ProviderAddress::Cloud(origins) = &found.address else { panic!("{provider:?}") };
            let url = origins.base_url(provider, operation, account).unwrap();
            format!("{}{}", url.as_str(), operation.path_after_v1())
        };
        let post = |path: &str| Operation::of_post(path).unwrap();
        let gemini = Operation::of_gemini_post("/models/m:generateContent").unwrap();
        let claude = Operation::RawPredict { model: "claude@1".to_owned(), is_stream: true };
        let invoke = Operation::of_bedrock_post("/model/a.b%3A0/invoke").unwrap();
        let deployment = Operation::Deployment { name: "d".to_owned(), format: Format::Chat };
        for (provider, operation, expected) in [
            (
                Provider::Bedrock,
                &invoke,
                "https://bedrock-runtime.eu-west-1.amazonaws.com/model/a.b%3A0/invoke",
            ),
            (
                Provider::Bedrock,
                &Operation::ListModels,
                "https://bedrock.eu-west-1.amazonaws.com/models",
            ),
            (
                Provider::Vertex,
                &Operation::ListModels,
                "https://eu-west-1-aiplatform.googleapis.com/v1beta1/models",
            ),
            (
                Provider::Vertex,
                &gemini,
                "https://eu-west-1-aiplatform.googleapis.com/v1beta1/projects/my-project/locations/eu-west-1/publishers/google/models/m:generateContent",
            ),
            (
                Provider::Vertex,
                &claude,
                "https://eu-west-1-aiplatform.googleapis.com/v1beta1/projects/my-project/locations/eu-west-1/publishers/anthropic/models/claude@1:streamRawPredict",
            ),
            (
                Provider::Vertex,
                &post("/chat/completions"),
                "https://eu-west-1-aiplatform.googleapis.com/v1beta1/projects/my-project/locations/eu-west-1/endpoints/openapi/chat/completions",
            ),
            (
                Provider::Azure,
                &post("/responses"),
                "https://my-resource.openai.azure.com/openai/v1/responses",
            ),
            (
                Provider::Azure,
                &deployment,
                "https://my-resource.openai.azure.com/openai/deployments/d/chat/completions",
            ),
            (
                Provider::Azure,
                &post("/messages/count_tokens"),
                "https://my-resource.services.ai.azure.com/anthropic/v1/messages/count_tokens",
            ),
        ] {
            assert_eq!(url(provider, operation, account), expected);
        }
        for (region, host) in [
            ("global", "https://aiplatform.googleapis.com/"),
            ("us", "https://aiplatform.us.rep.googleapis.com/"),
            ("eu", "https://aiplatform.eu.rep.googleapis.com/"),
            ("us-central1", "https://us-central1-aiplatform.googleapis.com/"),
        ] {
            let url = url(Provider::Vertex, &gemini, Account { region, ..account });
            assert!(url.starts_with(host), "{url}");
        }
        assert_eq!(
            CloudOrigins::default().entra_token_url("my-tenant"),
            "https://login.microsoftonline.com/my-tenant/oauth2/v2.0/token"
        );
        let names = |provider| {
            let sets = credential_sets(provider).iter();
            sets.map(|set| [set.required, set.optional].concat().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(
            names(Provider::Bedrock),
            [
                "AWS_BEARER_TOKEN_BEDROCK",
                "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN"
            ]
        );
        assert_eq!(names(Provider::Vertex), ["VERTEX_SERVICE_ACCOUNT_JSON"]);
        assert_eq!(
            names(Provider::Azure),
            [
                "AZURE_FOUNDRY_API_KEY AZURE_FOUNDRY_RESOURCE_NAME",
                "AZURE_CLIENT_SECRET AZURE_TENANT_ID AZURE_CLIENT_ID AZURE_FOUNDRY_RESOURCE_NAME"
            ]
        );
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
        let url = |provider| url(built_in.find(provider).unwrap()).unwrap().to_owned();
        assert_eq!(url(Provider::Groq), "https://a.example/b/openai/v1");
        assert_eq!(built_in.find(Provider::Groq).unwrap().provider_name, "groq");
        assert_eq!(url(Provider::Openai), "https://api.openai.com/v1");
        for wrong in ["groq", "nobody=https://a.example", "groq=ftp://a", "groq=https://a/?b=c"] {
            assert!(wrong.parse::<ProviderOrigin>().is_err(), "{wrong}");
        }
        let origins: Vec<ProviderOrigin> = [
            "google-token=https://a.example/t/",
            "entra=https://b.example",
            "azure=http://[::1]:7",
        ]
        .into_iter()
        .map(|text| text.parse().unwrap())
        .collect();
        let built_in = BuiltInProviders::new(&origins).unwrap();
        let azure = built_in.find(Provider::Azure).unwrap();
        let ProviderAddress::Cloud(azure) = &azure.address else { panic!("{azure:?}") };
        assert_eq!(azure.google_token.as_ref().unwrap().as_str(), "https://a.example/t/");
        assert_eq!(azure.entra_token_url("t"), "https://b.example/t/oauth2/v2.0/token");
        let chat = Operation::Generate(Format::Chat);
        let url = azure.base_url(Provider::Azure, &chat, Account::default()).unwrap();
        assert_eq!(url.as_str(), "http://[::1]:7/openai/v1");
    }
}
