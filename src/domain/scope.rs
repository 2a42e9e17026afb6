//! Where an operation takes place. Table functions take one of these instead of loose ids, so that
//! every query is bound to its tenant.

use super::ids::{OrganizationId, WorkspaceId};

/// Inside one workspace. Queries filter on both ids, so a workspace of another organization is not
/// found even if its id is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkspaceScope {
    /// The tenant.
    pub organization_id: OrganizationId,
    /// The workspace in it.
    pub workspace_id: WorkspaceId,
}
