//! Creates organizations with the key of their administrator: the first one for the command line, others
//! for platform keys. No handlers here.

use super::api_keys::ApiKey;
use super::error::ApiError;
use super::organizations::{CreatedOrganization, Organization, OrganizationStatus, name_taken};
use super::shared::record;
use crate::audit::{self, Actor, Event};
use crate::auth::Scope;
use crate::auth::issue::{NewKey, issue_key};
use crate::clock::Clock;
use crate::crypto::SecretText;
use crate::db::api_keys::delete_platform_keys;
use crate::db::organizations::{OrganizationRow, any_organization, insert_organization};
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

/// Creates an organization and the first key of its administrator in the open transaction.
pub(super) async fn insert_with_admin(
    conn: &mut Conn,
    actor: &Actor,
    id: OrganizationId,
    name: DisplayName,
) -> Result<CreatedOrganization, ApiError> {
    let now = actor.now.naive_utc();
    let row = OrganizationRow {
        id,
        name,
        status: OrganizationStatus::Active.as_str().to_owned(),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    insert_organization(conn, row.clone()).await.map_err(name_taken)?;
    let organization = Organization::from(row);
    let scope = Scope::Organization(id);
    record(conn, actor, scope, "create_organization", None, Some(&organization)).await?;
    let admin = first_key("First admin key", scope, Role::OrganizationAdmin)?;
    let admin = issue_key(conn, actor, admin).await?;
    let admin_key_id = admin.row.id;
    let key = ApiKey::from(admin.row);
    record(conn, actor, scope, "create_api_key", None, Some(&key)).await?;
    Ok(CreatedOrganization { organization, admin_key_id, admin_key: admin.text })
}

fn first_key(name: &str, scope: Scope, role: Role) -> Result<NewKey, ApiError> {
    let name = DisplayName::parse(name).map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(NewKey { scope, role, name, user_id: None, expires_at: None })
}
