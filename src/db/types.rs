//! Conversions between the domain's types and columns.

use std::io::Write;

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, Queryable};
use diesel::expression::AsExpression;
use diesel::pg::Pg;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{Nullable, SingleValue, Text};
use diesel::sqlite::Sqlite;

use crate::domain::ids::{
    ApiKeyId, AttemptId, AuditEventId, ConfigurationId, DataKeyId, ModelPriceId, OrganizationId,
    PolicyId, ProviderSettingsId, RequestId, SecretId, UserId, WorkspaceId,
};
use crate::domain::model_configuration::ConfiguredModel;
use crate::domain::names::{ConfigurationName, DisplayName, Email, Handle, SecretName};
use crate::domain::permissions::Role;
use crate::domain::policy::PolicyType;
use crate::domain::provider::UpstreamId;

/// The API key of a caller in the ledger and in its sums; an empty text where the caller showed another
/// credential. Not null, since it is part of a primary key, and so that a ledger of any size takes it
/// without a rewrite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallerKey(pub Option<ApiKeyId>);

/// A type that is stored as text: written by `$write` (`&self -> String`), read by `$read`
/// (`String -> Result`). Binds owned text, since the SQLite connection moves its binds to another
/// thread.
macro_rules! text_column {
    ($($name:ty: $write:expr, $read:expr;)+) => {$(
        text_column!(@expression $name, $name, Text, $write, |value| &value);
        text_column!(@expression $name, &$name, Text, $write, |value| value);
        text_column!(@expression $name, $name, Nullable<Text>, $write, |value| &value);
        text_column!(@expression $name, &$name, Nullable<Text>, $write, |value| value);

        impl ToSql<Text, Sqlite> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
                let write: fn(&$name) -> String = $write;
                out.set_value(write(self));
                Ok(IsNull::No)
            }
        }

        impl ToSql<Text, Pg> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                let write: fn(&$name) -> String = $write;
                out.write_all(write(self).as_bytes())?;
                Ok(IsNull::No)
            }
        }

        impl<DB: Backend> FromSql<Text, DB> for $name
        where
            String: FromSql<Text, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
                let read: fn(String) -> deserialize::Result<$name> = $read;
                read(String::from_sql(bytes)?)
            }
        }

        impl<DB: Backend, ST: SingleValue> Queryable<ST, DB> for $name
        where
            Self: FromSql<ST, DB>,
        {
            type Row = Self;

            fn build(row: Self) -> deserialize::Result<Self> {
                Ok(row)
            }
        }
    )+};
    (@expression $name:ty, $value:ty, $sql:ty, $write:expr, |$v:ident| $borrow:expr) => {
        impl AsExpression<$sql> for $value {
            type Expression = <String as AsExpression<$sql>>::Expression;

            fn as_expression(self) -> Self::Expression {
                let write: fn(&$name) -> String = $write;
                let $v = self;
                <String as AsExpression<$sql>>::as_expression(write($borrow))
            }
        }
    };
}

macro_rules! id_columns {
    ($($name:ty),+) => {
        text_column! {$(
            $name: |id| id.to_string(), |text| text.parse().map_err(Into::into);
        )+}
    };
}

macro_rules! name_columns {
    ($($name:ty),+) => {
        text_column! {$(
            $name: |name| name.as_str().to_owned(), |text| <$name>::parse(text).map_err(Into::into);
        )+}
    };
}

id_columns!(
    ApiKeyId,
    AttemptId,
    AuditEventId,
    ConfigurationId,
    DataKeyId,
    ModelPriceId,
    ProviderSettingsId,
    OrganizationId,
    PolicyId,
    RequestId,
    SecretId,
    UpstreamId,
    UserId,
    WorkspaceId
);
name_columns!(ConfigurationName, DisplayName, Email, Handle, SecretName);
text_column! {
    CallerKey: |key| key.0.map(|id| id.to_string()).unwrap_or_default(), |text| match text.is_empty() {
        true => Ok(CallerKey(None)),
        false => Ok(CallerKey(Some(text.parse()?))),
    };
    ConfiguredModel: |model| model.as_stored().to_owned(), |text| Ok(ConfiguredModel::from_stored(text));
    PolicyType: |policy_type| policy_type.as_str().to_owned(), |text| text.parse().map_err(Into::into);
    Role: |role| role.as_str().to_owned(), |text| text.parse().map_err(Into::into);
}
