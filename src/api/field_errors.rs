//! Reads typed values so that one answer names every wrong field, not only the first.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::error::{ApiError, FieldError};
use super::missing_fields::{missing_fields, range_of};

const MISSING: &str = "must be given and can't be null";

/// A value as far as it could be read, and the fields that were wrong.
#[derive(Debug)]
pub(super) struct Parsed<T> {
    /// With the defaults in place of the wrong fields; none if there are no defaults for them.
    pub(super) value: Option<T>,
    pub(super) errors: Vec<FieldError>,
}

impl<T> Parsed<T> {
    /// The value, or all errors.
    pub(super) fn valid(self) -> Result<T, ApiError> {
        self.check(Ok)
    }

    /// What `check` makes of the value. The error names the fields that could not be read and those
    /// that `check` refuses.
    pub(super) fn check<U>(
        self,
        check: impl FnOnce(T) -> Result<U, ApiError>,
    ) -> Result<U, ApiError> {
        let Self { value, mut errors } = self;
        match value.map(check) {
            Some(outcome) if errors.is_empty() => return outcome,
            Some(Err(ApiError::Invalid(more))) => {
                for error in more {
                    add(&mut errors, error);
                }
            }
            _ => {}
        }
        Err(ApiError::Invalid(errors))
    }
}

/// Both values, or the errors of both.
pub(super) fn both<A, B>(
    first: Result<A, ApiError>,
    second: Result<B, ApiError>,
) -> Result<(A, B), ApiError> {
    match (first, second) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        (Err(ApiError::Invalid(mut errors)), Err(ApiError::Invalid(more))) => {
            errors.extend(more);
            Err(ApiError::Invalid(errors))
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// Adds an error, unless the field has one already: a later one may come from its default.
pub(super) fn add(errors: &mut Vec<FieldError>, error: FieldError) {
    if errors.iter().all(|present| present.field != error.field) {
        errors.push(error);
    }
}

/// Reads an object. serde stops at the first wrong field; so that field is noted, replaced by its
/// default or left out, and the rest is read again.
pub(super) fn parse_object<T: DeserializeOwned + ToSchema>(
    mut document: Map<String, Value>,
    defaults: &Map<String, Value>,
) -> Parsed<T> {
    let mut errors = Vec::new();
    let mut replaced = BTreeSet::new();
    loop {
        let error = match serde_path_to_error::deserialize(Value::Object(document.clone())) {
            Ok(value) => return Parsed { value: Some(value), errors },
            Err(error) => with_range::<T>(field_error(&error)),
        };
        let path = segments(&error.field);
        let top = path.first().copied().unwrap_or_default();
        if replaced.contains(top) {
            // The default is missing or is wrong itself.
            return Parsed { value: None, errors };
        }
        let is_new = errors.iter().all(|present: &FieldError| present.field != error.field);
        if error.message == MISSING {
            for error in other_missing_fields::<T>(&document, &error.field) {
                add(&mut errors, error);
            }
        }
        let is_removed = is_new && remove_nested(&mut document, &path);
        if !is_removed {
            match defaults.get(top) {
                Some(default) => document.insert(top.to_owned(), default.clone()),
                None => document.remove(top),
            };
            replaced.insert(top.to_owned());
        }
        add(&mut errors, error);
    }
}

/// An error for each field that is missing in the same nested object as `field`.
fn other_missing_fields<T: ToSchema>(
    document: &Map<String, Value>,
    field: &str,
) -> Vec<FieldError> {
    let Some((object, _)) = field.rsplit_once('.') else { return Vec::new() };
    let missing = missing_fields::<T>(document, &segments(object));
    let error =
        |name| FieldError { field: format!("{object}.{name}"), message: MISSING.to_owned() };
    missing.into_iter().map(error).collect()
}

/// The error with the range of the number in place of the type that holds it.
fn with_range<T: ToSchema>(error: FieldError) -> FieldError {
    let greatest: Option<i128> = match error.message.as_str() {
        "must be u8" => Some(u8::MAX.into()),
        "must be u16" => Some(u16::MAX.into()),
        "must be u32" => Some(u32::MAX.into()),
        // The last is what serde_json says of one that does not fit into the type.
        "must be u64" | "must be usize" | "must be i32" | "must be i64" | "invalid number" => None,
        _ => return error,
    };
    let Some((min, max)) = range_of::<T>(&segments(&error.field)) else { return error };
    let message = match (min, max.or(greatest)) {
        (Some(min), Some(max)) => format!("must be a whole number from {min} to {max}"),
        (Some(min), None) => format!("must be a whole number of at least {min}"),
        (None, Some(max)) => format!("must be a whole number of at most {max}"),
        (None, None) => "must be a whole number".to_owned(),
    };
    FieldError { message, ..error }
}

/// The names and indexes in the path of a field, such as `limits[1].window`.
fn segments(path: &str) -> Vec<&str> {
    path.split(['.', '[', ']']).filter(|segment| !segment.is_empty()).collect()
}

/// Removes a field from an object inside the document. Says whether it was there.
fn remove_nested(document: &mut Map<String, Value>, path: &[&str]) -> bool {
    let [top, inner @ .., last] = path else { return false };
    let mut place = document.get_mut(*top);
    for name in inner {
        place = place.and_then(|value| value.get_mut(*name));
    }
    let object = place.and_then(Value::as_object_mut);
    object.and_then(|object| object.remove(*last)).is_some()
}

/// What serde says of a field, in words for the caller.
pub(super) fn field_error(error: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    let path = error.path().to_string();
    let message = error.inner().to_string();
    // A position means nothing in a document that was patched; the name of the field is enough.
    let message = message.split(" at line ").next().unwrap_or_default();
    let named = |prefix: &str| {
        let name = message.strip_prefix(prefix)?.strip_prefix('`')?.split('`').next()?;
        Some(match path.as_str() {
            "." => name.to_owned(),
            path if path.ends_with(name) => path.to_owned(),
            path => format!("{path}.{name}"),
        })
    };
    let (field, message) = if let Some(field) = named("unknown field ") {
        (field, "there is no such field".to_owned())
    } else if let Some(field) = named("duplicate field ") {
        (field, "must be given once".to_owned())
    } else if let Some(field) = named("missing field ") {
        (field, MISSING.to_owned())
    } else {
        // What was sent is not quoted: it may be a secret in the wrong place.
        let message = match message.split_once(", expected ") {
            Some((found, expected)) if found.starts_with("invalid ") => {
                format!("must be {expected}")
            }
            _ => message.to_owned(),
        };
        (if path == "." { "body".to_owned() } else { path }, message)
    };
    FieldError { field, message }
}
