//! `/usage`: what was used and what it cost, by time and group.

mod csv;
mod question;
mod report;

use actix_web::http::header::{Accept, CONTENT_DISPOSITION, Header, VARY};
use actix_web::{HttpRequest, HttpResponse, web};

use super::Management;
use super::access::{Permitted, UsageRead};
use super::error::ApiError;
use super::query::Query;
use super::routes::Routes;
use super::shared::NotFound;
use crate::db::Conn;
use crate::db::usage::list_usage;
pub use question::UsageQuery;
pub use report::{UsageItem, UsageReport};

use question::{Question, check_places};
use report::report;

/// How many groups an answer holds at most.
const MAX_GROUPS: usize = 10_000;

/// Read usage
///
/// Tokens, cost and counts, by interval and group. Everything belongs to the instant at which its
/// request was admitted, so ranges that adjoin add up. An hour whose requests are no longer kept counts
/// as a whole with the range that holds its beginning. An organization's key sees its organization, a workspace's key its
/// workspace; a platform key sees organizations as wholes: it may group by `organization` and filter
/// by `organization_id`, and nothing else.
///
/// Sorted by start, then by the groups in the order asked for; what nobody used is left out. With
/// `Accept: text/csv` the groups come as a table whose texts are safe to open in a spreadsheet: one
/// that begins with `=`, `+`, `-`, `@`, a tab or a line break has a `'` put before it.
#[utoipa::path(
    get,
    path = "/usage",
    params(UsageQuery),
    responses((
            status = 200,
            description = "The figures",
            content((UsageReport = "application/json"), (String = "text/csv")),
        ), NotFound),
)]
async fn get_usage(
    caller: Permitted<UsageRead>,
    plane: web::Data<Management>,
    query: Query<UsageQuery>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let scope = caller.principal.scope;
    let question = Question::read(query.0, scope, caller.actor.now)?;
    let report = plane
        .database
        .read(async move |conn: &mut Conn| {
            check_places(conn, scope, &question.filter).await?;
            let Question { filter, interval, group_by } = &question;
            let groups = list_usage(conn, scope, filter, *interval, group_by, MAX_GROUPS).await?;
            let groups = groups.ok_or_else(too_many)?;
            report(conn, scope, question, groups).await
        })
        .await?;
    let mut response = HttpResponse::Ok();
    response.insert_header((VARY, "accept"));
    if wants_csv(&request) {
        return Ok(response
            .content_type("text/csv; charset=utf-8")
            .insert_header((CONTENT_DISPOSITION, "attachment; filename=\"usage.csv\""))
            .body(csv::table(&report)?));
    }
    Ok(response.json(report))
}

fn too_many() -> ApiError {
    let message = format!(
        "makes more than {MAX_GROUPS} groups; ask for less time, a longer interval, fewer groups, \
         or filter"
    );
    ApiError::field("group_by", message)
}

/// Whether the caller likes a table better than JSON. Who likes neither gets JSON.
fn wants_csv(request: &HttpRequest) -> bool {
    let Ok(accept) = Accept::parse(request) else { return false };
    let liked = accept.ranked().into_iter().find_map(|kind| match kind.essence_str() {
        "text/csv" => Some(true),
        "application/json" | "application/*" | "*/*" => Some(false),
        _ => None,
    });
    liked.unwrap_or(false)
}

/// Adds the operation.
pub(super) fn configure(routes: &mut Routes) {
    routes.tag("usage").add(__path_get_usage, get_usage);
}
