//! The URL of one endpoint that is called without any change, such as a token endpoint.

use super::base_url::{BaseUrl, BaseUrlError, RequestTarget};
use super::egress::{EgressRefusal, EgressRules};

/// A URL under the same rules as a [`BaseUrl`], except that nothing is appended to it, and that a slash
/// at the end of its path stays: for some servers it is another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUrl {
    base: BaseUrl,
    text: String,
    /// What the base has lost at the end of its path.
    end: &'static str,
}

impl EndpointUrl {
    /// Parses a URL as an admin types it.
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        let base = BaseUrl::parse(text)?;
        let typed_path = text.trim_matches(' ').split('?').next().unwrap_or_default();
        let mut normal = base.as_str().to_owned();
        if typed_path.ends_with('/') {
            let at = normal.find('?').unwrap_or(normal.len());
            normal.insert(at, '/');
        }
        let is_without_path = !base.join("", None).path_and_query().starts_with('/');
        let end = if typed_path.ends_with('/') || is_without_path { "/" } else { "" };
        Ok(Self { base, text: normal, end })
    }

    /// The normal form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host as the URL has it.
    pub fn host(&self) -> String {
        self.base.host()
    }

    /// See [`BaseUrl::check_egress`].
    pub async fn check_egress(&self, rules: &EgressRules) -> Result<(), EgressRefusal> {
        self.base.check_egress(rules).await
    }

    /// The URL of a request.
    pub fn target(&self) -> RequestTarget {
        self.base.join(self.end, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_stays_as_it_is() {
        for (typed, normal, target) in [
            ("https://Id.example.com/token", "https://id.example.com/token", "/token"),
            ("https://id.example.com/o/token/", "https://id.example.com/o/token/", "/o/token/"),
            ("https://id.example.com/t/?v=1", "https://id.example.com/t/?v=1", "/t/?v=1"),
            ("https://id.example.com/t?v=1", "https://id.example.com/t?v=1", "/t?v=1"),
            ("https://id.example.com", "https://id.example.com", "/"),
            ("https://id.example.com/", "https://id.example.com/", "/"),
            ("https://id.example.com?v=/", "https://id.example.com?v=/", "/?v=/"),
        ] {
            let url = EndpointUrl::parse(typed).unwrap();
            assert_eq!((url.as_str(), url.target().path_and_query()), (normal, target));
            assert_eq!(EndpointUrl::parse(normal).unwrap(), url, "{typed}");
        }
        assert_eq!(EndpointUrl::parse("ftp://x/"), Err(BaseUrlError::Scheme));
    }
}
