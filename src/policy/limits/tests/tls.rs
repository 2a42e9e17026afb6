//! A Redis that speaks TLS.

use std::time::Duration;

use super::super::{Counters, Redis, RedisOptions};
use super::redis_server::{RedisServer, free_port};
use super::support::{Tenant, eventually};
use crate::clock::Clock;
use crate::config::SpendWithoutRedis;
use crate::domain::window::SpendWindow;
use crate::telemetry::Metrics;

/// Counters behind the name under which a certificate is presented, or another.
fn redis_at(host: &str, port: u16, ca_pem: Option<&str>) -> Redis {
    let options = RedisOptions {
        url: format!("rediss://{host}:{port}").parse().unwrap(),
        ca_pem: ca_pem.map(|pem| pem.as_bytes().to_vec()),
        deadline: Duration::from_secs(10),
        spend_without: SpendWithoutRedis::Refuse,
    };
    Redis::open(options, &Clock::default(), &Metrics::new()).unwrap()
}

async fn admits(redis: &Redis) -> bool {
    let tenant = Tenant::new(Counters::Redis(redis.clone()));
    let claim = tenant.spend(SpendWindow::Monthly, 100, 10);
    tenant.reserve_at(tenant.clock.now(), &[claim]).await.1.is_ok()
}

#[tokio::test]
async fn a_redis_with_a_private_authority_is_trusted_if_configured() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pem = made.cert.pem();
    let certificate = file("certificate.pem", &pem);
    let key = file("key.pem", &made.signing_key.serialize_pem());
    let port = free_port().await;
    let tls_port = port.to_string();
    let options = ["--tls-port", &tls_port, "--tls-cert-file", &certificate];
    let more = ["--tls-key-file", &key, "--tls-auth-clients", "no"];
    let _server = RedisServer::start_with(&[options, more].concat()).await;

    let trusting = redis_at("localhost", port, Some(&pem));
    eventually("Redis is reached over TLS", async || admits(&trusting).await).await;
    for (host, ca) in [("localhost", None), ("127.0.0.1", Some(pem.as_str()))] {
        let strict = redis_at(host, port, ca);
        assert!(!admits(&strict).await, "{host}");
        assert!(!strict.is_up(), "{host}");
    }
}
