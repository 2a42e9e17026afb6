//! The models that a body names besides the one in the path, where another one replaces it: Google wants
//! them to be the same.

use std::ops::Range;

use crate::json::case_fold::FoldBuffer;
use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};

/// The fields of a request in which models are named, in all spellings.
const FIELDS: [&str; 4] =
    ["model", "requests", "generateContentRequest", "generate_content_request"];

/// The fields of a body that name models, each with its raw value for another model. `get` gives the raw
/// value of a field.
pub fn with_model<'b>(
    get: impl Fn(&str) -> Option<&'b str>,
    model: &str,
) -> Vec<(&'static str, String)> {
    let renamed = |field: &'static str| Some((field, renamed(field, get(field)?, model)?));
    FIELDS.into_iter().filter_map(renamed).collect()
}

/// The raw value of a field with each model in it replaced; none if it names none.
fn renamed(field: &str, raw: &str, model: &str) -> Option<String> {
    let mut tokens = Tokenizer::new(raw.as_bytes());
    let mut found = Vec::new();
    let field = field.to_ascii_lowercase();
    let first = tokens.next().ok()?;
    find(field.as_bytes(), first, &mut tokens, &mut found).ok()?;
    let mut text = String::with_capacity(raw.len());
    let mut copied = 0;
    for Named { range, has_prefix } in &found {
        let prefix = if *has_prefix { "models/" } else { "" };
        let name = format!("{prefix}{}", model.strip_prefix("models/").unwrap_or(model));
        text.push_str(raw.get(copied..range.start)?);
        text.push_str(&serde_json::Value::from(name).to_string());
        copied = range.end;
    }
    text.push_str(raw.get(copied..)?);
    (!found.is_empty()).then_some(text)
}

/// Where a model is named, with its quotes.
struct Named {
    range: Range<usize>,
    has_prefix: bool,
}

/// Finds the models in a field, its key folded: itself, or in the requests in it.
fn find<'a>(
    key: &[u8],
    first: Token<'a>,
    tokens: &mut Tokenizer<'a>,
    found: &mut Vec<Named>,
) -> Result<(), SyntaxError> {
    let is = |name: &[u8]| key.iter().filter(|byte| **byte != b'_').eq(name);
    match first {
        Token::String(name) if is(b"model") => {
            let has_prefix = name.text().is_some_and(|name| name.starts_with("models/"));
            found.push(Named { range: tokens.token_start()..tokens.position(), has_prefix });
            Ok(())
        }
        Token::BeginArray | Token::BeginObject
            if !is(b"requests") && !is(b"generatecontentrequest") =>
        {
            tokens.skip(first)
        }
        Token::BeginArray => tokens.elements(|element, tokens| find(key, element, tokens, found)),
        Token::BeginObject => {
            while let Token::Key(key) = tokens.next()? {
                let value = tokens.next()?;
                let mut buffer = FoldBuffer::default();
                let key = key.folded(&mut buffer).unwrap_or_default();
                find(key, value, tokens, found)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn renamed_in(body: &Value) -> Value {
        let fields: Vec<(String, String)> = body
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| (key.clone(), value.to_string()))
            .collect();
        let get =
            |field: &str| fields.iter().find(|(key, _)| key == field).map(|(_, raw)| raw.as_str());
        let mut body = body.clone();
        for (field, raw) in with_model(get, "new \"1\"") {
            body[field] = serde_json::from_str(&raw).unwrap();
        }
        body
    }

    #[test]
    fn every_model_of_a_request_is_renamed() {
        let new = "new \"1\"";
        let prefixed = "models/new \"1\"";
        for (body, expected) in [
            (json!({"model": "models/old"}), json!({"model": prefixed})),
            (json!({"model": "old"}), json!({"model": new})),
            (
                json!({"requests": [{"model": "models/old", "content": {"model": "x"}}, {"model": "old"}, {}]}),
                json!({"requests": [{"model": prefixed, "content": {"model": "x"}}, {"model": new}, {}]}),
            ),
            (
                json!({"generateContentRequest": {"model": "models/old", "contents": []}}),
                json!({"generateContentRequest": {"model": prefixed, "contents": []}}),
            ),
            (
                json!({"requests": [{"generate_content_request": {"Model": "models/old"}}]}),
                json!({"requests": [{"generate_content_request": {"Model": prefixed}}]}),
            ),
            (json!({"contents": [], "model": 5}), json!({"contents": [], "model": 5})),
        ] {
            assert_eq!(renamed_in(&body), expected);
        }
    }
}
