//! The management plane, `/api/v1`: one file a resource, with its types, documentation and handlers
//! together.

pub mod access;
pub mod api_keys;
pub mod audit_log;
pub mod body;
pub mod bootstrap;
pub mod client_address;
pub mod error;
pub mod me;
pub mod model_configurations;
pub mod organizations;
pub mod page;
pub mod query;
mod sealing;
pub mod secrets;
mod shared;
#[cfg(test)]
mod tests;
pub mod users;
pub mod workspaces;

use serde::Serialize;

use crate::clock::Clock;
use crate::crypto::keyring_handle::KeyringHandle;
use crate::db::workspaces::find_workspace;
use crate::db::{Conn, Database};
use crate::directory::Directory;
use crate::domain::scope::WorkspaceScope;
use crate::telemetry::Metrics;
use crate::telemetry::readiness::Readiness;
use crate::upstream::EgressRules;
use client_address::TrustedProxies;
use error::ApiError;

/// What the handlers work with. One for all workers.
pub struct Management {
    /// The source of truth.
    pub database: Database,
    /// For authentication.
    pub directory: Directory,
    /// Opens and wraps data keys.
    pub keyring: KeyringHandle,
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

/// The longest description, in characters.
const MOST_DESCRIPTION: usize = 1024;

/// That the workspace is there and not deleted.
async fn live_workspace(conn: &mut Conn, scope: WorkspaceScope) -> Result<(), ApiError> {
    find_workspace(conn, scope).await?.map(|_| ()).ok_or(ApiError::NotFound("workspace"))
}

fn check_description(description: Option<&str>) -> Result<(), ApiError> {
    if description.is_some_and(|text| text.chars().count() > MOST_DESCRIPTION) {
        return Err(ApiError::field(
            "description",
            format!("must be at most {MOST_DESCRIPTION} characters long"),
        ));
    }
    Ok(())
}

/// What the API shows of a resource, as the audit log keeps it.
fn as_json(shown: &impl Serialize) -> Result<serde_json::Value, ApiError> {
    serde_json::to_value(shown)
        .map_err(|error| ApiError::Internal(format!("a resource can't be shown: {error}")))
}

/// What of the management plane a port offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// All of it; metrics and readiness details need a platform key.
    Everything,
    /// Health, readiness and version: admins have a port of their own.
    Health,
    /// All of it, on the admins' port, where metrics and readiness details need no key.
    AdminPort,
}

/// Adds the routes of the plane.
pub fn configure(config: &mut actix_web::web::ServiceConfig, _offer: Offer) {
    let mut config = utoipa_actix_web::service_config::ServiceConfig::new(config);
    config.service(
        utoipa_actix_web::scope("/api/v1")
            .configure(me::configure)
            .configure(organizations::configure)
            .configure(workspaces::configure)
            .configure(users::configure)
            .configure(api_keys::configure)
            .configure(audit_log::configure)
            .configure(secrets::configure)
            .configure(model_configurations::configure),
    );
}
pub mod openapi;
