//! JSON bodies and merge patches.

mod patch;
mod resource;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING,
};
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use super::access::{AuthenticationSignal, authenticate_again};
use super::error::ApiError;
use super::field_errors::{Parsed, add, field_error, parse_object};
pub(super) use patch::MergePatch;
pub(super) use resource::{Editable, WholeResource};

/// The largest body that the management plane reads: a secret of 64 KiB with every byte escaped
/// fits.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// How long a body may take to arrive.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// A JSON body. Whether its fields are valid is known when it is taken out.
#[derive(Debug)]
pub(super) struct Json<T>(Parsed<T>);

impl<T> Json<T> {
    /// The body, or every wrong field of it.
    pub(super) fn valid(self) -> Result<T, ApiError> {
        self.0.valid()
    }

    /// The body as far as it could be read, and its wrong fields.
    pub(super) fn into_parsed(self) -> Parsed<T> {
        self.0
    }

    /// Whether this field could not be read.
    pub(super) fn is_wrong(&self, field: &str) -> bool {
        self.0.errors.iter().any(|error| error.field == field)
    }

    /// What `check` makes of the body, or every wrong field of it.
    pub(super) fn check<U>(
        self,
        check: impl FnOnce(T) -> Result<U, ApiError>,
    ) -> Result<U, ApiError> {
        self.0.check(check)
    }
}

impl<T: DeserializeOwned + ToSchema + 'static> FromRequest for Json<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = read(request, payload);
        Box::pin(async move { parse(&bytes.await?).map(Self) })
    }
}

/// A JSON body that may be left out, and then has its default.
#[derive(Debug)]
pub(super) struct OptionalJson<T>(pub(super) T);

impl<T: DeserializeOwned + ToSchema + Default + 'static> FromRequest for OptionalJson<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let headers = request.headers();
        let empty = headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0")
            && !headers.contains_key(TRANSFER_ENCODING);
        if empty {
            return Box::pin(async { Ok(Self(T::default())) });
        }
        let body = Json::<T>::from_request(request, payload);
        Box::pin(async move { Ok(Self(body.await?.valid()?)) })
    }
}

fn read(
    request: &HttpRequest,
    payload: &mut Payload,
) -> impl Future<Output = Result<Bytes, ApiError>> + 'static {
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let is_json = match content_type.as_deref() {
        None | Some("" | "application/json") => true,
        Some("application/merge-patch+json") => request.method() == Method::PATCH,
        Some(_) => false,
    };
    let coding = content_coding(request.headers());
    let body = actix_web::web::Payload::from_request(request, payload).into_inner();
    let authenticated = AuthenticationSignal::wait(request);
    let request = request.clone();
    async move {
        authenticated.await;
        if !is_json {
            return Err(ApiError::UnsupportedMediaType);
        }
        if let Some(coding) = coding {
            return Err(ApiError::UnsupportedContentEncoding(coding));
        }
        let body = body.map_err(|error| ApiError::Internal(error.to_string()))?;
        match tokio::time::timeout(TIMEOUT, body.to_bytes_limited(MAX_BYTES)).await {
            Ok(Ok(Ok(bytes))) => {
                authenticate_again(&request).await?;
                Ok(bytes)
            }
            Ok(Ok(Err(error))) => {
                Err(ApiError::Malformed(format!("The body ended too early: {error}.")))
            }
            Ok(Err(_)) => Err(ApiError::TooLarge(MAX_BYTES)),
            Err(_) => Err(ApiError::Malformed("The body did not arrive in time.".to_owned())),
        }
    }
}

/// The first content coding of the body that changes its bytes, shortened; bodies of this plane are too
/// small to be worth decoding.
fn content_coding(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(CONTENT_ENCODING);
    let mut codings = values.flat_map(|value| value.to_str().unwrap_or("?").split(','));
    let changes = |coding: &&str| {
        !coding.trim().is_empty() && !coding.trim().eq_ignore_ascii_case("identity")
    };
    codings.find(changes).map(|coding| coding.trim().chars().take(64).collect())
}

fn parse<T: DeserializeOwned + ToSchema>(bytes: &[u8]) -> Result<Parsed<T>, ApiError> {
    // A derived type would read an array as its fields in order.
    if bytes.trim_ascii_start().first() != Some(&b'{') && is_json(bytes) {
        return Err(ApiError::field("body", "must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let first_error = match serde_path_to_error::deserialize(&mut deserializer) {
        Ok(value) => {
            deserializer.end().map_err(malformed)?;
            return Ok(Parsed { value: Some(value), errors: Vec::new() });
        }
        Err(error) => error,
    };
    let document = serde_json::from_slice(bytes).map_err(malformed)?;
    let mut parsed = parse_object(document, &example::<T>());
    // The document has only the last one of several fields of a name.
    if parsed.errors.is_empty() || first_error.inner().to_string().starts_with("duplicate field") {
        add(&mut parsed.errors, field_error(&first_error));
    }
    Ok(parsed)
}

fn malformed(error: serde_json::Error) -> ApiError {
    ApiError::Malformed(format!("The body is not valid JSON: {error}."))
}

fn is_json(bytes: &[u8]) -> bool {
    // Ignored texts are not checked for UTF-8.
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// The example of a body's schema. Its fields replace required ones that are missing or wrong, so
/// that the others can be checked.
fn example<T: ToSchema>() -> Map<String, Value> {
    match T::schema() {
        RefOr::T(Schema::Object(object)) => match object.example {
            Some(Value::Object(example)) => example,
            _ => Map::new(),
        },
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::api::error::FieldError;

    #[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    #[schema(example = json!({"name": "n", "inner": {"size": 1, "weight": 1}}))]
    struct Thing {
        name: String,
        note: Option<String>,
        inner: Inner,
        spare: Option<Inner>,
        #[serde(default)]
        parts: Vec<Inner>,
    }

    #[derive(Serialize, ToSchema)]
    struct ShownThing {
        made_at: u8,
        made_by: u8,
        name: String,
        note: Option<String>,
        inner: Inner,
        spare: Option<Inner>,
        parts: Vec<Inner>,
    }

    impl Editable for Thing {
        type Shown = ShownThing;
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        size: u8,
        weight: u8,
    }

    fn fields<T: std::fmt::Debug>(outcome: Result<T, ApiError>) -> Vec<String> {
        match outcome {
            Err(ApiError::Invalid(errors)) => errors.into_iter().map(|error| error.field).collect(),
            other => panic!("expected fields, got {other:?}"),
        }
    }

    #[test]
    fn wrong_fields_are_named() {
        let wrong = |body: &str| fields(parse::<Thing>(body.as_bytes()).and_then(Parsed::valid));
        assert_eq!(wrong(r#"{"name":"a","inner":{"size":1,"weight":1},"extra":1}"#), ["extra"]);
        assert_eq!(wrong(r#"{"name":"a","inner":{"size":1,"weight":1,"more":2}}"#), ["inner.more"]);
        assert_eq!(wrong(r#"{"name":"a"}"#), ["inner"]);
        assert_eq!(wrong(r#"{"name":"a","inner":{"size":300,"weight":1}}"#), ["inner.size"]);
        assert_eq!(wrong("[]"), ["body"]);
        // In the order of the fields, as a derived type would read it.
        assert_eq!(wrong(r#"["a", null, {"size":1,"weight":1}]"#), ["body"]);
        let twice = r#"{"name":"a","name":"b","inner":{"size":1,"weight":1}}"#;
        assert_eq!(wrong(twice), ["name"]);
    }

    #[test]
    fn all_wrong_fields_are_named_at_once() {
        let parse = |body: &str| parse::<Thing>(body.as_bytes()).unwrap();
        let several = r#"{"inner":{"size":300,"weight":-1,"more":1},"note":7,"extra":1}"#;
        let mut wrong = fields(parse(several).valid());
        wrong.sort_unstable();
        assert_eq!(wrong, ["extra", "inner.more", "inner.size", "inner.weight", "name", "note"]);
        let refuse = |_: Thing| {
            let error = |field: &str| FieldError { field: field.into(), message: "no".into() };
            Err::<(), _>(ApiError::Invalid(vec![error("name"), error("note")]))
        };
        let body = r#"{"name":1,"inner":{"size":1}}"#;
        let mut wrong = fields(parse(body).check(refuse));
        wrong.sort_unstable();
        assert_eq!(wrong, ["inner.weight", "name", "note"]);
    }

    #[test]
    fn all_missing_fields_of_a_nested_object_are_named() {
        let sorted = |mut named: Vec<String>| {
            named.sort_unstable();
            named
        };
        let wrong = |body: &str| sorted(fields(parse::<Thing>(body.as_bytes()).unwrap().valid()));
        assert_eq!(wrong(r#"{"name":"a","inner":{}}"#), ["inner.size", "inner.weight"]);
        assert_eq!(wrong(r#"{"name":"a","inner":{"size":300}}"#), ["inner.size", "inner.weight"]);
        let parts = r#"{"inner":{"size":1,"weight":1},"parts":[{"size":1,"weight":1},{}]}"#;
        assert_eq!(wrong(parts), ["name", "parts[1].size", "parts[1].weight"]);
        let whole = parse::<WholeResource<Thing>>(br#"{"name":"a","made_at":1,"inner":{}}"#);
        assert_eq!(sorted(fields(whole.unwrap().valid())), ["inner.size", "inner.weight"]);
        let patch: MergePatch<Thing> = serde_json::from_str(r#"{"spare":{}}"#).unwrap();
        let inner = Inner { size: 1, weight: 1 };
        let current = Thing { name: "a".into(), note: None, inner, spare: None, parts: vec![] };
        let patched = patch.apply(&current).and_then(Parsed::valid);
        assert_eq!(sorted(fields(patched)), ["spare.size", "spare.weight"]);
    }

    #[test]
    fn a_shown_resource_can_be_sent_back() {
        let parse =
            |body: &str| parse::<WholeResource<Thing>>(body.as_bytes()).and_then(Parsed::valid);
        let shown = r#"{"made_by":null,"name":"a","made_at":{"not":["looked","at"]},
            "inner":{"size":1,"weight":1}}"#;
        let inner = Inner { size: 1, weight: 1 };
        let thing = Thing { name: "a".into(), note: None, inner, spare: None, parts: Vec::new() };
        assert_eq!(parse(shown).unwrap().0, thing);
        let wrong = |body: &str| fields(parse(body).map(|whole| whole.0));
        let inner = r#""inner":{"size":1,"weight":1}"#;
        assert_eq!(wrong(&format!(r#"{{"name":"a","made_on":1,{inner}}}"#)), ["made_on"]);
        let nested = r#"{"name":"a","inner":{"size":1,"weight":1,"made_at":2}}"#;
        assert_eq!(wrong(nested), ["inner.made_at"]);
        assert_eq!(wrong(r#"{"name":"a","made_at":1}"#), ["inner"]);
        assert_eq!(wrong(&format!(r#"{{"name":"a","made_at":1,"name":"b",{inner}}}"#)), ["name"]);
        assert_eq!(wrong("[]"), ["body"]);
        let broken = parse(r#"{"made_at":tru,"name":"a"}"#).unwrap_err();
        assert!(matches!(broken, ApiError::Malformed(_)), "{broken}");
    }

    #[test]
    fn what_was_sent_is_not_quoted() {
        for body in [
            r#""sk-sent""#,
            r#"{"name":{"sk-sent":1},"inner":{"size":1,"weight":1}}"#,
            r#"{"name":"a","inner":"sk-sent"}"#,
        ] {
            let outcome = parse::<Thing>(body.as_bytes()).and_then(Parsed::valid);
            let Err(ApiError::Invalid(errors)) = outcome else { panic!("{body} is not valid") };
            assert!(errors.iter().all(|error| !error.message.contains("sk-sent")), "{errors:?}");
        }
    }

    #[test]
    fn a_body_that_is_not_json_is_malformed() {
        for body in ["", "{", r#"{"name":"a","inner":{"size":1,"weight":1}} x"#] {
            let error = parse::<Thing>(body.as_bytes()).unwrap_err();
            assert!(matches!(error, ApiError::Malformed(_)), "{body}");
        }
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let current = || Thing {
            name: "a".into(),
            note: Some("n".into()),
            inner: Inner { size: 1, weight: 1 },
            spare: None,
            parts: Vec::new(),
        };
        let apply = |text: &str| {
            let patch: MergePatch<Thing> = serde_json::from_str(text).unwrap();
            patch.apply(&current()).and_then(Parsed::valid)
        };
        let after = apply(r#"{"note":null,"inner":{"size":2}}"#).unwrap();
        let expected = Thing { note: None, inner: Inner { size: 2, weight: 1 }, ..current() };
        assert_eq!(after, expected);
        assert_eq!(apply("{}").unwrap(), current());
        assert_eq!(apply(r#"{"made_at":9}"#).unwrap(), current());
        for (patch, wrong) in [
            (r#"{"name":null}"#, vec!["name"]),
            (r#"{"id":"x"}"#, vec!["id"]),
            (r#"{"id":null}"#, vec!["id"]),
            (r#"{"inner":{"seize":null}}"#, vec!["inner.seize"]),
            (
                r#"{"no":null,"name":1,"note":2,"inner":{"size":-1}}"#,
                vec!["no", "inner.size", "name", "note"],
            ),
        ] {
            let mut named = fields(apply(patch));
            named.sort_unstable();
            let mut wrong = wrong;
            wrong.sort_unstable();
            assert_eq!(named, wrong, "{patch}");
        }
    }
}
