//! The parts of a model configuration, except its base URL.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::names::SecretName;
use super::text_enum::text_enum;

text_enum! {
    /// Whether the gateway asks streaming upstreams for usage.
    #[derive(Default, Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum StreamUsage {
        /// The gateway asks for usage if the caller did not, and does not forward it to the caller.
        #[default]
        Inject = "inject",
        /// Requests and streams are not changed.
        Leave = "leave",
    }
}

/// Where the credential is sent: `bearer`, or the name of a header that contains only the credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Placement {
    /// `Authorization: Bearer <credential>`.
    #[default]
    Bearer,
    /// `<name>: <credential>`, with the name in lower case.
    Header(String),
}

impl utoipa::PartialSchema for Placement {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        String::schema()
    }
}

impl utoipa::ToSchema for Placement {}

impl From<String> for Placement {
    fn from(text: String) -> Self {
        if text.eq_ignore_ascii_case("bearer") {
            Self::Bearer
        } else {
            Self::Header(text.to_ascii_lowercase())
        }
    }
}

impl From<Placement> for String {
    fn from(placement: Placement) -> Self {
        placement.to_string()
    }
}

impl Placement {
    /// The name of the header.
    pub fn header(&self) -> &str {
        match self {
            Self::Bearer => "authorization",
            Self::Header(name) => name,
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("bearer"),
            Self::Header(name) => f.write_str(name),
        }
    }
}

/// The model of a configuration's requests; none where callers choose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredModel(pub Option<String>);

impl ConfiguredModel {
    /// From its stored form, which is empty for none.
    pub fn from_stored(text: String) -> Self {
        Self(Some(text).filter(|model| !model.is_empty()))
    }

    /// Its stored form.
    pub fn as_stored(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Time limits of one configuration, in milliseconds. The server's options apply where one is not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// To establish a connection, name resolution and TLS included. 1 to 600,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 600_000)]
    pub connect_ms: Option<u32>,
    /// From the sent request to the first byte of the answer. 1 to 3,600,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3_600_000)]
    pub first_byte_ms: Option<u32>,
    /// Between two chunks of the answer. 1 to 3,600,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3_600_000)]
    pub idle_ms: Option<u32>,
}

impl Timeouts {
    /// The fields that are out of range, each with the highest value that it may have.
    pub fn out_of_range(&self) -> impl Iterator<Item = (&'static str, u32)> {
        [
            ("connect_ms", self.connect_ms, 600_000),
            ("first_byte_ms", self.first_byte_ms, 3_600_000),
            ("idle_ms", self.idle_ms, 3_600_000),
        ]
        .into_iter()
        .filter(|(_, value, max)| value.is_some_and(|value| value == 0 || value > *max))
        .map(|(field, _, max)| (field, max))
    }
}

/// A header value that may contain secrets as `{{secret:NAME}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTemplate {
    parts: Vec<TemplatePart>,
}

/// A piece of a [`HeaderTemplate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    Text(String),
    /// Replaced by the secret's value.
    Secret(SecretName),
}

/// Why a header value is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// `{{` without a matching `}}`, or without `secret:` after it.
    #[error("'{{{{' must begin a reference of the form {{{{secret:NAME}}}}")]
    NotAReference,
    #[error("'{0}' is not a secret's name")]
    BadName(String),
    /// A character that HTTP does not allow in a header value (RFC 9110, section 5.5).
    #[error("must hold only visible ASCII characters, spaces and tabs, and no line breaks")]
    NotAHeaderValue,
}

impl HeaderTemplate {
    /// Parses a header value.
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        if !text.bytes().all(|b| b == b'\t' || (0x20..0x7f).contains(&b)) {
            return Err(InvalidTemplate::NotAHeaderValue);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            if !before.is_empty() {
                parts.push(TemplatePart::Text(before.to_owned()));
            }
            let (reference, behind) =
                after.split_once("}}").ok_or(InvalidTemplate::NotAReference)?;
            let name =
                reference.trim().strip_prefix("secret:").ok_or(InvalidTemplate::NotAReference)?;
            let name =
                SecretName::parse(name).map_err(|_| InvalidTemplate::BadName(name.to_owned()))?;
            parts.push(TemplatePart::Secret(name));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(TemplatePart::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The parts, in order.
    pub fn parts(&self) -> &[TemplatePart] {
        &self.parts
    }

    /// The names of the secrets in the template.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Secret(name) => Some(name),
            TemplatePart::Text(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_name_their_secrets() {
        let template = HeaderTemplate::parse("Token {{secret:A}}:{{ secret:B }}!").unwrap();
        let names: Vec<&str> = template.secrets().map(SecretName::as_str).collect();
        assert_eq!(names, ["A", "B"]);
        assert_eq!(template.parts().len(), 5);
        assert_eq!(HeaderTemplate::parse("plain").unwrap().secrets().count(), 0);
    }

    #[test]
    fn invalid_templates_are_rejected_with_the_reason() {
        assert_eq!(HeaderTemplate::parse("a{{secret:A"), Err(InvalidTemplate::NotAReference));
        assert_eq!(HeaderTemplate::parse("{{env:A}}"), Err(InvalidTemplate::NotAReference));
        assert_eq!(
            HeaderTemplate::parse("{{secret:9}}"),
            Err(InvalidTemplate::BadName("9".to_owned()))
        );
        assert_eq!(HeaderTemplate::parse("a\r\nb"), Err(InvalidTemplate::NotAHeaderValue));
    }

    #[test]
    fn placement_is_bearer_in_any_letter_case_or_a_header() {
        assert_eq!(Placement::from("Bearer".to_owned()), Placement::Bearer);
        assert_eq!(Placement::from("API-Key".to_owned()), Placement::Header("api-key".to_owned()));
    }
}
