//! Master keys, envelope encryption of provider secrets, the format and hash of API keys, and the
//! certificates that TLS trusts.
//!
//! Master keys wrap one data key for each workspace, and one for an organization's own secrets, which seal
//! the secrets. Keys for
//! different purposes are derived with HKDF and a label. This module uses no database, no HTTP and no
//! clock, except to limit how often the key file is read. Randomness is passed in, so that tests can
//! choose it.

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
pub(crate) use derive::{derive, keyed};
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
