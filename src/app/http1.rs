//! What actix-web leaves undone on connections of HTTP/1.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse};
use actix_web::error::{InternalError, PayloadError};
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::http::{ConnectionType, Version};
use actix_web::{Error, HttpMessage};
use bytes::Bytes;
use futures_util::Stream;

/// Answers a request, on a connection that neither side can keep open against the other's will.
pub(super) fn answer<S>(
    mut request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse, Error>> + use<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error>,
{
    let body = ChunkedBody::of(&mut request);
    let takes_chunks = request.version() >= Version::HTTP_11;
    let answering = service.call(request);
    async move {
        let mut response = match (answering.await, body.clone()) {
            (Ok(response), _) => response,
            (Err(error), None) => return Err(error),
            (Err(error), Some(body)) => {
                let response = error.as_response_error().error_response();
                let response = response.map_body(|_, answer| BoxBody::new(Answer { answer, body }));
                return Err(InternalError::from_response(error, response).into());
            }
        };
        if !takes_chunks && response.response().body().size() == BodySize::Stream {
            // Callers of HTTP/1.0 know no chunks (RFC 9112, section 6.1): the body ends with the connection.
            let head = response.response_mut().head_mut();
            head.no_chunking(true);
            head.set_connection_type(ConnectionType::Close);
        }
        Ok(match body {
            None => response,
            Some(body) => response.map_body(|_, answer| BoxBody::new(Answer { answer, body })),
        })
    }
}

/// The body of a request that comes in chunks. Clones are the same body.
///
/// When a request is answered before its body has come, actix-http closes the connection. If the body comes
/// in chunks it waits for the rest instead, however long that takes and is, unless somebody still holds the
/// body.
#[derive(Clone)]
struct ChunkedBody(Rc<RefCell<Payload>>);

impl ChunkedBody {
    /// Holds the body of the request, if that comes in chunks.
    fn of(request: &mut ServiceRequest) -> Option<Self> {
        if !request.headers().contains_key(TRANSFER_ENCODING) {
            return None;
        }
        let body = Self(Rc::new(RefCell::new(request.take_payload())));
        request.set_payload(Payload::Stream { payload: Box::pin(body.clone()) });
        Some(body)
    }
}

impl Stream for ChunkedBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(cx)
    }
}

/// The body of an answer, which holds that of the request until its end.
struct Answer {
    answer: BoxBody,
    #[expect(dead_code, reason = "it is held, not read")]
    body: ChunkedBody,
}

impl MessageBody for Answer {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.answer.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.answer).poll_next(cx)
    }
}
