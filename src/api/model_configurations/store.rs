//! Stores model configurations, inside a transaction.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::error::{ApiError, FieldError};
use super::super::secret_values::{data_key_for_reading, decrypt_value, is_header_value};
use super::ModelConfigurationFields;
use crate::api::gateway_policies::fallback::find_alias;
use crate::api::shared::as_json;
use crate::audit::Actor;
use crate::auth::{Principal, Scope};
use crate::crypto::KeyringHandle;
use crate::db::Conn;
use crate::db::model_configurations::{
    ModelConfigurationColumns, ModelConfigurationRow, find_model_configuration_named,
    update_used_secrets,
};
use crate::db::secrets::{SecretRow, list_secrets_named, list_secrets_of_configuration};
use crate::domain::ids::{ConfigurationId, SecretId};
use crate::domain::model_configuration::ConfiguredModel;
use crate::domain::names::{ConfigurationName, SecretName};
use crate::domain::scope::{Owner, WorkspaceScope};

/// Checks that no other configuration of the workspace has the name, and that no alias of a fallback chain
/// does.
pub(super) async fn check_name_is_free(
    conn: &mut Conn,
    scope: WorkspaceScope,
    name: &ConfigurationName,
    of: Option<ConfigurationId>,
) -> Result<(), ApiError> {
    match find_model_configuration_named(conn, scope, name.as_str().to_owned()).await? {
        Some(other) if Some(other.id) != of => Err(ApiError::Conflict {
            code: "already_exists",
            detail: format!(
                "Another model configuration of this workspace is named '{name}'; choose another \
                 name."
            ),
        }),
        Some(_) => Ok(()),
        None => match find_alias(conn, scope, name.as_str()).await? {
            Some(policy) => Err(ApiError::Conflict {
                code: "already_exists",
                detail: format!(
                    "'{name}' is the alias of the fallback '{policy}'; choose another name."
                ),
            }),
            None => Ok(()),
        },
    }
}

/// Sets the secrets that the configuration uses.
pub(super) async fn use_secrets(
    conn: &mut Conn,
    keyring: &KeyringHandle,
    scope: WorkspaceScope,
    principal: &Principal,
    id: ConfigurationId,
    secrets: &BTreeMap<SecretName, String>,
) -> Result<(), ApiError> {
    let UsableSecrets { used, wanted, errors } =
        usable_secrets(conn, keyring, scope, principal, Some(id), secrets).await?;
    if !errors.is_empty() {
        return Err(ApiError::Invalid(errors));
    }
    if used == wanted {
        return Ok(());
    }
    let wanted: Vec<SecretId> = wanted.into_iter().collect();
    Ok(update_used_secrets(conn, scope, id, &wanted).await?)
}

/// The secrets that a configuration can use, of those that it names.
pub(super) struct UsableSecrets {
    /// Those that it uses now.
    used: BTreeSet<SecretId>,
    wanted: BTreeSet<SecretId>,
    /// One for each that it can't use.
    pub(super) errors: Vec<FieldError>,
}

/// Finds the secrets that a configuration names. They must exist, and those that it did not use before must
/// have values that a header can carry. A name that the workspace has no secret of means the organization's,
/// if a key of the organization says it: a workspace says where its configurations lead, and could send the
/// organization's secret anywhere.
pub(super) async fn usable_secrets(
    conn: &mut Conn,
    keyring: &KeyringHandle,
    scope: WorkspaceScope,
    principal: &Principal,
    id: Option<ConfigurationId>,
    secrets: &BTreeMap<SecretName, String>,
) -> Result<UsableSecrets, ApiError> {
    let used = match id {
        Some(id) => list_secrets_of_configuration(conn, scope, id).await?,
        None => Vec::new(),
    };
    let names: Vec<SecretName> = secrets.keys().cloned().collect();
    let mut rows: Vec<SecretRow> = used
        .iter()
        .filter(|row| row.workspace_id.is_none() && names.contains(&row.name))
        .cloned()
        .collect();
    let is_found = |rows: &[SecretRow], name: &SecretName| rows.iter().any(|row| row.name == *name);
    let own = list_secrets_named(conn, scope.into(), &names).await?;
    let inherited =
        list_secrets_named(conn, Owner::Organization(scope.organization_id), &names).await?;
    let may_inherit = matches!(principal.scope, Scope::Organization(_));
    let shared = inherited.iter().filter(|_| may_inherit).cloned();
    for row in own.into_iter().chain(shared) {
        if !is_found(&rows, &row.name) {
            rows.push(row);
        }
    }
    let field_error = |name: &SecretName, message: String| FieldError {
        field: secrets.get(name).cloned().unwrap_or_default(),
        message,
    };
    let missing = names.iter().filter(|name| !is_found(&rows, name)).map(|name| {
        let message = if is_found(&inherited, name) {
            format!(
                "{name} is a secret of the organization, which only a key of the organization can \
                 let a configuration use; store one in the workspace"
            )
        } else {
            format!("there is no secret {name}; store it first")
        };
        field_error(name, message)
    });
    let mut errors: Vec<FieldError> = missing.collect();
    let used: BTreeSet<SecretId> = used.iter().map(|row| row.id).collect();
    let wanted: BTreeSet<SecretId> = rows.iter().map(|row| row.id).collect();
    for row in rows.iter().filter(|row| !used.contains(&row.id)) {
        let data_key = data_key_for_reading(conn, keyring, row.owner()).await?;
        let data_key = data_key
            .ok_or_else(|| ApiError::Internal("an owner of secrets has no data key".to_owned()))?;
        if !is_header_value(decrypt_value(&data_key, row)?.expose()) {
            errors.push(field_error(
                &row.name,
                format!(
                    "the value of the secret {} can't be sent in a header: it must be visible \
                     ASCII with spaces only inside and no line breaks",
                    row.name
                ),
            ));
        }
    }
    Ok(UsableSecrets { used, wanted, errors })
}

/// The fields as columns of a row.
pub(super) fn columns(
    fields: ModelConfigurationFields,
    actor: &Actor,
) -> Result<ModelConfigurationColumns, ApiError> {
    let auth = fields.placement().to_string();
    Ok(ModelConfigurationColumns {
        name: fields.name,
        description: fields.description,
        provider: fields.provider.as_str().to_owned(),
        base_url: fields.base_url,
        model: ConfiguredModel(fields.model),
        api_key_name: fields.api_key_name,
        auth,
        extra_headers: as_json(&fields.extra_headers)?,
        forward_headers: as_json(&fields.forward_headers)?,
        default_parameters: Value::Object(fields.default_parameters),
        stream_usage: fields.stream_usage.as_str().to_owned(),
        timeouts: as_json(&fields.timeouts)?,
        max_concurrent_requests: fields.max_concurrent_requests.map(i64::from),
        enabled: fields.enabled,
        updated_at: actor.now.naive_utc(),
        price: fields.price.as_ref().map(as_json).transpose()?,
        context_window: fields.context_window.and_then(|max| i64::try_from(max).ok()),
        max_output_tokens: fields.max_output_tokens.and_then(|max| i64::try_from(max).ok()),
        oauth: fields.oauth.as_ref().map(as_json).transpose()?,
        strict_conversion: fields.strict_conversion,
    })
}

pub(super) fn new_row(
    scope: WorkspaceScope,
    fields: ModelConfigurationFields,
    actor: &Actor,
) -> Result<ModelConfigurationRow, ApiError> {
    let columns = columns(fields, actor)?;
    Ok(ModelConfigurationRow {
        id: actor.clock.new_id(),
        organization_id: scope.organization_id,
        workspace_id: scope.workspace_id,
        created_at: columns.updated_at,
        columns,
        deleted_at: None,
    })
}
