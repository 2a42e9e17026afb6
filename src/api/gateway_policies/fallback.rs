//! What only fallback chains have to be checked for.

use super::GatewayPolicyFields;
use crate::api::error::ApiError;
use crate::db::gateway_policies::{GatewayPolicyRow, MAX_POLICIES, list_gateway_policies};
use crate::db::model_configurations::{find_model_configuration, find_model_configuration_named};
use crate::db::model_prices::{ModelPriceFilter, list_model_prices};
use crate::db::{Conn, DbError, Page};
use crate::domain::ids::{OrganizationId, PolicyId};
use crate::domain::policy::fallback::{Candidate, ModelFallback, RouteConfig, Selector, fields_of};
use crate::domain::policy::{Audience, InvalidField, Matchers, PolicyConfig, PolicyType};
use crate::domain::pricing::catalogue::Catalogue;
use crate::domain::scope::WorkspaceScope;

/// A chain is for the callers of one workspace; that of an alias may be for some of them only.
pub(super) fn check_audience(
    config: &PolicyConfig,
    audience: &Audience,
) -> Result<(), InvalidField> {
    let may_narrow = match config {
        PolicyConfig::ModelFallback(fallback) => matches!(fallback.selector, Selector::Alias(_)),
        PolicyConfig::Route(_) => false,
        PolicyConfig::Spend(_)
        | PolicyConfig::Rate(_)
        | PolicyConfig::ModelAccess(_)
        | PolicyConfig::Guard(_) => return Ok(()),
    };
    let Audience::Matching(matchers) = audience else { return Ok(()) };
    let is_narrowed = !matchers.user_ids().is_empty() || !matchers.api_key_ids().is_empty();
    let is_right = matchers.workspace_ids().len() == 1
        && matchers.organization_ids().is_empty()
        && matchers.headers().is_empty()
        && (may_narrow || !is_narrowed);
    match is_right {
        true => Ok(()),
        false => Err(InvalidField::new(
            "subject_matchers",
            "of a fallback must be one workspace_id; that of an alias may have user_id and api_key_id, too",
        )),
    }
}

/// The key by which two fallbacks are the same: their name.
pub(super) fn matchers_key(fields: &GatewayPolicyFields) -> String {
    let name = crate::domain::policy::SubjectMatcher {
        key: "name".to_owned(),
        value: fields.name.as_str().to_owned(),
    };
    Audience::digest(&[name])
}

/// Checks that the chain's targets exist and speak one API, and that no other chain is for the same
/// requests.
pub(super) async fn check_targets(
    conn: &mut Conn,
    organization_id: OrganizationId,
    own: Option<PolicyId>,
    (fields, audience): (&GatewayPolicyFields, &Audience),
) -> Result<(), ApiError> {
    let parsed = PolicyConfig::parse(fields.policy_type, &fields.config);
    let (Ok(config), Audience::Matching(matchers)) = (parsed, audience) else { return Ok(()) };
    let Some(workspace_id) = matchers.workspace_ids().first().copied() else { return Ok(()) };
    let scope = WorkspaceScope { organization_id, workspace_id };
    match &config {
        PolicyConfig::ModelFallback(fallback) => {
            let ModelFallback { selector, steps, .. } = fallback;
            let mut targets = fields_of("config.chain.candidates", steps);
            if let Selector::Target(target) = selector {
                targets.insert(0, ("config.chain.selector".to_owned(), target));
            }
            check_configurations(conn, scope, &targets).await?;
            let kind = Some(PolicyType::ModelFallback);
            let rows = list_gateway_policies(conn, organization_id, kind, 0, MAX_POLICIES).await?;
            check_unique(&rows, own, selector, matchers)?;
            // What has come to be shadowed since must not keep other changes of the policy from being made.
            let present = rows.iter().find(|row| Some(row.id) == own).and_then(parse);
            let is_known = present.is_some_and(|(selected, present)| {
                selected == *selector && present.workspace_ids() == matchers.workspace_ids()
            });
            match selector {
                Selector::Alias(alias) if !is_known => check_alias(conn, scope, alias).await,
                Selector::Alias(_) | Selector::Target(_) => Ok(()),
            }
        }
        PolicyConfig::Route(RouteConfig { chains, .. }) => {
            for (at, chain) in chains.iter().enumerate() {
                let list = format!("config.fallbacks[{at}].model_configs");
                check_configurations(conn, scope, &fields_of(&list, &chain.steps)).await?;
            }
            Ok(())
        }
        PolicyConfig::Spend(_)
        | PolicyConfig::Rate(_)
        | PolicyConfig::ModelAccess(_)
        | PolicyConfig::Guard(_) => Ok(()),
    }
}

/// A target that is a configuration is one of the workspace.
async fn check_configurations(
    conn: &mut Conn,
    scope: WorkspaceScope,
    targets: &[(String, &Candidate)],
) -> Result<(), ApiError> {
    for (field, target) in targets {
        if let Candidate::Configuration(id) = target
            && find_model_configuration(conn, scope, *id).await?.is_none()
        {
            let message = "the workspace has no such model configuration";
            return Err(ApiError::field(format!("{field}.model_config_id"), message));
        }
    }
    Ok(())
}

/// An alias is unique in the organization, unless its chains are for different callers of one workspace; a
/// selected target in its workspace.
fn check_unique(
    rows: &[GatewayPolicyRow],
    own: Option<PolicyId>,
    selector: &Selector,
    matchers: &Matchers,
) -> Result<(), ApiError> {
    for row in rows.iter().filter(|row| Some(row.id) != own) {
        let Some((other, others)) = parse(row) else { continue };
        let same_workspace = others.workspace_ids() == matchers.workspace_ids();
        let is_taken = match selector {
            Selector::Alias(_) => other == *selector && (!same_workspace || others == *matchers),
            Selector::Target(_) => other == *selector && same_workspace,
        };
        if is_taken {
            return Err(ApiError::Conflict {
                code: "already_exists",
                detail: format!(
                    "The policy '{}' ({}) has the same selector; change that one.",
                    row.name, row.id
                ),
            });
        }
    }
    Ok(())
}

/// Refuses an alias that is the name of a model or of a model configuration: whoever asks for that must get
/// it.
async fn check_alias(conn: &mut Conn, scope: WorkspaceScope, alias: &str) -> Result<(), ApiError> {
    let filter = ModelPriceFilter { provider: None, model: Some(alias.to_owned()) };
    let page = Page { after: None, limit: 1 };
    let prices = list_model_prices(conn, scope.organization_id, filter, page).await?;
    let named = find_model_configuration_named(conn, scope, alias.to_owned()).await?;
    let shadowed = match (Catalogue::shipped().provider_of(alias), prices.first(), named) {
        (Some(provider), ..) => format!("a model of {provider}"),
        (None, Some(price), _) => format!("a model that the price {} is for", price.id),
        (None, None, Some(row)) => format!("the model configuration {} of this workspace", row.id),
        (None, None, None) => return Ok(()),
    };
    let message = format!("is the name of {shadowed}; choose another");
    Err(ApiError::field("config.chain.selector.alias", message))
}

/// The name of the policy that has this alias in the workspace.
pub(in crate::api) async fn find_alias(
    conn: &mut Conn,
    scope: WorkspaceScope,
    alias: &str,
) -> Result<Option<String>, DbError> {
    let kind = Some(PolicyType::ModelFallback);
    let rows = list_gateway_policies(conn, scope.organization_id, kind, 0, MAX_POLICIES).await?;
    let found = rows.into_iter().find(|row| {
        parse(row).is_some_and(|(selector, matchers)| {
            matches!(selector, Selector::Alias(one) if one == alias)
                && matchers.workspace_ids().contains(&scope.workspace_id)
        })
    });
    Ok(found.map(|row| row.name))
}

fn parse(row: &GatewayPolicyRow) -> Option<(Selector, Matchers)> {
    let config = PolicyConfig::parse(row.policy_type, &row.config).ok()?;
    let PolicyConfig::ModelFallback(fallback) = config else { return None };
    let matchers = super::stored_matchers(row).ok()?;
    match Audience::parse(row.policy_type, &matchers).ok()?.0 {
        Audience::Matching(matchers) => Some((fallback.selector, matchers)),
        Audience::Each(..) => None,
    }
}
