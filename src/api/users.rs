//! `/users`: the people of an organization, whose keys stop when they are deactivated.

use actix_web::http::header::LOCATION;
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
use super::shared::{Conflicts, as_json, or_taken, path_id};
use crate::audit::{self, Actor, Event};
use crate::db::users::{
    UserChanges, UserFilter, UserRow, find_user, insert_user, list_users as list_rows,
    update_user as update_row,
};
use crate::db::{Concerns, Conn, DbError};
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::names::{DisplayName, Email};

/// Whether a person's keys count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    /// They do.
    Active,
    /// They do not, and no new ones are issued.
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
pub struct CreateUser {
    /// Unique in the organization.
    #[schema(max_length = 254, format = Email, example = "ada@example.com")]
    pub email: Email,
    /// What they are called.
    #[schema(min_length = 1, max_length = 128, example = "Ada Lovelace")]
    pub name: DisplayName,
}

/// What may change about a user.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateUser {
    /// Unique in the organization.
    #[schema(max_length = 254, format = Email)]
    pub email: Email,
    /// What they are called.
    #[schema(min_length = 1, max_length = 128)]
    pub name: DisplayName,
    /// Whether their keys count.
    pub status: UserStatus,
}

impl Editable for UpdateUser {
    const READ_ONLY: &'static [&'static str] =
        &["id", "organization_id", "created_at", "updated_at"];
}

/// Named because the documentation takes no generic of our own.
type UserPatch = MergePatch<UpdateUser>;

/// The query of a list of users.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UsersQuery {
    /// How many to return, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Only the one with this address.
    pub email: Option<Email>,
    /// Only those with this status.
    pub status: Option<UserStatus>,
}

/// A person in an organization.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct User {
    /// Their id.
    pub id: UserId,
    /// The organization they belong to.
    pub organization_id: OrganizationId,
    /// Unique in the organization.
    pub email: Email,
    /// What they are called.
    pub name: DisplayName,
    /// Whether their keys count.
    pub status: UserStatus,
    /// When they were added.
    pub created_at: DateTime<Utc>,
    /// When they last changed.
    pub updated_at: DateTime<Utc>,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.id,
            organization_id: row.organization_id,
            email: row.email,
            name: row.name,
            status: UserStatus::read(&row.status),
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
    let InOrganization { organization_id, actor, .. } = caller;
    let now = actor.now.naive_utc();
    let row = UserRow {
        id: actor.clock.new_id(),
        organization_id,
        email: body.0.email,
        name: body.0.name,
        status: UserStatus::Active.as_str().to_owned(),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    let created = plane
        .database
        .write(Concerns::Organization(organization_id), async move |conn: &mut Conn| {
            insert_user(conn, row.clone()).await.map_err(email_taken)?;
            let created = User::from(row);
            record(conn, &actor, "create_user", None, &created).await?;
            Ok::<_, ApiError>(created)
        })
        .await?;
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("/api/v1/users/{}", created.id)))
        .json(created))
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
    let organization_id = caller.organization_id;
    let query = query.0;
    let page = page::<UserId>(query.limit, query.cursor.as_deref())?;
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
    let organization_id = caller.organization_id;
    let row = plane
        .database
        .read(async move |conn: &mut Conn| existing(conn, organization_id, id).await)
        .await?;
    Ok(web::Json(row.into()))
}

/// Update a user
///
/// A JSON merge patch. Setting `status` to `active` lets the user's keys count again.
#[utoipa::path(
    patch,
    path = "/users/{user_id}",
    responses((status = 200, description = "The user as they are now", body = User), Conflicts),
)]
async fn update_user(
    caller: InOrganization<UsersWrite>,
    plane: web::Data<Management>,
    path: web::Path<String>,
    patch: Json<UserPatch>,
) -> Result<web::Json<User>, ApiError> {
    let id = path_id(&path, "user")?;
    let InOrganization { organization_id, actor, .. } = caller;
    let updated = plane
        .database
        .write(Concerns::Organization(organization_id), async move |conn: &mut Conn| {
            let before = User::from(existing(conn, organization_id, id).await?);
            let fields = patch.0.apply(&UpdateUser {
                email: before.email.clone(),
                name: before.name.clone(),
                status: before.status,
            })?;
            change(conn, &actor, "update_user", before, fields).await
        })
        .await?;
    Ok(web::Json(updated))
}

/// Deactivate a user
///
/// Stops the user's keys at once. The user stays in the list; `PATCH` with `status` `active` undoes
/// it.
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
    let InOrganization { organization_id, actor, .. } = caller;
    plane
        .database
        .write(Concerns::Organization(organization_id), async move |conn: &mut Conn| {
            let before = User::from(existing(conn, organization_id, id).await?);
            if before.status == UserStatus::Deactivated {
                return Ok::<_, ApiError>(());
            }
            let fields = UpdateUser {
                email: before.email.clone(),
                name: before.name.clone(),
                status: UserStatus::Deactivated,
            };
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
    fields: UpdateUser,
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
    record(conn, actor, operation, Some(&before), &after).await?;
    Ok(after)
}

async fn record(
    conn: &mut Conn,
    actor: &Actor,
    operation: &'static str,
    before: Option<&User>,
    after: &User,
) -> Result<(), ApiError> {
    let event = Event {
        operation,
        resource_type: "user",
        resource_id: after.id.to_string(),
        organization_id: Some(after.organization_id),
        workspace_id: None,
        before: before.map(as_json).transpose()?,
        after: Some(as_json(after)?),
    };
    Ok(audit::record(conn, actor, event).await?)
}

fn email_taken(error: DbError) -> ApiError {
    or_taken(
        error,
        "email_taken",
        "Another user of the organization has this 'email'; if that user is deactivated, set \
         their 'status' to 'active' instead.",
    )
}

/// Adds the operations.
pub(super) fn configure(routes: &mut Routes) {
    routes
        .tag("users")
        .add(__path_create_user, create_user)
        .add(__path_list_users, list_users)
        .add(__path_get_user, get_user)
        .add(__path_update_user, update_user)
        .add(__path_delete_user, delete_user);
}
