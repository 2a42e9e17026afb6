//! What an upstream is called with: stored secrets, tokens that are minted with them, and signatures.

pub mod cloud;
pub mod mint;
pub mod service_account;
pub mod sigv4;
pub mod token_cache;

use std::borrow::Cow;

use crate::crypto::{KeyringHandle, SecretBytes};
use crate::directory::upstream_entry::{Credentials, SecretUnavailable, UpstreamEntry};
use crate::upstream::{BaseUrl, UpstreamClient};
use cloud::OtherConnection;
use mint::{MintFailure, TokenRequest};
use sigv4::Signer;
use token_cache::{CachedToken, TokenCache, TokenKey};

/// The credentials for one request, and where they are sent.
pub struct Opened<'e> {
    pub base_url: Cow<'e, BaseUrl>,
    pub credentials: Credentials,
    /// The token among them.
    pub token: Option<CachedToken>,
    /// Why the configuration's key is used in place of a token.
    pub no_token_because: Option<CredentialError>,
    /// Signs the request when nothing of it changes any more.
    pub signer: Option<Signer>,
}

impl<'e> Opened<'e> {
    /// With nothing but these credentials.
    pub fn new(base_url: Cow<'e, BaseUrl>, credentials: Credentials) -> Self {
        Self { base_url, credentials, token: None, no_token_because: None, signer: None }
    }
}

/// Why an upstream can't be called with its credentials.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CredentialError {
    #[error(transparent)]
    Secret(#[from] SecretUnavailable),
    #[error("secret {secret}: {failure}")]
    Token {
        /// What the token was to be minted with.
        secret: String,
        failure: MintFailure,
    },
    #[error(transparent)]
    Connection(#[from] OtherConnection),
}

/// Opens the secrets of an upstream at this URL. Where it takes a token, that is the cached one or a new
/// one, and without any the configuration's key, if the configuration says so.
pub async fn open<'e>(
    entry: &UpstreamEntry,
    base_url: &'e BaseUrl,
    keyring: &KeyringHandle,
    tokens: &TokenCache,
    client: &UpstreamClient,
) -> Result<Opened<'e>, CredentialError> {
    let mut opened = Opened::new(Cow::Borrowed(base_url), entry.open(keyring)?);
    let Some(source) = &entry.token_source else { return Ok(opened) };
    let secret = source.client.client_secret.as_str();
    let key = TokenKey {
        upstream: entry.id,
        updated_at: Some(source.updated_at),
        connection: None,
        secrets: entry.secret_versions(&[secret]),
    };
    let found = tokens.find_or_mint(&key, &entry.name, client, secret, |_| {
        let value = entry.open_secret(secret, keyring)?;
        TokenRequest::of_client(&source.client, source.endpoint.clone(), &source.headers, &value)
            .map_err(|failure| failed(secret, failure))
    });
    // Boxed, so that it takes no room in the requests that take no token.
    match Box::pin(found).await {
        Ok(token) => {
            opened.credentials.headers.extend(source.header(token.text()));
            opened.credentials.secrets.push(copy_of(&token));
            opened.token = Some(token);
        }
        Err(error) if source.client.fall_back_to_api_key => {
            entry.add_fallback_key(&mut opened.credentials, keyring)?;
            opened.no_token_because = Some(error);
        }
        Err(error) => return Err(error),
    }
    Ok(opened)
}

fn failed(secret: &str, failure: MintFailure) -> CredentialError {
    CredentialError::Token { secret: secret.to_owned(), failure }
}

/// What must not reach the caller.
fn copy_of(token: &CachedToken) -> SecretBytes {
    SecretBytes::from(token.text().expose().as_bytes().to_vec())
}
