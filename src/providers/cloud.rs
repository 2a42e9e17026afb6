//! The cloud providers, whose host follows from a region or an account: where their APIs are, and which
//! secrets they are called with.

use crate::domain::provider::{Provider, UpstreamApi};
use crate::llm::format::Operation;
use crate::upstream::{BaseUrl, BaseUrlError, EndpointUrl};

/// The region of Bedrock unless something else is said.
pub const BEDROCK_REGION: &str = "us-east-1";
/// The location of Vertex unless something else is said: the one that has all of Google's models.
pub const VERTEX_REGION: &str = "global";
/// The version of Vertex' API unless the path has one.
pub const VERTEX_VERSION: &str = "v1";

/// Of which Microsoft Entra gives tokens for Azure's models.
pub const ENTRA_SCOPE: &str = "https://cognitiveservices.azure.com/.default";
const ENTRA_ORIGIN: &str = "https://login.microsoftonline.com";

/// The resource of Azure, unless a connection names it.
pub const AZURE_RESOURCE: &str = "AZURE_FOUNDRY_RESOURCE_NAME";
/// The tenant of an application in Azure, unless a connection names it.
pub const AZURE_TENANT: &str = "AZURE_TENANT_ID";
/// The application, unless a connection names it.
pub const AZURE_CLIENT: &str = "AZURE_CLIENT_ID";
/// Of temporary AWS keys.
pub const AWS_SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// How a set of secrets becomes a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// The first one is sent as it is.
    Key,
    /// An AWS access key, its id first, which signs.
    AwsKey,
    /// The JSON of a Google service account, for which tokens are minted.
    ServiceAccount,
    /// The secret of an application, first, and what names it, for which Microsoft Entra mints tokens.
    EntraClient,
}

/// Secrets that make a credential together.
#[derive(Debug, PartialEq, Eq)]
pub struct CredentialSet {
    pub kind: CredentialKind,
    pub required: &'static [&'static str],
    pub optional: &'static [&'static str],
}

const fn set(kind: CredentialKind, required: &'static [&'static str]) -> CredentialSet {
    CredentialSet { kind, required, optional: &[] }
}

/// Its key for Bedrock wins over the access key, as in AWS's SDKs.
const BEDROCK: &[CredentialSet] = &[
    set(CredentialKind::Key, &["AWS_BEARER_TOKEN_BEDROCK"]),
    CredentialSet {
        kind: CredentialKind::AwsKey,
        required: &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
        optional: &[AWS_SESSION_TOKEN],
    },
];
const VERTEX: &[CredentialSet] =
    &[set(CredentialKind::ServiceAccount, &["VERTEX_SERVICE_ACCOUNT_JSON"])];
const AZURE: &[CredentialSet] = &[
    set(CredentialKind::Key, &["AZURE_FOUNDRY_API_KEY", AZURE_RESOURCE]),
    set(
        CredentialKind::EntraClient,
        &["AZURE_CLIENT_SECRET", AZURE_TENANT, AZURE_CLIENT, AZURE_RESOURCE],
    ),
];

/// What a cloud provider can be called with, the one that wins first; nothing for other providers.
pub fn credential_sets(provider: Provider) -> &'static [CredentialSet] {
    match provider {
        Provider::Bedrock => BEDROCK,
        Provider::Vertex => VERTEX,
        Provider::Azure => AZURE,
        _ => &[],
    }
}

/// The usual names of all secrets that a cloud provider can be called with; none of other providers.
pub fn usual_secret_names(provider: Provider) -> Vec<&'static str> {
    let sets = credential_sets(provider).iter();
    let mut names = Vec::new();
    for name in sets.flat_map(|set| set.required.iter().chain(set.optional)) {
        if !names.contains(name) {
            names.push(*name);
        }
    }
    names
}

/// What the operator has put in place of a cloud provider's own addresses.
#[derive(Clone, Debug, Default)]
pub struct CloudOrigins {
    /// In place of the host with its region or resource.
    pub api: Option<BaseUrl>,
    /// In place of Google's token endpoint.
    pub google_token: Option<EndpointUrl>,
    /// In place of Microsoft Entra's host.
    pub entra: Option<BaseUrl>,
}

/// Whose API is called. Each part has been checked by the rules of `domain::connection`; those that the
/// provider does not have are empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account<'a> {
    pub region: &'a str,
    pub project: &'a str,
    pub resource: &'a str,
    /// Of Vertex' API.
    pub version: &'a str,
}

impl CloudOrigins {
    /// The URL that the operation's path after the version is appended to.
    pub fn base_url(
        &self,
        provider: Provider,
        operation: &Operation,
        account: Account<'_>,
    ) -> Result<BaseUrl, BaseUrlError> {
        let Account { region, project, resource, version } = account;
        let is_anthropic = is_anthropic(operation);
        let is_unmetered = matches!(operation, Operation::Unmetered { .. });
        let is_list = *operation == Operation::ListModels;
        let (host, path) = match provider {
            // The models that publishers offer, which belong to no account.
            Provider::Vertex if is_list => (vertex_host(region), "/v1beta1".to_owned()),
            Provider::Vertex if is_unmetered => {
                let path = format!("/{version}/projects/{project}/locations/{region}");
                (vertex_host(region), path)
            }
            Provider::Vertex => {
                let api = match operation.family() {
                    Some(UpstreamApi::Anthropic) => "publishers/anthropic",
                    Some(UpstreamApi::OpenAi) => "endpoints/openapi",
                    _ => "publishers/google",
                };
                let path = format!("/{version}/projects/{project}/locations/{region}/{api}");
                (vertex_host(region), path)
            }
            Provider::Azure if is_anthropic => {
                let path = if is_unmetered { "" } else { "/anthropic/v1" };
                (format!("{resource}.services.ai.azure.com"), path.to_owned())
            }
            Provider::Azure => {
                let path = match operation {
                    Operation::Unmetered { .. } => "",
                    Operation::Deployment { .. } => "/openai",
                    _ => "/openai/v1",
                };
                (format!("{resource}.openai.azure.com"), path.to_owned())
            }
            _ if is_list => (format!("bedrock.{region}.amazonaws.com"), String::new()),
            _ => (format!("bedrock-runtime.{region}.amazonaws.com"), String::new()),
        };
        match &self.api {
            Some(origin) => BaseUrl::parse(&format!("{}{path}", origin.as_str())),
            None => BaseUrl::parse(&format!("https://{host}{path}")),
        }
    }

    /// The token endpoint of a tenant of Microsoft Entra.
    pub fn entra_token_url(&self, tenant: &str) -> String {
        let origin = self.entra.as_ref().map_or(ENTRA_ORIGIN, BaseUrl::as_str);
        format!("{origin}/{tenant}/oauth2/v2.0/token")
    }
}

/// Whether the operation is one of Anthropic's API, which has a host of its own at Azure.
pub fn is_anthropic(operation: &Operation) -> bool {
    match operation {
        Operation::Unmetered { path, .. } => path.starts_with("/anthropic/"),
        _ => operation.family() == Some(UpstreamApi::Anthropic),
    }
}

/// Google Cloud, "Vertex AI: locations".
fn vertex_host(region: &str) -> String {
    match region {
        "global" => "aiplatform.googleapis.com".to_owned(),
        "us" | "eu" => format!("aiplatform.{region}.rep.googleapis.com"),
        _ => format!("{region}-aiplatform.googleapis.com"),
    }
}
