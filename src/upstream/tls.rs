//! TLS towards upstreams: what to speak.

use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;

use crate::crypto::{TlsConfigError, tls_client_config};

/// The TLS configuration for upstreams: Mozilla's roots and the extra CAs, HTTP/1.1 only. Make it
/// once and share it, since it holds the cache of TLS sessions.
pub fn tls_config(extra_ca_pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, TlsConfigError> {
    let mut config = tls_client_config(extra_ca_pem)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
