//! The upstream of a chain's target.

use std::sync::Arc;

use crate::directory::upstream_entry::UpstreamEntry;
use crate::directory::{Directory, Unavailable};
use crate::domain::policy::fallback::Candidate;
use crate::domain::scope::WorkspaceScope;
use crate::providers::built_in::BuiltInProviders;

/// Looks the target up among what the workspace has; none if there is no such target any more.
pub async fn find_upstream(
    directory: &Directory,
    built_in: &BuiltInProviders,
    scope: WorkspaceScope,
    target: &Candidate,
) -> Result<Option<Arc<UpstreamEntry>>, Unavailable> {
    match target {
        Candidate::Configuration(id) => directory.find_configuration_with_id(scope, *id).await,
        Candidate::Model { provider, .. } => match built_in.find(*provider) {
            Some(built_in) => directory.find_provider(scope, built_in).await,
            None => Ok(None),
        },
    }
}
