//! `/users`: the people of an organization. Deactivating a user disables the user's keys.

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Management;
use super::access::{InOrganization, UsersRead, UsersWrite};
use super::body::{Editable, Json, MergePatch};
use super::error::ApiError;
use super::page::{Paged, page};
use super::query::Query;
use super::routes::Routes;
use super::shared::{Audited, Conflicts, created, or_taken, path_id, record};
use crate::audit::Actor;
use crate::auth::Scope;
use crate::db::users::{
    UserChanges, UserFilter, UserRow, find_user, insert_user, list_users as list_rows,
    update_user as update_row,
};
use crate::db::{ChangeScope, Conn, DbError};
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::names::{DisplayName, Email};

/// Whether a user's keys are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum UserStatus {
    Active,
    /// The keys are refused, and no new ones are issued.
    Deactivated,
}

impl UserStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deactivated => "deactivated",
        }
    }

    fn read(text: &str) -> Self {
        if text == "active" { Self::Active } else { Self::Deactivated }
    }
}

/// A new user.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "ada@example.com", "name": "Ada Lovelace"}))]
pub(super) struct CreateUser {
    /// Unique in the organization.
    #[schema(max_length = 254, format = Email)]
    pub(super) email: Email,
    #[schema(min_length = 1, max_length = 128)]
    pub(super) name: DisplayName,
}

/// The fields of a user that can be set.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserFields {
    /// Unique in the organization.
    #[schema(max_length = 254, format = Email)]
    pub(super) email: Email,
    #[schema(min_length = 1, max_length = 128)]
    pub(super) name: DisplayName,
    pub(super) status: UserStatus,
}

impl Editable for UserFields {
    type Shown = User;
}

/// Has a name because utoipa's macros do not take a generic type here.
type UserPatch = MergePatch<UserFields>;

/// The query of a list of users.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct UsersQuery {
    /// The largest number of items to return, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub(super) limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    pub(super) cursor: Option<String>,
    /// Only the user with this address.
    pub(super) email: Option<Email>,
    /// Only users with this status.
    pub(super) status: Option<UserStatus>,
}

/// A person in an organization.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct User {
    pub(super) id: UserId,
    pub(super) organization_id: OrganizationId,
    #[serde(flatten)]
    pub(super) fields: UserFields,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
}

impl Audited for User {
    const TYPE: &'static str = "user";

    fn audit_id(&self) -> String {
        self.id.to_string()
    }
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.id,
            organization_id: row.organization_id,
            fields: UserFields {
                email: row.email,
                name: row.name,
                status: UserStatus::read(&row.status),
            },
            created_at: row.created_at.and_utc(),
            updated_at: row.updated_at.and_utc(),
        }
    }
}

/// Create a user
#[utoipa::path(
    post,
    path = "/users",
    responses((status = 201, description = "The user", body = User), Conflicts),
)]
async fn create_user(
    caller: InOrganization<UsersWrite>,
    plane: web::Data<Management>,
    body: Json<CreateUser>,
) -> Result<HttpResponse, ApiError> {
    let InOrganization { scope: organization_id, actor, .. } = caller;
    let now = actor.now.naive_utc();
    let body = body.valid()?;
    let row = UserRow {
        id: actor.clock.new_id(),
        organization_id,
        email: body.email,
        name: body.name,
        status: UserStatus::Active.as_str().to_owned(),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    let user = plane
        .database
        .write(ChangeScope::Organization(organization_id), async move |conn: &mut Conn| {
            insert_user(conn, row.clone()).await.map_err(email_taken)?;
            let user = User::from(row);
            let scope = Scope::Organization(organization_id);
            record(conn, &actor, scope, "create_user", None, Some(&user)).await?;
            Ok::<_, ApiError>(user)
        })
        .await?;
    Ok(created(format!("/api/v1/users/{}", user.id), user))
}

/// List users
///
/// Oldest first, deactivated ones included.
#[utoipa::path(
    get,
    path = "/users",
    params(UsersQuery),
    responses((status = 200, description = "A page", body = Paged<User>)),
)]
async fn list_users(
    caller: InOrganization<UsersRead>,
    plane: web::Data<Management>,
    query: Query<UsersQuery>,
) -> Result<web::Json<Paged<User>>, ApiError> {
    let organization_id = caller.scope;
    let (page, query) = query.check(|query| {
        page::<UserId>(query.limit, query.cursor.as_deref()).map(|page| (page, query))
    })?;
    let filter = UserFilter {
        email: query.email,
        status: query.status.map(|status| status.as_str().to_owned()),
    };
    let rows = plane
        .database
        .read(async move |conn: &mut Conn| list_rows(conn, organization_id, filter, page).await)
        .await?;
    Ok(web::Json(Paged::of(rows, page, |row| row.id.uuid(), User::from)))
}

/// Read a user
#[utoipa::path(
    get,
    path = "/users/{user_id}",
    responses((status = 200, description = "The user", body = User)),
)]
async fn get_user(
    caller: InOrganization<UsersRead>,
    plane: web::Data<Management>,
    path: web::Path<String>,
) -> Result<web::Json<User>, ApiError> {
    let id = path_id(&path, "user")?;
    let organization_id = caller.scope;
    let row = plane
        .database
        .read(async move |conn: &mut Conn| existing(conn, organization_id, id).await)
        .await?;
    Ok(web::Json(row.into()))
}

/// Update a user
///
/// A JSON merge patch. Setting `status` to `active` makes the user's keys valid again.
#[utoipa::path(
    patch,
    path = "/users/{user_id}",
    responses((status = 200, description = "The updated user", body = User), Conflicts),
)]
async fn update_user(
    caller: InOrganization<UsersWrite>,
    plane: web::Data<Management>,
    path: web::Path<String>,
    patch: Json<UserPatch>,
) -> Result<web::Json<User>, ApiError> {
    let id = path_id(&path, "user")?;
    let patch = patch.valid()?;
    let InOrganization { scope: organization_id, actor, .. } = caller;
    let updated = plane
        .database
        .write(ChangeScope::Organization(organization_id), async move |conn: &mut Conn| {
            let before = User::from(existing(conn, organization_id, id).await?);
            let fields = patch.apply(&before.fields)?.valid()?;
            change(conn, &actor, "update_user", before, fields).await
        })
        .await?;
    Ok(web::Json(updated))
}

/// Deactivate a user
///
/// Makes the user's keys invalid at once. The user stays in the list; `PATCH` with `status` `active`
/// undoes it.
#[utoipa::path(
    delete,
    path = "/users/{user_id}",
    responses((status = 204, description = "The user is deactivated")),
)]
async fn delete_user(
    caller: InOrganization<UsersWrite>,
    plane: web::Data<Management>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = path_id(&path, "user")?;
    let InOrganization { scope: organization_id, actor, .. } = caller;
    plane
        .database
        .write(ChangeScope::Organization(organization_id), async move |conn: &mut Conn| {
            let before = User::from(existing(conn, organization_id, id).await?);
            if before.fields.status == UserStatus::Deactivated {
                return Ok::<_, ApiError>(());
            }
            let fields = UserFields { status: UserStatus::Deactivated, ..before.fields.clone() };
            change(conn, &actor, "deactivate_user", before, fields).await.map(|_| ())
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn existing(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: UserId,
) -> Result<UserRow, ApiError> {
    find_user(conn, organization_id, id).await?.ok_or(ApiError::NotFound("user"))
}

async fn change(
    conn: &mut Conn,
    actor: &Actor,
    operation: &'static str,
    before: User,
    fields: UserFields,
) -> Result<User, ApiError> {
    let changes = UserChanges {
        email: fields.email,
        name: fields.name,
        status: fields.status.as_str().to_owned(),
        updated_at: actor.now.naive_utc(),
    };
    let after =
        update_row(conn, before.organization_id, before.id, changes).await.map_err(email_taken)?;
    let after = User::from(after);
    let scope = Scope::Organization(before.organization_id);
    record(conn, actor, scope, operation, Some(&before), Some(&after)).await?;
    Ok(after)
}

fn email_taken(error: DbError) -> ApiError {
    or_taken(
        error,
        "email_taken",
        "Another user of the organization has this 'email'; if that user is deactivated, set \
         their 'status' to 'active' instead.",
    )
}

pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("users")
        .add(__path_create_user, create_user)
        .add(__path_list_users, list_users)
        .add(__path_get_user, get_user)
        .add(__path_update_user, update_user)
        .add(__path_delete_user, delete_user);
}
