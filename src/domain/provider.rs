//! Who an upstream is, and which API it speaks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ids::ConfigurationId;
use super::model_configuration::Placement;
use super::text_enum::text_enum;

text_enum! {
    /// Who the upstream is, or which API it speaks.
    #[derive(Default, Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum Provider {
        /// OpenAI's API or one that is compatible with it.
        #[default]
        OpenaiCompatible = "openai_compatible",
        /// An API that is compatible with Anthropic's.
        AnthropicCompatible = "anthropic_compatible",
        /// Anthropic's API, also behind another host: the catalogue's prices for Anthropic apply.
        Anthropic = "anthropic",
        /// OpenAI's own API, also behind another host. The same holds for the providers below, whose
        /// APIs are compatible with OpenAI's.
        Openai = "openai",
        Baseten = "baseten",
        Cerebras = "cerebras",
        Deepseek = "deepseek",
        Fireworks = "fireworks",
        Groq = "groq",
        Mistral = "mistral",
        Openrouter = "openrouter",
        Perplexity = "perplexity",
        Together = "together",
        Xai = "xai",
        /// Google's Gemini API.
        Gemini = "gemini",
        /// Google Cloud's Vertex AI: Gemini, Claude, and open models.
        Vertex = "vertex",
        /// Amazon Bedrock's runtime.
        Bedrock = "bedrock",
        /// Microsoft's Azure AI Foundry: OpenAI's models, and Claude.
        Azure = "azure",
    }
}

/// A family of API formats that an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamApi {
    /// Chat completions, responses and embeddings.
    OpenAi,
    /// Messages.
    Anthropic,
    /// Google's `generateContent` and the related methods.
    Gemini,
    /// Bedrock's runtime: Converse, and models called in their own formats.
    Converse,
    /// Those of Gemini, of Anthropic and, for chat completions, of OpenAI, with addresses of its own.
    Vertex,
    /// Those of OpenAI and of Anthropic, with addresses of its own.
    Azure,
}

impl UpstreamApi {
    /// The families of formats that it serves.
    pub fn families(self) -> &'static [Self] {
        match self {
            Self::OpenAi => &[Self::OpenAi],
            Self::Anthropic => &[Self::Anthropic],
            Self::Gemini => &[Self::Gemini],
            Self::Converse => &[Self::Converse],
            Self::Vertex => &[Self::Gemini, Self::Anthropic, Self::OpenAi],
            Self::Azure => &[Self::OpenAi, Self::Anthropic],
        }
    }
}

impl Provider {
    /// Its name in the catalogue of prices and in model access.
    pub fn catalogue_name(self) -> &'static str {
        match self {
            Self::Gemini => "google",
            other => other.as_str(),
        }
    }

    /// Whether it is called by its name: it names no kind of API.
    pub fn is_built_in(self) -> bool {
        !self.is_kind_of_api()
    }

    /// Whether it names an API that many upstreams speak, and no provider.
    pub fn is_kind_of_api(self) -> bool {
        matches!(self, Self::OpenaiCompatible | Self::AnthropicCompatible)
    }

    /// The fields of a [`Connection`](super::connection::Connection) that it takes.
    pub fn connection_fields(self) -> &'static [&'static str] {
        match self {
            Self::Bedrock => &["region"],
            Self::Vertex => &["region", "project"],
            Self::Azure => &["resource", "tenant_id", "client_id"],
            _ => &[],
        }
    }

    /// Whether its API has a list of the models that can be called.
    pub fn lists_models(self) -> bool {
        match self {
            Self::Anthropic
            | Self::Openai
            | Self::Baseten
            | Self::Cerebras
            | Self::Deepseek
            | Self::Fireworks
            | Self::Groq
            | Self::Mistral
            | Self::Openrouter
            | Self::Together
            | Self::Xai
            | Self::Gemini
            | Self::Bedrock
            | Self::Vertex => true,
            // Perplexity has a list of another API only ("List Models", as of 2026). Azure lists models
            // that can be deployed; requests name deployments, which its keys cannot list. The others name
            // no provider.
            Self::Perplexity | Self::Azure | Self::OpenaiCompatible | Self::AnthropicCompatible => {
                false
            }
        }
    }

    /// The API that the upstream speaks.
    pub fn api(self) -> UpstreamApi {
        match self {
            Self::AnthropicCompatible | Self::Anthropic => UpstreamApi::Anthropic,
            Self::OpenaiCompatible
            | Self::Openai
            | Self::Baseten
            | Self::Cerebras
            | Self::Deepseek
            | Self::Fireworks
            | Self::Groq
            | Self::Mistral
            | Self::Openrouter
            | Self::Perplexity
            | Self::Together
            | Self::Xai => UpstreamApi::OpenAi,
            Self::Gemini => UpstreamApi::Gemini,
            Self::Bedrock => UpstreamApi::Converse,
            Self::Vertex => UpstreamApi::Vertex,
            Self::Azure => UpstreamApi::Azure,
        }
    }

    /// Where the key is sent if a configuration does not say it.
    pub fn default_placement(self) -> Placement {
        match self.api() {
            UpstreamApi::OpenAi | UpstreamApi::Converse | UpstreamApi::Vertex => Placement::Bearer,
            UpstreamApi::Gemini => Placement::Header("x-goog-api-key".to_owned()),
            UpstreamApi::Anthropic => Placement::Header("x-api-key".to_owned()),
            UpstreamApi::Azure => Placement::Header("api-key".to_owned()),
        }
    }
}

/// What a request was sent through: a model configuration, or a built-in provider, called by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum UpstreamId {
    /// The configuration with this id.
    Configuration(ConfigurationId),
    /// The provider of the request's path.
    Provider(Provider),
}

impl UpstreamId {
    /// The configuration's id.
    pub fn configuration_id(self) -> Option<ConfigurationId> {
        match self {
            Self::Configuration(id) => Some(id),
            Self::Provider(_) => None,
        }
    }

    /// The built-in provider.
    pub fn provider(self) -> Option<Provider> {
        match self {
            Self::Configuration(_) => None,
            Self::Provider(provider) => Some(provider),
        }
    }
}

impl From<ConfigurationId> for UpstreamId {
    fn from(id: ConfigurationId) -> Self {
        Self::Configuration(id)
    }
}

/// As in the ledger's column `configuration_id`: the id, or the provider's name.
impl fmt::Display for UpstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(id) => id.fmt(f),
            Self::Provider(provider) => f.write_str(provider.as_str()),
        }
    }
}

impl From<UpstreamId> for String {
    fn from(id: UpstreamId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for UpstreamId {
    type Error = uuid::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for UpstreamId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Provider::parse(text) {
            Some(provider) => Ok(Self::Provider(provider)),
            None => text.parse().map(Self::Configuration),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_known_by_its_text() {
        let id = ConfigurationId::from(uuid::Uuid::from_u128(7));
        let providers = Provider::ALL.into_iter().map(UpstreamId::Provider);
        for upstream in providers.chain([UpstreamId::from(id)]) {
            assert_eq!(upstream.to_string().parse(), Ok(upstream));
        }
        assert!("nobody".parse::<UpstreamId>().is_err());
    }
}
