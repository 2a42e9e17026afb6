//! Resources as bodies: what can be set of them, and what is read-only. A body may hold the read-only
//! fields, which are ignored, so that a resource can be read, changed in one field and sent back.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, IgnoredAny, IntoDeserializer, MapAccess, Visitor,
};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::openapi::schema::{Object, Schema, SchemaType};
use utoipa::openapi::{ObjectBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// The fields of a resource that can be set.
pub(in crate::api) trait Editable:
    Serialize + DeserializeOwned + ToSchema + 'static
{
    /// The resource as it is shown: these fields and the read-only ones.
    type Shown: ToSchema;
}

/// The names of the fields that are shown and can't be set.
pub(super) fn read_only_fields<T: Editable>() -> Vec<String> {
    let editable = properties(&T::schema());
    let mut shown = properties(&T::Shown::schema());
    shown.retain(|name| !editable.contains(name));
    shown
}

/// The names of an object's own properties. A part that is referred to has the editable ones.
fn properties(schema: &RefOr<Schema>) -> Vec<String> {
    match schema {
        RefOr::T(Schema::Object(object)) => object.properties.keys().cloned().collect(),
        RefOr::T(Schema::AllOf(all)) => all.items.iter().flat_map(properties).collect(),
        RefOr::T(_) | RefOr::Ref(_) => Vec::new(),
    }
}

/// Adds the read-only fields to the schema of `T`.
pub(super) fn add_read_only<T: Editable>(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema {
        let read_only = read_only_fields::<T>().into_iter();
        object.properties.extend(read_only.map(|name| (name, read_only_schema())));
    }
}

fn read_only_schema() -> RefOr<Schema> {
    let field: Object = ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .description(Some("Read-only: ignored here."))
        .read_only(true)
        .build();
    field.into()
}

/// The fields of `T` from a body that may hold the read-only fields, too.
#[derive(Debug)]
pub(in crate::api) struct WholeResource<T>(pub T);

impl<'de, T: Editable> Deserialize<'de> for WholeResource<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = Fields { read_only: read_only_fields::<T>(), of: PhantomData };
        deserializer.deserialize_map(visitor).map(Self)
    }
}

impl<T: Editable> PartialSchema for WholeResource<T> {
    fn schema() -> RefOr<Schema> {
        let mut schema = T::schema();
        add_read_only::<T>(&mut schema);
        schema
    }
}

impl<T: Editable> ToSchema for WholeResource<T> {
    fn name() -> Cow<'static, str> {
        format!("{}Body", T::Shown::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}

struct Fields<T> {
    read_only: Vec<String>,
    of: PhantomData<T>,
}

impl<'de, T: Editable> Visitor<'de> for Fields<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<T, M::Error> {
        T::deserialize(MapAccessDeserializer::new(Settable { map, read_only: self.read_only }))
    }
}

/// A map without the read-only fields. Unlike an object that is parsed before, it still shows a field
/// that is there twice.
struct Settable<M> {
    map: M,
    read_only: Vec<String>,
}

impl<'de, M: MapAccess<'de>> MapAccess<'de> for Settable<M> {
    type Error = M::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, M::Error> {
        while let Some(name) = self.map.next_key::<String>()? {
            if self.read_only.contains(&name) {
                self.map.next_value::<IgnoredAny>()?;
            } else {
                return seed.deserialize(name.into_deserializer()).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, M::Error> {
        self.map.next_value_seed(seed)
    }
}
