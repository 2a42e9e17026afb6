//! The demo's HTTP client, which calls the gateway like any other client.

use std::net::SocketAddr;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use awc::{Client, ClientResponse};
use futures_util::StreamExt;
use serde_json::Value;

use super::DemoError;
use crate::crypto::SecretText;

/// Everything runs on this machine, so a call that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client of one gateway.
pub(super) struct GatewayClient {
    address: SocketAddr,
    http: Client,
}

/// A successful response.
pub(super) struct Answer {
    pub(super) request_id: String,
    pub(super) body: Value,
}

impl GatewayClient {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, http: Client::builder().timeout(TIMEOUT).finish() }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends and receives JSON. Returns an error unless the status is a success.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        key: &SecretText,
        body: &Value,
    ) -> Result<Answer, DemoError> {
        let failed = failure(&method, path);
        let mut response = self.begin(&method, path, key, body).await?;
        let request_id = request_id(response.headers());
        let body = response.json().await.map_err(|error| failed(error.to_string()))?;
        Ok(Answer { request_id, body })
    }

    /// Sends JSON and calls `on_data` with the data of each event when it arrives.
    pub(super) async fn stream(
        &self,
        path: &str,
        key: &SecretText,
        body: &Value,
        mut on_data: impl FnMut(&str),
    ) -> Result<String, DemoError> {
        let failed = failure(&Method::POST, path);
        let mut response = self.begin(&Method::POST, path, key, body).await?;
        let mut events = EventData::default();
        while let Some(chunk) = response.next().await {
            let chunk = chunk.map_err(|error| failed(error.to_string()))?;
            events.push(&chunk, &mut on_data);
        }
        Ok(request_id(response.headers()))
    }

    async fn begin(
        &self,
        method: &Method,
        path: &str,
        key: &SecretText,
        body: &Value,
    ) -> Result<
        ClientResponse<
            impl futures_util::Stream<Item = Result<bytes::Bytes, actix_http::error::PayloadError>>
            + use<>,
        >,
        DemoError,
    > {
        let failed = failure(method, path);
        let mut response = self
            .http
            .request(method.clone(), format!("http://{}{path}", self.address))
            .insert_header((AUTHORIZATION, format!("Bearer {}", key.expose())))
            .send_json(body)
            .await
            .map_err(|error| failed(error.to_string()))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let text = response.body().await.unwrap_or_default();
        Err(failed(format!("{} {}", response.status(), String::from_utf8_lossy(&text))))
    }
}

fn failure(method: &Method, path: &str) -> impl Fn(String) -> DemoError + use<> {
    let request = format!("{method} {path}");
    move |problem| DemoError::Call { request: request.clone(), problem }
}

fn request_id(headers: &HeaderMap) -> String {
    let id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
    id.unwrap_or("none").to_owned()
}

/// Parses a stream of events whose data is one line each, as in chat streams.
#[derive(Default)]
struct EventData(Vec<u8>);

impl EventData {
    fn push(&mut self, chunk: &[u8], on_data: &mut impl FnMut(&str)) {
        self.0.extend_from_slice(chunk);
        while let Some(end) = memchr::memchr(b'\n', &self.0) {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some(data) = line.trim_end().strip_prefix("data: ") {
                on_data(data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_parsed_wherever_chunks_end() {
        let text = "data: {\"a\":\"é\"}\n\n: a comment\r\ndata: [DONE]\r\n\r\n".as_bytes();
        for cut in 0..text.len() {
            let (mut found, mut events) = (Vec::new(), EventData::default());
            for part in [&text[..cut], &text[cut..]] {
                events.push(part, &mut |data: &str| found.push(data.to_owned()));
            }
            assert_eq!(found, ["{\"a\":\"é\"}", "[DONE]"], "cut at {cut}");
        }
    }
}
