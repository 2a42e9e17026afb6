//! Pages of a list, as table functions take them.

/// How many rows, after which one. Lists are ordered by id.
#[derive(Clone, Copy, Debug)]
pub struct Page<Id> {
    /// The last row of the page before.
    pub after: Option<Id>,
    /// How many rows the page holds at most.
    pub limit: u16,
}

impl<Id> Page<Id> {
    /// How many rows to ask the database for: one more than the page holds, which tells whether
    /// another page follows.
    pub(super) fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }
}
