//! An answer that is scanned, so that it may have to be refused before it begins.

use std::future::poll_fn;
use std::pin::Pin;

use actix_web::HttpResponse;
use actix_web::body::{BoxBody, MessageBody};

use super::policy_headers::insert_policy_headers;
use super::relay_body::{BrokenOff, RelayBody, State};
use crate::llm::format::Format;
use crate::telemetry::request_record::RequestOutcome;

/// An answer that is scanned, before anything of it has gone down.
pub struct ScannedAnswer {
    pub head: HttpResponse<()>,
    pub body: RelayBody,
    pub error_format: Format,
}

impl ScannedAnswer {
    /// The answer, once it is known that it may begin; otherwise an error of the gateway.
    pub async fn begin(self) -> HttpResponse {
        let Self { head, mut body, error_format } = self;
        let first = poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await;
        let Some(error) = body.refused.take() else {
            body.has_begun = true;
            match first {
                Some(Ok(first)) => body.first = Some(first),
                Some(Err(BrokenOff)) => body.state = State::Failed,
                None => {}
            }
            return head.set_body(BoxBody::new(body));
        };
        let context = &mut body.context;
        let id = context.request.record().ids.request_id;
        let mut response = error.response(error_format, id);
        insert_policy_headers(response.headers_mut(), context.policy_report.as_deref());
        context.request.record().status = Some(response.status().as_u16());
        body.finish(RequestOutcome::Refused);
        response
    }
}
