//! Validates the OAuth client of a model configuration.

use std::collections::{BTreeMap, HashSet};

use super::{FieldErrors, MAX_HEADERS, MAX_PARAMETERS, MAX_TEMPLATE};
use crate::domain::names::SecretName;
use crate::domain::oauth::{
    OauthClient, is_scope, is_settable_parameter, is_settable_token_header, is_visible_ascii,
};
use crate::upstream::EndpointUrl;

/// The longest client id, in bytes.
const MAX_CLIENT_ID: usize = 1024;
/// The longest list of scopes, in bytes.
const MAX_SCOPE: usize = 4 * 1024;

/// Checks the client, brings it into its normal form and notes its secret. The result is its token
/// endpoint, if that is valid.
pub(super) fn oauth(
    client: &mut OauthClient,
    has_api_key: bool,
    secrets: &mut BTreeMap<SecretName, String>,
    errors: &mut FieldErrors,
) -> Option<EndpointUrl> {
    if client.client_id.len() > MAX_CLIENT_ID || !is_visible_ascii(&client.client_id) {
        let message = format!("must be 1 to {MAX_CLIENT_ID} visible ASCII characters and spaces");
        errors.add("oauth.client_id", message);
    }
    let secret_field = || "oauth.client_secret".to_owned();
    secrets.entry(client.client_secret.clone()).or_insert_with(secret_field);
    if client.scope.as_ref().is_some_and(|scope| scope.len() > MAX_SCOPE || !is_scope(scope)) {
        let message = format!(
            "must be scopes of visible ASCII characters except '\"' and '\\', separated by one space, \
             and at most {MAX_SCOPE} bytes long"
        );
        errors.add("oauth.scope", message);
    }
    parameters(client, errors);
    client.headers = headers(&client.headers, errors);
    match (has_api_key, client.fall_back_to_api_key) {
        (true, false) => errors.add(
            "api_key_name",
            "is not used beside oauth; leave it out, or set oauth.fall_back_to_api_key",
        ),
        (false, true) => {
            errors.add("oauth.fall_back_to_api_key", "needs the secret of a key in api_key_name");
        }
        (true, true) | (false, false) => {}
    }
    match EndpointUrl::parse(&client.token_url) {
        Ok(token_url) => {
            token_url.as_str().clone_into(&mut client.token_url);
            Some(token_url)
        }
        Err(error) => {
            errors.add("oauth.token_url", error);
            None
        }
    }
}

fn parameters(client: &OauthClient, errors: &mut FieldErrors) {
    for (name, values) in &client.parameters {
        let field = format!("oauth.parameters.{name}");
        if !is_settable_parameter(name) {
            errors.add(&field, "is a field that the gateway sets itself");
        }
        if values.as_slice().is_empty() {
            errors.add(&field, "must have a value; leave the field out to send none");
        }
    }
    let size = serde_json::to_vec(&client.parameters).map_or(usize::MAX, |json| json.len());
    if size > MAX_PARAMETERS {
        errors.add("oauth.parameters", format!("must be at most {MAX_PARAMETERS} bytes"));
    }
}

/// The headers with their names in lower case.
fn headers(
    headers: &BTreeMap<String, String>,
    errors: &mut FieldErrors,
) -> BTreeMap<String, String> {
    if headers.len() > MAX_HEADERS {
        errors.add("oauth.headers", format!("must be at most {MAX_HEADERS}"));
        return BTreeMap::new();
    }
    let mut seen = HashSet::new();
    for (name, value) in headers {
        let field = format!("oauth.headers.{name}");
        if !is_settable_token_header(name) {
            errors.add(&field, "is not a header that a token request may set");
        } else if !seen.insert(name.to_ascii_lowercase()) {
            errors.add(&field, "is given twice; the names of headers are not case-sensitive");
        }
        if value.len() > MAX_TEMPLATE {
            errors.add(&field, format!("must be at most {MAX_TEMPLATE} bytes long"));
        } else if !value.bytes().all(|b| b == b'\t' || (0x20..0x7f).contains(&b)) {
            let message = "must hold only visible ASCII characters, spaces and tabs";
            errors.add(&field, message);
        } else if value.contains("{{") {
            errors.add(&field, "must be plain text; it can't name a secret");
        }
    }
    headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
}
