//! What a policy's `config` has to look like, with every mistake told by its field.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    Mistake, Models, PolicyConfig, PolicyFamily, PolicyType, ProviderAccess, RateLimit, RateMetric,
    SpendLimit,
};
use crate::domain::money::NanoUsd;
use crate::domain::window::{RateWindow, SpendWindow};

/// The most that a spend cap may be, in dollars.
const MOST_USD: i64 = 1_000_000_000;
/// The most that a rate limit may allow in a window.
const MOST_RATE: u64 = 1_000_000_000_000;
/// The most providers that a model access policy names.
const MOST_PROVIDERS: usize = 100;
/// The most models of one provider.
const MOST_MODELS: usize = 1_000;
/// The longest name of a provider or model, in characters.
const MOST_NAME: usize = 256;
/// The largest configuration, in bytes of JSON.
const MOST_BYTES: usize = 32 * 1024;

impl PolicyConfig {
    /// Reads the `config` of a policy of that type. Fields are named as `config.limits[1].window`.
    pub fn parse(policy_type: PolicyType, config: &Value) -> Result<Self, Vec<Mistake>> {
        if serde_json::to_vec(config).map_or(usize::MAX, |json| json.len()) > MOST_BYTES {
            let message = format!("must be at most {MOST_BYTES} bytes");
            return Err(vec![Mistake::new("config", message)]);
        }
        let mut reader = Reader::default();
        let parsed = match policy_type.family() {
            PolicyFamily::Spend => reader.spend(config).map(Self::Spend),
            PolicyFamily::Rate => reader.rate(config).map(Self::Rate),
            PolicyFamily::ModelAccess => reader.model_access(config).map(Self::ModelAccess),
        };
        match parsed {
            Some(parsed) if reader.0.is_empty() => Ok(parsed),
            _ => Err(reader.0),
        }
    }

    /// Whether the object has all that a `config` of the type needs, so that it stands for itself
    /// and is no change of another.
    pub fn is_whole(policy_type: PolicyType, config: &Map<String, Value>) -> bool {
        let has = |name: &str| config.get(name).is_some_and(|value| !value.is_null());
        match policy_type.family() {
            PolicyFamily::Spend => {
                has("window") && has("limit_usd") || has("version") && has("limits")
            }
            PolicyFamily::Rate => has("version") && has("limits"),
            PolicyFamily::ModelAccess => has("providers"),
        }
    }
}

/// Collects mistakes; `None` stands for what has one.
#[derive(Default)]
struct Reader(Vec<Mistake>);

impl Reader {
    fn wrong<T>(&mut self, field: impl Into<String>, message: impl Into<String>) -> Option<T> {
        self.0.push(Mistake::new(field, message));
        None
    }

    fn spend(&mut self, config: &Value) -> Option<Vec<SpendLimit>> {
        let fields = self.object(config, "config")?;
        if fields.contains_key("limits") || fields.get("version").is_some_and(|v| !is(v, 1)) {
            self.only(fields, "config", &["version", "limits"]);
            self.version(fields, 2);
            let limits = self.list(fields, "limits", SpendWindow::ALL.len())?;
            let limits = self.each(limits, |reader, item, path| {
                let fields = reader.object(item, path)?;
                reader.only(fields, path, &["window", "limit_usd"]);
                reader.spend_limit(fields, path)
            })?;
            self.once(&limits, |limit| limit.window, "window", "each window may be limited once");
            return Some(limits);
        }
        self.only(fields, "config", &["version", "window", "limit_usd"]);
        self.spend_limit(fields, "config").map(|limit| vec![limit])
    }

    fn spend_limit(&mut self, fields: &Map<String, Value>, path: &str) -> Option<SpendLimit> {
        let window = self.word(fields, path, "window", "must be hourly, daily, weekly or monthly");
        let limit: Option<NanoUsd> = match fields.get("limit_usd") {
            None => self.wrong(format!("{path}.limit_usd"), "must be given"),
            Some(value) => match serde_json::from_value(value.clone()) {
                Ok(amount) => Some(amount),
                Err(error) => self.wrong(format!("{path}.limit_usd"), error.to_string()),
            },
        };
        let most =
            NanoUsd::from_nanos(MOST_USD.saturating_mul(crate::domain::money::NANOS_PER_USD));
        if limit.is_some_and(|limit| limit < NanoUsd::ZERO || limit > most) {
            let message = format!("must be 0 to {MOST_USD} dollars; 0 blocks all that costs");
            return self.wrong(format!("{path}.limit_usd"), message);
        }
        Some(SpendLimit { window: window?, limit_usd: limit? })
    }

    fn rate(&mut self, config: &Value) -> Option<Vec<RateLimit>> {
        let fields = self.object(config, "config")?;
        self.only(fields, "config", &["version", "limits"]);
        self.version(fields, 1);
        let limits = self.list(fields, "limits", 4)?;
        let limits = self.each(limits, |reader, item, path| {
            let fields = reader.object(item, path)?;
            reader.only(fields, path, &["metric", "window", "value"]);
            let metric: Option<RateMetric> =
                reader.word(fields, path, "metric", "must be requests or tokens");
            let window: Option<RateWindow> =
                reader.word(fields, path, "window", "must be minute or hour");
            let value = fields.get("value").and_then(Value::as_u64);
            let Some(value) = value.filter(|value| (1..=MOST_RATE).contains(value)) else {
                let message = format!("must be a whole number, 1 to {MOST_RATE}");
                return reader.wrong(format!("{path}.value"), message);
            };
            Some(RateLimit { metric: metric?, window: window?, value })
        })?;
        let key = |limit: &RateLimit| (limit.metric, limit.window);
        self.once(&limits, key, "window", "each metric may be limited once in each window");
        Some(limits)
    }

    fn model_access(&mut self, config: &Value) -> Option<Vec<ProviderAccess>> {
        let fields = self.object(config, "config")?;
        self.only(fields, "config", &["providers"]);
        let Some(Value::Array(providers)) = fields.get("providers") else {
            return self.wrong("config.providers", "must be a list of providers");
        };
        if providers.len() > MOST_PROVIDERS {
            let message = format!("must be at most {MOST_PROVIDERS}; an empty list allows nothing");
            return self.wrong("config.providers", message);
        }
        let mut seen = BTreeSet::new();
        let mut all = Some(Vec::with_capacity(providers.len()));
        for (index, item) in providers.iter().enumerate() {
            let path = format!("config.providers[{index}]");
            let access = self.provider(item, &path);
            if let Some(access) = &access
                && !seen.insert(access.provider.clone())
            {
                self.wrong::<()>(format!("{path}.provider"), "is there twice");
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
        self.only(fields, path, &["provider", "models"]);
        let provider = fields.get("provider").and_then(Value::as_str).filter(|name| is_name(name));
        let name_message = format!("must be 1 to {MOST_NAME} characters of text");
        if provider.is_none() {
            self.wrong::<()>(format!("{path}.provider"), name_message.clone());
        }
        let models = match fields.get("models") {
            Some(Value::String(text)) if text == "all" => Models::All,
            Some(Value::Array(names)) if names.len() <= MOST_MODELS => {
                let mut models = Vec::with_capacity(names.len());
                for (index, name) in names.iter().enumerate() {
                    match name.as_str().filter(|name| is_name(name)) {
                        Some(name) => models.push(name.to_owned()),
                        None => self.wrong(format!("{path}.models[{index}]"), &name_message)?,
                    }
                }
                Models::Named(models)
            }
            _ => {
                let message = format!("must be \"all\" or a list of at most {MOST_MODELS} names");
                return self.wrong(format!("{path}.models"), message);
            }
        };
        Some(ProviderAccess { provider: provider?.to_owned(), models })
    }

    fn object<'v>(&mut self, value: &'v Value, path: &str) -> Option<&'v Map<String, Value>> {
        match value.as_object() {
            Some(fields) => Some(fields),
            None => self.wrong(path, "must be an object"),
        }
    }

    fn only(&mut self, fields: &Map<String, Value>, path: &str, names: &[&str]) {
        for name in fields.keys().filter(|name| !names.contains(&name.as_str())) {
            self.wrong::<()>(format!("{path}.{name}"), "there is no such field");
        }
    }

    fn version(&mut self, fields: &Map<String, Value>, version: u64) {
        if !fields.get("version").is_some_and(|found| is(found, version)) {
            self.wrong::<()>("config.version", format!("must be {version}"));
        }
    }

    fn list<'v>(
        &mut self,
        fields: &'v Map<String, Value>,
        name: &str,
        most: usize,
    ) -> Option<&'v [Value]> {
        match fields.get(name).and_then(Value::as_array) {
            Some(list) if (1..=most).contains(&list.len()) => Some(list),
            _ => self.wrong(format!("config.{name}"), format!("must be a list of 1 to {most}")),
        }
    }

    fn each<T>(
        &mut self,
        items: &[Value],
        mut read: impl FnMut(&mut Self, &Value, &str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let read: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(index, item)| read(self, item, &format!("config.limits[{index}]")))
            .collect();
        read.into_iter().collect()
    }

    /// One of the words of an enumeration.
    fn word<T: DeserializeOwned>(
        &mut self,
        fields: &Map<String, Value>,
        path: &str,
        name: &str,
        message: &str,
    ) -> Option<T> {
        // Only text is one of several words; the form of an enumeration takes objects as well.
        let text = fields.get(name).filter(|value| value.is_string());
        match text.and_then(|text| serde_json::from_value(text.clone()).ok()) {
            Some(read) => Some(read),
            None => self.wrong(format!("{path}.{name}"), message),
        }
    }

    fn once<T, K: Ord>(&mut self, limits: &[T], key: impl Fn(&T) -> K, name: &str, message: &str) {
        let mut seen = BTreeSet::new();
        for (index, limit) in limits.iter().enumerate() {
            if !seen.insert(key(limit)) {
                self.wrong::<()>(format!("config.limits[{index}].{name}"), message);
            }
        }
    }
}

fn is(value: &Value, number: u64) -> bool {
    value.as_u64() == Some(number)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().nth(MOST_NAME).is_none() && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
