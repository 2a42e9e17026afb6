//! `/workspaces/{workspace_id}/secrets` and, for an organization as a whole, `/secrets`: provider
//! credentials. No operation shows a value.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};

use super::Management;
use super::access::{ForOwner, SecretsRead, SecretsWrite};
use super::body::Json;
use super::error::ApiError;
use super::field_errors::both;
use super::page::{PageQuery, Paged};
use super::query::Query;
use super::routes::Routes;
use super::secret_values::{data_key_for_writing, encrypt_value, is_header_value};
use super::shared::{
    Audited, Conflicts, check_description, check_owner, created, owner_path, record,
};
use crate::crypto::SecretText;
use crate::db::secrets::{
    SecretChanges, SecretRow, SecretUse, delete_secret as delete_row, find_secret, insert_secret,
    list_secret_uses, list_secrets as list_rows, update_secret,
};
use crate::db::{ChangeScope, Conn};
use crate::domain::ids::{ConfigurationId, SecretId, WorkspaceId};
use crate::domain::names::{ConfigurationName, SecretName};
use crate::domain::scope::Owner;

/// The largest value: the JSON file of a service account fits.
const MAX_BYTES: usize = 64 * 1024;

/// A value to be stored.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"value": "sk-0123456789", "description": "The team's key"}))]
pub(super) struct PutSecret {
    /// The credential, 1 byte to 64 KiB of UTF-8. It can't be read back.
    #[serde(deserialize_with = "unquoted")]
    #[schema(value_type = String, min_length = 1, max_length = 65536, write_only)]
    pub(super) value: SecretText,
    /// Up to 1,024 characters. If it is left out, the present description stays; null removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 1024)]
    pub(super) description: Option<Option<String>>,
}

/// A secret without its value.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Secret {
    /// Unique in the workspace, or among the organization's own.
    pub(super) name: SecretName,
    pub(super) description: Option<String>,
    /// The number of values that it has had.
    pub(super) version: i64,
    /// Equal for equal values of one owner, different for different ones. It says nothing else.
    #[schema(example = "3f9a0c41d2e7")]
    pub(super) fingerprint: String,
    /// When the first value was stored.
    pub(super) created_at: DateTime<Utc>,
    /// When the present value was stored.
    pub(super) updated_at: DateTime<Utc>,
    /// The model configurations that use it.
    pub(super) used_by: Vec<UsingConfiguration>,
}

/// A model configuration that uses a secret.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct UsingConfiguration {
    pub(super) workspace_id: WorkspaceId,
    pub(super) id: ConfigurationId,
    pub(super) name: ConfigurationName,
}

impl Audited for Secret {
    const TYPE: &'static str = "secret";

    fn audit_id(&self) -> String {
        self.name.to_string()
    }
}

impl Secret {
    fn of(row: SecretRow, uses: Vec<SecretUse>) -> Self {
        let using = |used: SecretUse| UsingConfiguration {
            workspace_id: used.workspace_id,
            id: used.configuration_id,
            name: used.configuration_name,
        };
        Self {
            name: row.name,
            description: row.description,
            version: row.version,
            fingerprint: row.fingerprint,
            created_at: row.created_at.and_utc(),
            updated_at: row.updated_at.and_utc(),
            used_by: uses.into_iter().map(using).collect(),
        }
    }
}

/// Adds the operations, for workspaces and for organizations.
pub(super) fn configure(routes: &mut Routes) {
    routes.repeat("/workspaces/{workspace_id}", str::to_owned, operations);
    routes.repeat("", |id| id.replace("secret", "organization_secret"), operations);
}

fn operations(routes: &mut Routes) {
    routes
        .tag("secrets")
        .add(__path_list_secrets, list_secrets)
        .add(__path_put_secret, put_secret)
        .add(__path_get_secret, get_secret)
        .add(__path_delete_secret, delete_secret);
}

/// List secrets
///
/// Those of the workspace, or without one those of the organization, which its workspaces inherit. Values
/// are never shown.
#[utoipa::path(
    get,
    path = "/secrets",
    params(PageQuery),
    responses((status = 200, description = "A page of secrets, oldest first", body = Paged<Secret>)),
)]
async fn list_secrets(
    caller: ForOwner<SecretsRead>,
    plane: web::Data<Management>,
    query: Query<PageQuery>,
) -> Result<web::Json<Paged<Secret>>, ApiError> {
    let page = query.check(|query| query.page::<SecretId>())?;
    let owner = caller.scope;
    let (rows, uses) = plane
        .database
        .read(async move |conn: &mut Conn| {
            check_owner(conn, owner).await?;
            let rows = list_rows(conn, owner, page).await?;
            let ids: Vec<SecretId> = rows.iter().map(|row| row.id).collect();
            let uses = list_secret_uses(conn, owner.organization_id(), &ids).await?;
            Ok::<_, ApiError>((rows, uses))
        })
        .await?;
    let mut by_secret: HashMap<SecretId, Vec<SecretUse>> = HashMap::new();
    for used in uses {
        by_secret.entry(used.secret_id).or_default().push(used);
    }
    let show = |row: SecretRow| {
        let uses = by_secret.remove(&row.id).unwrap_or_default();
        Secret::of(row, uses)
    };
    Ok(web::Json(Paged::of(rows, page, |row| row.id.uuid(), show)))
}

/// Store a secret's value
///
/// Creates the secret, or gives it a new value and the next version. Requests that begin after the
/// answer use the new value.
#[utoipa::path(
    put,
    path = "/secrets/{name}",
    responses((status = 200, description = "The secret has a new value", body = Secret), (status = 201, description = "The secret is created", body = Secret), Conflicts),
)]
async fn put_secret(
    caller: ForOwner<SecretsWrite>,
    plane: web::Data<Management>,
    request: HttpRequest,
    body: Json<PutSecret>,
) -> Result<HttpResponse, ApiError> {
    let ForOwner { scope: owner, actor, .. } = caller;
    let name = SecretName::parse(name_of(&request));
    let name = name.map_err(|error| ApiError::field("name", error));
    let put = body.check(|put| both(check(&put).map(|()| put), name));
    let keyring = plane.keyring.clone();
    let (is_new, secret) = plane
        .database
        .write(ChangeScope::Organization(owner.organization_id()), async move |conn: &mut Conn| {
            check_owner(conn, owner).await?;
            let (put, name) = put?;
            let current = match find_secret(conn, owner, &name).await? {
                Some(row) => {
                    let uses = list_secret_uses(conn, owner.organization_id(), &[row.id]).await?;
                    Some((row, uses))
                }
                None => None,
            };
            if let Some((_, uses)) = &current
                && !uses.is_empty()
                && !is_header_value(put.value.expose().as_bytes())
            {
                return Err(ApiError::field(
                    "value",
                    format!(
                        "must be visible ASCII with spaces only inside and no line breaks, because \
                         it is sent in a header by {}",
                        names(uses)
                    ),
                ));
            }
            let (data_key_id, data_key) =
                data_key_for_writing(conn, &keyring, &actor, owner).await?;
            let now = actor.now.naive_utc();
            let (before, after) = match current {
                None => {
                    let id: SecretId = actor.clock.new_id();
                    let sealed = encrypt_value(&data_key, owner, id, 1, put.value.expose())?;
                    let row = SecretRow {
                        id,
                        organization_id: owner.organization_id(),
                        workspace_id: owner.workspace_id(),
                        data_key_id,
                        name,
                        description: put.description.flatten(),
                        version: 1,
                        sealed: sealed.bytes,
                        fingerprint: sealed.fingerprint,
                        created_at: now,
                        updated_at: now,
                    };
                    insert_secret(conn, row.clone()).await?;
                    (None, Secret::of(row, Vec::new()))
                }
                Some((row, uses)) => {
                    let version = row.version + 1;
                    let sealed =
                        encrypt_value(&data_key, owner, row.id, version, put.value.expose())?;
                    let changes = SecretChanges {
                        data_key_id,
                        description: put.description.unwrap_or_else(|| row.description.clone()),
                        version,
                        sealed: sealed.bytes,
                        fingerprint: sealed.fingerprint,
                        updated_at: now,
                    };
                    let after = update_secret(conn, owner, row.id, changes).await?;
                    (Some(Secret::of(row, uses.clone())), Secret::of(after, uses))
                }
            };
            record(conn, &actor, owner.into(), "put_secret", before.as_ref(), Some(&after)).await?;
            Ok::<_, ApiError>((before.is_none(), after))
        })
        .await?;
    if !is_new {
        return Ok(HttpResponse::Ok().json(secret));
    }
    let location = format!("{}/secrets/{}", owner_path(owner), secret.name);
    Ok(created(location, secret))
}

/// Read a secret without its value
#[utoipa::path(
    get,
    path = "/secrets/{name}",
    responses((status = 200, description = "The secret, without its value", body = Secret)),
)]
async fn get_secret(
    caller: ForOwner<SecretsRead>,
    plane: web::Data<Management>,
    request: HttpRequest,
) -> Result<web::Json<Secret>, ApiError> {
    let owner = caller.scope;
    let name = name_of(&request);
    let (row, uses) =
        plane.database.read(async move |conn: &mut Conn| current(conn, owner, name).await).await?;
    Ok(web::Json(Secret::of(row, uses)))
}

/// Delete a secret
///
/// For good, and only if no model configuration uses it.
#[utoipa::path(
    delete,
    path = "/secrets/{name}",
    responses((status = 204, description = "The secret is deleted"), Conflicts),
)]
async fn delete_secret(
    caller: ForOwner<SecretsWrite>,
    plane: web::Data<Management>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let ForOwner { scope: owner, actor, .. } = caller;
    let name = name_of(&request);
    plane
        .database
        .write(ChangeScope::Organization(owner.organization_id()), async move |conn: &mut Conn| {
            let (row, uses) = current(conn, owner, name).await?;
            if !uses.is_empty() {
                return Err(ApiError::Conflict {
                    code: "secret_in_use",
                    detail: format!(
                        "The secret {} is used by {}. Change or delete what uses it first.",
                        row.name,
                        names(&uses)
                    ),
                });
            }
            delete_row(conn, owner, row.id).await?;
            let before = Secret::of(row, uses);
            record(conn, &actor, owner.into(), "delete_secret", Some(&before), None).await
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn current(
    conn: &mut Conn,
    owner: Owner,
    name: String,
) -> Result<(SecretRow, Vec<SecretUse>), ApiError> {
    const WHAT: &str = "secret";

    check_owner(conn, owner).await?;
    let name = SecretName::parse(name).map_err(|_| ApiError::NotFound(WHAT))?;
    let row = find_secret(conn, owner, &name).await?.ok_or(ApiError::NotFound(WHAT))?;
    let uses = list_secret_uses(conn, owner.organization_id(), &[row.id]).await?;
    Ok((row, uses))
}

/// The name of the path.
fn name_of(request: &HttpRequest) -> String {
    request.match_info().get("name").unwrap_or_default().to_owned()
}

fn check(put: &PutSecret) -> Result<(), ApiError> {
    if !(1..=MAX_BYTES).contains(&put.value.len()) {
        return Err(ApiError::field("value", format!("must be 1 to {MAX_BYTES} bytes long")));
    }
    check_description(put.description.as_ref().and_then(Option::as_deref))
}

/// The names of the configurations for a message; a long list is shortened.
fn names(uses: &[SecretUse]) -> String {
    const MAX_NAMES: usize = 10;

    let shown: Vec<String> = uses
        .iter()
        .take(MAX_NAMES)
        .map(|used| format!("the model configuration '{}'", used.configuration_name))
        .collect();
    match uses.len().checked_sub(MAX_NAMES) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

/// Reads a value. Unlike serde's own error, this one does not quote what was sent.
fn unquoted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretText, D::Error> {
    SecretText::deserialize(deserializer)
        .map_err(|_| serde::de::Error::custom("must be a string of 1 byte to 64 KiB"))
}

/// Distinguishes a field that is null from one that is left out.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_not_quoted() {
        let error = serde_json::from_str::<PutSecret>(r#"{"value":918273645}"#).unwrap_err();
        assert!(!error.to_string().contains("918273645"), "{error}");
        let put: PutSecret = serde_json::from_str(r#"{"value":"sk-hidden"}"#).unwrap();
        assert!(!format!("{put:?}").contains("hidden"));
        assert_eq!(put.description, None);
        let put: PutSecret = serde_json::from_str(r#"{"value":"x","description":null}"#).unwrap();
        assert_eq!(put.description, Some(None));
    }

    #[test]
    fn values_are_bounded_by_bytes() {
        let put = |value: String| PutSecret { value: value.into(), description: None };
        assert!(check(&put("x".repeat(MAX_BYTES))).is_ok());
        assert!(check(&put("é".repeat(MAX_BYTES / 2 + 1))).is_err());
        assert!(check(&put(String::new())).is_err());
    }
}
