//! Which required fields an object lacks, by the schema of its type. serde names only the first.

use serde_json::{Map, Value};
use utoipa::ToSchema;

/// The missing fields of the object at `path` in a document of type `T`. A segment of the path is a
/// name, or an index of an array.
pub(super) fn missing_fields<T: ToSchema>(
    document: &Map<String, Value>,
    path: &[&str],
) -> Vec<String> {
    let components = components::<T>();
    let mut schema = to_json(T::schema());
    let mut object = Some(document);
    let mut items: Option<&Vec<Value>> = None;
    for segment in path {
        let (value, inner) = match (object, items) {
            (Some(object), _) => (object.get(*segment), &schema["properties"][segment]),
            (None, Some(items)) => {
                let index = segment.parse().unwrap_or(usize::MAX);
                (items.get(index), &schema["items"])
            }
            (None, None) => return Vec::new(),
        };
        object = value.and_then(Value::as_object);
        items = value.and_then(Value::as_array);
        schema = resolve(inner, &components).clone();
    }
    let Some(object) = object else { return Vec::new() };
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    required.filter(|name| !object.contains_key(*name)).map(str::to_owned).collect()
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
