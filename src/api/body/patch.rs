//! JSON merge patches (RFC 7396) of resources.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::resource::{Editable, add_read_only, read_only_fields};
use crate::api::error::{ApiError, FieldError};
use crate::api::field_errors::{Parsed, add, field_error, parse_object};

/// A merge patch of the editable fields `T` of a resource. It may hold the read-only fields too,
/// which are ignored.
#[derive(Debug)]
pub(in crate::api) struct MergePatch<T> {
    patch: Map<String, Value>,
    of: PhantomData<T>,
}

impl<'de, T: Editable> Deserialize<'de> for MergePatch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut patch: Map<String, Value> = Map::deserialize(deserializer)?;
        for name in read_only_fields::<T>() {
            patch.remove(&name);
        }
        Ok(Self { patch, of: PhantomData })
    }
}

impl<T: Editable> MergePatch<T> {
    /// The fields after the patch. A field that must have a value can't be removed, and one that
    /// does not exist is an error.
    pub(in crate::api) fn apply(&self, current: &T) -> Result<Parsed<T>, ApiError> {
        let before = match serde_json::to_value(current) {
            Ok(Value::Object(before)) => before,
            Ok(_) | Err(_) => return Err(ApiError::Internal("a resource is no object".to_owned())),
        };
        let mut errors = unknown_removals::<T>(&self.patch, &before);
        let mut document = Value::Object(before.clone());
        json_patch::merge(&mut document, &Value::Object(self.patch.clone()));
        let document = document.as_object().cloned().unwrap_or_default();
        let Parsed { value, errors: more } = parse_object(document, &before);
        more.into_iter().for_each(|error| add(&mut errors, error));
        Ok(Parsed { value, errors })
    }

    /// The value that the patch has for a field of the resource.
    pub(in crate::api) fn value(&self, field: &str) -> Option<&Value> {
        self.patch.get(field)
    }
}

/// The fields that the patch removes and that do not exist. Merging ignores them, and so a mistyped
/// name would look like a removal.
fn unknown_removals<T: Editable>(
    patch: &Map<String, Value>,
    before: &Map<String, Value>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, change) in patch {
        let Some(present) = before.get(name) else {
            let message = "there is no such field".to_owned();
            errors.push(FieldError { field: name.clone(), message });
            continue;
        };
        let (Value::Object(present), Value::Object(change)) = (present, change) else { continue };
        if change.iter().all(|(inner, value)| !value.is_null() || present.contains_key(inner)) {
            continue;
        }
        // One level down, the type itself knows its names; a map takes every name.
        let mut nested = present.clone();
        nested.extend(change.clone());
        let mut document = before.clone();
        document.insert(name.clone(), Value::Object(nested));
        if let Err(error) = serde_path_to_error::deserialize::<_, T>(Value::Object(document))
            && error.inner().to_string().starts_with("unknown field")
        {
            errors.push(field_error(&error));
        }
    }
    errors
}

impl<T: Editable> PartialSchema for MergePatch<T> {
    /// The schema of the resource with no field required.
    fn schema() -> RefOr<Schema> {
        let mut schema = T::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.required.clear();
            object.example = None;
        }
        add_read_only::<T>(&mut schema);
        schema
    }
}

impl<T: Editable> ToSchema for MergePatch<T> {
    fn name() -> std::borrow::Cow<'static, str> {
        format!("{}Patch", T::Shown::name()).into()
    }
}
