//! `/model-prices`: what models cost an organization, over the catalogue.

mod resolve;
mod validate;

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use resolve::{CatalogueEdition, PriceResolution, ResolveQuery};

use super::Management;
use super::access::{InOrganization, OrganizationManage, OrganizationRead};
use super::body::{Editable, Json, MergePatch};
use super::error::ApiError;
use super::page::{Paged, page};
use super::query::Query;
use super::routes::Routes;
use super::shared::{Conflicts, as_json, or_taken, path_id};
use crate::audit::{self, Actor, Event};
use crate::db::model_prices::{
    ModelPriceChanges, ModelPriceFilter, ModelPriceRow, count_model_prices,
    delete_model_price as delete_row, find_model_price, insert_model_price,
    list_model_prices as list_rows, update_model_price as update_row,
};
use crate::db::{Concerns, Conn, DbError};
use crate::domain::ids::{ModelPriceId, OrganizationId};
use crate::domain::pricing::Price;
use validate::check;

const WHAT: &str = "model price";
/// The most prices of one organization: they are read whenever a configuration is loaded.
const MOST_PRICES: i64 = 1_000;

/// What people set of a model's price.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelPriceFields {
    /// The provider that it is for, by the catalogue's name: `openai`, `anthropic`, and so on;
    /// `openai_compatible` where the catalogue does not know the host; or `*` for all.
    #[schema(min_length = 1, max_length = 64, example = "openai")]
    pub provider: String,
    /// The model that it is for, or a pattern in which `*` stands for any characters, at most 8
    /// times. A name without a date is also for the model's dated releases.
    #[schema(min_length = 1, max_length = 256, example = "gpt-4o-mini")]
    pub model: String,
    /// What tokens cost.
    pub price: Price,
}

impl Editable for ModelPriceFields {
    const READ_ONLY: &'static [&'static str] =
        &["id", "organization_id", "version", "created_at", "updated_at"];
}

/// Named because the documentation takes no generic of our own.
type ModelPricePatch = MergePatch<ModelPriceFields>;

/// A price that an organization set. Unique by provider and model.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ModelPrice {
    /// Its id.
    pub id: ModelPriceId,
    /// The organization that it is for.
    pub organization_id: OrganizationId,
    /// What people set.
    #[serde(flatten)]
    pub fields: ModelPriceFields,
    /// Counts its changes, from 1. The ledger keeps which version a request was charged by.
    pub version: i64,
    /// When it was set.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
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
pub struct ModelPricesQuery {
    /// How many to return, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Only those for exactly this provider.
    pub provider: Option<String>,
    /// Only those for exactly this model or pattern.
    pub model: Option<String>,
}

/// Adds the operations.
pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("model-prices")
        .add(__path_create_model_price, create_model_price)
        .add(__path_list_model_prices, list_model_prices)
        // Before the one that takes its last segment for an id.
        .add(resolve::__path_resolve_model_price, resolve::resolve_model_price)
        .add(__path_get_model_price, get_model_price)
        .add(__path_update_model_price, update_model_price)
        .add(__path_delete_model_price, delete_model_price);
}

/// Set a model's price
///
/// It holds for requests that are admitted from now on, over the catalogue's price and under a
/// model configuration's own. What was already spent stays as it was.
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
    let InOrganization { organization_id, actor, .. } = caller;
    let fields = check(body.0)?;
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
    let made = plane
        .database
        .write(Concerns::Organization(organization_id), async move |conn: &mut Conn| {
            if count_model_prices(conn, organization_id).await? >= MOST_PRICES {
                return Err(ApiError::Conflict {
                    code: "too_many_model_prices",
                    detail: format!(
                        "An organization has at most {MOST_PRICES} prices; delete one, or use a \
                         pattern for several models."
                    ),
                });
            }
            insert_model_price(conn, row.clone()).await.map_err(taken)?;
            let made = ModelPrice::of(row)?;
            record(conn, &actor, "create_model_price", None, Some(&made)).await?;
            Ok::<_, ApiError>(made)
        })
        .await?;
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("/api/v1/model-prices/{}", made.id)))
        .json(made))
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
    let organization_id = caller.organization_id;
    let query = query.0;
    let page = page::<ModelPriceId>(query.limit, query.cursor.as_deref())?;
    for (field, text) in [("provider", &query.provider), ("model", &query.model)] {
        // PostgreSQL has no text with it.
        if text.as_ref().is_some_and(|text| text.contains('\0')) {
            return Err(ApiError::field(field, "must not contain control characters"));
        }
    }
    let filter = ModelPriceFilter { provider: query.provider, model: query.model };
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
    let organization_id = caller.organization_id;
    plane
        .database
        .read(async move |conn: &mut Conn| existing(conn, organization_id, id).await)
        .await
        .map(web::Json)
}

/// Change a model's price
///
/// A JSON merge patch (RFC 7396). Each change counts the version up and holds for requests that are
/// admitted from then on.
#[utoipa::path(
    patch,
    path = "/model-prices/{model_price_id}",
    responses((status = 200, description = "The price as it is now", body = ModelPrice), Conflicts),
)]
async fn update_model_price(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    path: web::Path<String>,
    patch: Json<ModelPricePatch>,
) -> Result<web::Json<ModelPrice>, ApiError> {
    let id = path_id(&path, WHAT)?;
    let InOrganization { organization_id, actor, .. } = caller;
    let updated = plane
        .database
        .write(Concerns::Organization(organization_id), async move |conn: &mut Conn| {
            let before = existing(conn, organization_id, id).await?;
            let fields = check(patch.0.apply(&before.fields)?)?;
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
            record(conn, &actor, "update_model_price", Some(&before), Some(&after)).await?;
            Ok(after)
        })
        .await?;
    Ok(web::Json(updated))
}

/// Delete a model's price
///
/// What the catalogue says holds again, for requests that are admitted from then on.
#[utoipa::path(
    delete,
    path = "/model-prices/{model_price_id}",
    responses((status = 204, description = "It is gone")),
)]
async fn delete_model_price(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = path_id(&path, WHAT)?;
    let InOrganization { organization_id, actor, .. } = caller;
    plane
        .database
        .write(Concerns::Organization(organization_id), async move |conn: &mut Conn| {
            let before = existing(conn, organization_id, id).await?;
            delete_row(conn, organization_id, id, actor.now.naive_utc()).await?;
            record(conn, &actor, "delete_model_price", Some(&before), None).await
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

async fn record(
    conn: &mut Conn,
    actor: &Actor,
    operation: &'static str,
    before: Option<&ModelPrice>,
    after: Option<&ModelPrice>,
) -> Result<(), ApiError> {
    let of = after.or(before);
    let event = Event {
        operation,
        resource_type: "model_price",
        resource_id: of.map(|price| price.id.to_string()).unwrap_or_default(),
        organization_id: of.map(|price| price.organization_id),
        workspace_id: None,
        before: before.map(as_json).transpose()?,
        after: after.map(as_json).transpose()?,
    };
    Ok(audit::record(conn, actor, event).await?)
}

fn taken(error: DbError) -> ApiError {
    or_taken(
        error,
        "already_exists",
        "The organization has a price for this 'provider' and 'model' already; change that one.",
    )
}
