//! The built-in upstream: a server on a port of its own, which speaks OpenAI's formats and Anthropic's and
//! repeats the last message.
//! Its answers say that it is not a model.

mod chat;
mod error;
mod messages;
mod reply;
mod responses;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServerHandle, ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::clock::Clock;
use crate::crypto::SecretText;
use error::UpstreamError;

/// The name of its only model.
pub const MODEL: &str = "tollgate-demo";

/// The pause between two words of a stream, long enough to see them arrive.
const WORD_PAUSE: Duration = Duration::from_millis(40);

/// The same as the gateway's limit.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// Where callers of Anthropic's format send the key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A running built-in upstream.
#[derive(Debug)]
pub struct DemoUpstream {
    address: SocketAddr,
    server: ServerHandle,
}

/// The state of the handlers.
struct Responder {
    key: SecretText,
    clock: Clock,
    pause: Duration,
}

impl DemoUpstream {
    /// Starts the server, which accepts only `key`. Has to run in an actix system.
    pub fn start(address: SocketAddr, key: SecretText, clock: Clock) -> std::io::Result<Self> {
        Self::start_with_pause(address, key, clock, WORD_PAUSE)
    }

    fn start_with_pause(
        address: SocketAddr,
        key: SecretText,
        clock: Clock,
        pause: Duration,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let responder = Arc::new(Responder { key, clock, pause });
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::from(responder.clone()))
                .app_data(web::PayloadConfig::new(MAX_BODY))
                .wrap(from_fn(authorize))
                .route("/v1/chat/completions", web::post().to(chat::complete))
                .route("/v1/responses", web::post().to(responses::create))
                .route("/v1/messages", web::post().to(messages::create))
                .route("/v1/models", web::get().to(list_models))
                .route("/v1/models/{id}", web::get().to(get_model))
                .default_service(web::to(unknown_url))
        })
        .workers(1)
        .tcp_nodelay(true)
        .disable_signals()
        .listen(listener)?
        .run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Ok(Self { address, server: handle })
    }

    /// The base URL for a model configuration.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Stops the server and its open streams.
    pub async fn stop(self) {
        self.server.stop(false).await;
    }
}

impl Responder {
    /// An id in OpenAI's format: a prefix and a unique part.
    fn id(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.clock.new_id::<Uuid>().simple())
    }

    fn seconds(&self) -> i64 {
        self.clock.now().timestamp()
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), UpstreamError> {
        let bearer = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, credential)| credential.trim());
        let key = headers.get(API_KEY).and_then(|value| value.to_str().ok());
        let credential = bearer.or(key).ok_or(UpstreamError::NoKey)?;
        let is_equal = self.key.expose().as_bytes().ct_eq(credential.as_bytes());
        if is_equal.into() { Ok(()) } else { Err(UpstreamError::WrongKey) }
    }
}

/// Checks the key and sets `x-request-id` on every response.
async fn authorize(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let responder = request.app_data::<web::Data<Responder>>().cloned();
    let error =
        responder.as_ref().and_then(|responder| responder.check_key(request.headers()).err());
    let mut response = match error {
        Some(error) => request.into_response(HttpResponse::from_error(error)).map_into_boxed_body(),
        None => next.call(request).await?.map_into_boxed_body(),
    };
    if let Some(id) = responder.map(|responder| responder.id("req_"))
        && let Ok(id) = HeaderValue::from_str(&id)
    {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    Ok(response)
}

async fn list_models(responder: web::Data<Responder>) -> web::Json<Value> {
    web::Json(json!({"object": "list", "data": [model(&responder)]}))
}

async fn get_model(
    responder: web::Data<Responder>,
    id: web::Path<String>,
) -> Result<web::Json<Value>, UpstreamError> {
    check_model(&id)?;
    Ok(web::Json(model(&responder)))
}

async fn unknown_url(request: HttpRequest) -> UpstreamError {
    UpstreamError::UnknownUrl(format!("{} {}", request.method(), request.path()))
}

fn model(responder: &Responder) -> Value {
    json!({
        "id": MODEL,
        "object": "model",
        "created": responder.seconds(),
        "owned_by": "tollgate",
    })
}

/// Fails unless the model is [`MODEL`].
fn check_model(model: &str) -> Result<(), UpstreamError> {
    if model == MODEL { Ok(()) } else { Err(UpstreamError::UnknownModel(model.to_owned())) }
}

/// A request's body and the fields that both operations have.
struct RequestBody {
    body: Value,
    stream: bool,
}

impl RequestBody {
    fn parse(bytes: &[u8]) -> Result<Self, UpstreamError> {
        let body: Value = serde_json::from_slice(bytes).map_err(|_| UpstreamError::NotJson)?;
        let model = body["model"].as_str().ok_or(UpstreamError::Missing("model"))?;
        check_model(model)?;
        let stream = body["stream"].as_bool().unwrap_or(false);
        Ok(Self { body, stream })
    }
}

#[cfg(test)]
mod tests;
