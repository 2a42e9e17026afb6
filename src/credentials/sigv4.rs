//! Signs requests to AWS with Signature Version 4 (AWS, "Create a signed AWS API request").

use std::fmt::Write as _;

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use ring::{digest, hmac};
use zeroize::Zeroizing;

use crate::crypto::SecretBytes;
use crate::upstream::{UpstreamError, UpstreamRequest};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The service that Bedrock's runtime is signed for.
const BEDROCK: &str = "bedrock";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// What stays as it is in names and values (RFC 3986, section 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same in a path, whose segments are encoded one by one.
const UNRESERVED_IN_PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// An AWS access key. All parts can be sent in headers.
pub struct AwsKey {
    pub id: String,
    pub secret: SecretBytes,
    /// Of a temporary key.
    pub session_token: Option<SecretBytes>,
}

/// Signs requests to Bedrock's runtime in one region.
pub struct Signer {
    pub key: AwsKey,
    pub region: String,
}

impl Signer {
    /// Adds the headers of the signature, which covers the method, the path, the query, the body, `Host`,
    /// the time and, where there is one, `Content-Type`. Nothing of these may change afterwards.
    pub fn sign(
        &self,
        request: &mut UpstreamRequest,
        at: DateTime<Utc>,
    ) -> Result<(), UpstreamError> {
        let invalid = |_| UpstreamError::InvalidRequest("a header cannot be signed".to_owned());
        let time = at.format("%Y%m%dT%H%M%SZ").to_string();
        let host = request.target.host_header().to_str().map_err(invalid)?.to_owned();
        let mut signed = vec![("host", host), ("x-amz-date", time.clone())];
        if let Some(kind) = request.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) {
            signed.push(("content-type", kind.to_owned()));
        }
        let sensitive = |bytes: &[u8]| -> Result<HeaderValue, UpstreamError> {
            let mut value = HeaderValue::from_bytes(bytes)
                .map_err(|error| UpstreamError::InvalidRequest(error.to_string()))?;
            value.set_sensitive(true);
            Ok(value)
        };
        if let Some(token) = &self.key.session_token {
            let value = sensitive(token.expose())?;
            signed.push(("x-amz-security-token", value.to_str().map_err(invalid)?.to_owned()));
            request.headers.insert(SESSION_TOKEN, value);
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        request.body.pieces().iter().for_each(|piece| hash.update(piece));
        let authorization = self.authorization(
            BEDROCK,
            &time,
            &Covered {
                method: request.method.as_str(),
                path_and_query: request.target.path_and_query(),
                headers: signed,
                body_hash: hex(hash.finish().as_ref()),
            },
        );
        request.headers.insert(AUTHORIZATION, sensitive(authorization.as_bytes())?);
        request.headers.insert(DATE, sensitive(time.as_bytes())?);
        Ok(())
    }

    /// The value of `Authorization`. `time` is in the basic form of ISO 8601.
    fn authorization(&self, service: &str, time: &str, covered: &Covered<'_>) -> String {
        let day = time.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/{service}/aws4_request", self.region);
        let (canonical, signed_headers) = covered.canonical();
        let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{hash}");
        let mut key = Zeroizing::new(b"AWS4".to_vec());
        key.extend_from_slice(self.key.secret.expose());
        for part in [day, &self.region, service, "aws4_request"] {
            key = Zeroizing::new(mac(&key, part).as_ref().to_vec());
        }
        let signature = hex(mac(&key, &to_sign).as_ref());
        let id = &self.key.id;
        format!(
            "{ALGORITHM} Credential={id}/{scope}, SignedHeaders={signed_headers}, Signature={signature}"
        )
    }
}

/// Whether AWS says with this answer that it does not accept the key or the signature: a 403, as for what
/// the key may not do.
pub fn refuses_key(status: StatusCode, headers: &HeaderMap) -> bool {
    const KINDS: [&str; 5] = [
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    ];
    let kind = || headers.get("x-amzn-errortype").and_then(|kind| kind.to_str().ok());
    // An address may follow the name.
    let name = |kind: &str| kind.split(':').next().is_some_and(|name| KINDS.contains(&name.trim()));
    status == StatusCode::FORBIDDEN && kind().is_some_and(name)
}

/// What a signature covers.
struct Covered<'r> {
    method: &'r str,
    /// As the request line has it.
    path_and_query: &'r str,
    /// Names in lower case.
    headers: Vec<(&'static str, String)>,
    body_hash: String,
}

impl Covered<'_> {
    /// The canonical request, and the list of its headers.
    fn canonical(&self) -> (String, String) {
        let (path, query) =
            self.path_and_query.split_once('?').unwrap_or((self.path_and_query, ""));
        let mut headers: Vec<(&str, String)> =
            self.headers.iter().map(|(name, value)| (*name, trimmed(value))).collect();
        headers.sort_unstable();
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let mut text = format!("{}\n{}\n{}\n", self.method, path_of(path), query_of(query));
        for (name, value) in &headers {
            text.push_str(&format!("{name}:{value}\n"));
        }
        text.push_str(&format!("\n{names}\n{}", self.body_hash));
        (text, names)
    }
}

/// The path, encoded once more than it is sent: all services but S3 have it so.
fn path_of(path: &str) -> String {
    match path {
        "" => "/".to_owned(),
        path => percent_encode(path.as_bytes(), UNRESERVED_IN_PATH).to_string(),
    }
}

/// The parameters in order, each encoded once, however they were sent.
fn query_of(query: &str) -> String {
    let encoded = |text: &str| {
        let decoded: Vec<u8> = percent_decode_str(text).collect();
        percent_encode(&decoded, UNRESERVED).to_string()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encoded(name), encoded(value))
        })
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> =
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Without outer spaces, and with one in place of several.
fn trimmed(value: &str) -> String {
    let words: Vec<&str> = value.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use actix_web::http::Method;
    use bytes::Bytes;
    use std::time::Duration;

    use super::*;
    use crate::upstream::{BaseUrl, UpstreamTimeouts};

    const SCOPE: &str = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
    const TIME: &str = "20150830T123600Z";

    fn signer() -> Signer {
        let secret = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec();
        let key =
            AwsKey { id: "AKIDEXAMPLE".to_owned(), secret: secret.into(), session_token: None };
        Signer { key, region: "us-east-1".to_owned() }
    }

    /// The signature of AWS's test suite for this request, with its list of headers.
    fn sign(
        method: &str,
        path_and_query: &str,
        more: &[(&'static str, &str)],
        body: &str,
    ) -> String {
        let mut headers =
            vec![("host", "example.amazonaws.com".to_owned()), ("x-amz-date", TIME.to_owned())];
        headers.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let body_hash = hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref());
        let covered = Covered { method, path_and_query, headers, body_hash };
        let authorization = signer().authorization("service", TIME, &covered);
        let start = format!("AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=");
        authorization.strip_prefix(&start).unwrap().replace(", Signature=", " ")
    }

    #[test]
    fn the_signatures_are_those_of_awss_test_suite() {
        const TOKEN: &str = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        let all = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let ordered = "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1";
        // get-vanilla, get-vanilla-query-order-key-case, get-vanilla-utf8-query,
        // get-vanilla-query-order-encoded, get-unreserved, get-utf8, get-space-unnormalized, post-vanilla
        for (method, path, signature) in [
            ("GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                "GET",
                "/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "GET",
                "/?%E1%88%B4=bar",
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
            ("GET", ordered, "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"),
            ("GET", all, "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
            ("GET", "/ሴ", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
            (
                "GET",
                "/example space/",
                "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
            ),
            ("POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ] {
            let expected = format!("host;x-amz-date {signature}");
            assert_eq!(sign(method, path, &[], ""), expected, "{path}");
        }
        // post-x-www-form-urlencoded
        let form = [("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(
            sign("POST", "/", &form, "Param1=value1"),
            "content-type;host;x-amz-date ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
        // get-vanilla-with-session-token
        assert_eq!(
            sign("GET", "/", &[("x-amz-security-token", TOKEN)], ""),
            "host;x-amz-date;x-amz-security-token 07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"
        );
        // get-header-value-trim
        let spaces = [("my-header1", " value1"), ("my-header2", " \"a   b   c\"")];
        assert_eq!(
            sign("GET", "/", &spaces, ""),
            "host;my-header1;my-header2;x-amz-date acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"
        );
    }

    #[test]
    fn a_request_is_signed_as_it_is_sent() {
        let base = BaseUrl::parse("https://bedrock-runtime.us-east-1.amazonaws.com").unwrap();
        let limit = Duration::from_secs(1);
        let mut request = UpstreamRequest {
            method: Method::POST,
            target: base.join("/model/a.b-v1%3A0/converse", None),
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"{}").into(),
            timeouts: UpstreamTimeouts { connect: limit, first_byte: limit, idle: limit },
        };
        let mut signer = signer();
        signer.key.session_token = Some(b"token".to_vec().into());
        let at = DateTime::parse_from_rfc3339("2015-08-30T12:36:00.9Z").unwrap().to_utc();
        signer.sign(&mut request, at).unwrap();
        let text = |name: &str| request.headers.get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            (text("x-amz-date"), text("x-amz-security-token")),
            (TIME.into(), "token".into())
        );
        // The same with Python's hmac and hashlib, from "Create a signed AWS API request".
        assert_eq!(
            text("authorization"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/bedrock/aws4_request, \
             SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=6422f6bbfe05d29d8d2c554efc0ef31a9c7883128200f0a1ab0d2a7b1e67d8eb"
        );
        let again = text("authorization");
        request.body = Bytes::from_static(b"{ }").into();
        signer.sign(&mut request, at).unwrap();
        assert_ne!(request.headers.get("authorization").unwrap().to_str().unwrap(), again);
    }
}
