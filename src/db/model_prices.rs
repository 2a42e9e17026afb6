//! `model_prices`.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::conn::on;
use super::filters::{deleted, filter_given, live_of, paged};
use super::page::Page;
use super::schema::model_prices;
use super::{Conn, DbError, optional};
use crate::domain::ids::{ModelPriceId, OrganizationId};

/// A price of an organization.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = model_prices)]
pub struct ModelPriceRow {
    pub id: ModelPriceId,
    pub organization_id: OrganizationId,
    /// A provider's name, or `*`.
    pub provider: String,
    /// A model's name, or a pattern with `*`. Unique in the organization together with the provider
    /// among the prices that are not deleted.
    pub model: String,
    /// A [`Price`](crate::domain::pricing::Price) object.
    pub price: Value,
    /// Starts at 1 and increases with every change.
    pub version: i64,
    pub created_at: NaiveDateTime,
    pub updated_at: NaiveDateTime,
    pub deleted_at: Option<NaiveDateTime>,
}

/// The columns that an update sets.
#[derive(Clone, Debug, AsChangeset)]
#[diesel(table_name = model_prices)]
pub struct ModelPriceChanges {
    pub provider: String,
    pub model: String,
    pub price: Value,
    pub version: i64,
    pub updated_at: NaiveDateTime,
}

/// Filters a list of prices.
#[derive(Clone, Debug, Default)]
pub struct ModelPriceFilter {
    pub provider: Option<String>,
    pub model: Option<String>,
}

/// Inserts a price.
pub async fn insert_model_price(conn: &mut Conn, row: ModelPriceRow) -> Result<(), DbError> {
    on!(conn, c => diesel::insert_into(model_prices::table).values(&row).execute(c)).map(|_| ())
}

/// The organization's price with this id.
pub async fn find_model_price(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: ModelPriceId,
) -> Result<Option<ModelPriceRow>, DbError> {
    optional(on!(conn, c => model_prices::table
        .filter(live_of!(model_prices, organization_id))
        .filter(model_prices::id.eq(id))
        .select(ModelPriceRow::as_select())
        .first(c)))
}

/// The organization's prices, oldest first.
pub async fn list_model_prices(
    conn: &mut Conn,
    organization_id: OrganizationId,
    filter: ModelPriceFilter,
    page: Page<ModelPriceId>,
) -> Result<Vec<ModelPriceRow>, DbError> {
    on!(conn, c => {
        let query = model_prices::table
            .filter(live_of!(model_prices, organization_id))
            .select(ModelPriceRow::as_select())
            .into_boxed();
        let query = paged(query, model_prices::id, page);
        let query = filter_given(query, model_prices::provider, filter.provider);
        filter_given(query, model_prices::model, filter.model).load(c)
    })
}

/// The organization's prices for this provider and for all providers.
pub async fn list_model_prices_for(
    conn: &mut Conn,
    organization_id: OrganizationId,
    provider: String,
) -> Result<Vec<ModelPriceRow>, DbError> {
    let providers = [provider, crate::domain::pricing::ANY.to_owned()];
    on!(conn, c => model_prices::table
        .filter(live_of!(model_prices, organization_id))
        .filter(model_prices::provider.eq_any(providers.clone()))
        .select(ModelPriceRow::as_select())
        .order(model_prices::id)
        .load(c))
}

/// How many prices the organization has.
pub async fn count_model_prices(
    conn: &mut Conn,
    organization_id: OrganizationId,
) -> Result<i64, DbError> {
    on!(conn, c => model_prices::table
        .filter(live_of!(model_prices, organization_id))
        .count()
        .get_result(c))
}

/// Updates a price.
pub async fn update_model_price(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: ModelPriceId,
    changes: ModelPriceChanges,
) -> Result<ModelPriceRow, DbError> {
    on!(conn, c => diesel::update(model_prices::table)
        .filter(live_of!(model_prices, organization_id))
        .filter(model_prices::id.eq(id))
        .set(&changes)
        .returning(ModelPriceRow::as_returning())
        .get_result(c))
}

/// Marks a price as deleted.
pub async fn delete_model_price(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: ModelPriceId,
    now: NaiveDateTime,
) -> Result<(), DbError> {
    let rows = on!(conn, c => diesel::update(model_prices::table)
        .filter(live_of!(model_prices, organization_id))
        .filter(model_prices::id.eq(id))
        .set(deleted!(model_prices, now))
        .execute(c))?;
    if rows == 0 { Err(DbError::NotFound) } else { Ok(()) }
}
