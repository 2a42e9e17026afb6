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
pub mod organizations;
pub mod page;
pub mod query;
mod shared;
#[cfg(test)]
mod tests;
pub mod users;
pub mod workspaces;

use crate::clock::Clock;
use crate::crypto::keyring_handle::KeyringHandle;
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
    /// What time it is.
    pub clock: Clock,
    /// Whose word about the caller's address counts.
    pub trusted_proxies: TrustedProxies,
    /// Where upstreams may be.
    pub egress: EgressRules,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// What `/readyz` tells.
    pub readiness: Readiness,
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
pub fn configure(_config: &mut actix_web::web::ServiceConfig, _offer: Offer) {}
pub mod openapi;
