//! The base URL of a model configuration, in one normal form, and the URL of one request under it.

use std::{net::IpAddr, time::Duration};

use actix_http::Uri;
use actix_http::header::HeaderValue;
use actix_http::uri::{Authority, PathAndQuery};
use url::{Host, Url, form_urlencoded};

use super::egress::{EgressRefusal, EgressRules};

#[cfg(test)]
mod tests;

/// Longer ones are typing errors, and the request's own path and query still have to fit in a URI
/// (64 KiB in the `http` crate).
const MAX_LENGTH: usize = 2048;

/// How long saving a configuration waits for a name to resolve.
const RESOLVE_LIMIT: Duration = Duration::from_secs(2);

/// Where an upstream's API begins: scheme, host, optional port, path, query. The normal form has a
/// lowercase ASCII host without a trailing dot, IP addresses in their usual notation, no default
/// port, no dot segments and no slash at the end of the path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    text: String,
    plain_http: bool,
    host: Host<String>,
    port: u16,
    /// Always with the port.
    authority: Authority,
    /// Without the default port.
    host_header: HeaderValue,
    path: String,
    query: Option<String>,
}

/// Why a text is not a base URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// Not a URL at all, or a part of it is malformed.
    #[error("not a URL: {0}")]
    Malformed(String),
    #[error("the URL must begin with https:// or http://")]
    Scheme,
    /// A user name or a password, even an empty one.
    #[error("the URL must not contain user information; store the key as a secret")]
    UserInfo,
    /// A fragment, even an empty one.
    #[error("the URL must not contain a fragment")]
    Fragment,
    #[error("the host name may contain only letters, digits, '-', '_' and '.'")]
    Host,
    #[error("0 is not a port")]
    Port,
    #[error("the URL is longer than {MAX_LENGTH} bytes")]
    TooLong,
}

impl BaseUrl {
    /// Parses a base URL as an admin types it.
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        let text = text.trim_matches(' ');
        if text.len() > MAX_LENGTH {
            return Err(BaseUrlError::TooLong);
        }
        // The URL standard drops tabs and line ends and takes a backslash for a slash: what the
        // admin reads would not be where we go.
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(BaseUrlError::Malformed(
                "white space, control characters and backslashes must be percent-encoded".into(),
            ));
        }
        let (scheme, rest) = text.split_once("://").ok_or(BaseUrlError::Scheme)?;
        let plain_http = match scheme.to_ascii_lowercase().as_str() {
            "http" => true,
            "https" => false,
            _ => return Err(BaseUrlError::Scheme),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() {
            return Err(BaseUrlError::Malformed("empty host".into()));
        }
        if authority.contains('@') {
            return Err(BaseUrlError::UserInfo);
        }
        let url = Url::parse(text).map_err(|error| BaseUrlError::Malformed(error.to_string()))?;
        if url.fragment().is_some() {
            return Err(BaseUrlError::Fragment);
        }
        let host = match url.host().ok_or(BaseUrlError::Host)? {
            Host::Domain(name) => Host::Domain(dns_name(name)?),
            Host::Ipv4(ip) => Host::Ipv4(ip),
            Host::Ipv6(ip) => Host::Ipv6(ip),
        };
        let port =
            url.port_or_known_default().filter(|port| *port != 0).ok_or(BaseUrlError::Port)?;
        let path = url.path().trim_end_matches('/').to_owned();
        let query = url.query().filter(|query| !query.is_empty()).map(str::to_owned);

        let mut normal = format!("{}://{host}", url.scheme());
        if let Some(port) = url.port() {
            normal.push_str(&format!(":{port}"));
        }
        normal.push_str(&path);
        if let Some(query) = &query {
            normal.push('?');
            normal.push_str(query);
        }
        let default_port = if plain_http { 80 } else { 443 };
        let authority = format!("{host}:{port}");
        let host_header = if port == default_port { host.to_string() } else { authority.clone() };
        // The two URI grammars differ in a few characters; better to learn it at save.
        let malformed = |error: &dyn std::fmt::Display| BaseUrlError::Malformed(error.to_string());
        let authority = Authority::try_from(authority).map_err(|error| malformed(&error))?;
        let host_header = HeaderValue::try_from(host_header).map_err(|error| malformed(&error))?;
        let base =
            Self { text: normal, plain_http, host, port, authority, host_header, path, query };
        base.join("/models", None).uri().map_err(BaseUrlError::Malformed)?;
        Ok(base)
    }

    /// The normal form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same with another last segment of the path, such as another version. The segment has to be plain
    /// text of a path.
    pub fn with_last_segment(&self, segment: &str) -> Self {
        let parent = self.path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let path = format!("{parent}/{segment}");
        let origin =
            self.text.len() - self.path.len() - self.query.as_ref().map_or(0, |q| q.len() + 1);
        let mut text = self.text.get(..origin).unwrap_or_default().to_owned();
        text.push_str(&path);
        if let Some(query) = &self.query {
            text.push('?');
            text.push_str(query);
        }
        Self { text, path, ..self.clone() }
    }

    /// The host as the URL has it: a name, an IPv4 address or an IPv6 address in brackets.
    pub fn host(&self) -> String {
        self.host.to_string()
    }

    /// Would a connection be let out? A literal address is judged as it is. A name is resolved,
    /// every address judged, and refused if none remains, just as at connect. A name that does not
    /// resolve, or not within two seconds, is accepted: it may exist by the time it is used, and
    /// every connect checks again.
    pub async fn check_egress(&self, rules: &EgressRules) -> Result<(), EgressRefusal> {
        let name = match &self.host {
            Host::Ipv4(ip) => return rules.check(IpAddr::V4(*ip), self.plain_http),
            Host::Ipv6(ip) => return rules.check(IpAddr::V6(*ip), self.plain_http),
            Host::Domain(name) => name.as_str(),
        };
        let lookup = tokio::net::lookup_host((name, self.port));
        let Ok(Ok(addresses)) = tokio::time::timeout(RESOLVE_LIMIT, lookup).await else {
            return Ok(());
        };
        let mut refusal = None;
        for address in addresses {
            match rules.check(address.ip(), self.plain_http) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// The URL of one request: the base path and `path_after_v1` (already encoded, beginning with
    /// a slash), the base query and then the caller's, raw. A parameter that the base has is
    /// dropped from the caller's, whatever the letter case or encoding of its name.
    pub fn join(&self, path_after_v1: &str, caller_query: Option<&str>) -> RequestTarget {
        let mut path_and_query = String::with_capacity(self.path.len() + path_after_v1.len());
        path_and_query.push_str(&self.path);
        path_and_query.push_str(path_after_v1);
        if self.query.is_some() || caller_query.is_some() {
            self.add_query(&mut path_and_query, caller_query.unwrap_or_default());
        }
        RequestTarget {
            plain_http: self.plain_http,
            authority: self.authority.clone(),
            host_header: self.host_header.clone(),
            path_and_query,
        }
    }

    fn add_query(&self, path_and_query: &mut String, callers: &str) {
        let configured: Vec<String> =
            self.query.as_deref().unwrap_or_default().split('&').map(parameter_name).collect();
        let mut separator = '?';
        let mut push = |pair: &str| {
            path_and_query.push(separator);
            path_and_query.push_str(pair);
            separator = '&';
        };
        if let Some(query) = &self.query {
            push(query);
        }
        for pair in callers.split('&').filter(|pair| !pair.is_empty()) {
            if !configured.contains(&parameter_name(pair)) {
                push(pair);
            }
        }
    }
}

/// The host of a name, without the trailing dot of its absolute form.
fn dns_name(name: &str) -> Result<String, BaseUrlError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    // 253 is the longest name that DNS can carry (RFC 1035, 2.3.4, less the length octets).
    if name.len() <= 253 && name.split('.').all(fits) {
        Ok(name.to_owned())
    } else {
        Err(BaseUrlError::Host)
    }
}

/// The name of a raw `name=value` pair, decoded and case-folded: some servers match names without
/// regard to case, and the caller must not reach the configuration's parameter through that.
fn parameter_name(pair: &str) -> String {
    form_urlencoded::parse(pair.as_bytes())
        .next()
        .map(|(name, _)| name.to_lowercase())
        .unwrap_or_default()
}

/// Where one request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTarget {
    plain_http: bool,
    authority: Authority,
    host_header: HeaderValue,
    path_and_query: String,
}

impl RequestTarget {
    /// Path and query, as the request line has them.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// The value of the `Host` header: without the default port.
    pub fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    /// Does it go without TLS?
    pub fn is_plain_http(&self) -> bool {
        self.plain_http
    }

    /// The URI for awc. Always `http` and always with a port: TLS is under awc, not in it.
    pub(super) fn uri(&self) -> Result<Uri, String> {
        let path = PathAndQuery::try_from(self.path_and_query.as_str());
        Uri::builder()
            .scheme("http")
            .authority(self.authority.clone())
            .path_and_query(path.map_err(|error| error.to_string())?)
            .build()
            .map_err(|error| error.to_string())
    }
}
