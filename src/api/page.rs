//! Lists in pages: `limit` and `cursor` in, `data` and `next_cursor` out.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::ApiError;
use crate::db::Page;

const DEFAULT_LIMIT: u16 = 50;
const MOST: u16 = 200;

/// The query of a list.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// How many to return, 1 to 200; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PageQuery {
    /// Reads the query, for a list that is ordered by this kind of id.
    pub fn page<Id: From<Uuid>>(&self) -> Result<Page<Id>, ApiError> {
        page(self.limit, self.cursor.as_deref())
    }
}

/// Reads a list's `limit` and `cursor`.
pub fn page<Id: From<Uuid>>(
    limit: Option<u16>,
    cursor: Option<&str>,
) -> Result<Page<Id>, ApiError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(ApiError::field("limit", format!("must be 1 to {MOST}")));
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
pub struct Paged<T> {
    /// The items of this page.
    pub data: Vec<T>,
    /// Where the next page begins; null on the last.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

impl<T> Paged<T> {
    /// Makes a page of rows that were asked for with [`Page`], which fetches one row more than it
    /// shows.
    pub fn of<Row, Id>(
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

    /// Where the rows that were found have no next page: lets it begin after this one, the last
    /// that was looked at.
    pub fn or_after(mut self, looked_at: Option<Uuid>) -> Self {
        self.next_cursor =
            self.next_cursor.or_else(|| looked_at.map(|id| URL_SAFE_NO_PAD.encode(id.as_bytes())));
        self
    }
}
