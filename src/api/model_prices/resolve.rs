//! `/model-prices/resolve`: the price that applies to a model, and why.

use actix_web::web;
use serde::{Deserialize, Serialize};

use super::validate::is_model;
use crate::api::Management;
use crate::api::access::{InOrganization, OrganizationRead};
use crate::api::error::{ApiError, FieldError};
use crate::api::query::Query;
use crate::db::Conn;
use crate::directory::upstream_entry::price_list;
use crate::domain::pricing::Price;
use crate::domain::pricing::catalogue::Catalogue;
use crate::domain::pricing::model_names::NameMatch;
use crate::domain::pricing::resolve::{Matched, PriceOrigin, Resolution, resolve};

/// The query for the price of a model.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ResolveQuery {
    /// The provider by its name in the catalogue; the configuration's `provider`, such as
    /// `openai_compatible`, for unknown hosts.
    #[param(min_length = 1, max_length = 256, example = "openai")]
    pub(super) provider: String,
    /// The model, as a configuration would name it.
    #[param(min_length = 1, max_length = 256, example = "gpt-4o-2024-08-06")]
    pub(super) model: String,
}

/// The price that applies to a model, and why. The price of a model configuration has precedence.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct PriceResolution {
    pub(super) provider: String,
    pub(super) model: String,
    /// Null if no price is known.
    pub(super) price: Option<Price>,
    /// Where the price comes from.
    pub(super) origin: Option<PriceOrigin>,
    /// The provider and the model of the price, and how they match.
    pub(super) matched: Option<Matched>,
    /// The price and its version, as the ledger records them.
    pub(super) version: Option<String>,
    /// The catalogue's largest number of tokens of prompt and answer together.
    pub(super) context_window: Option<u64>,
    /// The catalogue's largest number of tokens of an answer.
    pub(super) max_output_tokens: Option<u64>,
    /// The same in words, and what to do if no price is known.
    pub(super) explanation: String,
    pub(super) catalogue: CatalogueEdition,
}

/// The catalogue of this release.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CatalogueEdition {
    pub(super) name: String,
    pub(super) version: String,
    /// When its prices were looked up.
    #[schema(example = "2026-11-23")]
    pub(super) date: String,
}

/// Read which price applies to a model
///
/// And why. If no price is known, `price` is null.
#[utoipa::path(
    get,
    path = "/model-prices/resolve",
    params(ResolveQuery),
    responses((status = 200, description = "The price, if one is known", body = PriceResolution)),
)]
pub(super) async fn resolve_model_price(
    caller: InOrganization<OrganizationRead>,
    plane: web::Data<Management>,
    query: Query<ResolveQuery>,
) -> Result<web::Json<PriceResolution>, ApiError> {
    let organization_id = caller.scope;
    let ResolveQuery { provider, model } = query.check(|query| {
        let error = |field: &str| FieldError {
            field: field.to_owned(),
            message: "must be 1 to 256 characters long, without control characters".to_owned(),
        };
        let wrong: Vec<FieldError> = [("provider", &query.provider), ("model", &query.model)]
            .into_iter()
            .filter(|(_, text)| !is_model(text))
            .map(|(field, _)| error(field))
            .collect();
        if wrong.is_empty() { Ok(query) } else { Err(ApiError::Invalid(wrong)) }
    })?;
    let of = provider.clone();
    let prices = plane
        .database
        .read(async move |conn: &mut Conn| price_list(conn, organization_id, &of).await)
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
        (Some(matched), Some(origin)) => explanation(matched, origin, catalogue),
        _ => format!(
            "No price is known for the model '{model}' of the provider '{provider}'. Set one with \
             POST /api/v1/model-prices, or as the price of the model configuration; zero is a \
             price. Without one, requests that a spend cap applies to are blocked."
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

fn explanation(matched: &Matched, origin: PriceOrigin, catalogue: &Catalogue) -> String {
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
        "Set by {whose} for '{}' of the provider '{}', which the model's name matches {how}. The \
         price of a model configuration has precedence.",
        matched.model, matched.provider
    )
}
