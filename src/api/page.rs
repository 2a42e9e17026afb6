//! Lists in pages: `limit` and `cursor` in, `data` and `next_cursor` out.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::ApiError;
use crate::db::Page;

const DEFAULT_LIMIT: u16 = 50;
const MAX_LIMIT: u16 = 200;

/// The query of a list.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// The largest number of items to return, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub(super) limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    pub(super) cursor: Option<String>,
}

impl PageQuery {
    /// Reads the query of a list that is ordered by this type of id.
    pub(super) fn page<Id: From<Uuid>>(&self) -> Result<Page<Id>, ApiError> {
        page(self.limit, self.cursor.as_deref())
    }
}

/// Reads a list's `limit` and `cursor`.
pub(super) fn page<Id: From<Uuid>>(
    limit: Option<u16>,
    cursor: Option<&str>,
) -> Result<Page<Id>, ApiError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::field("limit", format!("must be 1 to {MAX_LIMIT}")));
    }
    let after = cursor
        .map(|cursor| {
            let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
            bytes.and_then(|bytes| Uuid::from_slice(&bytes).ok()).map(Id::from).ok_or_else(|| {
                ApiError::field("cursor", "must be the next_cursor of an earlier page")
            })
        })
        .transpose()?;
    Ok(Page { after, limit })
}

/// One page of a list.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Paged<T> {
    pub(super) data: Vec<T>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required = true)]
    pub(super) next_cursor: Option<String>,
}

impl<T> Paged<T> {
    /// A page of rows that were read with [`Page`], which reads one row more than it shows.
    pub(super) fn of<Row, Id>(
        rows: Vec<Row>,
        page: Page<Id>,
        id: impl Fn(&Row) -> Uuid,
        show: impl FnMut(Row) -> T,
    ) -> Self {
        let shown = usize::from(page.limit);
        let next_cursor = match (rows.len() > shown, rows.get(shown.saturating_sub(1))) {
            (true, Some(last)) => Some(URL_SAFE_NO_PAD.encode(id(last).as_bytes())),
            _ => None,
        };
        Self { data: rows.into_iter().take(shown).map(show).collect(), next_cursor }
    }

    /// If there is no next page: lets one begin after this row, the last one that was searched.
    pub(super) fn or_after(mut self, last_searched: Option<Uuid>) -> Self {
        self.next_cursor = self
            .next_cursor
            .or_else(|| last_searched.map(|id| URL_SAFE_NO_PAD.encode(id.as_bytes())));
        self
    }
}
