//! The built-in demonstration upstream: an OpenAI-compatible responder on a port of its own, which
//! says of itself that it is no model. It answers with what it was told, a word at a time.

mod chat;
mod error;
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
use error::UpstreamRefusal;

/// The one model that it pretends to have.
pub const MODEL: &str = "tollgate-demo";

/// Between two words of a stream: slow enough to be seen arriving, quick enough not to bore.
const PAUSE: Duration = Duration::from_millis(40);

/// As large as the gateway's own limit, so that this is never the smaller of the two.
const MOST_BODY: usize = 32 * 1024 * 1024;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A running demonstration upstream.
#[derive(Debug)]
pub struct DemoUpstream {
    address: SocketAddr,
    server: ServerHandle,
}

/// What its handlers work with.
struct Responder {
    key: SecretText,
    clock: Clock,
    pause: Duration,
}

impl DemoUpstream {
    /// Listens and serves. Must run inside an actix system. Callers have to present `key`.
    pub fn start(address: SocketAddr, key: SecretText, clock: Clock) -> std::io::Result<Self> {
        Self::start_paced(address, key, clock, PAUSE)
    }

    fn start_paced(
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
                .app_data(web::PayloadConfig::new(MOST_BODY))
                .wrap(from_fn(let_in))
                .route("/v1/chat/completions", web::post().to(chat::complete))
                .route("/v1/responses", web::post().to(responses::create))
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a model configuration names as its base URL.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Stops it, open streams included.
    pub async fn stop(self) {
        self.server.stop(false).await;
    }
}

impl Responder {
    /// An id as OpenAI writes them: what it is of, and something unique.
    fn id(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.clock.new_id::<Uuid>().simple())
    }

    fn seconds(&self) -> i64 {
        self.clock.now().timestamp()
    }

    fn accepts(&self, headers: &HeaderMap) -> Result<(), UpstreamRefusal> {
        let credential = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, credential)| credential.trim())
            .ok_or(UpstreamRefusal::NoKey)?;
        let right = self.key.expose().as_bytes().ct_eq(credential.as_bytes());
        if right.into() { Ok(()) } else { Err(UpstreamRefusal::WrongKey) }
    }
}

/// Asks for the key, and gives every answer an id.
async fn let_in(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let responder = request.app_data::<web::Data<Responder>>().cloned();
    let refused =
        responder.as_ref().and_then(|responder| responder.accepts(request.headers()).err());
    let mut response = match refused {
        Some(refusal) => {
            request.into_response(HttpResponse::from_error(refusal)).map_into_boxed_body()
        }
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
) -> Result<web::Json<Value>, UpstreamRefusal> {
    known(&id)?;
    Ok(web::Json(model(&responder)))
}

async fn unknown_url(request: HttpRequest) -> UpstreamRefusal {
    UpstreamRefusal::UnknownUrl(format!("{} {}", request.method(), request.path()))
}

fn model(responder: &Responder) -> Value {
    json!({
        "id": MODEL,
        "object": "model",
        "created": responder.seconds(),
        "owned_by": "tollgate",
    })
}

/// Whether a model is the one there is.
fn known(model: &str) -> Result<(), UpstreamRefusal> {
    if model == MODEL { Ok(()) } else { Err(UpstreamRefusal::UnknownModel(model.to_owned())) }
}

/// A request's body, as far as both operations read it alike.
struct Asked {
    body: Value,
    stream: bool,
}

impl Asked {
    fn read(bytes: &[u8]) -> Result<Self, UpstreamRefusal> {
        let body: Value = serde_json::from_slice(bytes).map_err(|_| UpstreamRefusal::NotJson)?;
        let model = body["model"].as_str().ok_or(UpstreamRefusal::Missing("model"))?;
        known(model)?;
        let stream = body["stream"].as_bool().unwrap_or(false);
        Ok(Self { body, stream })
    }
}

#[cfg(test)]
mod tests;
