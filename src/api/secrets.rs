//! `/workspaces/{workspace_id}/secrets`: provider credentials. A value goes in and never comes out.

use std::collections::HashMap;

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};

use super::Management;
use super::access::{InWorkspace, SecretsRead, SecretsWrite};
use super::body::Json;
use super::error::ApiError;
use super::page::{PageQuery, Paged};
use super::query::Query;
use super::routes::Routes;
use super::sealing::{data_key_for_writing, seal_value, stands_in_header};
use super::shared::{Conflicts, as_json, check_description, live_workspace};
use crate::audit::{Event, record};
use crate::crypto::SecretText;
use crate::db::secrets::{
    SecretChanges, SecretRow, SecretUse, delete_secret as delete_row, find_secret, insert_secret,
    list_secret_uses, list_secrets as list_rows, update_secret,
};
use crate::db::{Concerns, Conn};
use crate::domain::ids::{ConfigurationId, SecretId};
use crate::domain::names::{ConfigurationName, SecretName};
use crate::domain::scope::WorkspaceScope;

/// The largest value: a service account's JSON fits.
const MOST_BYTES: usize = 64 * 1024;

/// A value to be stored.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSecret {
    /// The credential itself, 1 byte to 64 KiB of UTF-8. It can't be read back.
    #[serde(deserialize_with = "silent")]
    #[schema(value_type = String, min_length = 1, max_length = 65536, write_only, example = "sk-...")]
    pub value: SecretText,
    /// What it is for, up to 1,024 characters. Left out, an earlier one stays; null removes it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 1024)]
    pub description: Option<Option<String>>,
}

/// What may be known of a secret.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Secret {
    /// Unique in the workspace.
    pub name: SecretName,
    /// What it is for.
    pub description: Option<String>,
    /// Counts the values it has had, from 1.
    pub version: i64,
    /// Tells equal values of one workspace apart from different ones, and nothing else.
    #[schema(example = "3f9a0c41d2e7")]
    pub fingerprint: String,
    /// When the first value was stored.
    pub created_at: DateTime<Utc>,
    /// When the present value was stored.
    pub updated_at: DateTime<Utc>,
    /// The model configurations that use it.
    pub used_by: Vec<UsingConfiguration>,
}

/// A model configuration that uses a secret.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct UsingConfiguration {
    /// Its id.
    pub id: ConfigurationId,
    /// Its name.
    pub name: ConfigurationName,
}

impl Secret {
    fn of(row: SecretRow, uses: Vec<SecretUse>) -> Self {
        let using = |used: SecretUse| UsingConfiguration {
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

/// Adds this resource's operations.
pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("secrets")
        .add(__path_list_secrets, list_secrets)
        .add(__path_put_secret, put_secret)
        .add(__path_get_secret, get_secret)
        .add(__path_delete_secret, delete_secret);
}

/// List the workspace's secrets
///
/// Values are never shown.
#[utoipa::path(
    get,
    path = "/workspaces/{workspace_id}/secrets",
    params(PageQuery),
    responses((status = 200, description = "A page of secrets, oldest first", body = Paged<Secret>)),
)]
async fn list_secrets(
    caller: InWorkspace<SecretsRead>,
    plane: web::Data<Management>,
    query: Query<PageQuery>,
) -> Result<web::Json<Paged<Secret>>, ApiError> {
    let page = query.0.page::<SecretId>()?;
    let scope = caller.scope;
    let (rows, uses) = plane
        .database
        .read(async move |conn: &mut Conn| {
            live_workspace(conn, scope).await?;
            let rows = list_rows(conn, scope, page).await?;
            let ids: Vec<SecretId> = rows.iter().map(|row| row.id).collect();
            let uses = list_secret_uses(conn, scope, &ids).await?;
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
/// Makes the secret, or gives it a new value under the next version. Requests that begin after the
/// answer use the new value.
#[utoipa::path(
    put,
    path = "/workspaces/{workspace_id}/secrets/{name}",
    responses((status = 200, description = "The secret has a new value", body = Secret), (status = 201, description = "The secret was made", body = Secret), Conflicts),
)]
async fn put_secret(
    caller: InWorkspace<SecretsWrite>,
    plane: web::Data<Management>,
    path: web::Path<(String, String)>,
    body: Json<PutSecret>,
) -> Result<HttpResponse, ApiError> {
    let InWorkspace { scope, actor, .. } = caller;
    let Json(put) = body;
    let name = path.into_inner().1;
    let keyring = plane.keyring.clone();
    let (created, secret) = plane
        .database
        .write(Concerns::Organization(scope.organization_id), async move |conn: &mut Conn| {
            live_workspace(conn, scope).await?;
            let name = SecretName::parse(name).map_err(|error| ApiError::field("name", error))?;
            check(&put)?;
            let current = match find_secret(conn, scope, &name).await? {
                Some(row) => {
                    let uses = list_secret_uses(conn, scope, &[row.id]).await?;
                    Some((row, uses))
                }
                None => None,
            };
            if let Some((_, uses)) = &current
                && !uses.is_empty()
                && !stands_in_header(put.value.expose().as_bytes())
            {
                return Err(ApiError::field(
                    "value",
                    format!(
                        "must be visible ASCII with spaces only inside and no line breaks, since \
                         a header carries it for {}",
                        names(uses)
                    ),
                ));
            }
            let (data_key_id, data_key) =
                data_key_for_writing(conn, &keyring, &actor, scope).await?;
            let now = actor.now.naive_utc();
            let (before, after) = match current {
                None => {
                    let id: SecretId = actor.clock.new_id();
                    let sealed = seal_value(&data_key, scope, id, 1, put.value.expose())?;
                    let row = SecretRow {
                        id,
                        organization_id: scope.organization_id,
                        workspace_id: scope.workspace_id,
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
                    let sealed = seal_value(&data_key, scope, row.id, version, put.value.expose())?;
                    let changes = SecretChanges {
                        data_key_id,
                        description: put.description.unwrap_or_else(|| row.description.clone()),
                        version,
                        sealed: sealed.bytes,
                        fingerprint: sealed.fingerprint,
                        updated_at: now,
                    };
                    let after = update_secret(conn, scope, row.id, changes).await?;
                    (Some(Secret::of(row, uses.clone())), Secret::of(after, uses))
                }
            };
            let event = Event {
                operation: "put_secret",
                resource_type: "secret",
                resource_id: after.name.to_string(),
                organization_id: Some(scope.organization_id),
                workspace_id: Some(scope.workspace_id),
                before: before.as_ref().map(as_json).transpose()?,
                after: Some(as_json(&after)?),
            };
            record(conn, &actor, event).await?;
            Ok::<_, ApiError>((before.is_none(), after))
        })
        .await?;
    if !created {
        return Ok(HttpResponse::Ok().json(secret));
    }
    let location = format!("/api/v1/workspaces/{}/secrets/{}", scope.workspace_id, secret.name);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(secret))
}

/// Read what may be known of a secret
#[utoipa::path(
    get,
    path = "/workspaces/{workspace_id}/secrets/{name}",
    responses((status = 200, description = "The secret, without its value", body = Secret)),
)]
async fn get_secret(
    caller: InWorkspace<SecretsRead>,
    plane: web::Data<Management>,
    path: web::Path<(String, String)>,
) -> Result<web::Json<Secret>, ApiError> {
    let scope = caller.scope;
    let name = path.into_inner().1;
    let (row, uses) =
        plane.database.read(async move |conn: &mut Conn| current(conn, scope, name).await).await?;
    Ok(web::Json(Secret::of(row, uses)))
}

/// Delete a secret
///
/// For good, and only when no model configuration uses it.
#[utoipa::path(
    delete,
    path = "/workspaces/{workspace_id}/secrets/{name}",
    responses((status = 204, description = "It is gone"), Conflicts),
)]
async fn delete_secret(
    caller: InWorkspace<SecretsWrite>,
    plane: web::Data<Management>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let InWorkspace { scope, actor, .. } = caller;
    let name = path.into_inner().1;
    plane
        .database
        .write(Concerns::Organization(scope.organization_id), async move |conn: &mut Conn| {
            let (row, uses) = current(conn, scope, name).await?;
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
            delete_row(conn, scope, row.id).await?;
            let event = Event {
                operation: "delete_secret",
                resource_type: "secret",
                resource_id: row.name.to_string(),
                organization_id: Some(scope.organization_id),
                workspace_id: Some(scope.workspace_id),
                before: Some(as_json(&Secret::of(row, uses))?),
                after: None,
            };
            record(conn, &actor, event).await?;
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn current(
    conn: &mut Conn,
    scope: WorkspaceScope,
    name: String,
) -> Result<(SecretRow, Vec<SecretUse>), ApiError> {
    const WHAT: &str = "secret";

    live_workspace(conn, scope).await?;
    let name = SecretName::parse(name).map_err(|_| ApiError::NotFound(WHAT))?;
    let row = find_secret(conn, scope, &name).await?.ok_or(ApiError::NotFound(WHAT))?;
    let uses = list_secret_uses(conn, scope, &[row.id]).await?;
    Ok((row, uses))
}

fn check(put: &PutSecret) -> Result<(), ApiError> {
    if !(1..=MOST_BYTES).contains(&put.value.len()) {
        return Err(ApiError::field("value", format!("must be 1 to {MOST_BYTES} bytes long")));
    }
    check_description(put.description.as_ref().and_then(Option::as_deref))
}

/// The configurations, as a sentence names them; a long list is cut.
fn names(uses: &[SecretUse]) -> String {
    const MOST: usize = 10;

    let shown: Vec<String> = uses
        .iter()
        .take(MOST)
        .map(|used| format!("the model configuration '{}'", used.configuration_name))
        .collect();
    match uses.len().checked_sub(MOST) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

/// A value, or an error that does not quote what was sent: serde's own would.
fn silent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretText, D::Error> {
    SecretText::deserialize(deserializer)
        .map_err(|_| serde::de::Error::custom("must be a string of 1 byte to 64 KiB"))
}

/// Tells a field that was given as null from one that was left out.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
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
        assert!(check(&put("x".repeat(MOST_BYTES))).is_ok());
        assert!(check(&put("é".repeat(MOST_BYTES / 2 + 1))).is_err());
        assert!(check(&put(String::new())).is_err());
    }
}
