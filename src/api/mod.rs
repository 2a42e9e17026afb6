//! The management plane, `/api/v1`: one file a resource, with its types, documentation and handlers
//! together.

mod access;
mod api_keys;
mod audit_log;
mod body;
pub mod bootstrap;
mod date_time;
mod docs;
pub mod error;
mod field_errors;
mod gateway_policies;
mod health;
mod me;
mod middleware;
mod missing_fields;
mod model_configurations;
mod model_prices;
pub mod openapi;
mod organizations;
mod page;
mod provider_settings;
mod query;
mod requests;
mod route_health;
mod routes;
mod secret_values;
mod secrets;
mod shared;
mod usage;
mod users;
mod workspaces;

pub use middleware::not_found;

use std::sync::Arc;

use actix_web::dev::HttpServiceFactory;
use actix_web::middleware::from_fn;
use actix_web::web;

use crate::accounting::Accounting;
use crate::auth::client_address::TrustedProxies;
use crate::clock::Clock;
use crate::credentials::token_cache::TokenCache;
use crate::crypto::KeyringHandle;
use crate::db::Database;
use crate::directory::Directory;
use crate::presidio::Presidio;
use crate::providers::built_in::BuiltInProviders;
use crate::routing::health::TargetHealth;
use crate::telemetry::Metrics;
use crate::telemetry::readiness::Readiness;
use crate::upstream::EgressRules;
use routes::Routes;

/// What the handlers work with. One for all workers.
pub struct Management {
    /// The source of truth.
    pub database: Database,
    /// For authentication.
    pub directory: Directory,
    /// Opens and wraps data keys.
    pub keyring: KeyringHandle,
    /// The upstreams' OAuth tokens, which a check uses, too.
    pub tokens: TokenCache,
    /// The providers that are called by name.
    pub built_in: BuiltInProviders,
    /// How the targets of chains have done lately.
    pub health: TargetHealth,
    /// Accounts for what a check sends upstream.
    pub accounting: Arc<Accounting>,
    pub clock: Clock,
    /// Whose word about the caller's address counts.
    pub trusted_proxies: TrustedProxies,
    /// Where base URLs may lead.
    pub egress: EgressRules,
    /// Shown by `/metrics`.
    pub metrics: Metrics,
    /// Whether this process wants requests.
    pub readiness: Readiness,
    /// Recognizes names for guards, if there is one.
    pub presidio: Option<Presidio>,
}

/// What a port serves of the management plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Everything; metrics and the details of readiness need a platform key.
    Full,
    /// Only what load balancers ask: the rest is on the admin port.
    HealthOnly,
    /// Everything; metrics and the details of readiness need no key.
    AdminPort,
}

/// Serves the management plane and its documentation. Paths that nothing is served at go to the
/// application's default service, also within the scopes here: it has to be [`not_found`].
pub fn configure(config: &mut web::ServiceConfig, exposure: Exposure) {
    config.app_data(exposure).app_data(web::Data::new(health::KeyCheck::default()));
    config.app_data(middleware::path_errors());
    match exposure {
        Exposure::HealthOnly => {
            let mut routes = Routes::default();
            health::configure_health(&mut routes);
            routes.into_resources().for_each(|resource| {
                config.service(resource);
            });
        }
        Exposure::Full | Exposure::AdminPort => {
            // Before the scope, which asks for a key.
            public_routes().into_resources().for_each(|resource| {
                config.service(resource);
            });
            config.service(scope("/api/v1", api_routes()));
            config.service(scope("/v1/platform", compatible_routes()));
            docs::configure(config);
        }
    }
}

fn scope(path: &str, routes: Routes) -> impl HttpServiceFactory {
    routes
        .into_resources()
        .fold(web::scope(path), |scope, resource| scope.service(resource))
        .wrap(from_fn(middleware::authenticate_and_render_errors))
}

/// The operations outside of `/api/v1`.
fn public_routes() -> Routes {
    let mut routes = Routes::default();
    health::configure_health(&mut routes);
    health::configure_metrics(&mut routes);
    openapi::configure(&mut routes);
    routes
}

/// The resources.
fn api_routes() -> Routes {
    let mut routes = Routes::of_scope("/api/v1");
    for configure in [
        me::configure,
        organizations::configure,
        workspaces::configure,
        users::configure,
        api_keys::configure,
        secrets::configure,
        provider_settings::configure,
        model_configurations::configure,
        model_prices::configure,
        usage::configure,
        requests::configure,
        gateway_policies::configure,
        route_health::configure,
        audit_log::configure,
    ] {
        configure(&mut routes);
    }
    routes.repeat("/platform", |id| format!("{id}_platform"), gateway_policies::configure);
    routes
}

/// The policies where scripts look for them that were written for the gateway API that ours is
/// modelled on.
fn compatible_routes() -> Routes {
    let mut routes = Routes::of_scope("/v1/platform");
    routes.repeat("", |id| format!("{id}_compat"), gateway_policies::configure);
    routes
}
