//! Envelope encryption with AES-256-GCM: a master key wraps a workspace's data key, the data key
//! seals its secrets.
//!
//! A blob is one byte of format version, twelve of nonce, the ciphertext and its tag. What a blob
//! belongs to is authenticated with it, so a row that was moved elsewhere does not open. Nonces are
//! random: a data key seals one workspace's secrets, far from the 2^32 messages after which NIST
//! SP 800-38D wants a new key.

use std::sync::Arc;

use aes_gcm::aead::{Aead, AeadInOut, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use hmac::Mac;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::derive::{derive, keyed};
use super::keyring::Keyring;
use super::random::{Random, RandomError};
use super::secret::SecretBytes;

const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// Labels: one a purpose, for derived keys and for associated data alike.
const SEAL_LABEL: &[u8] = b"tollgate/v1/seal-secret";
const FINGERPRINT_LABEL: &[u8] = b"tollgate/v1/fingerprint-secret";
const WRAPPED_LABEL: &[u8] = b"tollgate/v1/wrapped-data-key";

/// Hex characters of a fingerprint: 48 bits tell one workspace's values apart and give nothing away
/// without the key.
const FINGERPRINT_CHARS: usize = 12;

/// Sealing or opening failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The keyring lacks the key that wrapped this. Reading the key file again may help.
    #[error("the master key `{0}` is not in the keyring")]
    UnknownMasterKey(String),
    /// Wrong key, altered, or belonging to something else: these look the same by design.
    #[error("the ciphertext does not open: it was altered, moved, or sealed under another key")]
    DoesNotOpen,
    /// Written by something that is not ours, or by a later version.
    #[error("the ciphertext has the unknown format {0}")]
    UnknownFormat(u8),
    /// Too short to be a ciphertext.
    #[error("the ciphertext is cut short")]
    CutShort,
    /// No nonce without randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

struct DataKeyInner {
    key: Zeroizing<[u8; 32]>,
    /// Made once a key: the data plane opens a secret per request, and deriving costs more than that.
    seal: Aes256Gcm,
    fingerprint: Zeroizing<[u8; 32]>,
}

/// A workspace's data key. Cheap to clone; wiped when the last clone goes.
#[derive(Clone)]
pub struct DataKey(Arc<DataKeyInner>);

impl DataKey {
    /// A new key.
    pub fn generate(random: &mut Random<'_>) -> Result<Self, RandomError> {
        let mut key = Zeroizing::new([0; 32]);
        random(key.as_mut())?;
        Ok(Self::new(key))
    }

    fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(Arc::new(DataKeyInner {
            seal: Aes256Gcm::new(&(*derive(&key, SEAL_LABEL)).into()),
            fingerprint: derive(&key, FINGERPRINT_LABEL),
            key,
        }))
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DataKey(..)")
    }
}

/// A data key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedDataKey {
    /// The master key that opens it.
    pub master_key_id: String,
    /// The blob.
    pub sealed: Vec<u8>,
}

/// Where a secret lives. Bound to its ciphertext: it opens there and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretContext {
    /// The workspace that owns it.
    pub workspace_id: Uuid,
    /// The secret's row.
    pub secret_id: Uuid,
    /// Which of its values, so that an old one cannot be put back.
    pub version: i64,
}

impl SecretContext {
    /// Fixed widths after a label of its own: no two contexts read the same.
    fn associated_data(&self) -> Vec<u8> {
        [
            SEAL_LABEL,
            &[FORMAT],
            self.workspace_id.as_bytes(),
            self.secret_id.as_bytes(),
            &self.version.to_be_bytes(),
        ]
        .concat()
    }
}

fn wrap_associated_data(workspace_id: Uuid, data_key_id: Uuid, master_key_id: &str) -> Vec<u8> {
    // The one part of varying width stands last.
    [
        WRAPPED_LABEL,
        &[FORMAT],
        workspace_id.as_bytes(),
        data_key_id.as_bytes(),
        master_key_id.as_bytes(),
    ]
    .concat()
}

/// Wraps a data key under the active master key.
pub fn wrap_data_key(
    keyring: &Keyring,
    data_key: &DataKey,
    workspace_id: Uuid,
    data_key_id: Uuid,
    random: &mut Random<'_>,
) -> Result<WrappedDataKey, EnvelopeError> {
    let master = keyring.active();
    let context = wrap_associated_data(workspace_id, data_key_id, master.id());
    let sealed = seal_with(master.wrap_cipher(), &context, data_key.0.key.as_slice(), random)?;
    Ok(WrappedDataKey { master_key_id: master.id().to_owned(), sealed })
}

/// Opens a data key with the master key that wrapped it.
pub fn unwrap_data_key(
    keyring: &Keyring,
    wrapped: &WrappedDataKey,
    workspace_id: Uuid,
    data_key_id: Uuid,
) -> Result<DataKey, EnvelopeError> {
    let id = &wrapped.master_key_id;
    let master = keyring.find(id).ok_or_else(|| EnvelopeError::UnknownMasterKey(id.clone()))?;
    let context = wrap_associated_data(workspace_id, data_key_id, id);
    let opened = open_with(master.wrap_cipher(), &context, &wrapped.sealed)?;
    let key = opened.expose().try_into().map_err(|_| EnvelopeError::DoesNotOpen)?;
    Ok(DataKey::new(Zeroizing::new(key)))
}

/// Wraps a data key under the active master key, or `None` if it already is. The data key itself
/// stays, so nothing that it sealed changes.
pub fn rewrap_data_key(
    keyring: &Keyring,
    wrapped: &WrappedDataKey,
    workspace_id: Uuid,
    data_key_id: Uuid,
    random: &mut Random<'_>,
) -> Result<Option<WrappedDataKey>, EnvelopeError> {
    if wrapped.master_key_id == keyring.active_id() {
        return Ok(None);
    }
    let data_key = unwrap_data_key(keyring, wrapped, workspace_id, data_key_id)?;
    wrap_data_key(keyring, &data_key, workspace_id, data_key_id, random).map(Some)
}

/// Seals a secret's value for its place.
pub fn seal(
    data_key: &DataKey,
    context: &SecretContext,
    plaintext: &[u8],
    random: &mut Random<'_>,
) -> Result<Vec<u8>, EnvelopeError> {
    seal_with(&data_key.0.seal, &context.associated_data(), plaintext, random)
}

/// Opens a secret's value in its place.
pub fn open(
    data_key: &DataKey,
    context: &SecretContext,
    sealed: &[u8],
) -> Result<SecretBytes, EnvelopeError> {
    open_with(&data_key.0.seal, &context.associated_data(), sealed)
}

/// A short keyed mark of a value: tells whether two secrets of a workspace are the same, and cannot
/// be tried out without its data key.
pub fn fingerprint(data_key: &DataKey, plaintext: &[u8]) -> String {
    let mut mac = keyed(&data_key.0.fingerprint);
    mac.update(plaintext);
    let mut text: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(FINGERPRINT_CHARS);
    text
}

fn seal_with(
    cipher: &Aes256Gcm,
    associated_data: &[u8],
    plaintext: &[u8],
    random: &mut Random<'_>,
) -> Result<Vec<u8>, EnvelopeError> {
    let mut nonce = [0; NONCE_BYTES];
    random(&mut nonce)?;
    let payload = Payload { msg: plaintext, aad: associated_data };
    let sealed = cipher.encrypt(&nonce.into(), payload).map_err(|_| EnvelopeError::DoesNotOpen)?;
    Ok([&[FORMAT], nonce.as_slice(), &sealed].concat())
}

fn open_with(
    cipher: &Aes256Gcm,
    associated_data: &[u8],
    blob: &[u8],
) -> Result<SecretBytes, EnvelopeError> {
    let (&format, rest) = blob.split_first().ok_or(EnvelopeError::CutShort)?;
    if format != FORMAT {
        return Err(EnvelopeError::UnknownFormat(format));
    }
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(EnvelopeError::CutShort)?;
    if sealed.len() < TAG_BYTES {
        return Err(EnvelopeError::CutShort);
    }
    // In place, in a buffer that is wiped whatever happens.
    let mut buffer = Zeroizing::new(sealed.to_vec());
    cipher
        .decrypt_in_place(&(*nonce).into(), associated_data, &mut *buffer)
        .map_err(|_| EnvelopeError::DoesNotOpen)?;
    Ok(SecretBytes::from(std::mem::take(&mut *buffer)))
}

#[cfg(test)]
#[path = "tests/envelope.rs"]
mod tests;
