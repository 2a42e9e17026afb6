//! What picks the host, the account and the token endpoint of a cloud provider, as far as it is no secret.

use serde::{Deserialize, Serialize};

/// All of it. What is not set comes from the credential or has a default. It has to be set by whoever owns
/// the credential, since it says where that is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Connection {
    /// Of Bedrock, `us-east-1` by default, or the location of Vertex, by default the one of the request's
    /// path, or else `global`.
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    pub region: Option<String>,
    /// Of Vertex; by default that of the service account.
    #[schema(pattern = "^[a-z0-9:-][a-z0-9.:-]{0,127}$")]
    pub project: Option<String>,
    /// Of Azure, in place of the one that is stored as a secret.
    #[schema(pattern = "^[a-z0-9][a-z0-9-]{0,62}[a-z0-9]$")]
    pub resource: Option<String>,
    /// Of Azure, in place of the one that is stored as a secret.
    #[schema(pattern = "^[A-Za-z0-9-][A-Za-z0-9.-]{0,252}$")]
    pub tenant_id: Option<String>,
    /// Of an application in Azure, in place of the one that is stored as a secret.
    #[schema(pattern = "^[A-Za-z0-9-][A-Za-z0-9.-]{0,252}$")]
    pub client_id: Option<String>,
}

impl Connection {
    /// The fields that are set, each with its name.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("region", &self.region),
            ("project", &self.project),
            ("resource", &self.resource),
            ("tenant_id", &self.tenant_id),
            ("client_id", &self.client_id),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.as_deref().map(|value| (name, value)))
    }

    /// What is wrong with the value of a field, if anything.
    pub fn field_error(name: &str, value: &str) -> Option<&'static str> {
        match name {
            "region" if !is_host_label(value) => {
                Some("must be 1 to 63 lower-case letters, digits or inner hyphens")
            }
            "resource" if !is_resource_name(value) => {
                Some("must be 2 to 64 lower-case letters, digits or inner hyphens")
            }
            "project" if !is_project(value) => {
                Some("must be a project's id or number: lower-case letters, digits and - . :")
            }
            "tenant_id" if !is_tenant(value) => Some("must be a tenant's id or domain"),
            "client_id" if !is_tenant(value) => Some("must be an application's id"),
            _ => None,
        }
    }
}

/// Whether the text is a label of a host name, in lower case (RFC 1123, section 2.1), as regions and
/// locations are.
pub fn is_host_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && is_lower(text)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether the text is the name of an Azure resource: 2 to 64 characters.
pub fn is_resource_name(text: &str) -> bool {
    (2..=64).contains(&text.len())
        && is_lower(text)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether the text can be a Google Cloud project in a path: its id, which older ones have with a domain
/// before it, or its number.
pub fn is_project(text: &str) -> bool {
    let is_known = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b':');
    (1..=128).contains(&text.len()) && text.bytes().all(is_known) && !text.starts_with('.')
}

/// Whether the text can be a Microsoft Entra tenant in a path: its id or its domain.
pub fn is_tenant(text: &str) -> bool {
    let is_known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    (1..=253).contains(&text.len()) && text.bytes().all(is_known) && !text.starts_with('.')
}

fn is_lower(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_to_another_host_or_path() {
        for bad in ["", "a.b", "a/b", "a@b", "a:1", "a?b", "a#b", "A", "é", "%2e", "..", "a b"] {
            assert!(!is_host_label(bad) && !is_resource_name(bad), "{bad}");
        }
        for bad in ["", "..", "../x", "a/b", "a?b", "a%2Fb", "a b", "é"] {
            assert!(!is_project(bad) && !is_tenant(bad), "{bad}");
        }
        assert!(!is_host_label("-a") && !is_host_label("a-") && !is_host_label(&"a".repeat(64)));
        assert!(is_host_label("us-east-1") && is_host_label("global") && is_host_label("eu"));
        assert!(is_resource_name("my-resource-2") && !is_resource_name("a"));
        assert!(is_project("example.com:my-project") && is_project("123456789012"));
        assert!(is_tenant("contoso.onmicrosoft.com"));
        assert!(is_tenant("0f0f0f0f-0000-4000-8000-00000000000A"));
    }
}
