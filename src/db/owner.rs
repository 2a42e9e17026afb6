//! How tables whose rows belong to an organization as a whole or to one of its workspaces are filtered.

use diesel::Expression;
use diesel::dsl::AsExprOf;
use diesel::expression::AsExpression;
use diesel::sql_types::{Nullable, Text};

use crate::domain::ids::WorkspaceId;

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
