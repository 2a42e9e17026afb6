//! Validates the fields of a model configuration and brings them into their normal form.

mod call_url;
mod oauth;

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

use super::ModelConfigurationFields;
use crate::api::error::{ApiError, FieldError};
use crate::api::field_errors::{Parsed, add};
use crate::domain::headers::{is_forwardable, is_settable_extra};
use crate::domain::model_configuration::{HeaderTemplate, Placement};
use crate::domain::names::SecretName;
use crate::upstream::{BaseUrl, EndpointUrl};
use call_url::without_operation;

/// The longest name of a model, in characters.
const MAX_MODEL: usize = 256;
/// The largest number of headers to set, and of headers to pass on.
const MAX_HEADERS: usize = 32;
/// The longest header template, in bytes.
const MAX_TEMPLATE: usize = 4 * 1024;
/// The largest default parameters, in bytes of JSON.
const MAX_PARAMETERS: usize = 16 * 1024;
/// The largest limit of concurrent requests.
const MAX_CONCURRENT: u32 = 100_000;
/// The largest limit of tokens.
const MAX_TOKENS: u64 = 1_000_000_000;
/// Parameters without a default: the configuration sets the model, and the caller decides whether to
/// stream, which changes the form of the answer.
const NO_DEFAULT: [&str; 3] = ["model", "stream", "stream_options"];

/// Valid fields in normal form.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) fields: ModelConfigurationFields,
    pub(super) base_url: BaseUrl,
    /// Where tokens come from, if the configuration has an OAuth client.
    pub(super) token_url: Option<EndpointUrl>,
    /// The secrets that the configuration uses, each with the field that names it.
    pub(super) secrets: BTreeMap<SecretName, String>,
}

#[derive(Default)]
struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    fn add(&mut self, field: impl Into<String>, message: impl ToString) {
        self.0.push(FieldError { field: field.into(), message: message.to_string() });
    }
}

/// Fields in normal form as far as they are valid, and all mistakes in them.
#[derive(Debug)]
pub(super) struct Inspected {
    pub(super) fields: ModelConfigurationFields,
    /// If it is valid.
    pub(super) base_url: Option<BaseUrl>,
    /// Where tokens come from, if the configuration has an OAuth client and that is valid.
    pub(super) token_url: Option<EndpointUrl>,
    pub(super) secrets: BTreeMap<SecretName, String>,
    pub(super) errors: Vec<FieldError>,
}

impl Inspected {
    /// Inspects a body as far as it could be read.
    pub(super) fn of(parsed: Parsed<ModelConfigurationFields>) -> Result<Self, ApiError> {
        let Parsed { value, mut errors } = parsed;
        let Some(fields) = value else { return Err(ApiError::Invalid(errors)) };
        let mut found = inspect(fields);
        // In place of what could not be read there is an example or what was there before.
        let is_wrong = |top: &str| {
            let field = |error: &FieldError| error.field.split(['.', '[']).next() == Some(top);
            errors.iter().any(field)
        };
        if is_wrong("base_url") {
            found.base_url = None;
        }
        if is_wrong("oauth") {
            found.token_url = None;
        }
        for error in found.errors {
            add(&mut errors, error);
        }
        Ok(Self { errors, ..found })
    }

    /// The same, if the principal may set these fields. One who may not is told so where nothing else is
    /// wrong.
    pub(super) fn if_permitted(self, permission: Result<(), ApiError>) -> Result<Self, ApiError> {
        match permission {
            Ok(()) => Ok(self),
            Err(ApiError::Forbidden { .. }) if !self.errors.is_empty() => {
                Err(ApiError::Invalid(self.errors))
            }
            Err(error) => Err(error),
        }
    }

    /// The fields, or all mistakes.
    pub(super) fn valid(self) -> Result<Checked, ApiError> {
        match self {
            Self { fields, base_url: Some(base_url), token_url, secrets, errors }
                if errors.is_empty() =>
            {
                Ok(Checked { fields, base_url, token_url, secrets })
            }
            Self { errors, .. } => Err(ApiError::Invalid(errors)),
        }
    }
}

/// Checks everything that needs no database; names every wrong field.
fn inspect(mut fields: ModelConfigurationFields) -> Inspected {
    let mut errors = FieldErrors::default();
    let mut secrets = BTreeMap::new();
    if let Err(ApiError::Invalid(more)) =
        crate::api::shared::check_description(fields.description.as_deref())
    {
        errors.0.extend(more);
    }
    if fields.model.as_deref().is_some_and(|model| !is_model(model)) {
        errors.add("model", wrong_model());
    }
    if let Some(name) = &fields.api_key_name {
        secrets.insert(name.clone(), "api_key_name".to_owned());
    }
    let has_api_key = fields.api_key_name.is_some();
    let token_url = fields
        .oauth
        .as_mut()
        .and_then(|client| oauth::oauth(client, has_api_key, &mut secrets, &mut errors));
    let placement = fields.placement();
    if let Placement::Header(name) = &placement
        && !is_settable_extra(name)
    {
        errors.add(
            "auth",
            "must be 'bearer' or the name of a header that may carry a credential, such as api-key",
        );
    }
    fields.auth = Some(placement);
    fields.extra_headers = extra_headers(&fields, &mut secrets, &mut errors);
    fields.forward_headers = forward_headers(&fields.forward_headers, &mut errors);
    default_parameters(&fields.default_parameters, &mut errors);
    for (field, max) in fields.timeouts.out_of_range() {
        errors.add(format!("timeouts.{field}"), format!("must be 1 to {max} milliseconds"));
    }
    if fields.max_concurrent_requests.is_some_and(|max| !(1..=MAX_CONCURRENT).contains(&max)) {
        errors.add(
            "max_concurrent_requests",
            format!("must be 1 to {MAX_CONCURRENT}, or null for no limit"),
        );
    }
    for (field, limit) in
        [("context_window", fields.context_window), ("max_output_tokens", fields.max_output_tokens)]
    {
        if limit.is_some_and(|limit| !(1..=MAX_TOKENS).contains(&limit)) {
            let message =
                format!("must be 1 to {MAX_TOKENS}, or null for the value of the catalogue");
            errors.add(field, message);
        }
    }
    let base_url = match BaseUrl::parse(&fields.base_url) {
        Ok(base_url) => match without_operation(&base_url) {
            Some(shorter) => {
                errors.add(
                    "base_url",
                    format!(
                        "must not end in the path of an operation, which each request adds; use \
                         {shorter}"
                    ),
                );
                None
            }
            None => {
                base_url.as_str().clone_into(&mut fields.base_url);
                Some(base_url)
            }
        },
        Err(error) => {
            errors.add("base_url", error);
            None
        }
    };
    Inspected { fields, base_url, token_url, secrets, errors: errors.0 }
}

/// Whether a text can be the name of a model.
pub(super) fn is_model(name: &str) -> bool {
    (1..=MAX_MODEL).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

/// What the name of a model has to be.
pub(super) fn wrong_model() -> String {
    format!("must be 1 to {MAX_MODEL} characters long, without control characters")
}

fn extra_headers(
    fields: &ModelConfigurationFields,
    secrets: &mut BTreeMap<SecretName, String>,
    errors: &mut FieldErrors,
) -> BTreeMap<String, String> {
    if fields.extra_headers.len() > MAX_HEADERS {
        errors.add("extra_headers", format!("must be at most {MAX_HEADERS}"));
        return BTreeMap::new();
    }
    let mut normal = BTreeMap::new();
    for (name, value) in &fields.extra_headers {
        let field = format!("extra_headers.{name}");
        let lower = name.to_ascii_lowercase();
        if !is_settable_extra(name) {
            errors.add(&field, "is not a header that a configuration may set");
        } else if (fields.api_key_name.is_some() || fields.oauth.is_some())
            && lower == fields.placement().header()
        {
            errors.add(&field, "is the header that carries the key of api_key_name or the token");
        }
        if value.len() > MAX_TEMPLATE {
            errors.add(&field, format!("must be at most {MAX_TEMPLATE} bytes long"));
        } else {
            match HeaderTemplate::parse(value) {
                Ok(template) => {
                    for secret in template.secrets() {
                        secrets.entry(secret.clone()).or_insert_with(|| field.clone());
                    }
                }
                Err(error) => errors.add(&field, error),
            }
        }
        if normal.insert(lower, value.clone()).is_some() {
            errors.add(&field, "is given twice; the names of headers are not case-sensitive");
        }
    }
    normal
}

fn forward_headers(names: &[String], errors: &mut FieldErrors) -> Vec<String> {
    if names.len() > MAX_HEADERS {
        errors.add("forward_headers", format!("must be at most {MAX_HEADERS}"));
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let mut normal = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let field = format!("forward_headers[{index}]");
        let lower = name.to_ascii_lowercase();
        if !is_forwardable(name) {
            errors.add(
                &field,
                "is not a header that may be passed on: credentials, headers of one connection, \
                 those that choose an account at the provider (`openai-organization`, \
                 `openai-project`, `x-goog-user-project`, `x-amz-*`) or tell who the caller is \
                 (`forwarded`, `x-forwarded-*`, `x-real-ip`, `via`, ...), `x-gateway-*` and \
                 `x-tollgate-*` never go up",
            );
        }
        if !seen.insert(lower.clone()) {
            errors.add(&field, "is given twice; the names of headers are not case-sensitive");
        }
        normal.push(lower);
    }
    normal
}

fn default_parameters(parameters: &Map<String, Value>, errors: &mut FieldErrors) {
    for name in parameters.keys() {
        if NO_DEFAULT.contains(&name.to_lowercase().as_str()) {
            errors.add(format!("default_parameters.{name}"), "can't have a default");
        }
    }
    let size = serde_json::to_vec(parameters).map_or(usize::MAX, |json| json.len());
    if size > MAX_PARAMETERS {
        errors.add("default_parameters", format!("must be at most {MAX_PARAMETERS} bytes"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(more: &Value) -> ModelConfigurationFields {
        let mut all = serde_json::json!({
            "name": "gpt", "base_url": "https://api.example.com/v1/", "model": "gpt-4o",
        });
        json_patch::merge(&mut all, more);
        serde_json::from_value(all).unwrap()
    }

    fn check(fields: ModelConfigurationFields) -> Result<Checked, ApiError> {
        inspect(fields).valid()
    }

    fn wrong(more: &Value) -> Vec<String> {
        match check(fields(more)) {
            Err(ApiError::Invalid(errors)) => errors.into_iter().map(|error| error.field).collect(),
            other => panic!("expected wrong fields for {more}, got {other:?}"),
        }
    }

    #[test]
    fn fields_get_a_normal_form() {
        let checked = check(fields(&serde_json::json!({
            "api_key_name": "KEY",
            "auth": "API-Key",
            "extra_headers": {"X-Team": "{{secret:TEAM}}/{{secret:KEY}}"},
            "forward_headers": ["X-Trace"],
        })))
        .unwrap();
        assert_eq!(checked.fields.base_url, "https://api.example.com/v1");
        assert_eq!(checked.fields.auth, Some(Placement::Header("api-key".to_owned())));
        assert!(checked.fields.extra_headers.contains_key("x-team"));
        assert_eq!(checked.fields.forward_headers, ["x-trace"]);
        let secrets: Vec<(&str, &str)> =
            checked.secrets.iter().map(|(name, field)| (name.as_str(), field.as_str())).collect();
        assert_eq!(secrets, [("KEY", "api_key_name"), ("TEAM", "extra_headers.X-Team")]);
    }

    #[test]
    fn the_key_is_sent_in_the_usual_way_of_the_api() {
        for (more, auth) in [
            (serde_json::json!({}), "bearer"),
            (serde_json::json!({"auth": null}), "bearer"),
            (serde_json::json!({"provider": "anthropic"}), "x-api-key"),
            (serde_json::json!({"provider": "anthropic_compatible"}), "x-api-key"),
            (serde_json::json!({"provider": "anthropic_compatible", "auth": "bearer"}), "bearer"),
        ] {
            let checked = check(fields(&more)).unwrap();
            assert_eq!(checked.fields.auth.unwrap().to_string(), auth, "{more}");
        }
    }

    #[test]
    fn the_url_of_a_call_is_refused_with_the_base_url_to_use() {
        let url = "https://api.example.com/v1/chat/completions?a=b";
        let errors = inspect(fields(&serde_json::json!({"base_url": url}))).errors;
        assert_eq!(errors[0].field, "base_url");
        assert!(errors[0].message.ends_with("use https://api.example.com/v1?a=b"), "{errors:?}");
    }

    #[test]
    fn wrong_fields_are_named() {
        use serde_json::json;

        for (more, field) in [
            (json!({"model": ""}), "model"),
            (json!({"model": "a\nb"}), "model"),
            (json!({"base_url": "ftp://x"}), "base_url"),
            (json!({"base_url": "https://u:p@x/"}), "base_url"),
            (json!({"auth": "content-type"}), "auth"),
            (json!({"auth": "a b"}), "auth"),
            (json!({"description": "x".repeat(1025)}), "description"),
            (json!({"extra_headers": {"Host": "x"}}), "extra_headers.Host"),
            (json!({"extra_headers": {"x-a": "a\r\nb"}}), "extra_headers.x-a"),
            (json!({"extra_headers": {"x-a": "{{env:A}}"}}), "extra_headers.x-a"),
            (json!({"extra_headers": {"X-A": "1", "x-a": "2"}}), "extra_headers.x-a"),
            (
                json!({"api_key_name": "K", "extra_headers": {"Authorization": "x"}}),
                "extra_headers.Authorization",
            ),
            (json!({"forward_headers": ["Authorization"]}), "forward_headers[0]"),
            (json!({"forward_headers": ["x-a", "X-A"]}), "forward_headers[1]"),
            (json!({"default_parameters": {"Model": "x"}}), "default_parameters.Model"),
            (json!({"default_parameters": {"a": "x".repeat(16 * 1024)}}), "default_parameters"),
            (json!({"timeouts": {"idle_ms": 0}}), "timeouts.idle_ms"),
            (json!({"max_concurrent_requests": 0}), "max_concurrent_requests"),
            (json!({"context_window": 0}), "context_window"),
            (json!({"max_output_tokens": 1_000_000_001_u64}), "max_output_tokens"),
        ] {
            assert_eq!(wrong(&more), [field], "{more}");
        }
        // Without a secret of its own, the header is free.
        assert!(check(fields(&json!({"extra_headers": {"Authorization": "Basic x"}}))).is_ok());
    }
}
