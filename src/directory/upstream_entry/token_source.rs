//! Where the tokens of a model configuration come from: its OAuth client, and the key that is used
//! in place of one.

use std::error::Error;

use actix_web::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use chrono::{DateTime, Utc};

use super::{Credentials, SecretUnavailable, UpstreamEntry};
use crate::crypto::{KeyringHandle, SecretText};
use crate::db::model_configurations::ModelConfigurationRow;
use crate::domain::model_configuration::Placement;
use crate::domain::oauth::OauthClient;
use crate::upstream::EndpointUrl;

/// The OAuth client of a configuration.
#[derive(Debug)]
pub struct TokenSource {
    pub client: OauthClient,
    pub endpoint: EndpointUrl,
    /// Further headers of the token request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// When the configuration was changed last.
    pub updated_at: DateTime<Utc>,
    placement: Placement,
}

impl TokenSource {
    pub(super) fn parse(
        row: &ModelConfigurationRow,
    ) -> Result<Option<Self>, Box<dyn Error + Send + Sync>> {
        let Some(oauth) = &row.columns.oauth else { return Ok(None) };
        let client: OauthClient = serde_json::from_value(oauth.clone())?;
        let mut headers = Vec::with_capacity(client.headers.len());
        for (name, value) in &client.headers {
            headers.push((HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?));
        }
        Ok(Some(Self {
            endpoint: EndpointUrl::parse(&client.token_url)?,
            headers,
            updated_at: row.columns.updated_at.and_utc(),
            placement: Placement::from(row.columns.auth.clone()),
            client,
        }))
    }

    /// The header that carries a token; none if the token has characters that no header can hold.
    pub fn header(&self, token: &SecretText) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match &self.placement {
            Placement::Bearer => (AUTHORIZATION, format!("Bearer {}", token.expose())),
            Placement::Header(name) => {
                (HeaderName::from_bytes(name.as_bytes()).ok()?, token.expose().to_owned())
            }
        };
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }
}

impl UpstreamEntry {
    /// Adds the key that replaces a token, if the configuration has one.
    pub fn add_fallback_key(
        &self,
        credentials: &mut Credentials,
        keyring: &KeyringHandle,
    ) -> Result<(), SecretUnavailable> {
        if let Some((name, template)) = &self.fallback_key {
            let value = self.open_template(name, template, keyring, &mut credentials.secrets)?;
            credentials.headers.push((name.clone(), value));
        }
        Ok(())
    }
}
