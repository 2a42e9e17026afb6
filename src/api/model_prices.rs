//! `/model-prices`: the prices that an organization sets in place of the catalogue's.

mod resolve;
mod validate;

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Management;
use super::access::{InOrganization, OrganizationManage, OrganizationRead};
use super::body::{Editable, Json, MergePatch};
use super::error::{ApiError, FieldError};
use super::field_errors::both;
use super::page::{Paged, page};
use super::query::Query;
use super::routes::Routes;
use super::shared::{Audited, Conflicts, as_json, created, or_taken, path_id, record};
use crate::auth::Scope;
use crate::db::model_prices::{
    ModelPriceChanges, ModelPriceFilter, ModelPriceRow, count_model_prices,
    delete_model_price as delete_row, find_model_price, insert_model_price,
    list_model_prices as list_rows, update_model_price as update_row,
};
use crate::db::{ChangeScope, Conn, DbError};
use crate::domain::ids::{ModelPriceId, OrganizationId};
use crate::domain::pricing::Price;
use validate::check;

const WHAT: &str = "model price";
/// The largest number of prices of an organization: all are read when a configuration is loaded.
const MAX_PRICES: i64 = 1_000;

/// The fields of a model's price that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "provider": "openai", "model": "gpt-4o-mini", "price": {"input": 0.15, "output": 0.6},
}))]
pub(super) struct ModelPriceFields {
    /// The provider by its name in the catalogue: `openai`, `anthropic`, and so on;
    /// `openai_compatible` where the catalogue does not know the host; or `*` for all.
    #[schema(min_length = 1, max_length = 64)]
    pub(super) provider: String,
    /// The name of the model, or a pattern in which `*` stands for any characters, at most 8 times. A
    /// name without a date also matches the model's dated releases.
    #[schema(min_length = 1, max_length = 256)]
    pub(super) model: String,
    pub(super) price: Price,
}

impl Editable for ModelPriceFields {
    type Shown = ModelPrice;
}

/// Has a name because utoipa's macros do not take a generic type here.
type ModelPricePatch = MergePatch<ModelPriceFields>;

/// A price that an organization set. Unique by provider and model.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ModelPrice {
    pub(super) id: ModelPriceId,
    pub(super) organization_id: OrganizationId,
    #[serde(flatten)]
    pub(super) fields: ModelPriceFields,
    /// The number of the change, from 1. The ledger records which version a cost was computed with.
    pub(super) version: i64,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
}

impl Audited for ModelPrice {
    const TYPE: &'static str = "model_price";

    fn audit_id(&self) -> String {
        self.id.to_string()
    }
}

impl ModelPrice {
    fn of(row: ModelPriceRow) -> Result<Self, ApiError> {
        let price = serde_json::from_value(row.price)
            .map_err(|error| ApiError::Internal(format!("a stored model price: {error}")))?;
        Ok(Self {
            id: row.id,
            organization_id: row.organization_id,
            fields: ModelPriceFields { provider: row.provider, model: row.model, price },
            version: row.version,
            created_at: row.created_at.and_utc(),
            updated_at: row.updated_at.and_utc(),
        })
    }
}

/// The query of a list of prices.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelPricesQuery {
    /// The largest number of items to return, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub(super) limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    pub(super) cursor: Option<String>,
    /// Only prices with exactly this provider.
    #[param(pattern = r"^[^\x00]*$")]
    pub(super) provider: Option<String>,
    /// Only prices with exactly this model or pattern.
    #[param(pattern = r"^[^\x00]*$")]
    pub(super) model: Option<String>,
}

pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("model-prices")
        .add(__path_create_model_price, create_model_price)
        .add(__path_list_model_prices, list_model_prices)
        // Before the path whose parameter would match it.
        .add(resolve::__path_resolve_model_price, resolve::resolve_model_price)
        .add(__path_get_model_price, get_model_price)
        .add(__path_update_model_price, update_model_price)
        .add(__path_delete_model_price, delete_model_price);
}

/// Set a model's price
///
/// It applies to requests that are admitted from now on, in place of the catalogue's price; the price
/// of a model configuration has precedence. Past costs do not change.
#[utoipa::path(
    post,
    path = "/model-prices",
    responses((status = 201, description = "The price", body = ModelPrice), Conflicts),
)]
async fn create_model_price(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    body: Json<ModelPriceFields>,
) -> Result<HttpResponse, ApiError> {
    let InOrganization { scope: organization_id, actor, .. } = caller;
    let fields = body.check(check)?;
    let now = actor.now.naive_utc();
    let row = ModelPriceRow {
        id: actor.clock.new_id(),
        organization_id,
        price: as_json(&fields.price)?,
        provider: fields.provider,
        model: fields.model,
        version: 1,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    let price = plane
        .database
        .write(ChangeScope::Organization(organization_id), async move |conn: &mut Conn| {
            if count_model_prices(conn, organization_id).await? >= MAX_PRICES {
                return Err(ApiError::Conflict {
                    code: "too_many_model_prices",
                    detail: format!(
                        "An organization has at most {MAX_PRICES} prices; delete one, or use a \
                         pattern for several models."
                    ),
                });
            }
            insert_model_price(conn, row.clone()).await.map_err(taken)?;
            let price = ModelPrice::of(row)?;
            let scope = Scope::Organization(organization_id);
            record(conn, &actor, scope, "create_model_price", None, Some(&price)).await?;
            Ok::<_, ApiError>(price)
        })
        .await?;
    Ok(created(format!("/api/v1/model-prices/{}", price.id), price))
}

/// List the organization's model prices
///
/// Oldest first; not those of the catalogue.
#[utoipa::path(
    get,
    path = "/model-prices",
    params(ModelPricesQuery),
    responses((status = 200, description = "A page", body = Paged<ModelPrice>)),
)]
async fn list_model_prices(
    caller: InOrganization<OrganizationRead>,
    plane: web::Data<Management>,
    query: Query<ModelPricesQuery>,
) -> Result<web::Json<Paged<ModelPrice>>, ApiError> {
    let organization_id = caller.scope;
    let (page, filter) = query.check(|query| {
        let page = page::<ModelPriceId>(query.limit, query.cursor.as_deref());
        let mut errors = Vec::new();
        for (field, text) in [("provider", &query.provider), ("model", &query.model)] {
            // PostgreSQL can't store it.
            if text.as_ref().is_some_and(|text| text.contains('\0')) {
                let message = "must not contain control characters".to_owned();
                errors.push(FieldError { field: field.to_owned(), message });
            }
        }
        let filter = ModelPriceFilter { provider: query.provider, model: query.model };
        both(page, if errors.is_empty() { Ok(filter) } else { Err(ApiError::Invalid(errors)) })
    })?;
    let rows = plane
        .database
        .read(async move |conn: &mut Conn| list_rows(conn, organization_id, filter, page).await)
        .await?;
    let Paged { data, next_cursor } = Paged::of(rows, page, |row| row.id.uuid(), ModelPrice::of);
    let data = data.into_iter().collect::<Result<_, _>>()?;
    Ok(web::Json(Paged { data, next_cursor }))
}

/// Read a model's price
#[utoipa::path(
    get,
    path = "/model-prices/{model_price_id}",
    responses((status = 200, description = "The price", body = ModelPrice)),
)]
async fn get_model_price(
    caller: InOrganization<OrganizationRead>,
    plane: web::Data<Management>,
    path: web::Path<String>,
) -> Result<web::Json<ModelPrice>, ApiError> {
    let id = path_id(&path, WHAT)?;
    let organization_id = caller.scope;
    plane
        .database
        .read(async move |conn: &mut Conn| existing(conn, organization_id, id).await)
        .await
        .map(web::Json)
}

/// Change a model's price
///
/// A JSON merge patch (RFC 7396). Each change increments the version and applies to requests that are
/// admitted from then on.
#[utoipa::path(
    patch,
    path = "/model-prices/{model_price_id}",
    responses((status = 200, description = "The updated price", body = ModelPrice), Conflicts),
)]
async fn update_model_price(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    path: web::Path<String>,
    patch: Json<ModelPricePatch>,
) -> Result<web::Json<ModelPrice>, ApiError> {
    let id = path_id(&path, WHAT)?;
    let patch = patch.valid()?;
    let InOrganization { scope: organization_id, actor, .. } = caller;
    let updated = plane
        .database
        .write(ChangeScope::Organization(organization_id), async move |conn: &mut Conn| {
            let before = existing(conn, organization_id, id).await?;
            let fields = patch.apply(&before.fields)?.check(check)?;
            if fields == before.fields {
                return Ok::<_, ApiError>(before);
            }
            let changes = ModelPriceChanges {
                price: as_json(&fields.price)?,
                provider: fields.provider,
                model: fields.model,
                version: before.version.saturating_add(1),
                updated_at: actor.now.naive_utc(),
            };
            let row = update_row(conn, organization_id, id, changes).await.map_err(taken)?;
            let after = ModelPrice::of(row)?;
            let scope = Scope::Organization(organization_id);
            record(conn, &actor, scope, "update_model_price", Some(&before), Some(&after)).await?;
            Ok(after)
        })
        .await?;
    Ok(web::Json(updated))
}

/// Delete a model's price
///
/// The catalogue's price applies again, to requests that are admitted from then on.
#[utoipa::path(
    delete,
    path = "/model-prices/{model_price_id}",
    responses((status = 204, description = "The price is deleted")),
)]
async fn delete_model_price(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = path_id(&path, WHAT)?;
    let InOrganization { scope: organization_id, actor, .. } = caller;
    plane
        .database
        .write(ChangeScope::Organization(organization_id), async move |conn: &mut Conn| {
            let before = existing(conn, organization_id, id).await?;
            delete_row(conn, organization_id, id, actor.now.naive_utc()).await?;
            let scope = Scope::Organization(organization_id);
            record(conn, &actor, scope, "delete_model_price", Some(&before), None).await
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn existing(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: ModelPriceId,
) -> Result<ModelPrice, ApiError> {
    let row = find_model_price(conn, organization_id, id).await?;
    ModelPrice::of(row.ok_or(ApiError::NotFound(WHAT))?)
}

fn taken(error: DbError) -> ApiError {
    or_taken(
        error,
        "already_exists",
        "The organization has a price for this 'provider' and 'model' already; change that one.",
    )
}
