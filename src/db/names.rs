//! What things are called, deleted ones included: for records that outlive what they speak of.

use std::collections::HashMap;

use diesel::QueryableByName;
use diesel::sql_types::Text;

use super::sql::{MAX_LISTED, Sql};
use super::{Conn, DbError};
use crate::domain::ids::OrganizationId;
use crate::domain::scope::WorkspaceScope;

/// Kinds of things that have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    Workspace,
    User,
    ApiKey,
    Configuration,
}

impl Named {
    fn table(self) -> &'static str {
        match self {
            Self::Workspace => "workspaces",
            Self::User => "users",
            Self::ApiKey => "api_keys",
            Self::Configuration => "model_configurations",
        }
    }
}

#[derive(QueryableByName)]
struct NameRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    name: String,
}

/// The names of those of the organization's things that have these ids, by id.
pub async fn find_names(
    conn: &mut Conn,
    organization_id: OrganizationId,
    what: Named,
    ids: &[String],
) -> Result<HashMap<String, String>, DbError> {
    let mut names = HashMap::new();
    for some in ids.chunks(MAX_LISTED) {
        let mut sql = Sql::of(conn);
        sql.push("SELECT id, name FROM ").push(what.table());
        sql.push(" WHERE organization_id = ").text(organization_id.to_string());
        sql.and_one_of("id", some);
        names.extend(sql.load::<NameRow>(conn).await?.into_iter().map(|row| (row.id, row.name)));
    }
    Ok(names)
}

/// The names of the organizations that have these ids, by id.
pub async fn find_organization_names(
    conn: &mut Conn,
    ids: &[String],
) -> Result<HashMap<String, String>, DbError> {
    let mut names = HashMap::new();
    for some in ids.chunks(MAX_LISTED) {
        let mut sql = Sql::of(conn);
        sql.push("SELECT id, name FROM organizations WHERE 1 = 1").and_one_of("id", some);
        names.extend(sql.load::<NameRow>(conn).await?.into_iter().map(|row| (row.id, row.name)));
    }
    Ok(names)
}

/// Whether the organization has, or had, this workspace.
pub async fn was_workspace(conn: &mut Conn, scope: WorkspaceScope) -> Result<bool, DbError> {
    let id = [scope.workspace_id.to_string()];
    let found = find_names(conn, scope.organization_id, Named::Workspace, &id).await?;
    Ok(!found.is_empty())
}
