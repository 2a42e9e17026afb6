//! How a model configuration gets tokens for its upstream: OAuth client credentials (RFC 6749, section
//! 4.4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::headers::is_settable_extra;
use super::names::SecretName;
use super::text_enum::text_enum;

/// Form fields that follow from other settings (RFC 6749, sections 2.3.1 and 4.4.2).
const OWN_FIELDS: [&str; 4] = ["grant_type", "client_id", "client_secret", "scope"];

text_enum! {
    /// How the client authenticates at the token endpoint (RFC 6749, section 2.3.1).
    #[derive(Default, Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum ClientAuthMethod {
        /// In the `Authorization` header.
        #[default]
        Basic = "basic",
        /// In the form.
        Post = "post",
    }
}

/// Credentials of an OAuth client, and where it gets its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OauthClient {
    /// The URL of the token endpoint, which may have a query. The egress rules apply to it as to
    /// `base_url`.
    #[schema(max_length = 2048)]
    pub token_url: String,
    /// Visible ASCII characters and spaces.
    #[schema(min_length = 1, max_length = 1024)]
    pub client_id: String,
    /// The secret that holds the client's secret.
    pub client_secret: SecretName,
    #[serde(default)]
    pub auth_method: ClientAuthMethod,
    /// The scopes to request, separated by spaces.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 4096)]
    pub scope: Option<String>,
    /// Further fields of the form, such as `audience`: a text, or a list of texts for a field that
    /// occurs more than once. Up to 16 KiB; not `grant_type`, `client_id`, `client_secret` or `scope`.
    #[serde(default)]
    pub parameters: BTreeMap<String, ParameterValues>,
    /// Further headers of the token request, at most 32 of up to 4 KiB each.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whether the key in `api_key_name` is sent while no token can be had.
    #[serde(default)]
    pub fall_back_to_api_key: bool,
}

/// The value of a form field, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "must be a text or a list of texts")]
pub enum ParameterValues {
    One(String),
    Several(Vec<String>),
}

impl ParameterValues {
    /// The values, in order.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(values) => values,
        }
    }
}

/// Whether the form may have a further field of this name. Ignores letter case, as some servers do.
pub fn is_settable_parameter(name: &str) -> bool {
    !name.is_empty() && OWN_FIELDS.iter().all(|own| !name.eq_ignore_ascii_case(own))
}

/// Whether this header of the token request can be set: not those that the gateway sets, and not the
/// client's credentials. Ignores letter case.
pub fn is_settable_token_header(name: &str) -> bool {
    let is_content = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("content-"));
    is_settable_extra(name) && !is_content && !name.eq_ignore_ascii_case("authorization")
}

/// Whether the text is a client id or an access token (RFC 6749, appendices A.1 and A.12).
pub fn is_visible_ascii(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| (0x20..=0x7e).contains(&b))
}

/// Whether the text is a list of scopes (RFC 6749, section 3.3).
pub fn is_scope(text: &str) -> bool {
    let is_scope_byte = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    text.split(' ').all(|scope| !scope.is_empty() && scope.bytes().all(is_scope_byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_separated_by_one_space() {
        for good in ["a", "openid profile", "https://example.com/.default", "api://x/y z"] {
            assert!(is_scope(good), "{good}");
        }
        for bad in ["", " ", "a ", " a", "a  b", "a\"b", "a\\b", "é", "a\nb"] {
            assert!(!is_scope(bad), "{bad:?}");
        }
    }

    #[test]
    fn what_the_gateway_sets_cannot_be_set() {
        for bad in ["Authorization", "Host", "content-type", "Content-MD5", "connection", "te", ""]
        {
            assert!(!is_settable_token_header(bad), "{bad}");
        }
        for good in ["x-tenant", "accept", "user-agent", "api-key"] {
            assert!(is_settable_token_header(good), "{good}");
        }
        for bad in ["grant_type", "Client_Id", "client_secret", "scope", ""] {
            assert!(!is_settable_parameter(bad), "{bad}");
        }
        assert!(is_settable_parameter("audience"));
    }
}
