//! Checks of JSON: required members, members that are not known, types.

use serde_json::{Map, Value};

pub(super) type Checked<T> = Result<T, String>;

/// An object with all of the required members and no others than the optional ones.
pub(super) fn object<'v>(
    value: &'v Value,
    path: &str,
    required: &[&str],
    optional: &[&str],
) -> Checked<&'v Map<String, Value>> {
    let map = value.as_object().ok_or_else(|| format!("{path} is no object: {value}"))?;
    if let Some(missing) = required.iter().find(|key| !map.contains_key(**key)) {
        return Err(format!("{path}.{missing} is missing"));
    }
    let is_known =
        |key: &&String| required.contains(&key.as_str()) || optional.contains(&key.as_str());
    match map.keys().find(|key| !is_known(key)) {
        Some(unknown) => Err(format!("{path}.{unknown} is not known")),
        None => Ok(map),
    }
}

/// An object with this member alone, apart from the optional ones.
pub(super) fn one_of(value: &Value, path: &str, keys: &[&'static str]) -> Checked<&'static str> {
    let map = value.as_object().ok_or_else(|| format!("{path} is no object: {value}"))?;
    let mut found = keys.iter().filter(|key| map.contains_key(**key));
    match (found.next(), found.next()) {
        (Some(key), None) => Ok(*key),
        _ => Err(format!("{path} must have exactly one of {keys:?}: {value}")),
    }
}

pub(super) fn text<'v>(value: &'v Value, path: &str) -> Checked<&'v str> {
    value.as_str().ok_or_else(|| format!("{path} is no string: {value}"))
}

pub(super) fn filled<'v>(value: &'v Value, path: &str) -> Checked<&'v str> {
    let text = text(value, path)?;
    if text.trim().is_empty() { Err(format!("{path} is empty")) } else { Ok(text) }
}

pub(super) fn list<'v>(value: &'v Value, path: &str) -> Checked<&'v [Value]> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| format!("{path} is no array: {value}"))
}

pub(super) fn number(value: &Value, path: &str) -> Checked<u64> {
    value.as_u64().ok_or_else(|| format!("{path} is no whole number: {value}"))
}

pub(super) fn word<'v>(value: &'v Value, path: &str, words: &[&str]) -> Checked<&'v str> {
    let text = text(value, path)?;
    if words.contains(&text) {
        Ok(text)
    } else {
        Err(format!("{path} is none of {words:?}: {text}"))
    }
}

/// An id or name of these characters and this length.
pub(super) fn name<'v>(
    value: &'v Value,
    path: &str,
    longest: usize,
    others: &str,
) -> Checked<&'v str> {
    let text = text(value, path)?;
    let is_allowed =
        |character: char| character.is_ascii_alphanumeric() || others.contains(character);
    if (1..=longest).contains(&text.len()) && text.chars().all(is_allowed) {
        Ok(text)
    } else {
        Err(format!("{path} is not taken: {text:?}"))
    }
}

/// Arguments in a string: an object as JSON.
pub(super) fn arguments(value: &Value, path: &str) -> Checked<Value> {
    let text = text(value, path)?;
    let value = serde_json::from_str(text).map_err(|_| format!("{path} is no JSON: {text}"))?;
    object_value(value, path)
}

pub(super) fn object_value(value: Value, path: &str) -> Checked<Value> {
    if value.is_object() { Ok(value) } else { Err(format!("{path} is no object: {value}")) }
}

/// The content of a data URL of an image.
pub(super) fn data_url(value: &Value, path: &str) -> Checked<String> {
    let url = text(value, path)?;
    let data = url.strip_prefix("data:image/png;base64,");
    data.map(str::to_owned).ok_or_else(|| format!("{path} is no PNG: {url}"))
}
