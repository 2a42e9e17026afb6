//! `model_prices`.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::conn::on;
use super::page::Page;
use super::schema::model_prices;
use super::{Conn, DbError, optional};
use crate::domain::ids::{ModelPriceId, OrganizationId};

/// A price that an organization set.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = model_prices)]
pub struct ModelPriceRow {
    pub id: ModelPriceId,
    pub organization_id: OrganizationId,
    /// The provider that it is for, or `*`.
    pub provider: String,
    /// The model that it is for, or a pattern with `*`. Unique with the provider among the live
    /// ones of the organization.
    pub model: String,
    /// A [`Price`](crate::domain::pricing::Price) object.
    pub price: Value,
    /// Counts its changes, from 1.
    pub version: i64,
    pub created_at: NaiveDateTime,
    pub updated_at: NaiveDateTime,
    pub deleted_at: Option<NaiveDateTime>,
}

/// What an update may change.
#[derive(Clone, Debug, AsChangeset)]
#[diesel(table_name = model_prices)]
pub struct ModelPriceChanges {
    pub provider: String,
    pub model: String,
    pub price: Value,
    pub version: i64,
    pub updated_at: NaiveDateTime,
}

/// Which prices a list shows.
#[derive(Clone, Debug, Default)]
pub struct ModelPriceFilter {
    /// Only those for exactly this provider.
    pub provider: Option<String>,
    /// Only those for exactly this model or pattern.
    pub model: Option<String>,
}

/// Inserts a row.
pub async fn insert_model_price(conn: &mut Conn, row: ModelPriceRow) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(model_prices::table).values(&row).execute(c)).map(|_| ())
}

/// The organization's live price of that id.
pub async fn find_model_price(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: ModelPriceId,
) -> Result<Option<ModelPriceRow>, DbError> {
    optional(on!(conn, c => model_prices::table
        .filter(model_prices::organization_id.eq(organization_id))
        .filter(model_prices::id.eq(id))
        .filter(model_prices::deleted_at.is_null())
        .select(ModelPriceRow::as_select())
        .first(c)))
}

/// The organization's live prices, oldest first.
pub async fn list_model_prices(
    conn: &mut Conn,
    organization_id: OrganizationId,
    filter: ModelPriceFilter,
    page: Page<ModelPriceId>,
) -> Result<Vec<ModelPriceRow>, DbError> {
    on!(conn, c => {
        let mut query = model_prices::table
            .filter(model_prices::organization_id.eq(organization_id))
            .filter(model_prices::deleted_at.is_null())
            .select(ModelPriceRow::as_select())
            .order(model_prices::id)
            .limit(page.rows())
            .into_boxed();
        if let Some(provider) = filter.provider {
            query = query.filter(model_prices::provider.eq(provider));
        }
        if let Some(model) = filter.model {
            query = query.filter(model_prices::model.eq(model));
        }
        if let Some(after) = page.after {
            query = query.filter(model_prices::id.gt(after));
        }
        query.load(c)
    })
}

/// The organization's live prices that may be for this provider: its own, and those for all.
pub async fn list_model_prices_for(
    conn: &mut Conn,
    organization_id: OrganizationId,
    provider: String,
) -> Result<Vec<ModelPriceRow>, DbError> {
    let providers = [provider, crate::domain::pricing::ANY.to_owned()];
    on!(conn, c => model_prices::table
        .filter(model_prices::organization_id.eq(organization_id))
        .filter(model_prices::provider.eq_any(providers.clone()))
        .filter(model_prices::deleted_at.is_null())
        .select(ModelPriceRow::as_select())
        .order(model_prices::id)
        .load(c))
}

/// How many live prices the organization has.
pub async fn count_model_prices(
    conn: &mut Conn,
    organization_id: OrganizationId,
) -> Result<i64, DbError> {
    on!(conn, c => model_prices::table
        .filter(model_prices::organization_id.eq(organization_id))
        .filter(model_prices::deleted_at.is_null())
        .count()
        .get_result(c))
}

/// Changes a live price.
pub async fn update_model_price(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: ModelPriceId,
    changes: ModelPriceChanges,
) -> Result<ModelPriceRow, DbError> {
    on!(conn, c => diesel::update(model_prices::table)
        .filter(model_prices::organization_id.eq(organization_id))
        .filter(model_prices::id.eq(id))
        .filter(model_prices::deleted_at.is_null())
        .set(&changes)
        .returning(ModelPriceRow::as_returning())
        .get_result(c))
}

/// Marks a live price as deleted.
pub async fn delete_model_price(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: ModelPriceId,
    now: NaiveDateTime,
) -> Result<(), DbError> {
    let rows = on!(conn, c => diesel::update(model_prices::table)
        .filter(model_prices::organization_id.eq(organization_id))
        .filter(model_prices::id.eq(id))
        .filter(model_prices::deleted_at.is_null())
        .set((model_prices::deleted_at.eq(Some(now)), model_prices::updated_at.eq(now)))
        .execute(c))?;
    if rows == 0 { Err(DbError::NotFound) } else { Ok(()) }
}
