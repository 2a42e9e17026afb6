//! Rotation: a key keeps its id, which policies and the ledger refer to, and gets a new credential.

use actix_web::HttpResponse;
use chrono::{NaiveDateTime, TimeDelta};
use serde::Deserialize;

use super::{ApiKey, IssuedApiKey, change_scope, check_exists, check_grant, existing};
use crate::api::Management;
use crate::api::error::ApiError;
use crate::api::shared::record;
use crate::audit::Actor;
use crate::auth::issue::new_credential;
use crate::auth::{Principal, Scope};
use crate::db::Conn;
use crate::db::api_keys::{
    ApiKeyChanges, count_live_credentials, end_credentials, insert_credential, update_api_key,
};
use crate::domain::ids::ApiKeyId;

/// 30 days: long enough for a rollout by hand, short enough that the old credential is not forgotten.
const MAX_GRACE_SECONDS: u32 = 30 * 24 * 60 * 60;

/// Bounds the credentials of a key that is rotated again and again with a long grace.
const MAX_CREDENTIALS: i64 = 8;

/// How to rotate.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"grace_seconds": 3600}))]
pub(super) struct RotateApiKey {
    /// How long the present credential stays valid, in seconds; 0 if this is left out.
    #[serde(default)]
    #[schema(maximum = 2_592_000)]
    pub(super) grace_seconds: u32,
}

pub(super) async fn rotate(
    plane: &Management,
    principal: Principal,
    actor: Actor,
    scope: Scope,
    id: ApiKeyId,
    rotation: RotateApiKey,
) -> Result<HttpResponse, ApiError> {
    let now = actor.now.naive_utc();
    let end = end_of_grace(now, rotation.grace_seconds)?;
    let issued = plane
        .database
        .write(change_scope(scope), async move |conn: &mut Conn| {
            check_exists(conn, scope).await?;
            let row = existing(conn, scope, id).await?;
            check_grant(&principal, row.role)?;
            end_credentials(conn, &row, end).await?;
            if count_live_credentials(conn, &row, now).await? >= MAX_CREDENTIALS {
                return Err(ApiError::Conflict {
                    code: "too_many_credentials",
                    detail: format!(
                        "{MAX_CREDENTIALS} credentials of this key are still valid; rotate with a \
                         shorter 'grace_seconds', which ends them sooner."
                    ),
                });
            }
            let credential = new_credential(id, scope, &actor)?;
            let changes = ApiKeyChanges {
                name: row.name.clone(),
                short_key: credential.short_key,
                disabled: row.disabled,
                expires_at: row.expires_at,
                updated_at: now,
            };
            insert_credential(conn, credential.row).await?;
            let after = ApiKey::from(update_api_key(conn, scope, id, changes).await?);
            let before = ApiKey::from(row);
            record(conn, &actor, scope, "rotate_api_key", Some(&before), Some(&after)).await?;
            Ok(IssuedApiKey { api_key: after, key: credential.text })
        })
        .await?;
    Ok(HttpResponse::Ok().json(issued))
}

fn end_of_grace(now: NaiveDateTime, grace_seconds: u32) -> Result<NaiveDateTime, ApiError> {
    if grace_seconds > MAX_GRACE_SECONDS {
        return Err(ApiError::field(
            "grace_seconds",
            format!("must be 0 to {MAX_GRACE_SECONDS}, which is 30 days"),
        ));
    }
    Ok(now + TimeDelta::seconds(grace_seconds.into()))
}
