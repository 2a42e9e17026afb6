//! Fields that answers show and nobody sets. Bodies may hold them, and they are passed over, so that
//! what was read can be changed in one place and sent back whole.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, IgnoredAny, IntoDeserializer, MapAccess, Visitor,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::openapi::schema::{Object, Schema, SchemaType};
use utoipa::openapi::{ObjectBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// What people set of a resource.
pub trait Editable: Serialize + DeserializeOwned {
    /// What answers show beside it. With the fields of the type, these are all that an answer shows.
    const READ_ONLY: &'static [&'static str];
}

/// Takes them out of a patch.
pub(super) fn pass_over<T: Editable>(patch: &mut Value) {
    if let Value::Object(fields) = patch {
        fields.retain(|name, _| !T::READ_ONLY.contains(&name.as_str()));
    }
}

/// Adds them to the schema of `T`.
pub(super) fn describe<T: Editable>(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema {
        object.properties.extend(T::READ_ONLY.iter().map(|name| ((*name).to_owned(), read_only())));
    }
}

fn read_only() -> RefOr<Schema> {
    let field: Object = ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .description(Some("Shown, and passed over here."))
        .read_only(true)
        .build();
    field.into()
}

/// The fields of `T`, out of a body that may be all that an answer showed.
#[derive(Debug)]
pub struct SentBack<T>(pub T);

impl<'de, T: Editable> Deserialize<'de> for SentBack<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

impl<T: Editable + ToSchema> PartialSchema for SentBack<T> {
    fn schema() -> RefOr<Schema> {
        let mut schema = T::schema();
        describe::<T>(&mut schema);
        schema
    }
}

impl<T: Editable + ToSchema> ToSchema for SentBack<T> {
    fn name() -> Cow<'static, str> {
        T::name()
    }
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Editable> Visitor<'de> for Fields<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<T, M::Error> {
        T::deserialize(MapAccessDeserializer::new(Settable { map, of: self.0 }))
    }
}

/// A map without what is read-only. Unlike a document that is taken apart first, it still tells a
/// field that is there twice.
struct Settable<M, T> {
    map: M,
    of: PhantomData<T>,
}

impl<'de, M: MapAccess<'de>, T: Editable> MapAccess<'de> for Settable<M, T> {
    type Error = M::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, M::Error> {
        while let Some(name) = self.map.next_key::<String>()? {
            if T::READ_ONLY.contains(&name.as_str()) {
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
