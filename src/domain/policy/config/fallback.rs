//! Parses the `config` of fallback chains.

use serde_json::{Map, Value};

use super::{MAX_NAME, Parser, is_name};
use crate::domain::ids::ConfigurationId;
use crate::domain::policy::fallback::{
    Candidate, MAX_CANDIDATES, MAX_ROUTE_CHAINS, MAX_WEIGHT, ModelFallback, RouteChain,
    RouteConfig, Selector, Step, Triggers, fields_of,
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
        let list = "config.chain.candidates";
        let steps = self.steps(chain, list, |parser, fields, path| {
            parser.target(fields, path, "must be provider_model, model_config or weighted")
        });
        let (selector, triggers, steps) = (selector?, triggers?, steps?);
        let fallback = ModelFallback { selector, triggers, steps };
        let first = fallback.first_target();
        for (field, candidate) in fields_of(list, &fallback.steps) {
            if Some(candidate) == first {
                return self.invalid(field, "occurs twice in the chain; each target is tried once");
            }
        }
        Some(fallback)
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
        let steps = self.steps(fields, &list, |parser, fields, path| {
            parser.check_names(fields, path, &["model_config_id"]);
            parser.configuration(fields, path).map(Candidate::Configuration)
        });
        Some(RouteChain { alias: alias?, steps: steps? })
    }

    /// A list of targets, or of lists of weighted targets under the same name.
    fn steps(
        &mut self,
        fields: &Map<String, Value>,
        list: &str,
        target: impl Fn(&mut Self, &Map<String, Value>, &str) -> Option<Candidate>,
    ) -> Option<Vec<Step>> {
        let name = list.rsplit('.').next().unwrap_or(list);
        let items = self.items(fields, list, name, MAX_CANDIDATES)?;
        let steps: Vec<Option<Step>> = items
            .iter()
            .enumerate()
            .map(|(at, item)| {
                let path = format!("{list}[{at}]");
                let fields = self.object(item, &path)?;
                if fields.get("type").is_none_or(|kind| kind != "weighted") {
                    return target(self, fields, &path).map(Step::One);
                }
                self.check_names(fields, &path, &["type", name]);
                let inner = format!("{path}.{name}");
                let items = self.items(fields, &inner, name, MAX_CANDIDATES)?;
                let members = items.iter().enumerate().map(|(place, item)| {
                    let path = format!("{inner}[{place}]");
                    let mut fields = self.object(item, &path)?.clone();
                    let weight = self.weight(fields.remove("weight"), &path);
                    let target = target(self, &fields, &path);
                    Some((weight?, target?))
                });
                let members: Vec<Option<(u32, Candidate)>> = members.collect();
                Some(Step::Weighted(members.into_iter().collect::<Option<_>>()?))
            })
            .collect();
        let steps: Vec<Step> = steps.into_iter().collect::<Option<_>>()?;
        let fields = fields_of(list, &steps);
        if fields.len() > MAX_CANDIDATES {
            return self.invalid(list, format!("must have 1 to {MAX_CANDIDATES} targets in all"));
        }
        for (at, (field, candidate)) in fields.iter().enumerate() {
            if fields.iter().take(at).any(|(_, one)| one == candidate) {
                return self.invalid(field, "occurs twice in the chain; each target is tried once");
            }
        }
        Some(steps)
    }

    fn weight(&mut self, value: Option<Value>, path: &str) -> Option<u32> {
        let weight = value.as_ref().and_then(Value::as_u64).and_then(|one| u32::try_from(one).ok());
        match weight.filter(|weight| (1..=MAX_WEIGHT).contains(weight)) {
            Some(weight) => Some(weight),
            None => self.invalid(
                format!("{path}.weight"),
                format!("must be a whole number, 1 to {MAX_WEIGHT}"),
            ),
        }
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
