//! Master keys, envelope encryption of provider secrets, the form and hash of API keys, and whom
//! TLS trusts.
//!
//! A master key wraps one data key a workspace; a data key seals that workspace's secrets. Keys of
//! different purposes are derived with HKDF and a label, never shared. Rows and blobs come in as
//! plain values: this room knows no database, no HTTP and no clock beyond the file it reads again.
//! Randomness is passed in, so that a test can say what it is.

mod api_key;
mod base62;
mod derive;
mod envelope;
mod keyring;
mod keyring_file;
mod keyring_handle;
mod random;
mod secret;
mod tls;

pub use api_key::{
    ApiKeyText, HashError, KeyDigest, KeyDigester, KeyFormatError, LookupId, NewApiKey,
    ParsedApiKey, hash_secret, verify_secret,
};
pub use envelope::{
    DataKey, EnvelopeError, SecretContext, WrappedDataKey, fingerprint, open, rewrap_data_key,
    seal, unwrap_data_key, wrap_data_key,
};
pub use keyring::{Keyring, KeyringParseError};
pub use keyring_file::KeyringFileError;
pub use keyring_handle::{KeyringError, KeyringHandle, KeyringSource, Reload};
pub use random::{Random, RandomError, system_random};
pub use secret::{SecretBytes, SecretText};
pub use tls::{TlsConfigError, tls_client_config};
