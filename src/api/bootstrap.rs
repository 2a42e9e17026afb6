//! Creates the first organization and platform keys, for the command line. No handlers here.

use super::api_keys::ApiKey;
use super::error::ApiError;
use super::organizations::{first_key, insert_with_admin};
use super::shared::record;
use crate::audit::{self, Actor, Event};
use crate::auth::Scope;
use crate::auth::issue::issue_key;
use crate::clock::Clock;
use crate::crypto::SecretText;
use crate::db::api_keys::delete_platform_keys;
use crate::db::organizations::any_organization;
use crate::db::{ChangeScope, Conn, Database};
use crate::domain::ids::OrganizationId;
use crate::domain::names::DisplayName;
use crate::domain::permissions::Role;

/// The first organization and the first keys of an installation. The keys are shown once and not stored.
#[derive(Debug)]
pub struct Bootstrapped {
    /// The first organization.
    pub organization_id: OrganizationId,
    /// A key of the role `PLATFORM_ADMIN`.
    pub platform_key: SecretText,
    /// A key of the role `ORGANIZATION_ADMIN` in the organization.
    pub admin_key: SecretText,
}

/// Creates the first organization and the first keys, in one transaction, for the command line. Fails
/// with 409 `already_bootstrapped` if an organization exists or existed.
pub async fn bootstrap(
    database: &Database,
    clock: &Clock,
    name: DisplayName,
) -> Result<Bootstrapped, ApiError> {
    let actor = Actor::command_line(clock);
    database
        .write(ChangeScope::Everything, async move |conn: &mut Conn| {
            if any_organization(conn).await? {
                return Err(ApiError::Conflict {
                    code: "already_bootstrapped",
                    detail:
                        "An organization exists already; create further ones with a platform key \
                             and POST /api/v1/organizations."
                            .to_owned(),
                });
            }
            let id = actor.clock.new_id();
            let created = insert_with_admin(conn, &actor, id, name).await?;
            let platform = first_key("First platform key", Scope::Platform, Role::PlatformAdmin)?;
            let platform = issue_key(conn, &actor, platform).await?;
            let key = ApiKey::from(platform.row);
            record(conn, &actor, Scope::Platform, "create_api_key", None, Some(&key)).await?;
            Ok(Bootstrapped {
                organization_id: id,
                platform_key: platform.text,
                admin_key: created.admin_key,
            })
        })
        .await
}

/// Revokes every platform key and issues a new one, for the command line: for a platform key that is
/// lost or has leaked. Access to the server gives more rights than any key.
pub async fn replace_platform_key(
    database: &Database,
    clock: &Clock,
) -> Result<SecretText, ApiError> {
    let actor = Actor::command_line(clock);
    database
        .write(ChangeScope::Everything, async move |conn: &mut Conn| {
            let revoked = delete_platform_keys(conn, actor.now.naive_utc()).await?;
            for id in revoked {
                let event = Event {
                    operation: "delete_api_key",
                    resource_type: "api_key",
                    resource_id: id.to_string(),
                    organization_id: None,
                    workspace_id: None,
                    before: None,
                    after: None,
                };
                audit::record(conn, &actor, event).await?;
            }
            let new = first_key("Platform key", Scope::Platform, Role::PlatformAdmin)?;
            let issued = issue_key(conn, &actor, new).await?;
            let key = ApiKey::from(issued.row);
            record(conn, &actor, Scope::Platform, "create_api_key", None, Some(&key)).await?;
            Ok(issued.text)
        })
        .await
}
