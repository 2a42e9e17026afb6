//! One log line and one count for each request outside the data plane.

use std::net::IpAddr;
use std::time::Instant;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::{Error, HttpMessage, web};

use crate::api::Management;
use crate::auth::Principal;
use crate::domain::ids::WorkspaceId;
use crate::telemetry::request_ids::{ErrorCode, RequestIds, milliseconds, route_label};

/// A request that has arrived and not been answered.
pub(super) struct ManagementRequest {
    began: Instant,
    ids: Option<RequestIds>,
    method: Method,
    client_address: Option<IpAddr>,
    plane: web::Data<Management>,
}

impl ManagementRequest {
    pub(super) fn begin(request: &ServiceRequest, ids: Option<RequestIds>) -> Option<Self> {
        let plane = request.app_data::<web::Data<Management>>()?.clone();
        Some(Self {
            began: Instant::now(),
            ids,
            method: request.method().clone(),
            client_address: plane.trusted_proxies.client_address(request.request()),
            plane,
        })
    }

    pub(super) fn end<B>(self, outcome: &Result<ServiceResponse<B>, Error>) {
        let status = match outcome {
            Ok(response) => response.status(),
            Err(error) => error.as_response_error().status_code(),
        };
        let response = outcome.as_ref().ok();
        let request = response.map(ServiceResponse::request);
        let pattern = request.and_then(|request| request.match_pattern());
        let route = pattern.as_deref().map_or("unknown".into(), route_label);
        self.plane.metrics.http_request("management", &route, status.as_u16());

        // Health checks, metrics and documentation are read every few seconds.
        let is_operation = route.starts_with("/api/") || route.starts_with("/v1/");
        if !is_operation && status.as_u16() < 400 {
            return;
        }
        let principal =
            request.and_then(|request| request.extensions().get::<Principal>().copied());
        let scope = principal.map(|principal| principal.scope);
        let key_id = principal.and_then(|principal| principal.api_key_id());
        let organization_id = scope.and_then(|scope| scope.organization_id());
        let in_path =
            |name| request.and_then(|request| request.match_info().get(name)?.parse().ok());
        let workspace_id: Option<WorkspaceId> =
            scope.and_then(|scope| scope.workspace_id()).or_else(|| in_path("workspace_id"));
        let code = response.and_then(|response| {
            response.response().extensions().get::<ErrorCode>().map(|code| code.0.clone())
        });
        let message = match status.as_u16() {
            ..400 => "management request completed",
            400..500 => "management request refused",
            _ => "management request failed",
        };
        tracing::info!(
            // The line has all the fields of its span.
            parent: None,
            request_id = self.ids.as_ref().map(|ids| tracing::field::display(ids.request_id)),
            client_request_id = self.ids.as_ref().and_then(|ids| ids.client_request_id.as_deref()),
            client_address = self.client_address.map(tracing::field::display),
            method = %self.method,
            route = &*route,
            status = status.as_u16(),
            code = code.as_deref(),
            organization_id = organization_id.map(tracing::field::display),
            workspace_id = workspace_id.map(tracing::field::display),
            key_id = key_id.map(tracing::field::display),
            duration_ms = milliseconds(self.began.elapsed()),
            "{message}"
        );
    }
}
