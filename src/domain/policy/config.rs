//! Parses a policy's `config` and names every invalid field.

mod fallback;

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    InvalidField, Models, PolicyConfig, PolicyFamily, PolicyType, ProviderAccess, RateLimit,
    RateMetric, SpendCap, SpendLimit,
};
use crate::domain::money::NanoUsd;
use crate::domain::window::{RateWindow, SpendWindow};

/// The highest spend cap, in dollars.
const MAX_USD: i64 = 1_000_000_000;
/// The highest rate limit.
const MAX_RATE: u64 = 1_000_000_000_000;
/// The most providers of a model access policy.
const MAX_PROVIDERS: usize = 100;
/// The most models of one provider.
const MAX_MODELS: usize = 1_000;
/// The longest name of a provider or model, in characters.
const MAX_NAME: usize = 256;
/// The largest `config`, in bytes of JSON.
const MAX_BYTES: usize = 32 * 1024;

impl PolicyConfig {
    /// Parses the `config` of a policy of this type. Fields are named as `config.limits[1].window`.
    pub fn parse(policy_type: PolicyType, config: &Value) -> Result<Self, Vec<InvalidField>> {
        if serde_json::to_vec(config).map_or(usize::MAX, |json| json.len()) > MAX_BYTES {
            let message = format!("must be at most {MAX_BYTES} bytes");
            return Err(vec![InvalidField::new("config", message)]);
        }
        let mut parser = Parser::default();
        let parsed = match policy_type {
            PolicyType::SpendCap | PolicyType::DefaultSpendCap => {
                parser.spend(config).map(Self::Spend)
            }
            PolicyType::RateLimit | PolicyType::DefaultRateLimit => {
                parser.rate(config).map(Self::Rate)
            }
            PolicyType::ModelAccess => parser.model_access(config).map(Self::ModelAccess),
            PolicyType::ModelFallback => parser.model_fallback(config).map(Self::ModelFallback),
            PolicyType::RouteConfig => parser.route_config(config).map(Self::Route),
            PolicyType::Guard => {
                parser.object(config, "config").map(|_| Self::Guard(config.clone()))
            }
        };
        match parsed {
            Some(parsed) if parser.0.is_empty() => Ok(parsed),
            _ => Err(parser.0),
        }
    }

    /// Whether the object has every field that a `config` of the type needs, so that it replaces
    /// another `config` and does not change single fields of it.
    pub fn is_complete(policy_type: PolicyType, config: &Map<String, Value>) -> bool {
        let has = |name: &str| config.get(name).is_some_and(|value| !value.is_null());
        match policy_type.family() {
            PolicyFamily::Spend => {
                has("window") && has("limit_usd") || has("version") && has("limits")
            }
            PolicyFamily::Rate => has("version") && has("limits"),
            PolicyFamily::ModelAccess => has("providers"),
            PolicyFamily::Fallback => has("chain") || has("fallbacks"),
            PolicyFamily::Guard => has("version") && has("detect"),
        }
    }
}

/// Collects the invalid fields. Its functions return `None` for an invalid value.
#[derive(Default)]
struct Parser(Vec<InvalidField>);

impl Parser {
    fn invalid<T>(&mut self, field: impl Into<String>, message: impl Into<String>) -> Option<T> {
        self.0.push(InvalidField::new(field, message));
        None
    }

    fn spend(&mut self, config: &Value) -> Option<SpendCap> {
        const SUBSCRIPTIONS: &str = "include_subscriptions";
        let fields = self.object(config, "config")?;
        let include_subscriptions = match fields.get(SUBSCRIPTIONS) {
            None => false,
            Some(Value::Bool(value)) => *value,
            Some(_) => self.invalid(format!("config.{SUBSCRIPTIONS}"), "must be true or false")?,
        };
        if fields.contains_key("limits") || fields.get("version").is_some_and(|v| !is_number(v, 1))
        {
            self.check_names(fields, "config", &["version", "limits", SUBSCRIPTIONS]);
            self.check_version(fields, 2);
            let limits = self.list(fields, "limits", SpendWindow::ALL.len())?;
            let limits = self.each(limits, |parser, item, path| {
                let fields = parser.object(item, path)?;
                parser.check_names(fields, path, &["window", "limit_usd"]);
                parser.spend_limit(fields, path)
            })?;
            self.check_unique(
                &limits,
                |limit| limit.window,
                "window",
                "each window may be limited once",
            );
            return Some(SpendCap { limits, include_subscriptions });
        }
        self.check_names(fields, "config", &["version", "window", "limit_usd", SUBSCRIPTIONS]);
        let limit = self.spend_limit(fields, "config")?;
        Some(SpendCap { limits: vec![limit], include_subscriptions })
    }

    fn spend_limit(&mut self, fields: &Map<String, Value>, path: &str) -> Option<SpendLimit> {
        let window =
            self.one_of(fields, path, "window", "must be hourly, daily, weekly or monthly");
        let limit: Option<NanoUsd> = match fields.get("limit_usd") {
            None => self.invalid(format!("{path}.limit_usd"), "is required"),
            Some(value) => match serde_json::from_value(value.clone()) {
                Ok(amount) => Some(amount),
                Err(error) => self.invalid(format!("{path}.limit_usd"), error.to_string()),
            },
        };
        let max = NanoUsd::from_nanos(MAX_USD.saturating_mul(crate::domain::money::NANOS_PER_USD));
        if limit.is_some_and(|limit| limit < NanoUsd::ZERO || limit > max) {
            let message =
                format!("must be 0 to {MAX_USD} dollars; 0 blocks every request that costs money");
            return self.invalid(format!("{path}.limit_usd"), message);
        }
        Some(SpendLimit { window: window?, limit_usd: limit? })
    }

    fn rate(&mut self, config: &Value) -> Option<Vec<RateLimit>> {
        let fields = self.object(config, "config")?;
        self.check_names(fields, "config", &["version", "limits"]);
        self.check_version(fields, 1);
        let limits = self.list(fields, "limits", 4)?;
        let limits = self.each(limits, |parser, item, path| {
            let fields = parser.object(item, path)?;
            parser.check_names(fields, path, &["metric", "window", "value"]);
            let metric: Option<RateMetric> =
                parser.one_of(fields, path, "metric", "must be requests or tokens");
            let window: Option<RateWindow> =
                parser.one_of(fields, path, "window", "must be minute or hour");
            let value = fields.get("value").and_then(Value::as_u64);
            let Some(value) = value.filter(|value| (1..=MAX_RATE).contains(value)) else {
                let message = format!("must be a whole number, 1 to {MAX_RATE}");
                return parser.invalid(format!("{path}.value"), message);
            };
            Some(RateLimit { metric: metric?, window: window?, value })
        })?;
        let key = |limit: &RateLimit| (limit.metric, limit.window);
        self.check_unique(&limits, key, "window", "each metric may be limited once in each window");
        Some(limits)
    }

    fn model_access(&mut self, config: &Value) -> Option<Vec<ProviderAccess>> {
        let fields = self.object(config, "config")?;
        self.check_names(fields, "config", &["providers"]);
        let Some(Value::Array(providers)) = fields.get("providers") else {
            return self.invalid("config.providers", "must be a list of providers");
        };
        if providers.len() > MAX_PROVIDERS {
            let message = format!("must be at most {MAX_PROVIDERS}; an empty list allows nothing");
            return self.invalid("config.providers", message);
        }
        let mut seen = BTreeSet::new();
        let mut all = Some(Vec::with_capacity(providers.len()));
        for (index, item) in providers.iter().enumerate() {
            let path = format!("config.providers[{index}]");
            let access = self.provider(item, &path);
            if let Some(access) = &access
                && !seen.insert(access.provider.clone())
            {
                self.invalid::<()>(format!("{path}.provider"), "occurs twice");
            }
            all = all.and_then(|mut all| {
                all.push(access?);
                Some(all)
            });
        }
        all
    }

    fn provider(&mut self, item: &Value, path: &str) -> Option<ProviderAccess> {
        let fields = self.object(item, path)?;
        self.check_names(fields, path, &["provider", "models"]);
        let provider = fields.get("provider").and_then(Value::as_str).filter(|name| is_name(name));
        let name_message = format!("must be 1 to {MAX_NAME} characters of text");
        if provider.is_none() {
            self.invalid::<()>(format!("{path}.provider"), name_message.clone());
        }
        let models = match fields.get("models") {
            Some(Value::String(text)) if text == "all" => Models::All,
            Some(Value::Array(names)) if names.len() <= MAX_MODELS => {
                let mut models = Vec::with_capacity(names.len());
                for (index, name) in names.iter().enumerate() {
                    match name.as_str().filter(|name| is_name(name)) {
                        Some(name) => models.push(name.to_owned()),
                        None => self.invalid(format!("{path}.models[{index}]"), &name_message)?,
                    }
                }
                Models::Named(models)
            }
            _ => {
                let message = format!("must be \"all\" or a list of at most {MAX_MODELS} names");
                return self.invalid(format!("{path}.models"), message);
            }
        };
        Some(ProviderAccess { provider: provider?.to_owned(), models })
    }

    fn object<'v>(&mut self, value: &'v Value, path: &str) -> Option<&'v Map<String, Value>> {
        match value.as_object() {
            Some(fields) => Some(fields),
            None => self.invalid(path, "must be an object"),
        }
    }

    fn check_names(&mut self, fields: &Map<String, Value>, path: &str, names: &[&str]) {
        for name in fields.keys().filter(|name| !names.contains(&name.as_str())) {
            self.invalid::<()>(format!("{path}.{name}"), "there is no such field");
        }
    }

    fn check_version(&mut self, fields: &Map<String, Value>, version: u64) {
        if !fields.get("version").is_some_and(|found| is_number(found, version)) {
            self.invalid::<()>("config.version", format!("must be {version}"));
        }
    }

    fn list<'v>(
        &mut self,
        fields: &'v Map<String, Value>,
        name: &str,
        max: usize,
    ) -> Option<&'v [Value]> {
        match fields.get(name).and_then(Value::as_array) {
            Some(list) if (1..=max).contains(&list.len()) => Some(list),
            _ => self
                .invalid(format!("config.{name}"), format!("must be a list of 1 to {max} items")),
        }
    }

    fn each<T>(
        &mut self,
        items: &[Value],
        mut parse: impl FnMut(&mut Self, &Value, &str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let parsed: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(index, item)| parse(self, item, &format!("config.limits[{index}]")))
            .collect();
        parsed.into_iter().collect()
    }

    /// A value of an enumeration, given as text.
    fn one_of<T: DeserializeOwned>(
        &mut self,
        fields: &Map<String, Value>,
        path: &str,
        name: &str,
        message: &str,
    ) -> Option<T> {
        // An enumeration's `Deserialize` also accepts objects.
        let text = fields.get(name).filter(|value| value.is_string());
        match text.and_then(|text| serde_json::from_value(text.clone()).ok()) {
            Some(value) => Some(value),
            None => self.invalid(format!("{path}.{name}"), message),
        }
    }

    fn check_unique<T, K: Ord>(
        &mut self,
        limits: &[T],
        key: impl Fn(&T) -> K,
        name: &str,
        message: &str,
    ) {
        let mut seen = BTreeSet::new();
        for (index, limit) in limits.iter().enumerate() {
            if !seen.insert(key(limit)) {
                self.invalid::<()>(format!("config.limits[{index}].{name}"), message);
            }
        }
    }
}

fn is_number(value: &Value, number: u64) -> bool {
    value.as_u64() == Some(number)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().nth(MAX_NAME).is_none() && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
