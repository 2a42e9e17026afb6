//! What belongs to one proxied request. The handler owns it; with the answer it moves into the body.

use std::net::IpAddr;

use actix_web::http::ConnectionType;
use actix_web::{HttpResponse, body::BoxBody};

use super::error::ProxyError;
use super::policy_headers::insert_policy_headers;
use super::restore::{AnswerRestorer, NameSearch};
use crate::accounting::budget::Share;
use crate::accounting::request::AccountedRequest;
use crate::llm::format::Format;
use crate::policy::admission::PolicyReport;
use crate::policy::guard::placeholder::ConversationId;
use crate::telemetry::OpenStream;
use crate::telemetry::request_ids::RequestIds;
use crate::telemetry::request_record::RequestOutcome;
use crate::telemetry::request_reporter::RequestReporter;

/// A proxied request. Dropping it finishes it: the caller has left.
pub struct RequestContext {
    pub request: AccountedRequest,
    /// Reported in the head of the answer.
    pub policy_report: Option<Box<PolicyReport>>,
    /// Puts values back into the answer, if the guard has replaced some.
    pub restorer: Option<Box<AnswerRestorer>>,
    /// Asks for the names in the answer, where that is needed.
    pub name_search: Option<Box<NameSearch>>,
    /// Its conversation, if a guard has scanned all of it: what the provider stores of its answer may be
    /// referred to under a guard.
    pub guarded: Option<ConversationId>,
    /// Its place among all requests under way.
    pub permit: Option<Share>,
    /// Its body is sent on as it arrives, so an error leaves some of it unread.
    pub streams_body: bool,
    open_stream: Option<OpenStream>,
}

impl RequestContext {
    /// Of a request that has just arrived. Boxed, since it moves into the body of the answer.
    pub fn new(
        reporter: &RequestReporter,
        ids: RequestIds,
        client_address: Option<IpAddr>,
    ) -> Box<Self> {
        let request = AccountedRequest::new(reporter, ids, client_address);
        Box::new(Self {
            request,
            policy_report: None,
            restorer: None,
            name_search: None,
            guarded: None,
            permit: None,
            streams_body: false,
            open_stream: None,
        })
    }

    /// The answer is a stream, which may take hours.
    pub fn stream_begins(&mut self) {
        self.open_stream = Some(self.request.metrics().open_stream());
        self.request.shorten_sent();
    }

    /// The gateway's own answer, which is no error.
    pub fn complete(
        mut self: Box<Self>,
        mut response: HttpResponse<BoxBody>,
    ) -> HttpResponse<BoxBody> {
        insert_policy_headers(response.headers_mut(), self.policy_report.as_deref());
        self.request.record().status = Some(response.status().as_u16());
        self.request.finish(RequestOutcome::Completed);
        response
    }

    /// The gateway's own answer, instead of an upstream's, in the form that callers of this format
    /// expect.
    pub fn refuse(
        mut self: Box<Self>,
        error: &ProxyError,
        format: Format,
    ) -> HttpResponse<BoxBody> {
        let mut response = error.response(format, self.request.record().ids.request_id);
        insert_policy_headers(response.headers_mut(), self.policy_report.as_deref());
        if self.streams_body {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        let row = error.row();
        let record = self.request.record();
        record.status = Some(row.status.as_u16());
        record.code = Some(row.code);
        self.request.finish(RequestOutcome::Refused);
        response
    }
}
