//! Parses the `config` of fallback chains.

use serde_json::{Map, Value};

use super::{MAX_NAME, Parser, is_name};
use crate::domain::ids::ConfigurationId;
use crate::domain::policy::fallback::{
    Candidate, MAX_CANDIDATES, MAX_ROUTE_CHAINS, ModelFallback, RouteChain, RouteConfig, Selector,
    Triggers,
};
use crate::domain::provider::Provider;

const STRATEGY: &str = "priority_fallback";
/// The longest time to the first byte, in milliseconds: an hour, as for configurations.
const MAX_FIRST_BYTE_MS: u64 = 3_600_000;

impl Parser {
    pub(super) fn model_fallback(&mut self, config: &Value) -> Option<ModelFallback> {
        let fields = self.object(config, "config")?;
        self.check_names(fields, "config", &["strategy", "triggers", "chain"]);
        self.check_strategy(fields);
        let triggers = self.triggers(fields);
        let Some(chain) = fields.get("chain") else {
            return self.invalid("config.chain", "is required");
        };
        let chain = self.object(chain, "config.chain")?;
        self.check_names(chain, "config.chain", &["selector", "candidates"]);
        let selector = self.selector(chain.get("selector").unwrap_or(&Value::Null));
        let candidates = self.items(chain, "config.chain.candidates", "candidates", MAX_CANDIDATES);
        let candidates: Option<Vec<Candidate>> = candidates.and_then(|items| {
            let parsed: Vec<Option<Candidate>> = items
                .iter()
                .enumerate()
                .map(|(at, item)| self.candidate(item, &format!("config.chain.candidates[{at}]")))
                .collect();
            parsed.into_iter().collect()
        });
        let (selector, candidates) = (selector?, candidates?);
        let mut seen = Vec::new();
        if let Selector::Target(target) = &selector {
            seen.push(target);
        }
        for (at, candidate) in candidates.iter().enumerate() {
            if seen.contains(&candidate) {
                let field = format!("config.chain.candidates[{at}]");
                return self.invalid(field, "occurs twice in the chain; each target is tried once");
            }
            seen.push(candidate);
        }
        Some(ModelFallback { selector, triggers: triggers?, candidates })
    }

    pub(super) fn route_config(&mut self, config: &Value) -> Option<RouteConfig> {
        let fields = self.object(config, "config")?;
        self.check_names(fields, "config", &["strategy", "triggers", "fallbacks"]);
        self.check_strategy(fields);
        let triggers = self.triggers(fields);
        let items = self.items(fields, "config.fallbacks", "fallbacks", MAX_ROUTE_CHAINS)?;
        let chains: Vec<Option<RouteChain>> = items
            .iter()
            .enumerate()
            .map(|(at, item)| self.route_chain(item, &format!("config.fallbacks[{at}]")))
            .collect();
        let chains: Vec<RouteChain> = chains.into_iter().collect::<Option<_>>()?;
        for (at, chain) in chains.iter().enumerate() {
            let earlier = chains.iter().take(at);
            if chain.alias.is_some() && earlier.into_iter().any(|one| one.alias == chain.alias) {
                return self.invalid(format!("config.fallbacks[{at}].alias"), "occurs twice");
            }
        }
        Some(RouteConfig { triggers: triggers?, chains })
    }

    fn route_chain(&mut self, item: &Value, path: &str) -> Option<RouteChain> {
        let fields = self.object(item, path)?;
        self.check_names(fields, path, &["alias", "model_configs"]);
        let alias = match fields.get("alias") {
            None | Some(Value::Null) => Some(None),
            Some(alias) => self.alias(alias, &format!("{path}.alias")).map(Some),
        };
        let list = format!("{path}.model_configs");
        let items = self.items(fields, &list, "model_configs", MAX_CANDIDATES)?;
        let candidates: Vec<Option<ConfigurationId>> = items
            .iter()
            .enumerate()
            .map(|(at, item)| {
                let path = format!("{list}[{at}]");
                let fields = self.object(item, &path)?;
                self.check_names(fields, &path, &["model_config_id"]);
                self.configuration(fields, &path)
            })
            .collect();
        let candidates: Vec<ConfigurationId> = candidates.into_iter().collect::<Option<_>>()?;
        for (at, candidate) in candidates.iter().enumerate() {
            if candidates.iter().take(at).any(|one| one == candidate) {
                return self.invalid(format!("{list}[{at}]"), "occurs twice in the chain");
            }
        }
        Some(RouteChain { alias: alias?, candidates })
    }

    fn check_strategy(&mut self, fields: &Map<String, Value>) {
        let strategy = fields.get("strategy").unwrap_or(&Value::Null);
        if !strategy.is_null() && strategy != STRATEGY {
            self.invalid::<()>("config.strategy", format!("must be {STRATEGY}"));
        }
    }

    fn triggers(&mut self, fields: &Map<String, Value>) -> Option<Triggers> {
        let Some(triggers) = fields.get("triggers").filter(|value| !value.is_null()) else {
            return Some(Triggers::default());
        };
        let path = "config.triggers";
        let fields = self.object(triggers, path)?;
        self.check_names(fields, path, &["status_codes", "first_byte_timeout_ms"]);
        let codes = match fields.get("status_codes") {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(Value::Array(codes)) if codes.len() <= 50 => {
                // A 400 is the caller's mistake, and no other target would take it.
                let code = |code: &Value| {
                    let code = u16::try_from(code.as_u64()?).ok()?;
                    (401..=599).contains(&code).then_some(code)
                };
                codes.iter().map(code).collect::<Option<Vec<u16>>>()
            }
            Some(_) => None,
        };
        if codes.is_none() {
            let message = "must be a list of at most 50 statuses from 401 to 599";
            self.invalid::<()>(format!("{path}.status_codes"), message);
        }
        let timeout = match fields.get("first_byte_timeout_ms") {
            None | Some(Value::Null) => Some(None),
            Some(value) => {
                let time = value.as_u64().filter(|time| (1..=MAX_FIRST_BYTE_MS).contains(time));
                time.and_then(|time| u32::try_from(time).ok()).map(Some)
            }
        };
        if timeout.is_none() {
            let message = format!("must be 1 to {MAX_FIRST_BYTE_MS} milliseconds");
            self.invalid::<()>(format!("{path}.first_byte_timeout_ms"), message);
        }
        Some(Triggers { status_codes: codes?, first_byte_timeout_ms: timeout? })
    }

    fn selector(&mut self, value: &Value) -> Option<Selector> {
        let path = "config.chain.selector";
        let fields = self.object(value, path)?;
        if fields.get("type").is_some_and(|kind| kind == "alias") {
            self.check_names(fields, path, &["type", "alias"]);
            let alias = fields.get("alias").unwrap_or(&Value::Null);
            return self.alias(alias, &format!("{path}.alias")).map(Selector::Alias);
        }
        self.target(fields, path, "must be alias, provider_model or model_config")
            .map(Selector::Target)
    }

    fn candidate(&mut self, value: &Value, path: &str) -> Option<Candidate> {
        let fields = self.object(value, path)?;
        self.target(fields, path, "must be provider_model or model_config")
    }

    fn target(
        &mut self,
        fields: &Map<String, Value>,
        path: &str,
        types: &str,
    ) -> Option<Candidate> {
        match fields.get("type").and_then(Value::as_str) {
            Some("provider_model") => {
                self.check_names(fields, path, &["type", "provider", "model"]);
                let name = fields.get("provider").and_then(Value::as_str);
                let provider = name.and_then(Provider::parse).filter(|one| one.is_built_in());
                if provider.is_none() {
                    let message = "must be the name of a built-in provider, such as openai";
                    self.invalid::<()>(format!("{path}.provider"), message);
                }
                let model = fields.get("model").and_then(Value::as_str);
                let model = model.filter(|model| is_name(model));
                if model.is_none() {
                    let message = format!("must be 1 to {MAX_NAME} characters of text");
                    self.invalid::<()>(format!("{path}.model"), message);
                }
                Some(Candidate::Model { provider: provider?, model: model?.to_owned() })
            }
            Some("model_config") => {
                self.check_names(fields, path, &["type", "model_config_id"]);
                self.configuration(fields, path).map(Candidate::Configuration)
            }
            _ => self.invalid(format!("{path}.type"), types),
        }
    }

    fn configuration(
        &mut self,
        fields: &Map<String, Value>,
        path: &str,
    ) -> Option<ConfigurationId> {
        let id = fields.get("model_config_id").and_then(Value::as_str);
        match id.and_then(|id| id.parse().ok()) {
            Some(id) => Some(id),
            None => self.invalid(
                format!("{path}.model_config_id"),
                "must be the id of a model configuration",
            ),
        }
    }

    fn alias(&mut self, value: &Value, path: &str) -> Option<String> {
        let alias = value.as_str().filter(|alias| is_name(alias) && !alias.contains('/'));
        match alias {
            Some(alias) => Some(alias.to_owned()),
            None => self.invalid(path, format!("must be 1 to {MAX_NAME} characters without '/'")),
        }
    }

    fn items<'v>(
        &mut self,
        fields: &'v Map<String, Value>,
        path: &str,
        name: &str,
        max: usize,
    ) -> Option<&'v [Value]> {
        match fields.get(name).and_then(Value::as_array) {
            Some(list) if (1..=max).contains(&list.len()) => Some(list),
            _ => self.invalid(path, format!("must be a list of 1 to {max} items")),
        }
    }
}
