//! `/usage`: what was used and what it cost, by time and group.

mod csv;
mod query;
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

use query::{UsageParameters, UsageQuery, check_filter};
use report::{UsageReport, report};

/// The largest number of groups in an answer.
const MAX_GROUPS: usize = 10_000;

/// Read usage
///
/// Tokens, cost and counts, by interval and group. Everything belongs to the hour in which its
/// request was admitted. An organization's key sees its organization, a workspace's key its
/// workspace; a platform key sees totals of organizations: it may group by `organization` and filter
/// by `organization_id`, and nothing else.
///
/// Sorted by start, then by the groups in the order of `group_by`; groups without usage are left out. With
/// `Accept: text/csv` the groups come as a table whose texts are safe to open in a spreadsheet: one
/// that begins with `=`, `+`, `-`, `@`, a tab or a line break has a `'` put before it.
#[utoipa::path(
    get,
    path = "/usage",
    params(UsageParameters),
    responses((
            status = 200,
            description = "The figures",
            content((UsageReport = "application/json"), (String = "text/csv")),
        ), NotFound),
)]
async fn get_usage(
    caller: Permitted<UsageRead>,
    plane: web::Data<Management>,
    query: Query<UsageParameters>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let scope = caller.scope;
    let query = query.check(|query| UsageQuery::parse(query, scope, caller.actor.now))?;
    let report = plane
        .database
        .read(async move |conn: &mut Conn| {
            check_filter(conn, scope, &query.filter).await?;
            let UsageQuery { filter, interval, group_by } = &query;
            let groups = list_usage(conn, scope, filter, *interval, group_by, MAX_GROUPS).await?;
            let groups = groups.ok_or_else(too_many)?;
            report(conn, scope, query, groups).await
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
        "makes more than {MAX_GROUPS} groups; choose a shorter time, a longer interval, fewer \
         dimensions or filters"
    );
    ApiError::field("group_by", message)
}

/// Whether the caller prefers CSV to JSON. JSON is the default.
fn wants_csv(request: &HttpRequest) -> bool {
    let Ok(accept) = Accept::parse(request) else { return false };
    let preferred = accept.ranked().into_iter().find_map(|kind| match kind.essence_str() {
        "text/csv" => Some(true),
        "application/json" | "application/*" | "*/*" => Some(false),
        _ => None,
    });
    preferred.unwrap_or(false)
}

pub(super) fn configure(routes: &mut Routes) {
    routes.tag("usage").add(__path_get_usage, get_usage);
}
