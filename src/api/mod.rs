//! The management plane, `/api/v1`: one file a resource, with its types, documentation and handlers
//! together.

pub mod access;
pub mod api_keys;
pub mod audit_log;
pub mod body;
pub mod bootstrap;
pub mod client_address;
pub mod docs;
mod edge;
pub mod error;
pub mod gateway_policies;
pub mod me;
pub mod model_configurations;
pub mod model_prices;
pub mod openapi;
pub mod operations;
pub mod organizations;
pub mod page;
pub mod query;
pub mod requests;
mod sealing;
pub mod secrets;
mod shared;
#[cfg(test)]
mod tests;
pub mod usage;
pub mod users;
pub mod workspaces;

use actix_web::middleware::from_fn;
use actix_web::web;
use utoipa_actix_web::scope;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::accounting::engine::Accounting;
use crate::clock::Clock;
use crate::crypto::KeyringHandle;
use crate::db::Database;
use crate::directory::Directory;
use crate::telemetry::Metrics;
use crate::telemetry::readiness::Readiness;
use crate::upstream::EgressRules;
use client_address::TrustedProxies;

/// What the handlers work with. One for all workers.
pub struct Management {
    /// The source of truth.
    pub database: Database,
    /// For authentication.
    pub directory: Directory,
    /// Opens and wraps data keys.
    pub keyring: KeyringHandle,
    /// Accounts for what a check sends upstream.
    pub accounting: Accounting,
    /// What time it is.
    pub clock: Clock,
    /// Whose word about the caller's address counts.
    pub trusted_proxies: TrustedProxies,
    /// Where base URLs may lead.
    pub egress: EgressRules,
    /// Shown by `/metrics`.
    pub metrics: Metrics,
    /// Whether this process wants requests.
    pub readiness: Readiness,
}

/// What a port serves of this room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// All of it; metrics and the details of readiness for a platform key.
    Everything,
    /// Only what balancers ask: all else is on a port of its own.
    Health,
    /// All of it; who reaches the port needs no key for metrics and the details of readiness.
    AdminPort,
}

/// Serves the management plane, its documentation, the operations and an answer for every path that
/// nobody else serves.
pub fn configure(config: &mut web::ServiceConfig, offer: Offer) {
    config.app_data(offer).app_data(web::Data::new(operations::KeyCheck::default()));
    match offer {
        Offer::Health => operations::configure_health(&mut ServiceConfig::new(config)),
        Offer::Everything | Offer::AdminPort => {
            documented(&mut ServiceConfig::new(config));
            docs::configure(config);
        }
    }
    config.default_service(web::to(edge::not_found));
}

/// Everything that the OpenAPI document is made of, but for the data plane.
fn documented(config: &mut ServiceConfig) {
    operations::configure_health(config);
    operations::configure_metrics(config);
    // Before the scope, which asks for a key.
    openapi::configure(config);
    config.service(
        scope::scope("/api/v1")
            .app_data(edge::path_errors())
            .configure(resources)
            .service(scope::scope("/platform").configure(gateway_policies::configure))
            .wrap(from_fn(edge::edge)),
    );
    // Where scripts written for the gateway API that ours is modelled on look for it.
    config.service(
        scope::scope("/v1/platform")
            .app_data(edge::path_errors())
            .configure(gateway_policies::configure)
            .wrap(from_fn(edge::edge)),
    );
}

/// The resources, in the order of the documentation.
fn resources(config: &mut ServiceConfig) {
    config
        .configure(me::configure)
        .configure(organizations::configure)
        .configure(workspaces::configure)
        .configure(users::configure)
        .configure(api_keys::configure)
        .configure(secrets::configure)
        .configure(model_configurations::configure)
        .configure(model_prices::configure)
        .configure(usage::configure)
        .configure(requests::configure)
        .configure(gateway_policies::configure)
        .configure(audit_log::configure);
}
