//! Pages of lists.

/// A page of a list that is ordered by id.
#[derive(Clone, Copy, Debug)]
pub struct Page<Id> {
    /// The last row of the previous page.
    pub after: Option<Id>,
    /// The most rows of the page.
    pub limit: u16,
}

impl<Id> Page<Id> {
    /// How many rows to query: one more than the page has, to know whether another page follows.
    pub(super) fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }
}
