//! First things: an organization with the key of its administrator, made by a platform key or, the
//! very first, by the command line. No handlers here.

use super::api_keys::{ApiKey, record_created};
use super::error::ApiError;
use super::organizations::{CreatedOrganization, Organization, OrganizationStatus, name_taken};
use super::shared::as_json;
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

/// What a new installation begins with. Its keys are shown once and stored nowhere.
#[derive(Debug)]
pub struct Bootstrapped {
    /// The first organization.
    pub organization_id: OrganizationId,
    /// A key of the role `PLATFORM_ADMIN`.
    pub platform_key: SecretText,
    /// A key of the role `ORGANIZATION_ADMIN` in the organization.
    pub admin_key: SecretText,
}

/// Makes the first organization and the first keys, in one transaction, as the command line.
/// Refuses with 409 `already_bootstrapped` where any organization exists or existed.
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
                    detail: "An organization exists; further ones are made with a platform key, \
                             by POST /api/v1/organizations."
                        .to_owned(),
                });
            }
            let id = actor.clock.new_id();
            let created = insert_with_admin(conn, &actor, id, name).await?;
            let platform = first_key("First platform key", Scope::Platform, Role::PlatformAdmin)?;
            let platform = issue_key(conn, &actor, platform).await?;
            record_created(conn, &actor, Scope::Platform, &ApiKey::from(platform.row)).await?;
            Ok(Bootstrapped {
                organization_id: id,
                platform_key: platform.text,
                admin_key: created.admin_key,
            })
        })
        .await
}

/// Revokes every platform key and makes a new one, as the command line: for a platform key that is
/// lost or has leaked. Its holder needs the machine, which is more than any key gives.
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
            record_created(conn, &actor, Scope::Platform, &ApiKey::from(issued.row)).await?;
            Ok(issued.text)
        })
        .await
}

/// Makes an organization and the first key of its administrator in the open transaction.
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
    let event = Event {
        operation: "create_organization",
        resource_type: "organization",
        resource_id: id.to_string(),
        organization_id: Some(id),
        workspace_id: None,
        before: None,
        after: Some(as_json(&organization)?),
    };
    audit::record(conn, actor, event).await?;
    let scope = Scope::Organization(id);
    let admin = first_key("First admin key", scope, Role::OrganizationAdmin)?;
    let admin = issue_key(conn, actor, admin).await?;
    let admin_key_id = admin.row.id;
    record_created(conn, actor, scope, &ApiKey::from(admin.row)).await?;
    Ok(CreatedOrganization { organization, admin_key_id, admin_key: admin.text })
}

fn first_key(name: &str, scope: Scope, role: Role) -> Result<NewKey, ApiError> {
    let name = DisplayName::parse(name).map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(NewKey { scope, role, name, user_id: None, expires_at: None })
}
