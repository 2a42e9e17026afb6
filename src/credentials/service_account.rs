//! Google service accounts: the JSON that holds their key, and the assertion that a token is granted for
//! (RFC 7523; Google, "Using OAuth 2.0 for Server to Server Applications").

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;

use crate::crypto::SecretText;

/// Google's token endpoint, which is also the audience of assertions.
pub const GOOGLE_TOKEN_URL: &str = "https://oauth2.googleapis.com/token";

/// What tokens are for: Google Cloud, as far as the account may use it.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// How long an assertion is valid, in seconds: the longest that Google takes.
const ASSERTION_LIFE: i64 = 3600;

/// A service account, from its JSON.
#[derive(Deserialize)]
pub struct ServiceAccount {
    pub project_id: String,
    r#type: String,
    client_email: String,
    private_key: SecretText,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

/// Why a text is no service account that can be used. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAccount {
    #[error(
        "it is not the JSON of a service account, with type, project_id, client_email and private_key"
    )]
    Form,
    #[error("its token_uri is not Google's")]
    TokenUri,
    #[error("its private_key is no RSA key in PKCS #8")]
    Key,
}

impl ServiceAccount {
    /// Reads the JSON as Google hands it out. Its `token_uri` has to be Google's or `other`, the one that
    /// the operator has put in its place: it comes from a tenant, and the gateway would connect to it.
    pub fn parse(json: &[u8], other: Option<&str>) -> Result<Self, InvalidAccount> {
        let account: Self = serde_json::from_slice(json).map_err(|_| InvalidAccount::Form)?;
        if account.r#type != "service_account" {
            return Err(InvalidAccount::Form);
        }
        let token_uri = account.token_uri.as_deref();
        let is_known = |uri| uri == GOOGLE_TOKEN_URL || Some(uri) == other;
        if token_uri.is_none_or(is_known) { Ok(account) } else { Err(InvalidAccount::TokenUri) }
    }

    /// The assertion that is exchanged for a token, signed now.
    pub fn assertion(&self, now: DateTime<Utc>) -> Result<SecretText, InvalidAccount> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(self.private_key.expose().as_bytes())
            .map_err(|_| InvalidAccount::Key)?;
        let key = KeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(|_| InvalidAccount::Key)?;
        let mut header = json!({"alg": "RS256", "typ": "JWT"});
        if let Some(id) = &self.private_key_id {
            header["kid"] = id.as_str().into();
        }
        let issued_at = now.timestamp();
        let claims = json!({
            "iss": self.client_email,
            "scope": SCOPE,
            "aud": self.token_uri.as_deref().unwrap_or(GOOGLE_TOKEN_URL),
            "iat": issued_at,
            "exp": issued_at + ASSERTION_LIFE,
        });
        let [header, claims] =
            [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let to_sign = format!("{header}.{claims}");
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), to_sign.as_bytes(), &mut signature)
            .map_err(|_| InvalidAccount::Key)?;
        Ok(format!("{to_sign}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)).into())
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    /// A key that was made for the tests.
    const ACCOUNT: &str = include_str!("../../tests/fixtures/vertex/service_account.json");

    fn with(field: &str, value: Value) -> Vec<u8> {
        let mut account: Value = serde_json::from_str(ACCOUNT).unwrap();
        account[field] = value;
        account.to_string().into()
    }

    #[test]
    fn an_assertion_is_signed_and_says_what_google_asks_for() {
        let account = ServiceAccount::parse(ACCOUNT.as_bytes(), None).unwrap();
        let now = DateTime::from_timestamp(1_800_000_000, 7).unwrap();
        let assertion = account.assertion(now).unwrap();
        let (signed, signature) = assertion.expose().rsplit_once('.').unwrap();
        let pem = account.private_key.expose().as_bytes();
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem).unwrap();
        let key = KeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public().as_ref());
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        public.verify(signed.as_bytes(), &signature).unwrap();
        let parts: Vec<Value> = signed
            .split('.')
            .map(|part| {
                serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
            })
            .collect();
        let kid = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(parts[0], json!({"alg": "RS256", "typ": "JWT", "kid": kid}));
        let claims = json!({
            "iss": "gateway@project-of-tests.iam.gserviceaccount.com",
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "aud": "https://oauth2.googleapis.com/token",
            "iat": 1_800_000_000,
            "exp": 1_800_003_600,
        });
        assert_eq!(parts[1], claims);
    }

    #[test]
    fn tokens_come_from_google_or_from_where_the_operator_says() {
        let uri = "https://oauth2.googleapis.com/token/";
        let elsewhere = with("token_uri", uri.into());
        let parsed = ServiceAccount::parse(&elsewhere, Some("https://token.example"));
        assert_eq!(parsed.err(), Some(InvalidAccount::TokenUri));
        assert!(ServiceAccount::parse(&elsewhere, Some(uri)).is_ok());
        assert!(ServiceAccount::parse(&with("token_uri", Value::Null), None).is_ok());
    }

    #[test]
    fn other_json_is_no_service_account() {
        for other in [
            b"sk-123".to_vec(),
            b"[]".to_vec(),
            with("type", "authorized_user".into()),
            with("private_key", Value::Null),
            with("client_email", 7.into()),
        ] {
            assert_eq!(ServiceAccount::parse(&other, None).err(), Some(InvalidAccount::Form));
        }
        for key in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            let account = ServiceAccount::parse(&with("private_key", key.into()), None).unwrap();
            let now = DateTime::from_timestamp(0, 0).unwrap();
            assert_eq!(account.assertion(now).err(), Some(InvalidAccount::Key));
        }
    }
}
