//! `/model-prices/resolve`: which price would apply to a model, and why.

use actix_web::web;
use serde::{Deserialize, Serialize};

use super::validate::is_model;
use crate::accounting::catalogue::Catalogue;
use crate::accounting::prices::{Matched, NameMatch, PriceOrigin, Resolution, resolve};
use crate::api::Management;
use crate::api::access::{InOrganization, OrganizationRead};
use crate::api::error::ApiError;
use crate::api::query::Query;
use crate::db::Conn;
use crate::directory::configuration::price_list;
use crate::domain::pricing::Price;

/// Which model is asked about.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ResolveQuery {
    /// The provider, by the catalogue's name; `openai_compatible` for hosts that it does not know.
    #[param(example = "openai")]
    pub provider: String,
    /// The model, as a configuration would name it.
    #[param(example = "gpt-4o-2024-08-06")]
    pub model: String,
}

/// Which price applies to a model, and why. A model configuration's own price wins over it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct PriceResolution {
    /// The provider that was asked about.
    pub provider: String,
    /// The model that was asked about.
    pub model: String,
    /// What tokens cost; null if no price is known.
    pub price: Option<Price>,
    /// Where the price comes from.
    pub origin: Option<PriceOrigin>,
    /// What the price was set for, and how the model's name was found.
    pub matched: Option<Matched>,
    /// Which price and which version of it, as the ledger keeps it.
    pub version: Option<String>,
    /// The most tokens that prompt and answer may have together, by the catalogue.
    pub context_window: Option<u64>,
    /// The most tokens that an answer may have, by the catalogue.
    pub max_output_tokens: Option<u64>,
    /// The same in words, with what to do if no price is known.
    pub explanation: String,
    /// The catalogue that was looked in.
    pub catalogue: CatalogueEdition,
}

/// Which catalogue ships with this gateway.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct CatalogueEdition {
    /// What it is called.
    pub name: String,
    /// Its version.
    pub version: String,
    /// When its prices were looked up.
    #[schema(example = "2026-11-23")]
    pub date: String,
}

/// Say which price applies to a model
///
/// And why. That none is known is an answer too, with null for the price.
#[utoipa::path(
    get,
    path = "/model-prices/resolve",
    params(ResolveQuery),
    responses((status = 200, description = "What is known", body = PriceResolution)),
)]
pub(super) async fn resolve_model_price(
    caller: InOrganization<OrganizationRead>,
    plane: web::Data<Management>,
    query: Query<ResolveQuery>,
) -> Result<web::Json<PriceResolution>, ApiError> {
    let organization_id = caller.organization_id;
    let ResolveQuery { provider, model } = query.0;
    for (field, text) in [("provider", &provider), ("model", &model)] {
        if !is_model(text) {
            return Err(ApiError::field(
                field,
                "must be 1 to 256 characters long, without control characters",
            ));
        }
    }
    let asked = provider.clone();
    let prices = plane
        .database
        .read(async move |conn: &mut Conn| price_list(conn, organization_id, &asked).await)
        .await?;
    let found = resolve(&provider, &model, None, &prices);
    Ok(web::Json(shown(provider, model, found)))
}

fn shown(provider: String, model: String, found: Resolution) -> PriceResolution {
    let catalogue = Catalogue::shipped();
    let (matched, origin) = match &found.price {
        Some(price) => (price.matched.clone(), Some(price.origin)),
        None => (None, None),
    };
    let explanation = match (&matched, origin) {
        (Some(matched), Some(origin)) => because(matched, origin, catalogue),
        _ => format!(
            "No price is known for the model '{model}' of the provider '{provider}'. Set one with \
             POST /api/v1/model-prices, or as the price of the model configuration; zero is a \
             price. Without one, requests that fall under a spend policy are blocked."
        ),
    };
    let version = found.price.as_ref().map(|price| price.version.clone());
    PriceResolution {
        provider,
        model,
        price: found.price.map(|price| price.price),
        origin,
        matched,
        version,
        context_window: found.context_window,
        max_output_tokens: found.max_output_tokens,
        explanation,
        catalogue: CatalogueEdition {
            name: catalogue.name.clone(),
            version: catalogue.version.clone(),
            date: catalogue.date.clone(),
        },
    }
}

fn because(matched: &Matched, origin: PriceOrigin, catalogue: &Catalogue) -> String {
    let whose = match origin {
        PriceOrigin::Catalogue => format!("the {} of {}", catalogue.name, catalogue.date),
        PriceOrigin::Organization => "the organization".to_owned(),
        PriceOrigin::Configuration => "the model configuration".to_owned(),
    };
    let how = match matched.by {
        NameMatch::Exact => "exactly",
        NameMatch::Undated => "once its date is taken off",
        NameMatch::Pattern => "by pattern",
    };
    format!(
        "Set by {whose} for '{}' of the provider '{}', which the model's name matches {how}. A \
         model configuration's own price would win over it.",
        matched.model, matched.provider
    )
}
