//! Opens connections for awc's pool: resolves, asks the egress rules about every address, connects
//! and does the TLS handshake, all within the attempt's connect limit.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use actix_http::Uri;
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use futures_util::future::LocalBoxFuture;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::TlsConnector;

use super::{
    attempt::Attempt, response_validator::ValidatedConnection, sweeper::Sweeper,
    transport::Transport,
};
use crate::upstream::{egress::EgressRules, error::UpstreamError};

/// awc's connector service. With TLS for one of the two clients, without for the other.
#[derive(Clone)]
pub(in crate::upstream) struct Dialer {
    inner: Rc<Inner>,
}

struct Inner {
    egress: EgressRules,
    tls: Option<TlsConnector>,
    sweeper: Rc<Sweeper>,
}

impl Dialer {
    pub(in crate::upstream) fn new(
        egress: EgressRules,
        tls: Option<TlsConnector>,
        keep_alive: Duration,
    ) -> Self {
        Self { inner: Rc::new(Inner { egress, tls, sweeper: Sweeper::start(keep_alive) }) }
    }
}

impl Service<ConnectInfo<Uri>> for Dialer {
    type Response = Connection<Uri, ValidatedConnection>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let inner = Rc::clone(&self.inner);
        Box::pin(async move {
            let uri = info.request().clone();
            // awc's own error only ends its future; the attempt keeps the precise one.
            let attempt = Attempt::current().ok_or(ConnectError::Unresolved)?;
            attempt.mark_dialed();
            let dial = inner.dial(&uri, Instant::now() + attempt.connect_timeout);
            match tokio::time::timeout(attempt.connect_timeout, dial).await {
                Ok(Ok(transport)) => {
                    let connection = ValidatedConnection::new(transport);
                    inner.sweeper.watch(connection.line());
                    Ok(Connection::new(uri, connection))
                }
                Ok(Err(error)) => {
                    attempt.fail(error);
                    Err(ConnectError::Unresolved)
                }
                Err(_) => {
                    attempt.fail(UpstreamError::ConnectTimeout);
                    Err(ConnectError::Unresolved)
                }
            }
        })
    }
}

impl Inner {
    async fn dial(&self, uri: &Uri, deadline: Instant) -> Result<Transport, UpstreamError> {
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
            return Err(UpstreamError::InvalidRequest("the URL has no host or no port".into()));
        };
        // IPv6 addresses have brackets in a URI, and nowhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = self.allowed_addresses(host, port).await?;
        let tcp = connect(&addresses, deadline).await?;
        // Without it, small chunks wait up to 40 ms for a delayed acknowledgement.
        tcp.set_nodelay(true).map_err(UpstreamError::Connect)?;
        let Some(tls) = &self.tls else {
            return Ok(Transport::Plain(tcp));
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| UpstreamError::Tls(io::Error::other(error)))?;
        let stream = tls.connect(name, tcp).await.map_err(UpstreamError::Tls)?;
        Ok(Transport::Tls(Box::new(stream)))
    }

    /// The host's addresses that the egress rules let out; an error if that is none.
    async fn allowed_addresses(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, UpstreamError> {
        let resolved = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => tokio::net::lookup_host((host, port))
                .await
                .map_err(UpstreamError::Resolve)?
                .collect(),
        };
        let mut refusal = None;
        let mut allowed = Vec::with_capacity(resolved.len());
        for address in resolved {
            match self.egress.check(address.ip(), self.tls.is_none()) {
                Ok(()) => allowed.push(address),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        match refusal {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(refusal) => Err(refusal.into()),
            None => Err(UpstreamError::Resolve(io::Error::other("no addresses"))),
        }
    }
}

/// Tries the addresses in turn, each with its share of the time that is left, so that one that
/// swallows packets does not use it all.
async fn connect(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, UpstreamError> {
    let mut last = None;
    for (tried, address) in (0_u32..).zip(addresses) {
        let untried = u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_sub(tried);
        let share = deadline.saturating_duration_since(Instant::now()) / untried.max(1);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => last = Some(UpstreamError::Connect(error)),
            Err(_) => last = Some(UpstreamError::ConnectTimeout),
        }
    }
    Err(last.unwrap_or(UpstreamError::ConnectTimeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn small_writes_do_not_wait_for_an_acknowledgement() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let egress = EgressRules::new(vec!["127.0.0.0/8".parse().unwrap()]);
        let limit = Duration::from_secs(10);
        let dialer = Dialer::new(egress, None, limit);
        match dialer.inner.dial(&uri, Instant::now() + limit).await.unwrap() {
            Transport::Plain(tcp) => assert!(tcp.nodelay().unwrap()),
            Transport::Tls(_) => panic!("TLS for plain http"),
        }
    }

    #[actix_web::test]
    async fn the_next_address_is_tried_when_one_does_not_answer() {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refusing = closed.local_addr().unwrap();
        drop(closed);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [refusing, listener.local_addr().unwrap()];
        let deadline = Instant::now() + Duration::from_secs(10);
        let tcp = connect(&addresses, deadline).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), addresses[1]);
    }
}
