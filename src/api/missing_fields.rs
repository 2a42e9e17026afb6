//! What the schema of a type says of one field: which required fields an object lacks, and the range of a
//! number. serde names only the first, and the type in place of the range.

use serde_json::{Map, Value};
use utoipa::ToSchema;

/// The missing fields of the object at `path` in a document of type `T`. A segment of the path is a
/// name, or an index of an array.
pub(super) fn missing_fields<T: ToSchema>(
    document: &Map<String, Value>,
    path: &[&str],
) -> Vec<String> {
    let Some((first, rest)) = path.split_first() else { return Vec::new() };
    let mut value = document.get(*first);
    for segment in rest {
        value = value.and_then(|value| match value {
            Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
            value => value.get(segment),
        });
    }
    let Some(object) = value.and_then(Value::as_object) else { return Vec::new() };
    let schema = schema_at::<T>(path);
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    required.filter(|name| !object.contains_key(*name)).map(str::to_owned).collect()
}

/// The least and the greatest value of the whole number at `path` in a document of type `T`, as far as its
/// schema has them; none if it is something else.
pub(super) fn range_of<T: ToSchema>(path: &[&str]) -> Option<(Option<i128>, Option<i128>)> {
    let schema = schema_at::<T>(path);
    let is_integer = |kind: &Value| kind == "integer";
    let kind = &schema["type"];
    if !is_integer(kind) && !kind.as_array().is_some_and(|kinds| kinds.iter().any(is_integer)) {
        return None;
    }
    let limit = |name: &str| {
        let limit = &schema[name];
        limit.as_i64().map(i128::from).or_else(|| limit.as_u64().map(i128::from))
    };
    Some((limit("minimum"), limit("maximum")))
}

/// The schema of the value at `path`, or null.
fn schema_at<T: ToSchema>(path: &[&str]) -> Value {
    let components = components::<T>();
    let mut schema = to_json(T::schema());
    for segment in path {
        let is_item = segment.parse::<usize>().is_ok() && schema["items"].is_object();
        let inner = if is_item { &schema["items"] } else { &schema["properties"][segment] };
        schema = resolve(inner, &components).clone();
    }
    schema
}

/// The schemas that the schema of `T` refers to.
fn components<T: ToSchema>() -> Map<String, Value> {
    let mut schemas = Vec::new();
    T::schemas(&mut schemas);
    schemas.into_iter().map(|(name, schema)| (name, to_json(schema))).collect()
}

fn to_json(schema: impl serde::Serialize) -> Value {
    serde_json::to_value(schema).unwrap_or_default()
}

/// The schema itself, the one that it refers to, or the one that it allows besides null.
fn resolve<'s>(schema: &'s Value, components: &'s Map<String, Value>) -> &'s Value {
    if let Some(alternatives) = schema["oneOf"].as_array() {
        let is_null = |schema: &&Value| schema["type"] == "null";
        let value = alternatives.iter().find(|schema| !is_null(schema));
        return value.map_or(schema, |value| resolve(value, components));
    }
    let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
    name.and_then(|name| components.get(name)).unwrap_or(schema)
}
