//! What an organization, or one of its workspaces, sets for a built-in provider. The defaults need no
//! setting at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::connection::Connection;
use super::names::SecretName;

/// The settings of one owner for one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"secret_name": "TEAM_OPENAI_KEY"}))]
pub struct ProviderSettings {
    /// False refuses requests to the provider: an organization's for all of its workspaces.
    #[serde(default = "enabled")]
    #[schema(default = true)]
    pub enabled: bool,
    /// The secret that holds the provider's key, in place of the usual name. It is one of the owner's.
    #[serde(default)]
    pub secret_name: Option<SecretName>,
    /// For Bedrock, Vertex and Azure, which have several secrets: the names of the secrets in place of
    /// their usual ones, by usual name. They are the owner's.
    #[serde(default)]
    #[schema(example = json!({"AWS_ACCESS_KEY_ID": "TEAM_AWS_ID"}))]
    pub secret_names: BTreeMap<String, SecretName>,
    /// Headers of every request to the provider, at most 32; not its credential.
    #[serde(default)]
    pub extra_headers: BTreeMap<String, String>,
    /// What the provider's host and account depend on.
    #[serde(default)]
    pub connection: Connection,
    /// For Bedrock, Vertex and Azure: which of the provider's models a name refers to that says
    /// nothing of it, such as an ARN, an application inference profile or a deployment, by that name; at
    /// most 100. It decides access, price, limits and the form of bodies; the name itself is still sent.
    /// Only a key of the organization with `organization:manage` can change it, because spend caps depend
    /// on it. A workspace's are added to those of its organization, and win over them.
    #[serde(default)]
    #[schema(example = json!({"my-deployment": "gpt-4o"}))]
    pub models: BTreeMap<String, String>,
    /// Only of an organization: endpoints of the provider that are passed through although nothing there
    /// is metered or scanned; at most 100.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub unmetered_endpoints: Vec<UnmeteredEndpoint>,
    /// Only of an organization, for Anthropic: callers may use a subscription of their own, whose bearer
    /// they send with their key.
    #[serde(default)]
    #[schema(default = false)]
    pub subscription_pass_through: bool,
}

/// An endpoint of a provider that the gateway neither meters nor scans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"method": "POST", "path": "/files"}))]
pub struct UnmeteredEndpoint {
    /// The method.
    pub method: UnmeteredMethod,
    /// The path after the provider's version, as `/files`; of Azure with its API and version, as
    /// `/openai/v1/files`, and of Vertex after the location. A segment `*` stands for any one segment, `**`
    /// at the end for one or more.
    #[schema(min_length = 2, max_length = 256, pattern = "^/")]
    pub path: String,
    /// Whether it is passed through also where a spend cap or a data policy matches, which do not see
    /// what it costs or sends.
    #[serde(default)]
    #[schema(default = false)]
    pub despite_policies: bool,
}

super::text_enum::text_enum! {
    /// A method of an unmetered endpoint.
    #[derive(Serialize, Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "UPPERCASE")]
    pub enum UnmeteredMethod {
        Get = "GET",
        Post = "POST",
        Put = "PUT",
        Patch = "PATCH",
        Delete = "DELETE",
    }
}

fn enabled() -> bool {
    true
}

impl Default for ProviderSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            secret_name: None,
            secret_names: BTreeMap::new(),
            extra_headers: BTreeMap::new(),
            connection: Connection::default(),
            models: BTreeMap::new(),
            unmetered_endpoints: Vec::new(),
            subscription_pass_through: false,
        }
    }
}

impl ProviderSettings {
    /// Whether they say where a request goes or with which secret: then the secret has to be the same
    /// owner's, or it could be sent to an account of somebody else.
    pub fn say_where(&self) -> bool {
        self.secret_name.is_some()
            || !self.secret_names.is_empty()
            || !self.extra_headers.is_empty()
            || self.connection != Connection::default()
    }
}

/// First segments of paths at which providers administer accounts, members, keys and money. They are
/// never passed through.
const ADMINISTRATION: [&str; 18] = [
    "account",
    "accounts",
    "admin",
    "api-keys",
    "api_keys",
    "apikeys",
    "auth",
    "billing",
    "credits",
    "dashboard",
    "keys",
    "members",
    "organization",
    "organizations",
    "projects",
    "teams",
    "users",
    "workspaces",
];

impl UnmeteredEndpoint {
    /// What is wrong with the path, if anything.
    pub fn path_error(&self) -> Option<&'static str> {
        let Some(path) = self.path.strip_prefix('/').filter(|_| self.path.len() <= 256) else {
            return Some("must begin with / and be at most 256 bytes long");
        };
        let segments: Vec<&str> = path.split('/').collect();
        let is_text = |segment: &str| {
            !segment.is_empty()
                && !matches!(segment, "." | "..")
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~:".contains(&b))
        };
        let last = segments.len() - 1;
        let is_right = |(index, segment): (usize, &&str)| match *segment {
            "*" => index > 0,
            "**" => index > 0 && index == last,
            text => is_text(text),
        };
        if !segments.iter().enumerate().all(is_right) {
            return Some(
                "must consist of segments of letters, digits and - _ . ~ : of which those after the \
                 first may be *, and the last **",
            );
        }
        is_administration(&self.path)
            .then_some("is at an endpoint with which the provider administers accounts")
    }

    /// Whether it is this method and path after the version. The path holds no encoded character.
    pub fn matches(&self, method: UnmeteredMethod, path: &str) -> bool {
        let mut own = self.path.split('/');
        let mut given = path.split('/');
        self.method == method
            && loop {
                match (own.next(), given.next()) {
                    (None, None) => break true,
                    (Some("**"), Some(first)) => {
                        break !first.is_empty() && given.all(|segment| !segment.is_empty());
                    }
                    (Some("*"), Some(segment)) if !segment.is_empty() => {}
                    (Some(own), Some(segment)) if own == segment => {}
                    _ => break false,
                }
            }
    }
}

/// Whether a path leads to the administration of a provider's account. Azure has an API and its version
/// before what others begin with.
pub fn is_administration(path: &str) -> bool {
    let mut segments = path.split('/').skip(1);
    let is_prefix = |segment: &&str| matches!(*segment, "openai" | "anthropic" | "v1");
    let first = segments.find(|segment| !is_prefix(segment)).unwrap_or_default();
    ADMINISTRATION.iter().any(|name| first.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(path: &str) -> UnmeteredEndpoint {
        UnmeteredEndpoint {
            method: UnmeteredMethod::Get,
            path: path.to_owned(),
            despite_policies: false,
        }
    }

    #[test]
    fn patterns_have_whole_segments() {
        for good in ["/files", "/files/*", "/files/*/content", "/batches/**", "/models/a:b"] {
            assert_eq!(endpoint(good).path_error(), None, "{good}");
        }
        for bad in [
            "",
            "/",
            "files",
            "/*",
            "/**",
            "/files/",
            "//files",
            "/files/**/a",
            "/files/a*",
            "/files/..",
            "/files/%2e",
            "/files?x=1",
            "/organization/costs",
            "/Admin/keys",
            "/openai/v1/organization/costs",
            "/anthropic/v1/organizations/**",
        ] {
            assert!(endpoint(bad).path_error().is_some(), "{bad}");
        }
    }

    #[test]
    fn a_star_is_one_segment_and_two_are_more() {
        for (pattern, path, matches) in [
            ("/files", "/files", true),
            ("/files", "/files/a", false),
            ("/files/*", "/files/a", true),
            ("/files/*", "/files", false),
            ("/files/*", "/files/", false),
            ("/files/*/content", "/files/a/content", true),
            ("/batches/**", "/batches/a/b", true),
            ("/batches/**", "/batches", false),
            ("/batches/**", "/batches/a//b", false),
        ] {
            assert_eq!(
                endpoint(pattern).matches(UnmeteredMethod::Get, path),
                matches,
                "{pattern} {path}"
            );
        }
        assert!(!endpoint("/files").matches(UnmeteredMethod::Post, "/files"));
    }
}
