//! What a model configuration is made of, apart from its base URL.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::names::SecretName;

/// Which API the upstream speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// OpenAI's API or a faithful likeness of it.
    #[default]
    OpenaiCompatible,
}

impl Provider {
    /// The text form, as the API and the database hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenaiCompatible => "openai_compatible",
        }
    }
}

/// Who asks a streaming upstream for usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamUsage {
    /// The gateway asks for it where the caller did not, and keeps the answer to itself.
    #[default]
    Inject,
    /// Requests and streams are left as they are.
    Leave,
}

impl StreamUsage {
    /// The text form, as the API and the database hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inject => "inject",
            Self::Leave => "leave",
        }
    }
}

/// Where the credential goes: `bearer`, or the name of a header that holds it bare.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Placement {
    /// `Authorization: Bearer <credential>`.
    #[default]
    Bearer,
    /// `<name>: <credential>`; the name is lower-case.
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
    /// The header that carries the credential.
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

/// Time limits of one configuration, in milliseconds; what is not set follows the server's options.
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
    /// The first field that is out of its range, with the range's end.
    pub fn out_of_range(&self) -> Option<(&'static str, u32)> {
        [
            ("connect_ms", self.connect_ms, 600_000),
            ("first_byte_ms", self.first_byte_ms, 3_600_000),
            ("idle_ms", self.idle_ms, 3_600_000),
        ]
        .into_iter()
        .find(|(_, value, most)| value.is_some_and(|value| value == 0 || value > *most))
        .map(|(field, _, most)| (field, most))
    }
}

/// A header value that may name secrets as `{{secret:NAME}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTemplate {
    parts: Vec<TemplatePart>,
}

/// A piece of a [`HeaderTemplate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    /// Stands as it is.
    Text(String),
    /// Stands for the secret's value.
    Secret(SecretName),
}

/// Why a header value is not a template; the text is for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// `{{` without a matching `}}`, or something else than `secret:` between them.
    #[error("'{{{{' must begin a reference of the form {{{{secret:NAME}}}}")]
    NotAReference,
    /// What stands after `secret:` is no secret's name.
    #[error("'{0}' is not a secret's name")]
    BadName(String),
    /// A character that HTTP does not allow in a header value (RFC 9110, section 5.5).
    #[error("must hold only visible ASCII characters, spaces and tabs, and no line breaks")]
    NotAHeaderValue,
}

impl HeaderTemplate {
    /// Takes a header value apart.
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

    /// The pieces, in order.
    pub fn parts(&self) -> &[TemplatePart] {
        &self.parts
    }

    /// The secrets it names.
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
    fn bad_templates_say_why() {
        assert_eq!(HeaderTemplate::parse("a{{secret:A"), Err(InvalidTemplate::NotAReference));
        assert_eq!(HeaderTemplate::parse("{{env:A}}"), Err(InvalidTemplate::NotAReference));
        assert_eq!(
            HeaderTemplate::parse("{{secret:9}}"),
            Err(InvalidTemplate::BadName("9".to_owned()))
        );
        assert_eq!(HeaderTemplate::parse("a\r\nb"), Err(InvalidTemplate::NotAHeaderValue));
    }

    #[test]
    fn placement_is_bearer_in_any_case_or_a_header() {
        assert_eq!(Placement::from("Bearer".to_owned()), Placement::Bearer);
        assert_eq!(Placement::from("API-Key".to_owned()), Placement::Header("api-key".to_owned()));
    }
}
