//! What cloud providers are called with: a key, a signature, or a token for a service account or an
//! application; and where, which follows from the account.

use std::borrow::Cow;

use actix_web::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::mint::TokenRequest;
use super::service_account::{GOOGLE_TOKEN_URL, InvalidAccount, ServiceAccount};
use super::sigv4::{AwsKey, Signer};
use super::token_cache::{CachedToken, TokenCache, TokenKey};
use super::{CredentialError, Opened, copy_of, failed};
use crate::crypto::{KeyringHandle, SecretBytes};
use crate::directory::upstream_entry::{CloudAccess, SecretUnavailable, UpstreamEntry};
use crate::domain::connection::{is_host_label, is_project, is_resource_name, is_tenant};
use crate::domain::names::SecretName;
use crate::domain::oauth::{ClientAuthMethod, OauthClient, is_visible_ascii};
use crate::domain::provider::Provider;
use crate::llm::format::Operation;
use crate::providers::cloud::{
    AWS_SESSION_TOKEN, AZURE_CLIENT, AZURE_RESOURCE, AZURE_TENANT, Account, BEDROCK_REGION,
    CredentialKind, ENTRA_SCOPE, VERTEX_REGION, VERTEX_VERSION, is_anthropic,
};
use crate::upstream::{EndpointUrl, UpstreamClient};

/// What a request's path says of the account, as Vertex' paths do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `v1` or `v1beta1`.
    pub version: Option<&'static str>,
    pub project: Option<String>,
    /// A label of a host name.
    pub region: Option<String>,
}

/// The path names something else than the credential or its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OtherConnection {
    #[error("the path names another project")]
    Project,
    #[error("the path names another location")]
    Region,
}

/// One call of a cloud provider.
pub struct CloudCall<'r> {
    pub entry: &'r UpstreamEntry,
    pub access: &'r CloudAccess,
    /// As the provider gets it.
    pub operation: &'r Operation,
    pub place: Option<&'r Place>,
    pub keyring: &'r KeyringHandle,
    pub tokens: &'r TokenCache,
    pub client: &'r UpstreamClient,
}

/// Opens the secrets of the call, and finds out where it goes. A token is the cached one or a new one.
pub async fn open_cloud(call: &CloudCall<'_>) -> Result<Opened<'static>, CredentialError> {
    let CloudAccess { connection, credential, .. } = call.access;
    // Bedrock may be the target of a chain that a path on Vertex leads to.
    let place = call.place.filter(|_| call.entry.provider == Provider::Vertex);
    let place = place.cloned().unwrap_or_default();
    let region = match (&connection.region, &place.region) {
        (Some(own), Some(other)) if own != other => return Err(OtherConnection::Region.into()),
        (Some(region), _) | (None, Some(region)) => region.as_str(),
        (None, None) if call.entry.provider == Provider::Vertex => VERTEX_REGION,
        (None, None) => BEDROCK_REGION,
    };
    if !is_host_label(region) {
        return Err(call.unusable("region", "it is no label of a host name").into());
    }
    let resource = match call.entry.provider {
        Provider::Azure => {
            call.text(AZURE_RESOURCE, connection.resource.as_deref(), is_resource_name)?
        }
        _ => String::new(),
    };
    let mut account = Account {
        region,
        project: "",
        resource: &resource,
        version: place.version.unwrap_or(VERTEX_VERSION),
    };
    let first = call.access.stored_name(credential.required.first().copied().unwrap_or_default());
    let secret = call.entry.open_secret(first, call.keyring)?;
    // With the headers that settings add.
    let mut credentials = call.entry.open(call.keyring)?;
    let (mut token, mut signer) = (None, None);
    let project;
    match credential.kind {
        CredentialKind::Key => {
            credentials.headers.push(call.key_header(first, &secret)?);
            credentials.secrets.push(secret);
        }
        CredentialKind::AwsKey => {
            let key = call.aws_key(first, &secret)?;
            credentials.secrets.extend(key.session_token.clone());
            signer = Some(Signer { key, region: region.to_owned() });
        }
        CredentialKind::ServiceAccount => {
            let (service_account, minted) = call.google_token(first, &secret).await?;
            project = call.project(service_account.project_id, place.project.as_deref())?;
            account.project = &project;
            token = Some(minted);
        }
        CredentialKind::EntraClient => token = Some(call.entra_token(first, &secret).await?),
    }
    if let Some(token) = &token {
        let bearer = zeroize::Zeroizing::new(format!("Bearer {}", token.text().expose()));
        credentials.headers.push((AUTHORIZATION, call.sensitive(first, bearer.as_bytes())?));
        credentials.secrets.push(copy_of(token));
    }
    let base_url = call.access.origins.base_url(call.entry.provider, call.operation, account);
    let base_url = base_url.map_err(|error| call.unusable(first, &error.to_string()))?;
    Ok(Opened { token, signer, ..Opened::new(Cow::Owned(base_url), credentials) })
}

impl CloudCall<'_> {
    fn unusable(&self, name: &str, cause: &str) -> SecretUnavailable {
        SecretUnavailable { name: name.to_owned(), cause: cause.to_owned() }
    }

    /// What the connection says, or else the secret with this usual name; checked.
    fn text(
        &self,
        usual_name: &str,
        own: Option<&str>,
        is_valid: fn(&str) -> bool,
    ) -> Result<String, SecretUnavailable> {
        let name = self.access.stored_name(usual_name);
        let text = match own {
            Some(text) => text.to_owned(),
            None => {
                let secret = self.entry.open_secret(name, self.keyring)?;
                String::from_utf8_lossy(secret.expose()).into_owned()
            }
        };
        match is_valid(&text) {
            true => Ok(text),
            false => Err(self.unusable(name, "its value has characters that it can't have")),
        }
    }

    /// The project of the path, if it is the account's.
    fn project(
        &self,
        of_account: String,
        in_path: Option<&str>,
    ) -> Result<String, CredentialError> {
        let project = self.access.connection.project.clone().unwrap_or(of_account);
        if in_path.is_some_and(|in_path| in_path != project) {
            return Err(OtherConnection::Project.into());
        }
        if !is_project(&project) {
            return Err(self.unusable("project", "it is no project's id or number").into());
        }
        Ok(project)
    }

    fn sensitive(&self, name: &str, value: &[u8]) -> Result<HeaderValue, SecretUnavailable> {
        let mut value = HeaderValue::from_bytes(value)
            .map_err(|_| self.unusable(name, "its value is not a valid header value"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn key_header(
        &self,
        name: &str,
        key: &SecretBytes,
    ) -> Result<(HeaderName, HeaderValue), SecretUnavailable> {
        if self.entry.provider == Provider::Azure {
            let header = if is_anthropic(self.operation) { "x-api-key" } else { "api-key" };
            let value = self.sensitive(name, key.expose())?;
            return Ok((HeaderName::from_static(header), value));
        }
        let bearer = zeroize::Zeroizing::new([b"Bearer ", key.expose()].concat());
        Ok((AUTHORIZATION, self.sensitive(name, &bearer)?))
    }

    fn aws_key(&self, first: &str, id: &SecretBytes) -> Result<AwsKey, SecretUnavailable> {
        let visible = |name: &str, value: &SecretBytes| {
            let text =
                std::str::from_utf8(value.expose()).ok().filter(|text| is_visible_ascii(text));
            text.map(str::to_owned)
                .ok_or_else(|| self.unusable(name, "its value is not visible ASCII"))
        };
        let id = visible(first, id)?;
        let name = self.access.credential.required.get(1).copied().unwrap_or_default();
        let name = self.access.stored_name(name);
        let secret = self.entry.open_secret(name, self.keyring)?;
        let mut session_token = None;
        let name = self.access.stored_name(AWS_SESSION_TOKEN);
        if self.entry.has_secret(name) {
            let token = self.entry.open_secret(name, self.keyring)?;
            visible(name, &token)?;
            session_token = Some(token);
        }
        Ok(AwsKey { id, secret, session_token })
    }

    /// What a token of this credential depends on.
    fn token_key(&self) -> TokenKey {
        let required = self.access.credential.required.iter();
        let names: SmallVec<[&str; 4]> =
            required.map(|usual| self.access.stored_name(usual)).collect();
        TokenKey {
            upstream: self.entry.id,
            updated_at: None,
            connection: Some(self.access.connection.clone()),
            secrets: self.entry.secret_versions(&names),
        }
    }

    async fn google_token(
        &self,
        name: &str,
        json: &SecretBytes,
    ) -> Result<(ServiceAccount, CachedToken), CredentialError> {
        let invalid = |error: InvalidAccount| self.unusable(name, &error.to_string());
        let other = self.access.origins.google_token.as_ref();
        let account = ServiceAccount::parse(json.expose(), other.map(EndpointUrl::as_str));
        let account = account.map_err(invalid)?;
        let request = |now| {
            let endpoint = match other {
                Some(endpoint) => endpoint.clone(),
                None => EndpointUrl::parse(GOOGLE_TOKEN_URL)
                    .map_err(|error| self.unusable(name, &error.to_string()))?,
            };
            let assertion = account.assertion(now).map_err(invalid)?;
            Ok(TokenRequest::of_assertion(endpoint, &assertion))
        };
        let (key, entry) = (self.token_key(), self.entry);
        let token = self.tokens.find_or_mint(&key, &entry.name, self.client, name, request).await?;
        Ok((account, token))
    }

    async fn entra_token(
        &self,
        name: &str,
        secret: &SecretBytes,
    ) -> Result<CachedToken, CredentialError> {
        let connection = &self.access.connection;
        let request = |_| {
            let tenant = self.text(AZURE_TENANT, connection.tenant_id.as_deref(), is_tenant)?;
            let client_id =
                self.text(AZURE_CLIENT, connection.client_id.as_deref(), is_visible_ascii)?;
            let token_url = self.access.origins.entra_token_url(&tenant);
            let endpoint = EndpointUrl::parse(&token_url).map_err(|error| {
                self.unusable(self.access.stored_name(AZURE_TENANT), &error.to_string())
            })?;
            let client_secret =
                SecretName::parse(name).map_err(|error| self.unusable(name, &error.to_string()))?;
            let client = OauthClient {
                token_url,
                client_id,
                client_secret,
                auth_method: ClientAuthMethod::Post,
                scope: Some(ENTRA_SCOPE.to_owned()),
                parameters: Default::default(),
                headers: Default::default(),
                fall_back_to_api_key: false,
            };
            TokenRequest::of_client(&client, endpoint, &[], secret)
                .map_err(|failure| failed(name, failure))
        };
        let key = self.token_key();
        self.tokens.find_or_mint(&key, &self.entry.name, self.client, name, request).await
    }
}
