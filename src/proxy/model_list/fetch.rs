//! Fetches a provider's list of models with the workspace's credential.

use std::time::Duration;

use actix_web::http::header::{
    ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use actix_web::http::{Method, StatusCode};
use bytes::BytesMut;
use futures_util::StreamExt;

use crate::credentials::cloud::{CloudCall, open_cloud};
use crate::credentials::{CredentialError, Opened, open};
use crate::directory::upstream_entry::{Address, UpstreamEntry};
use crate::domain::headers::{ANTHROPIC_VERSION, USUAL_ANTHROPIC_VERSION};
use crate::domain::provider::UpstreamApi;
use crate::json::object::BodyPieces;
use crate::llm::format::Operation;
use crate::llm::model_listing::{ListedModel, listings, read_page};
use crate::proxy::DataPlane;
use crate::upstream::{
    UpstreamClient, UpstreamError, UpstreamRequest, UpstreamResponse, UpstreamTimeouts,
};

/// The time for the whole list.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest list that is read, in bytes, all parts together; the longest known ones have a few hundred
/// KiB.
const MAX_LISTING: usize = 4 * 1024 * 1024;
/// The most parts of a list that are read.
const MAX_PAGES: usize = 10;
/// The most models of a provider that are kept.
const MAX_MODELS: usize = 2_000;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the answer has the status {0}")]
    Status(u16),
    #[error("the list was not complete within {} seconds", TIMEOUT.as_secs())]
    TimedOut,
    #[error("the list is larger than {} MiB", MAX_LISTING / 1024 / 1024)]
    TooLarge,
    #[error("the answer is no list of models")]
    NotAList,
}

/// The provider's models; the first ones, if there are more than are read.
pub async fn fetch(
    plane: &DataPlane,
    client: &UpstreamClient,
    entry: &UpstreamEntry,
) -> Result<Vec<ListedModel>, ListingError> {
    let listing = tokio::time::timeout(TIMEOUT, pages(plane, client, entry)).await;
    let outcome = listing.unwrap_or(Err(ListingError::TimedOut));
    let result = if outcome.is_ok() { "fetched" } else { "failed" };
    plane.accounting.reporter.metrics().model_listing(result);
    outcome
}

async fn pages(
    plane: &DataPlane,
    client: &UpstreamClient,
    entry: &UpstreamEntry,
) -> Result<Vec<ListedModel>, ListingError> {
    let api = entry.provider.api();
    let DataPlane { keyring, tokens, clock, .. } = plane;
    let Opened { base_url, credentials, token, signer, .. } = match &entry.address {
        Address::Fixed(base_url) => open(entry, base_url, keyring, tokens, client).await?,
        Address::Cloud(access) => {
            let operation = &Operation::ListModels;
            let call = CloudCall { entry, access, operation, place: None, keyring, tokens, client };
            open_cloud(&call).await?
        }
    };
    let mut headers: HeaderMap = credentials.headers.into_iter().collect();
    if api == UpstreamApi::Anthropic {
        let version = HeaderValue::from_static(USUAL_ANTHROPIC_VERSION);
        headers.insert(HeaderName::from_static(ANTHROPIC_VERSION), version);
    }
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let agent = concat!("tollgate/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));

    let mut models = Vec::new();
    let mut left = MAX_LISTING;
    let mut lists = listings(api).iter();
    let Some(mut list) = lists.next() else { return Ok(models) };
    let mut query = list.first_query.map(str::to_owned);
    let mut is_cut = true;
    for _ in 0..MAX_PAGES {
        let mut request = UpstreamRequest {
            method: Method::GET,
            target: base_url.join(list.path, query.as_deref()),
            headers: headers.clone(),
            body: BodyPieces::default().into(),
            timeouts: UpstreamTimeouts { connect: TIMEOUT, first_byte: TIMEOUT, idle: TIMEOUT },
        };
        if let Some(signer) = &signer {
            signer.sign(&mut request, clock.now())?;
        }
        let UpstreamResponse { status, mut body, .. } = client.send_with_retry(request).await?;
        if let (StatusCode::UNAUTHORIZED, Some(token)) = (status, &token) {
            token.forget();
        }
        if !status.is_success() {
            return Err(ListingError::Status(status.as_u16()));
        }
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            left = left.checked_sub(chunk.len()).ok_or(ListingError::TooLarge)?;
            bytes.extend_from_slice(&chunk);
        }
        let page = read_page(api, list.first_query, &bytes).ok_or(ListingError::NotAList)?;
        models.extend(page.models);
        query = page.next;
        if models.len() > MAX_MODELS {
            break;
        }
        if query.is_none() {
            let Some(next) = lists.next() else {
                is_cut = false;
                break;
            };
            list = next;
            query = list.first_query.map(str::to_owned);
        }
    }
    if is_cut || models.len() > MAX_MODELS {
        models.truncate(MAX_MODELS);
        tracing::warn!(
            provider = %entry.name,
            models = models.len(),
            "a provider's list of models is too long; its end is not shown"
        );
    }
    Ok(models)
}
