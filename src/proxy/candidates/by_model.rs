//! Which upstream or chain a model id of the unified paths, `/v1/...`, leads to.
//!
//! In this order: `custom/{configuration}`, `{provider}/{model}`, the alias of a chain, and a model that
//! exactly one built-in provider of the workspace lists.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{ModelPlane, scope_of, unavailable};
use crate::directory::upstream_entry::UpstreamEntry;
use crate::domain::policy::Subject;
use crate::domain::provider::Provider;
use crate::policy::set::{Chain, PolicySet};
use crate::providers::built_in::provider_of_segment;
use crate::proxy::context::RequestContext;
use crate::proxy::error::ProxyError;
use crate::proxy::model_list::entry::CONFIGURATION_PREFIX;
use crate::proxy::model_list::fetch::fetch;
use crate::proxy::model_list::usable_providers;

/// What a model id leads to.
pub(super) enum ModelLookup<'r> {
    /// An upstream, and the model that it is to be asked for; none for a configuration's own.
    Upstream(Arc<UpstreamEntry>, Option<&'r str>),
    Chain(Arc<Chain>),
}

/// What the id leads to in the caller's workspace.
pub(super) async fn find<'r>(
    plane: ModelPlane<'_>,
    subject: &Subject<'_>,
    policies: &PolicySet,
    id: &'r str,
    context: &mut RequestContext,
) -> Result<ModelLookup<'r>, ProxyError> {
    if let Some(name) = id.strip_prefix(CONFIGURATION_PREFIX) {
        return configuration(plane, subject, name, context).await;
    }
    if let Some((segment, model)) = id.split_once('/')
        && let Some(provider) = provider_of_segment(segment)
        && let Some(built_in) = plane.plane.built_in.find(provider)
    {
        let found = plane.plane.directory.find_provider(scope_of(subject), built_in).await;
        let found = found.map_err(|error| unavailable(context, &error))?;
        let entry = found.filter(|_| !model.is_empty()).ok_or_else(|| unknown(id))?;
        return Ok(ModelLookup::Upstream(entry, Some(model)));
    }
    if let Some(chain) = policies.chain_for_alias(subject, id).filter(|_| !id.contains('/')) {
        return Ok(ModelLookup::Chain(Arc::clone(chain)));
    }
    listed(plane, subject, id, context).await
}

fn unknown(id: &str) -> ProxyError {
    ProxyError::UnknownModel { id: id.to_owned() }
}

/// The configuration with this name; else the one before the first slash, if it lets callers choose the
/// model, which comes after it.
async fn configuration<'r>(
    plane: ModelPlane<'_>,
    subject: &Subject<'_>,
    name: &'r str,
    context: &mut RequestContext,
) -> Result<ModelLookup<'r>, ProxyError> {
    let directory = &plane.plane.directory;
    let mut choices = vec![(name, None)];
    if let Some((configuration, model)) = name.split_once('/').filter(|(_, rest)| !rest.is_empty())
    {
        choices.push((configuration, Some(model)));
    }
    for (name, model) in choices {
        let found = directory.find_configuration(scope_of(subject), name).await;
        let found = found.map_err(|error| unavailable(context, &error))?;
        if let Some(entry) = found.filter(|entry| model.is_none() || entry.model.is_none()) {
            return Ok(ModelLookup::Upstream(entry, model));
        }
    }
    Err(unknown(&format!("{CONFIGURATION_PREFIX}{name}")))
}

/// The one built-in provider that lists a model of this name.
async fn listed<'r>(
    plane: ModelPlane<'_>,
    subject: &Subject<'_>,
    id: &'r str,
    context: &mut RequestContext,
) -> Result<ModelLookup<'r>, ProxyError> {
    let ModelPlane { plane, client } = plane;
    let usable = usable_providers(plane, subject, context).await?;
    let usable = usable.into_iter().filter(|(built_in, _)| built_in.provider.lists_models());
    let lists = usable.map(async |(built_in, entry)| {
        let list =
            plane.model_lists.find_or_fetch(&entry, async || fetch(plane, client, &entry).await);
        (built_in.provider, list.await, Arc::clone(&entry))
    });
    let mut found: Vec<(Provider, Arc<UpstreamEntry>)> = Vec::new();
    let mut not_read = None;
    for (provider, list, entry) in join_all(lists).await {
        if list.models.iter().any(|model| model.id == id) {
            found.push((provider, entry));
        } else if list.is_unavailable {
            not_read.get_or_insert(provider);
        }
    }
    match (found.len(), not_read) {
        (1, _) => {
            let (_, entry) = found.swap_remove(0);
            Ok(ModelLookup::Upstream(entry, Some(id)))
        }
        (0, Some(provider)) => {
            Err(ProxyError::ModelsUnavailable { provider: provider.as_str().to_owned() })
        }
        (0, None) => Err(unknown(id)),
        _ => {
            let ids = found.iter().map(|(provider, _)| format!("{}/{id}", provider.as_str()));
            Err(ProxyError::AmbiguousModel { ids: ids.collect() })
        }
    }
}
