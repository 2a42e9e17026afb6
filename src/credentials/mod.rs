//! What an upstream is called with: stored secrets, and tokens that are minted with them.

pub mod mint;
pub mod token_cache;

use crate::crypto::{KeyringHandle, SecretBytes};
use crate::directory::upstream_entry::{Credentials, SecretUnavailable, UpstreamEntry};
use crate::upstream::UpstreamClient;
use mint::MintFailure;
use token_cache::{CachedToken, TokenCache};

/// The credentials for one request.
pub struct Opened {
    pub credentials: Credentials,
    /// The token among them.
    pub token: Option<CachedToken>,
    /// Why the configuration's key stands in for a token.
    pub no_token_because: Option<CredentialError>,
}

/// Why an upstream can't be called with its credentials.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CredentialError {
    #[error(transparent)]
    Secret(#[from] SecretUnavailable),
    #[error(transparent)]
    Token(#[from] MintFailure),
}

/// Opens the secrets of the upstream. Where it takes a token, that is the cached one or a new one, and
/// without any the configuration's key, if the configuration says so.
pub async fn open(
    entry: &UpstreamEntry,
    keyring: &KeyringHandle,
    tokens: &TokenCache,
    client: &UpstreamClient,
) -> Result<Opened, CredentialError> {
    let mut credentials = entry.open(keyring)?;
    let Some(source) = &entry.token_source else {
        return Ok(Opened { credentials, token: None, no_token_because: None });
    };
    match tokens.find_or_mint(entry, source, keyring, client).await {
        Ok(token) => {
            credentials.headers.extend(source.header(token.text()));
            credentials.secrets.push(SecretBytes::from(token.text().expose().as_bytes().to_vec()));
            Ok(Opened { credentials, token: Some(token), no_token_because: None })
        }
        Err(error) if source.client.fall_back_to_api_key => {
            entry.add_fallback_key(&mut credentials, keyring)?;
            Ok(Opened { credentials, token: None, no_token_because: Some(error) })
        }
        Err(error) => Err(error),
    }
}
