//! What Converse passes on to the model in a form of the model's own (`additionalModelRequestFields`):
//! how much it is to think, and `top_k`.

use super::super::error::{ConvertError, Dropped};
use super::super::request::{Named, ReasoningWish, Request, budget_effort};
use crate::json::writer::JsonWriter;

/// The models whose own fields are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ModelFamily {
    /// AWS, "Amazon Nova: Using the Converse API".
    Nova,
    /// AWS, "OpenAI models".
    OpenAi,
    /// AWS, "Anthropic Claude models" and "Mistral AI models": both call it `top_k`.
    TakesTopK,
    Other,
}

impl ModelFamily {
    fn of(model: &str) -> Self {
        let has = |word| model.contains(word);
        if has("amazon.nova") {
            Self::Nova
        } else if has("openai.") {
            Self::OpenAi
        } else if has("anthropic.") || has("mistral.") {
            Self::TakesTopK
        } else {
            Self::Other
        }
    }
}

/// What of it is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extras<'r> {
    family: ModelFamily,
    effort: Option<&'static str>,
    top_k: Option<&'r str>,
}

impl<'r> Extras<'r> {
    /// What this model takes of the request; the rest is left out.
    pub(super) fn plan(
        request: &'r Request<'_>,
        model: &str,
        dropped: &mut Dropped,
    ) -> Result<Self, ConvertError> {
        let family = ModelFamily::of(model);
        let mut effort = None;
        if let Some(Named { field, value }) = &request.reasoning.wish {
            effort = effort_of(value)
                .filter(|_| matches!(family, ModelFamily::Nova | ModelFamily::OpenAi));
            // Nova does not think unless it is asked to.
            let is_met = *value == ReasoningWish::Off && family == ModelFamily::Nova;
            if effort.is_none() && !is_met {
                dropped.drop(field)?;
            }
            // Nova's highest effort can't have a limit. The caller's limit counts more: it bounds the
            // cost, and all callers of messages have to set one.
            if is_unlimited(family, effort) && request.max_tokens.is_some() {
                dropped.drop(field)?;
                effort = Some("medium");
            }
        }
        if let Some(Named { field, .. }) = &request.reasoning.show {
            dropped.drop(field)?;
        }
        let mut extras = Self { family, effort, top_k: None };
        if let Some(Named { field, value }) = &request.top_k {
            let is_taken = matches!(family, ModelFamily::Nova | ModelFamily::TakesTopK);
            if is_taken && extras.takes_sampling() {
                extras.top_k = Some(value);
            } else {
                dropped.drop(field)?;
            }
        }
        Ok(extras)
    }

    /// Whether the model takes `temperature` and the like together with these.
    pub(super) fn takes_sampling(&self) -> bool {
        !is_unlimited(self.family, self.effort)
    }

    /// Writes the member if there is something for it.
    pub(super) fn write(&self, json: &mut JsonWriter) {
        let Self { family, effort, top_k } = *self;
        if effort.is_none() && top_k.is_none() {
            return;
        }
        json.key("additionalModelRequestFields").object(|json| {
            match effort {
                Some(effort) if family == ModelFamily::Nova => {
                    json.key("reasoningConfig").object(|json| {
                        json.key("type").string("enabled");
                        json.key("maxReasoningEffort").string(effort);
                    });
                }
                Some(effort) => json.key("reasoning_effort").string(effort),
                None => {}
            }
            match top_k {
                Some(top_k) if family == ModelFamily::Nova => {
                    json.key("inferenceConfig").object(|json| json.key("topK").raw(top_k));
                }
                Some(top_k) => json.key("top_k").raw(top_k),
                None => {}
            }
        });
    }
}

/// Nova refuses `maxTokens`, `temperature`, `topP` and `topK` at its highest effort (AWS, "Extended
/// thinking" of Amazon Nova 2).
fn is_unlimited(family: ModelFamily, effort: Option<&str>) -> bool {
    family == ModelFamily::Nova && effort == Some("high")
}

/// The nearest of the three efforts that these models have.
fn effort_of(wish: &ReasoningWish<'_>) -> Option<&'static str> {
    match wish {
        ReasoningWish::Off | ReasoningWish::Adaptive(None) => None,
        ReasoningWish::Budget(tokens) => Some(budget_effort(*tokens)),
        ReasoningWish::Effort(effort) | ReasoningWish::Adaptive(Some(effort)) => match &**effort {
            "minimal" | "low" => Some("low"),
            "medium" => Some("medium"),
            "high" | "xhigh" | "max" => Some("high"),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_own_form() {
        let effort = |word: &'static str| Some(ReasoningWish::Effort(word.into()));
        for (model, wish, top_k, expected, dropped_fields) in [
            (
                "us.amazon.nova-2-lite-v1:0",
                effort("xhigh"),
                Some("20"),
                r#"{"additionalModelRequestFields":{"reasoningConfig":{"type":"enabled","maxReasoningEffort":"high"}}}"#,
                "top_k",
            ),
            (
                "us.amazon.nova-2-lite-v1:0",
                effort("medium"),
                Some("20"),
                r#"{"additionalModelRequestFields":{"reasoningConfig":{"type":"enabled","maxReasoningEffort":"medium"},"inferenceConfig":{"topK":20}}}"#,
                "",
            ),
            (
                "openai.gpt-oss-120b-1:0",
                Some(ReasoningWish::Budget(2048)),
                Some("5"),
                r#"{"additionalModelRequestFields":{"reasoning_effort":"medium"}}"#,
                "top_k",
            ),
            (
                "mistral.mistral-large-2402-v1:0",
                effort("low"),
                Some("5"),
                r#"{"additionalModelRequestFields":{"top_k":5}}"#,
                "wish",
            ),
            ("meta.llama3-1-8b-instruct-v1:0", effort("low"), Some("5"), "{}", "wish top_k"),
            ("us.amazon.nova-lite-v1:0", Some(ReasoningWish::Off), None, "{}", ""),
            ("deepseek.r1-v1:0", Some(ReasoningWish::Off), None, "{}", "wish"),
            ("openai.gpt-oss-120b-1:0", effort("newer"), None, "{}", "wish"),
            ("openai.gpt-oss-120b-1:0", None, None, "{}", ""),
        ] {
            let mut request = Request::default();
            request.reasoning.wish = wish.map(|wish| Named::new("wish", wish));
            request.top_k = top_k.map(|top_k| Named::new("top_k", top_k.into()));
            let (mut json, mut dropped) = (JsonWriter::new(), Dropped::new(false));
            let extras = Extras::plan(&request, model, &mut dropped).unwrap();
            json.object(|json| extras.write(json));
            assert_eq!(json.finish(), expected, "{model}");
            assert_eq!(dropped.fields().join(" "), dropped_fields, "{model}");
        }
    }

    #[test]
    fn a_limit_of_the_callers_lowers_the_highest_effort_of_nova() {
        for (model, word, expected, is_named) in [
            ("us.amazon.nova-2-lite-v1:0", "high", "medium", true),
            ("us.amazon.nova-2-lite-v1:0", "low", "low", false),
            ("openai.gpt-oss-120b-1:0", "high", "high", false),
        ] {
            let mut request = Request::default();
            let wish = ReasoningWish::Effort(word.into());
            request.reasoning.wish = Some(Named::new("wish", wish));
            request.max_tokens = Some(Named::new("max_tokens", "100".into()));
            let mut dropped = Dropped::new(false);
            let extras = Extras::plan(&request, model, &mut dropped).unwrap();
            assert_eq!((extras.effort, extras.takes_sampling()), (Some(expected), true), "{model}");
            assert_eq!(!dropped.fields().is_empty(), is_named, "{model}");
        }
    }
}
