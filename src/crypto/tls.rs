//! The TLS configuration of clients: which certificates are trusted.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, crypto::ring};

/// A TLS configuration is invalid.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    #[error("the extra CA certificates are not valid PEM: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error("there is no certificate among the extra CA certificates")]
    NoCertificate,
    /// A certificate cannot be a trust anchor, or the protocol configuration is invalid.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// A configuration that trusts Mozilla's roots and the extra certificate authorities.
pub fn tls_client_config(extra_ca_pem: Option<&[u8]>) -> Result<ClientConfig, TlsConfigError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = extra_ca_pem {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate?)?;
        }
        if roots.len() == before {
            return Err(TlsConfigError::NoCertificate);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
