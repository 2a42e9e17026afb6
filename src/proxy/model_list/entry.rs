//! One model of the list, and where it is called.

use serde_json::{Value, json};

use crate::directory::workspace_configurations::ListedConfiguration;
use crate::domain::provider::{Provider, UpstreamApi};
use crate::llm::model_listing::ListedModel;
use crate::proxy::path_segment::path_segment;

/// What comes before the names of configurations.
pub const CONFIGURATION_PREFIX: &str = "custom/";

/// A model that the caller may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// Unique in the list.
    pub id: String,
    pub display_name: Option<String>,
    /// Seconds since 1970, if known.
    pub created: Option<i64>,
    pub owned_by: &'static str,
    /// Below which its operations are.
    path: String,
    /// The name that requests below this path have for it; none where it does not matter.
    model: Option<String>,
}

impl ModelEntry {
    /// A model configuration.
    pub fn of_configuration(configuration: &ListedConfiguration) -> Self {
        let ListedConfiguration { id, name, provider, .. } = configuration;
        let segment = path_segment(name);
        let made_at = id.uuid().get_timestamp().map(|at| at.to_unix().0);
        Self {
            id: format!("{CONFIGURATION_PREFIX}{name}"),
            display_name: Some(name.clone()),
            created: made_at.and_then(|at| i64::try_from(at).ok()),
            owned_by: provider.as_str(),
            path: format!("/providers/{segment}{}", version_of(provider.api())),
            model: None,
        }
    }

    /// An alias of a fallback chain, called under the name of a provider that speaks this API; none if
    /// there is no such provider.
    pub fn of_alias(alias: &str, api: UpstreamApi) -> Option<Self> {
        let provider = match api {
            UpstreamApi::OpenAi | UpstreamApi::Azure => Provider::Openai,
            UpstreamApi::Anthropic => Provider::Anthropic,
            UpstreamApi::Gemini | UpstreamApi::Vertex => Provider::Gemini,
            UpstreamApi::Converse => Provider::Bedrock,
        };
        provider.is_built_in().then(|| Self {
            id: alias.to_owned(),
            display_name: None,
            created: None,
            owned_by: "tollgate",
            path: path_of(provider),
            model: Some(alias.to_owned()),
        })
    }

    /// A model of a built-in provider.
    pub fn of_provider(provider: Provider, model: &ListedModel) -> Self {
        Self {
            id: format!("{}/{}", provider.as_str(), model.id),
            display_name: model.display_name.clone(),
            created: model.created,
            owned_by: provider.as_str(),
            path: match provider.api() {
                UpstreamApi::Vertex if model.id.starts_with("claude-") => {
                    path_of(provider) + "/publishers/anthropic"
                }
                UpstreamApi::Vertex => path_of(provider) + "/publishers/google",
                _ => path_of(provider),
            },
            model: Some(model.id.clone()),
        }
    }

    /// Where the model is called, as lists show it.
    pub fn place(&self) -> Value {
        match &self.model {
            Some(model) => json!({"path": self.path, "model": model}),
            None => json!({"path": self.path}),
        }
    }
}

fn path_of(provider: Provider) -> String {
    format!("/{}{}", provider.as_str(), version_of(provider.api()))
}

/// The version in an API's paths.
fn version_of(api: UpstreamApi) -> &'static str {
    match api {
        UpstreamApi::OpenAi | UpstreamApi::Anthropic | UpstreamApi::Azure | UpstreamApi::Vertex => {
            "/v1"
        }
        UpstreamApi::Gemini => "/v1beta",
        UpstreamApi::Converse => "",
    }
}
