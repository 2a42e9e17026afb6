//! Requests tokens: with OAuth client credentials or a signed assertion. Neither the token nor the answer
//! of the token endpoint gets into an error.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    USER_AGENT,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::crypto::{SecretBytes, SecretText};
use crate::domain::oauth::{ClientAuthMethod, OauthClient, is_visible_ascii};
use crate::upstream::{
    EndpointUrl, UpstreamClient, UpstreamError, UpstreamRequest, UpstreamResponse, UpstreamTimeouts,
};

/// The time for the whole token request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// The life of a token whose answer does not state it (RFC 6749, section 5.1, recommends that it does).
const USUAL_LIFE: Duration = Duration::from_secs(300);
/// The longest life that is believed.
const LONGEST_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A new token.
pub struct MintedToken {
    pub text: SecretText,
    /// How long it is valid, from before it was requested.
    pub life: Duration,
}

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no token from {host}: {cause}")]
pub struct MintFailure {
    /// The token endpoint's host.
    pub host: String,
    pub cause: MintError,
}

/// What went wrong at a token endpoint.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MintError {
    #[error("{0}")]
    NoAnswer(Arc<UpstreamError>),
    #[error("the answer was not complete within {} seconds", TIMEOUT.as_secs())]
    TimedOut,
    #[error("the answer has the status {0}")]
    Status(u16),
    #[error("the answer is larger than {} KiB", MAX_ANSWER / 1024)]
    TooLarge,
    #[error("the answer is no JSON object")]
    NotJson,
    #[error("the answer has no access_token")]
    NoToken,
    #[error("the access_token can't be sent in a header")]
    InvalidToken,
}

impl From<UpstreamError> for MintError {
    fn from(error: UpstreamError) -> Self {
        Self::NoAnswer(Arc::new(error))
    }
}

/// What is sent to a token endpoint.
pub struct TokenRequest {
    pub endpoint: EndpointUrl,
    headers: HeaderMap,
    form: Zeroizing<String>,
}

impl TokenRequest {
    /// With client credentials (RFC 6749, section 4.4).
    pub fn of_client(
        client: &OauthClient,
        endpoint: EndpointUrl,
        more_headers: &[(HeaderName, HeaderValue)],
        secret: &SecretBytes,
    ) -> Result<Self, MintFailure> {
        let failure = |cause| MintFailure { host: endpoint.host(), cause };
        let headers = client_headers(client, more_headers, secret).map_err(failure)?;
        Ok(Self { headers, form: client_form(client, secret), endpoint })
    }

    /// With a signed assertion (RFC 7523, section 2.1).
    pub fn of_assertion(endpoint: EndpointUrl, assertion: &SecretText) -> Self {
        let mut form = Zeroizing::new(String::new());
        form.push_str(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=",
        );
        form.extend(form_urlencoded::byte_serialize(assertion.expose().as_bytes()));
        Self { endpoint, headers: usual_headers(), form }
    }
}

/// Requests a token.
pub async fn mint(
    client: &UpstreamClient,
    request: TokenRequest,
) -> Result<MintedToken, MintFailure> {
    let host = request.endpoint.host();
    let outcome = match tokio::time::timeout(TIMEOUT, send(client, request)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(MintError::TimedOut),
    };
    outcome.map_err(|cause| MintFailure { host, cause })
}

async fn send(client: &UpstreamClient, request: TokenRequest) -> Result<MintedToken, MintError> {
    let TokenRequest { endpoint, mut headers, form } = request;
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let request = UpstreamRequest {
        method: Method::POST,
        target: endpoint.target(),
        headers,
        body: Bytes::copy_from_slice(form.as_bytes()).into(),
        timeouts: UpstreamTimeouts { connect: TIMEOUT, first_byte: TIMEOUT, idle: TIMEOUT },
    };
    let UpstreamResponse { status, mut body, .. } = client.send_with_retry(request).await?;
    if !status.is_success() {
        return Err(MintError::Status(status.as_u16()));
    }
    let mut answer = BytesMut::new();
    while let Some(chunk) = body.next().await {
        answer.extend_from_slice(&chunk?);
        if answer.len() > MAX_ANSWER {
            return Err(MintError::TooLarge);
        }
    }
    read_answer(&answer)
}

fn usual_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION"))),
    );
    headers
}

fn client_headers(
    client: &OauthClient,
    more: &[(HeaderName, HeaderValue)],
    secret: &SecretBytes,
) -> Result<HeaderMap, MintError> {
    let mut headers = usual_headers();
    for (name, value) in more {
        headers.insert(name.clone(), value.clone());
    }
    if client.auth_method == ClientAuthMethod::Basic {
        let mut pair = Zeroizing::new(String::new());
        pair.extend(form_urlencoded::byte_serialize(client.client_id.as_bytes()));
        pair.push(':');
        pair.extend(form_urlencoded::byte_serialize(secret.expose()));
        let value = format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes()));
        let mut value = HeaderValue::try_from(value)
            .map_err(|error| UpstreamError::InvalidRequest(error.to_string()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

fn client_form(client: &OauthClient, secret: &SecretBytes) -> Zeroizing<String> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if let Some(scope) = &client.scope {
        form.append_pair("scope", scope);
    }
    for (name, values) in &client.parameters {
        for value in values.as_slice() {
            form.append_pair(name, value);
        }
    }
    let mut form = Zeroizing::new(form.finish());
    if client.auth_method == ClientAuthMethod::Post {
        form.push_str("&client_id=");
        form.extend(form_urlencoded::byte_serialize(client.client_id.as_bytes()));
        form.push_str("&client_secret=");
        form.extend(form_urlencoded::byte_serialize(secret.expose()));
    }
    form
}

/// Reads the token and its life (RFC 6749, section 5.1).
fn read_answer(answer: &[u8]) -> Result<MintedToken, MintError> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: Option<SecretText>,
        expires_in: Option<Value>,
    }

    let fields: serde_json::Map<String, Value> =
        serde_json::from_slice(answer).map_err(|_| MintError::NotJson)?;
    let Answer { access_token, expires_in } =
        serde_json::from_value(Value::Object(fields)).map_err(|_| MintError::NoToken)?;
    let text = access_token.filter(|token| !token.is_empty()).ok_or(MintError::NoToken)?;
    let has_outer_space = text.expose().starts_with(' ') || text.expose().ends_with(' ');
    if has_outer_space || !is_visible_ascii(text.expose()) {
        return Err(MintError::InvalidToken);
    }
    let life = expires_in.as_ref().and_then(seconds).unwrap_or(USUAL_LIFE).min(LONGEST_LIFE);
    Ok(MintedToken { text, life })
}

/// A number of seconds, which some servers send as text. Fractions are dropped; what is less than a
/// second tells nothing.
fn seconds(value: &Value) -> Option<Duration> {
    let number: f64 = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (number.is_finite() && number >= 1.0).then(|| Duration::from_secs(number as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_is_a_number_or_a_numeric_text() {
        for (expires_in, life) in [
            (r#","expires_in":3600"#, 3600),
            (r#","expires_in":"3599""#, 3599),
            (r#","expires_in":59.9"#, 59),
            (r#","expires_in":-1"#, 300),
            (r#","expires_in":0"#, 300),
            (r#","expires_in":null"#, 300),
            (r#","expires_in":"soon""#, 300),
            (r#","expires_in":[1]"#, 300),
            (r#","expires_in":1e300"#, LONGEST_LIFE.as_secs()),
            ("", 300),
        ] {
            let answer = format!(r#"{{"access_token":"abc"{expires_in}}}"#);
            let minted = read_answer(answer.as_bytes()).map(|token| token.life.as_secs());
            assert_eq!(minted.unwrap(), life, "{answer}");
        }
    }

    #[test]
    fn an_answer_without_a_usable_token_is_refused() {
        let cause = |answer: &str| read_answer(answer.as_bytes()).err().unwrap().to_string();
        for answer in ["", "access_token=abc", "[]", "null"] {
            assert_eq!(cause(answer), MintError::NotJson.to_string(), "{answer}");
        }
        for answer in ["{}", r#"{"access_token":null}"#, r#"{"access_token":""}"#] {
            assert_eq!(cause(answer), MintError::NoToken.to_string(), "{answer}");
        }
        for answer in [r#"{"access_token":"a\nb"}"#, r#"{"access_token":"ä"}"#] {
            assert_eq!(cause(answer), MintError::InvalidToken.to_string(), "{answer}");
        }
        assert_eq!(cause(r#"{"access_token":7}"#), MintError::NoToken.to_string());
    }
}
