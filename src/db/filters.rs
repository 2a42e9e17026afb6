//! Filters that queries of several tables have in common. The macros take the module of a table.

use diesel::dsl::{AsExprOf, Eq, Gt};
use diesel::expression::AsExpression;
use diesel::query_dsl::methods::{FilterDsl, LimitDsl, OrderDsl};
use diesel::sql_types::{Nullable, SingleValue, Text};
use diesel::{Expression, ExpressionMethods};

use super::page::Page;
use crate::domain::ids::WorkspaceId;

/// The organization's rows that are not deleted.
macro_rules! live_of {
    ($table:ident, $organization_id:expr) => {
        $table::organization_id.eq($organization_id).and($table::deleted_at.is_null())
    };
}
pub(super) use live_of;

/// The workspace's rows.
macro_rules! of_workspace {
    ($table:ident, $scope:expr) => {
        $table::organization_id
            .eq($scope.organization_id)
            .and($table::workspace_id.eq($scope.workspace_id))
    };
}
pub(super) use of_workspace;

/// The rows of an organization as a whole or of one of its workspaces.
macro_rules! of_owner {
    ($table:ident, $owner:expr) => {
        $table::organization_id
            .eq($owner.organization_id())
            .and($crate::db::filters::same($table::workspace_id, $owner.workspace_id()))
    };
}
pub(super) use of_owner;

/// The columns that mark a row as deleted.
macro_rules! deleted {
    ($table:ident, $now:expr) => {
        ($table::deleted_at.eq(Some($now)), $table::updated_at.eq($now))
    };
}
pub(super) use deleted;

/// Restricts a boxed query to a page of its rows, oldest first.
pub(super) fn paged<Q, C, Id>(query: Q, id: C, page: Page<Id>) -> Q
where
    C: Expression<SqlType: SingleValue> + Copy,
    Id: AsExpression<C::SqlType>,
    Q: OrderDsl<C, Output = Q> + LimitDsl<Output = Q> + FilterDsl<Gt<C, Id>, Output = Q>,
{
    let query = query.order(id).limit(page.rows());
    match page.after {
        Some(after) => query.filter(id.gt(after)),
        None => query,
    }
}

/// Restricts a boxed query to the rows whose column has the value, if there is one.
pub(super) fn filter_given<Q, C, V>(query: Q, column: C, value: Option<V>) -> Q
where
    C: Expression<SqlType: SingleValue>,
    V: AsExpression<C::SqlType>,
    Q: FilterDsl<Eq<C, V>, Output = Q>,
{
    match value {
        Some(value) => query.filter(column.eq(value)),
        None => query,
    }
}

diesel::infix_operator!(Same, " IS NOT DISTINCT FROM ");

/// Whether a column has this value, or is null if there is none. Both databases have the operator; diesel
/// offers it for PostgreSQL only.
pub(super) fn same<C>(
    column: C,
    value: Option<WorkspaceId>,
) -> Same<C, AsExprOf<Option<WorkspaceId>, Nullable<Text>>>
where
    C: Expression<SqlType = Nullable<Text>>,
{
    Same::new(column, AsExpression::<Nullable<Text>>::as_expression(value))
}
