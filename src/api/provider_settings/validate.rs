//! Validates settings for a provider and brings them into their normal form.

use crate::api::error::{ApiError, FieldError};
use crate::domain::connection::Connection;
use crate::domain::headers::is_settable_for_provider;
use crate::domain::model_configuration::HeaderTemplate;
use crate::domain::provider::Provider;
use crate::domain::provider_settings::ProviderSettings;
use crate::domain::scope::Owner;
use crate::providers::cloud::usual_secret_names;

/// The largest number of headers, as for model configurations.
const MAX_HEADERS: usize = 32;
/// The longest value of a header, in bytes.
const MAX_VALUE: usize = 4 * 1024;
/// The largest number of unmetered endpoints.
const MAX_ENDPOINTS: usize = 100;

/// The largest number of names of models, and the longest name of one, in bytes.
const MAX_MODELS: usize = 100;
const MAX_NAME: usize = 512;
/// The longest name of a model, in bytes, as in model configurations.
const MAX_MODEL: usize = 256;

/// Checks the settings of an owner for a provider; names every wrong field.
pub(super) fn check(
    owner: Owner,
    provider: Provider,
    mut settings: ProviderSettings,
) -> Result<ProviderSettings, ApiError> {
    let mut errors = Vec::new();
    let mut add = |field: String, message: &str| {
        errors.push(FieldError { field, message: message.to_owned() });
    };
    headers(&mut settings, &mut add);
    connection(provider, &settings.connection, &mut add);
    let usual = usual_secret_names(provider);
    if settings.secret_name.is_some() && !usual.is_empty() {
        add(
            "secret_name".to_owned(),
            "can't be set: this provider has several secrets, see secret_names",
        );
    }
    for name in settings.secret_names.keys().filter(|name| !usual.contains(&name.as_str())) {
        let field = format!("secret_names.{name}");
        add(field, "is not the usual name of a secret that this provider can be called with");
    }
    models(&settings, !usual.is_empty(), &mut add);
    let is_organization = matches!(owner, Owner::Organization(_));
    if !is_organization && !settings.unmetered_endpoints.is_empty() {
        add("unmetered_endpoints".to_owned(), "can only be set for an organization");
    }
    if settings.unmetered_endpoints.len() > MAX_ENDPOINTS {
        add("unmetered_endpoints".to_owned(), "must be at most 100");
    }
    for (index, endpoint) in settings.unmetered_endpoints.iter().enumerate() {
        if let Some(message) = endpoint.path_error() {
            add(format!("unmetered_endpoints[{index}].path"), message);
        }
    }
    if settings.subscription_pass_through && !is_organization {
        add("subscription_pass_through".to_owned(), "can only be set for an organization");
    } else if settings.subscription_pass_through && provider != Provider::Anthropic {
        add("subscription_pass_through".to_owned(), "is for anthropic only");
    }
    if errors.is_empty() { Ok(settings) } else { Err(ApiError::Invalid(errors)) }
}

fn headers(settings: &mut ProviderSettings, add: &mut impl FnMut(String, &str)) {
    if settings.extra_headers.len() > MAX_HEADERS {
        add("extra_headers".to_owned(), "must be at most 32");
    }
    let given = std::mem::take(&mut settings.extra_headers);
    for (name, value) in given {
        let field = format!("extra_headers.{name}");
        if !is_settable_for_provider(&name) {
            add(field, "is not a header that settings of a provider may set");
            continue;
        }
        let template = HeaderTemplate::parse(&value);
        if value.len() > MAX_VALUE || template.is_err() {
            add(field, "must be at most 4096 visible ASCII characters, spaces and tabs");
        } else if template.is_ok_and(|template| template.secrets().next().is_some()) {
            add(field, "can't hold a secret: these headers carry no credential");
        } else if settings.extra_headers.insert(name.to_ascii_lowercase(), value).is_some() {
            add(field, "is given twice; the names of headers are not case-sensitive");
        }
    }
}

fn models(settings: &ProviderSettings, is_cloud: bool, add: &mut impl FnMut(String, &str)) {
    if !is_cloud && !settings.models.is_empty() {
        add("models".to_owned(), "is for bedrock, vertex and azure only");
    }
    if settings.models.len() > MAX_MODELS {
        add("models".to_owned(), "must be at most 100");
    }
    let is_name = |name: &str, most| {
        (1..=most).contains(&name.len()) && !name.contains(|char: char| char.is_control())
    };
    for (name, model) in &settings.models {
        if !is_name(name, MAX_NAME) {
            add("models".to_owned(), "has a name that is empty, longer than 512 bytes or no text");
        } else if !is_name(model, MAX_MODEL) {
            add(format!("models.{name}"), "must be 1 to 256 bytes without control characters");
        } else if settings.models.contains_key(model) {
            add(format!("models.{name}"), "must be a model, and not another name of this mapping");
        }
    }
}

fn connection(provider: Provider, connection: &Connection, add: &mut impl FnMut(String, &str)) {
    for (name, value) in connection.fields() {
        let field = format!("connection.{name}");
        if !provider.connection_fields().contains(&name) {
            add(field, &format!("is not used by {}", provider.as_str()));
        } else if let Some(message) = Connection::field_error(name, value) {
            add(field, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::OrganizationId;
    use serde_json::{Value, json};

    fn wrong(provider: Provider, settings: Value) -> Vec<String> {
        let owner = Owner::Organization(OrganizationId::from(uuid::Uuid::nil()));
        match check(owner, provider, serde_json::from_value(settings).unwrap()) {
            Ok(_) => Vec::new(),
            Err(ApiError::Invalid(errors)) => errors.into_iter().map(|error| error.field).collect(),
            Err(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn headers_are_no_credentials_and_choose_no_account() {
        for name in [
            "Authorization",
            "x-api-key",
            "Cookie",
            "Host",
            "X-Amz-Security-Token",
            "x-goog-user-project",
            "OpenAI-Organization",
            "openai-project",
            "X-Forwarded-For",
            "Via",
            "x-tollgate-served-by",
            "X-Gateway-Team",
            "Connection",
        ] {
            let settings = json!({"extra_headers": {name: "x"}});
            let field = format!("extra_headers.{name}");
            assert_eq!(wrong(Provider::Openai, settings), [field]);
        }
        let good = json!({"extra_headers": {"HTTP-Referer": "https://team.example"}});
        assert!(wrong(Provider::Openrouter, good).is_empty());
        let secret = json!({"extra_headers": {"X-Team": "{{secret:A}}"}});
        assert_eq!(wrong(Provider::Openai, secret), ["extra_headers.X-Team"]);
        let twice = json!({"extra_headers": {"X-Team": "a", "x-team": "b"}});
        assert_eq!(wrong(Provider::Openai, twice), ["extra_headers.x-team"]);
    }

    #[test]
    fn names_of_models_are_bounded() {
        let arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc";
        let models = |name: &str, model: &str| json!({"models": {name: model}});
        for provider in [Provider::Bedrock, Provider::Vertex, Provider::Azure] {
            assert!(wrong(provider, models(arn, "anthropic.claude-x")).is_empty());
        }
        assert_eq!(wrong(Provider::Openai, models("a", "b")), ["models"]);
        assert!(wrong(Provider::Azure, models(&"n".repeat(512), "b")).is_empty());
        assert_eq!(wrong(Provider::Azure, models(&"n".repeat(513), "b")), ["models"]);
        assert_eq!(wrong(Provider::Azure, models("", "b")), ["models"]);
        assert_eq!(wrong(Provider::Azure, models("a", "")), ["models.a"]);
        assert_eq!(wrong(Provider::Azure, models("a", "a")), ["models.a"]);
        let many = |count: usize| {
            let all = (0..count).map(|number| (number.to_string(), json!("gpt-4o")));
            json!({"models": all.collect::<serde_json::Map<_, _>>()})
        };
        assert!(wrong(Provider::Azure, many(100)).is_empty());
        assert_eq!(wrong(Provider::Azure, many(101)), ["models"]);
    }

    #[test]
    fn a_provider_takes_only_its_own_fields() {
        let settings = json!({"connection": {"region": "us-east-1"}});
        assert_eq!(wrong(Provider::Openai, settings.clone()), ["connection.region"]);
        let settings = json!({"subscription_pass_through": true});
        assert!(wrong(Provider::Anthropic, settings.clone()).is_empty());
        assert_eq!(wrong(Provider::Openai, settings), ["subscription_pass_through"]);
        let renamed = json!({"secret_names": {"AWS_ACCESS_KEY_ID": "TEAM_ID"}});
        assert!(wrong(Provider::Bedrock, renamed.clone()).is_empty());
        assert_eq!(wrong(Provider::Openai, renamed), ["secret_names.AWS_ACCESS_KEY_ID"]);
        assert_eq!(wrong(Provider::Azure, json!({"secret_name": "A"})), ["secret_name"]);
        let settings = json!({"unmetered_endpoints": [
            {"method": "GET", "path": "/files"}, {"method": "GET", "path": "/organization/costs"}]});
        assert_eq!(wrong(Provider::Openai, settings), ["unmetered_endpoints[1].path"]);
    }
}
