//! How much a Gemini model is to think: a budget of tokens up to Gemini 2.5, a level from Gemini 3 on
//! (Google, "Gemini thinking").

use super::super::error::{ConvertError, Dropped};
use super::super::request::{Reasoning, ReasoningShow, ReasoningWish};
use crate::json::writer::JsonWriter;

/// What follows from a model's name. Nothing is known of a name that says no version, such as that of a
/// tuned model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Model<'m> {
    name: &'m str,
    /// `3` of `gemini-3.1-pro-preview`.
    generation: Option<u32>,
}

impl<'m> Model<'m> {
    pub(super) fn new(name: &'m str) -> Self {
        let version = name.split_once("gemini-").map_or("", |(_, version)| version);
        let digits = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        Self { name, generation: digits.parse().ok() }
    }

    /// It certainly takes levels of thinking and media within the results of tools.
    pub(super) fn is_3_or_newer(self) -> bool {
        self.generation.is_some_and(|generation| generation >= 3)
    }

    /// It may refuse calls of tools without a signature, which only older models take.
    pub(super) fn may_need_signatures(self) -> bool {
        self.generation.is_none_or(|generation| generation >= 3)
    }

    fn is(self, word: &str) -> bool {
        self.name.contains(word)
    }

    /// The least and the largest budget other than zero, in tokens.
    fn budgets(self) -> (u64, u64) {
        if self.is("2.5-pro") {
            (128, 32_768)
        } else if self.is("2.5-flash-lite") {
            (512, 24_576)
        } else if self.is("2.5-flash") {
            (1, 24_576)
        } else {
            (1, u64::MAX)
        }
    }

    fn lowest_level(self) -> &'static str {
        if self.is("flash") { "MINIMAL" } else { "LOW" }
    }

    fn medium_level(self) -> &'static str {
        // The first Pro of this generation has but two levels.
        if self.is("gemini-3-pro") { "HIGH" } else { "MEDIUM" }
    }
}

/// A budget that lets the model decide.
const DYNAMIC: &str = "-1";

enum Amount {
    Budget(String),
    Level(&'static str),
}

/// Writes the member `thinkingConfig` if something is asked for.
pub(super) fn write_thinking(
    reasoning: &Reasoning<'_>,
    model: Model<'_>,
    json: &mut JsonWriter,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    let wish = reasoning.wish.as_ref();
    let is_off = wish.is_some_and(|wish| wish.value == ReasoningWish::Off);
    let amount = match wish {
        Some(wish) if model.is_3_or_newer() => level(&wish.value, wish.field, model, dropped)?,
        Some(wish) => budget(&wish.value, wish.field, model, dropped)?,
        None => None,
    };
    let shows = reasoning.show.as_ref().is_some_and(|show| show.value == ReasoningShow::Summary);
    let shows = shows && !is_off;
    if amount.is_none() && !shows {
        return Ok(());
    }
    json.key("thinkingConfig").object(|json| {
        match &amount {
            Some(Amount::Budget(budget)) => json.key("thinkingBudget").raw(budget),
            Some(Amount::Level(level)) => json.key("thinkingLevel").string(level),
            None => {}
        }
        if shows {
            json.key("includeThoughts").boolean(true);
        }
    });
    Ok(())
}

/// The budgets are those of Google's own API for OpenAI's clients ("OpenAI compatibility").
fn budget(
    wish: &ReasoningWish<'_>,
    field: &str,
    model: Model<'_>,
    dropped: &mut Dropped,
) -> Result<Option<Amount>, ConvertError> {
    let (least, largest) = model.budgets();
    let tokens = match wish {
        // Pro can't do without thinking.
        ReasoningWish::Off if model.is("2.5-pro") => {
            dropped.drop(field)?;
            least
        }
        ReasoningWish::Off => 0,
        ReasoningWish::Budget(0) if !model.is("2.5-pro") => 0,
        ReasoningWish::Budget(tokens) => (*tokens).clamp(least, largest),
        ReasoningWish::Adaptive(None) => return Ok(Some(Amount::Budget(DYNAMIC.to_owned()))),
        ReasoningWish::Adaptive(Some(effort)) | ReasoningWish::Effort(effort) => match &**effort {
            "minimal" | "low" => 1024,
            "medium" => 8192,
            "high" | "xhigh" => 24_576,
            "max" => 32_768.min(largest),
            _ => {
                dropped.drop(field)?;
                return Ok(None);
            }
        },
    };
    Ok(Some(Amount::Budget(tokens.to_string())))
}

fn level(
    wish: &ReasoningWish<'_>,
    field: &str,
    model: Model<'_>,
    dropped: &mut Dropped,
) -> Result<Option<Amount>, ConvertError> {
    let level = match wish {
        ReasoningWish::Off => {
            dropped.drop(field)?;
            model.lowest_level()
        }
        ReasoningWish::Budget(..2048) => "LOW",
        ReasoningWish::Budget(..8192) => model.medium_level(),
        ReasoningWish::Budget(_) => "HIGH",
        ReasoningWish::Adaptive(None) => return Ok(None),
        ReasoningWish::Adaptive(Some(effort)) | ReasoningWish::Effort(effort) => match &**effort {
            "minimal" => model.lowest_level(),
            "low" => "LOW",
            "medium" => model.medium_level(),
            "high" | "xhigh" | "max" => "HIGH",
            _ => {
                dropped.drop(field)?;
                return Ok(None);
            }
        },
    };
    Ok(Some(Amount::Level(level)))
}

#[cfg(test)]
mod tests {
    use super::super::super::request::Named;
    use super::*;

    /// What is written, and whether the wish is named as left out.
    fn written(
        model: &str,
        wish: Option<ReasoningWish<'_>>,
        show: Option<ReasoningShow>,
    ) -> (String, bool) {
        let reasoning = Reasoning {
            wish: wish.map(|wish| Named::new("reasoning_effort", wish)),
            show: show.map(|show| Named::new("show", show)),
        };
        let (mut json, mut dropped) = (JsonWriter::new(), Dropped::new(false));
        json.object(|json| write_thinking(&reasoning, Model::new(model), json, &mut dropped))
            .unwrap();
        let json = json.finish();
        let inner = json.strip_prefix(r#"{"thinkingConfig":"#).and_then(|j| j.strip_suffix('}'));
        (inner.unwrap_or_default().to_owned(), !dropped.fields().is_empty())
    }

    #[test]
    fn the_wish_becomes_a_budget_or_a_level() {
        use ReasoningWish::{Adaptive, Budget, Effort, Off};
        let effort = |word: &'static str| Effort(word.into());
        let rows = [
            (Off, "0", "128!", "MINIMAL!", "LOW!", "LOW!"),
            (effort("minimal"), "1024", "1024", "MINIMAL", "LOW", "LOW"),
            (effort("low"), "1024", "1024", "LOW", "LOW", "LOW"),
            (effort("medium"), "8192", "8192", "MEDIUM", "HIGH", "MEDIUM"),
            (effort("high"), "24576", "24576", "HIGH", "HIGH", "HIGH"),
            (effort("xhigh"), "24576", "24576", "HIGH", "HIGH", "HIGH"),
            (effort("max"), "24576", "32768", "HIGH", "HIGH", "HIGH"),
            (effort("newer"), "!", "!", "!", "!", "!"),
            (Budget(0), "0", "128", "LOW", "LOW", "LOW"),
            (Budget(2047), "2047", "2047", "LOW", "LOW", "LOW"),
            (Budget(2048), "2048", "2048", "MEDIUM", "HIGH", "MEDIUM"),
            (Budget(8192), "8192", "8192", "HIGH", "HIGH", "HIGH"),
            (Budget(99_999), "24576", "32768", "HIGH", "HIGH", "HIGH"),
            (Adaptive(None), "-1", "-1", "", "", ""),
            (Adaptive(Some("low".into())), "1024", "1024", "LOW", "LOW", "LOW"),
        ];
        for (wish, flash, pro, flash_3, pro_3, pro_31) in rows {
            for (model, expected) in [
                ("gemini-2.5-flash", flash),
                ("models/gemini-2.5-pro", pro),
                ("gemini-3-flash-preview", flash_3),
                ("gemini-3-pro-preview", pro_3),
                ("gemini-3.1-pro-preview", pro_31),
            ] {
                let (value, is_dropped) = written(model, Some(wish.clone()), None);
                let amount = value.split_once(':').map_or("", |(_, amount)| amount);
                let amount = amount.trim_end_matches('}').trim_matches('"');
                let mark = if is_dropped { "!" } else { "" };
                assert_eq!(format!("{amount}{mark}"), expected, "{model} {wish:?}");
            }
        }
    }

    #[test]
    fn thoughts_are_shown_only_if_asked_for() {
        let summary = Some(ReasoningShow::Summary);
        let model = "gemini-2.5-flash";
        assert_eq!(written(model, None, None).0, "");
        assert_eq!(written(model, None, Some(ReasoningShow::Omit)).0, "");
        assert_eq!(written(model, None, summary).0, r#"{"includeThoughts":true}"#);
        let low = Some(ReasoningWish::Effort("low".into()));
        let expected = r#"{"thinkingBudget":1024,"includeThoughts":true}"#;
        assert_eq!(written(model, low, summary).0, expected);
        assert_eq!(written(model, Some(ReasoningWish::Off), summary).0, r#"{"thinkingBudget":0}"#);
        // A name without a version has budgets, which newer models take, too.
        let off = Some(ReasoningWish::Off);
        assert_eq!(written("gemini-flash-latest", off, None).0, r#"{"thinkingBudget":0}"#);
    }
}
