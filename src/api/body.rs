//! JSON bodies and merge patches, read so that every mistake is told by its field's name.

mod read_only;

use std::marker::PhantomData;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::access::AuthenticationSignal;
use super::error::ApiError;
pub use read_only::{Editable, SentBack};

/// The largest body that the management plane reads: a secret of 64 KiB with every byte escaped
/// fits.
pub const MOST_BYTES: usize = 1024 * 1024;

/// How long a body may take to arrive.
const MOST_TIME: std::time::Duration = std::time::Duration::from_secs(30);

/// A JSON body of exactly the fields of `T`.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = read(request, payload);
        Box::pin(async move { Ok(Self(parse(&bytes.await?)?)) })
    }
}

/// A JSON merge patch (RFC 7396) of the editable fields `T` of a resource. What is read-only in it is
/// passed over.
#[derive(Debug)]
pub struct MergePatch<T> {
    patch: Value,
    of: PhantomData<T>,
}

impl<'de, T: Editable> Deserialize<'de> for MergePatch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut patch = Value::Object(Map::deserialize(deserializer)?);
        read_only::pass_over::<T>(&mut patch);
        Ok(Self { patch, of: PhantomData })
    }
}

impl<T: Editable> MergePatch<T> {
    /// The editable fields after the patch. A field that must have a value can't be removed, and
    /// one that is not editable or not known is refused by name.
    pub fn apply(&self, current: &T) -> Result<T, ApiError> {
        let mut document = serde_json::to_value(current)
            .map_err(|error| ApiError::Internal(format!("unpatchable resource: {error}")))?;
        self.refuse_unknown_removals(&document)?;
        json_patch::merge(&mut document, &self.patch);
        shaped(serde_path_to_error::deserialize(document))
    }

    /// Merging forgets a null for what is not there, and with it that no such field exists: a slip
    /// in a name would look like a removal that was done.
    fn refuse_unknown_removals(&self, current: &Value) -> Result<(), ApiError> {
        for (name, change) in self.patch.as_object().into_iter().flatten() {
            let Some(present) = current.get(name) else {
                return Err(ApiError::field(name, "there is no such field"));
            };
            let (Value::Object(present), Value::Object(change)) = (present, change) else {
                continue;
            };
            if !change.iter().any(|(inner, value)| value.is_null() && !present.contains_key(inner))
            {
                continue;
            }
            // One level down, the type itself says which names it knows; a map knows all.
            let mut kept = present.clone();
            kept.extend(change.clone());
            let mut nested = current.clone();
            if let Some(slot) = nested.get_mut(name) {
                *slot = Value::Object(kept);
            }
            match serde_path_to_error::deserialize::<_, T>(nested) {
                Err(error) if error.inner().to_string().starts_with("unknown field") => {
                    shaped::<T>(Err(error))?;
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// What the patch says of this top-level field.
    pub fn value(&self, field: &str) -> Option<&Value> {
        self.patch.get(field)
    }
}

impl<T: Editable + ToSchema> PartialSchema for MergePatch<T> {
    /// The schema of `T` and what is shown beside it, with no field required.
    fn schema() -> RefOr<Schema> {
        let mut schema = T::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.required.clear();
        }
        read_only::describe::<T>(&mut schema);
        schema
    }
}

impl<T: Editable + ToSchema> ToSchema for MergePatch<T> {
    fn name() -> std::borrow::Cow<'static, str> {
        format!("{}Patch", T::name()).into()
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
    let body = actix_web::web::Payload::from_request(request, payload).into_inner();
    let authenticated = AuthenticationSignal::wait(request);
    async move {
        authenticated.await;
        if !is_json {
            return Err(ApiError::UnsupportedMediaType);
        }
        let body = body.map_err(|error| ApiError::Internal(error.to_string()))?;
        match tokio::time::timeout(MOST_TIME, body.to_bytes_limited(MOST_BYTES)).await {
            Ok(Ok(Ok(bytes))) => Ok(bytes),
            Ok(Ok(Err(error))) => Err(ApiError::Malformed(format!("The body broke off: {error}."))),
            Ok(Err(_)) => Err(ApiError::TooLarge(MOST_BYTES)),
            Err(_) => Err(ApiError::Malformed("The body did not arrive in time.".to_owned())),
        }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // A derived type would read an array as its fields in order.
    if bytes.trim_ascii_start().first() != Some(&b'{') && is_json(bytes) {
        return Err(ApiError::field("body", "must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = match serde_path_to_error::deserialize(&mut deserializer) {
        // An enumeration that is no text is told as if it were no JSON.
        Err(error) if !error.inner().is_data() && is_json(bytes) => {
            return Err(ApiError::field(error.path().to_string(), "is not of the right type"));
        }
        Err(error) if !error.inner().is_data() => {
            return Err(ApiError::Malformed(format!(
                "The body is not valid JSON: {}.",
                error.inner()
            )));
        }
        other => shaped(other)?,
    };
    deserializer
        .end()
        .map_err(|error| ApiError::Malformed(format!("The body is not valid JSON: {error}.")))?;
    Ok(value)
}

fn is_json(bytes: &[u8]) -> bool {
    // What is passed over is not looked at as text.
    std::str::from_utf8(bytes)
        .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

/// Turns serde's complaint into one about a field.
fn shaped<T>(
    outcome: Result<T, serde_path_to_error::Error<serde_json::Error>>,
) -> Result<T, ApiError> {
    outcome.map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().to_string();
        // Positions are right for a body and meaningless for a patched document; a name serves both.
        let message = message.split(" at line ").next().unwrap_or_default();
        let named = |prefix: &str| {
            let name = message.strip_prefix(prefix)?.strip_prefix('`')?.split('`').next()?;
            Some(match path.as_str() {
                "." => name.to_owned(),
                path if path.ends_with(name) => path.to_owned(),
                path => format!("{path}.{name}"),
            })
        };
        if let Some(field) = named("unknown field ") {
            return ApiError::field(field, "there is no such field");
        }
        if let Some(field) = named("duplicate field ") {
            return ApiError::field(field, "must be there once");
        }
        if let Some(field) = named("missing field ") {
            return ApiError::field(field, "must be given and can't be null");
        }
        // What was sent is not quoted: it may be a secret in the wrong place.
        let message = match message.split_once(", expected ") {
            Some((found, expected)) if found.starts_with("invalid ") => {
                format!("must be {expected}")
            }
            _ => message.to_owned(),
        };
        ApiError::field(if path == "." { "body".to_owned() } else { path }, message)
    })
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        name: String,
        note: Option<String>,
        inner: Inner,
    }

    impl Editable for Thing {
        const READ_ONLY: &'static [&'static str] = &["made_at", "made_by"];
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        size: u8,
    }

    fn fields(error: ApiError) -> Vec<String> {
        match error {
            ApiError::Invalid(errors) => errors.into_iter().map(|error| error.field).collect(),
            other => panic!("expected fields, got {other:?}"),
        }
    }

    #[test]
    fn wrong_fields_are_named() {
        let wrong = |body: &str| fields(parse::<Thing>(body.as_bytes()).unwrap_err());
        assert_eq!(wrong(r#"{"name":"a","inner":{"size":1},"extra":1}"#), ["extra"]);
        assert_eq!(wrong(r#"{"name":"a","inner":{"size":1,"more":2}}"#), ["inner.more"]);
        assert_eq!(wrong(r#"{"name":"a"}"#), ["inner"]);
        assert_eq!(wrong(r#"{"name":"a","inner":{"size":300}}"#), ["inner.size"]);
        assert_eq!(wrong("[]"), ["body"]);
        // In the order of the fields, as a derived type would take it.
        assert_eq!(wrong(r#"["a", null, {"size":1}]"#), ["body"]);
        assert_eq!(wrong(r#"{"name":"a","name":"b","inner":{"size":1}}"#), ["name"]);
    }

    #[test]
    fn what_was_shown_can_be_sent_back() {
        let shown =
            r#"{"made_by":null,"name":"a","made_at":{"not":["looked","at"]},"inner":{"size":1}}"#;
        let SentBack(thing) = parse::<SentBack<Thing>>(shown.as_bytes()).unwrap();
        assert_eq!(thing, Thing { name: "a".into(), note: None, inner: Inner { size: 1 } });
        let wrong = |body: &str| fields(parse::<SentBack<Thing>>(body.as_bytes()).unwrap_err());
        assert_eq!(wrong(r#"{"name":"a","made_on":1,"inner":{"size":1}}"#), ["made_on"]);
        assert_eq!(wrong(r#"{"name":"a","inner":{"size":1,"made_at":2}}"#), ["inner.made_at"]);
        assert_eq!(wrong(r#"{"made_at":1,"name":"a","inner":{"size":300}}"#), ["inner.size"]);
        assert_eq!(wrong(r#"{"name":"a","made_at":1}"#), ["inner"]);
        assert_eq!(wrong(r#"{"name":"a","made_at":1,"name":"b","inner":{"size":1}}"#), ["name"]);
        assert_eq!(wrong("[]"), ["body"]);
        let broken = parse::<SentBack<Thing>>(br#"{"made_at":tru,"name":"a"}"#).unwrap_err();
        assert!(matches!(broken, ApiError::Malformed(_)), "{broken}");
    }

    #[test]
    fn what_was_sent_is_not_quoted() {
        for body in [
            r#""sk-sent""#,
            r#"{"name":{"sk-sent":1},"inner":{"size":1}}"#,
            r#"{"name":"a","inner":"sk-sent"}"#,
        ] {
            let ApiError::Invalid(errors) = parse::<Thing>(body.as_bytes()).unwrap_err() else {
                panic!("{body} is not valid");
            };
            assert!(errors.iter().all(|error| !error.message.contains("sk-sent")), "{errors:?}");
        }
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for body in ["", "{", r#"{"name":"a","inner":{"size":1}} x"#] {
            let error = parse::<Thing>(body.as_bytes()).unwrap_err();
            assert!(matches!(error, ApiError::Malformed(_)), "{body}");
        }
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let current = Thing { name: "a".into(), note: Some("n".into()), inner: Inner { size: 1 } };
        let patch = |text: &str| MergePatch::<Thing> {
            patch: serde_json::from_str(text).unwrap(),
            of: PhantomData,
        };
        let after = patch(r#"{"note":null,"inner":{"size":2}}"#).apply(&current).unwrap();
        assert_eq!(after, Thing { name: "a".into(), note: None, inner: Inner { size: 2 } });
        assert_eq!(patch("{}").apply(&current).unwrap(), current);
        assert_eq!(fields(patch(r#"{"name":null}"#).apply(&current).unwrap_err()), ["name"]);
        assert_eq!(fields(patch(r#"{"id":"x"}"#).apply(&current).unwrap_err()), ["id"]);
        assert_eq!(fields(patch(r#"{"id":null}"#).apply(&current).unwrap_err()), ["id"]);
        let slip = patch(r#"{"inner":{"seize":null}}"#).apply(&current).unwrap_err();
        assert_eq!(fields(slip), ["inner.seize"]);
    }
}
