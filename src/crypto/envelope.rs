//! Envelope encryption with AES-256-GCM: a master key wraps an owner's data key, the data key
//! seals its secrets.
//!
//! A sealed value has one byte of format version, twelve bytes of nonce, the ciphertext and its tag. Its row
//! is part of the associated data, so a value that was copied to another row does not open. Nonces are
//! random: a data key seals the secrets of one owner, far fewer than the 2^32 messages after which
//! NIST SP 800-38D requires a new key.

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

// One label for each purpose, for derived keys and for associated data.
const SEAL_LABEL: &[u8] = b"tollgate/v1/seal-secret";
const FINGERPRINT_LABEL: &[u8] = b"tollgate/v1/fingerprint-secret";
/// HKDF label of the key that placeholders are derived from.
const PLACEHOLDER_LABEL: &[u8] = b"tollgate/v1/placeholders";
const WRAPPED_LABEL: &[u8] = b"tollgate/v1/wrapped-data-key";

/// Hex characters of a fingerprint: 48 bits distinguish the values of one owner.
const FINGERPRINT_CHARS: usize = 12;

/// Sealing or opening failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Reading the key file again may help.
    #[error("the master key `{0}` is not in the keyring")]
    UnknownMasterKey(String),
    /// The key is wrong, or the value was changed or copied from another row. These cases cannot be distinguished.
    #[error("the ciphertext does not open: it was altered, moved, or sealed under another key")]
    DoesNotOpen,
    /// Written by a later version.
    #[error("the ciphertext has the unknown format {0}")]
    UnknownFormat(u8),
    #[error("the ciphertext is too short")]
    CutShort,
    #[error(transparent)]
    Random(#[from] RandomError),
}

struct DataKeyInner {
    key: Zeroizing<[u8; 32]>,
    /// Derived once, since it costs more than opening a secret, which happens for every request.
    seal: Aes256Gcm,
    fingerprint: Zeroizing<[u8; 32]>,
}

/// The data key of a workspace, or of an organization as a whole. Cheap to clone; zeroized when the last clone is dropped.
#[derive(Clone)]
pub struct DataKey(Arc<DataKeyInner>);

impl DataKey {
    /// A new random key.
    pub fn generate(random: &mut Random<'_>) -> Result<Self, RandomError> {
        let mut key = Zeroizing::new([0; 32]);
        random(key.as_mut())?;
        Ok(Self::new(key))
    }

    /// The key that the placeholders of the owner's requests are derived from.
    pub fn placeholder_key(&self) -> Zeroizing<[u8; 32]> {
        derive(&self.0.key, PLACEHOLDER_LABEL)
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

/// The stored form of a data key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedDataKey {
    pub master_key_id: String,
    pub sealed: Vec<u8>,
}

/// Identifies a secret's value. It is part of the associated data: the ciphertext opens only with the same
/// context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretContext {
    pub owner_id: Uuid,
    pub secret_id: Uuid,
    /// Prevents that an old value is restored.
    pub version: i64,
}

impl SecretContext {
    /// Every field has a fixed width, so that different contexts differ.
    fn associated_data(&self) -> Vec<u8> {
        [
            SEAL_LABEL,
            &[FORMAT],
            self.owner_id.as_bytes(),
            self.secret_id.as_bytes(),
            &self.version.to_be_bytes(),
        ]
        .concat()
    }
}

fn wrap_associated_data(owner_id: Uuid, data_key_id: Uuid, master_key_id: &str) -> Vec<u8> {
    // Only the last part has a variable width.
    [
        WRAPPED_LABEL,
        &[FORMAT],
        owner_id.as_bytes(),
        data_key_id.as_bytes(),
        master_key_id.as_bytes(),
    ]
    .concat()
}

/// Wraps a data key under the active master key.
pub fn wrap_data_key(
    keyring: &Keyring,
    data_key: &DataKey,
    owner_id: Uuid,
    data_key_id: Uuid,
    random: &mut Random<'_>,
) -> Result<WrappedDataKey, EnvelopeError> {
    let master = keyring.active();
    let context = wrap_associated_data(owner_id, data_key_id, master.id());
    let sealed = seal_with(master.wrap_cipher(), &context, data_key.0.key.as_slice(), random)?;
    Ok(WrappedDataKey { master_key_id: master.id().to_owned(), sealed })
}

/// Opens a data key with the master key that wrapped it.
pub fn unwrap_data_key(
    keyring: &Keyring,
    wrapped: &WrappedDataKey,
    owner_id: Uuid,
    data_key_id: Uuid,
) -> Result<DataKey, EnvelopeError> {
    let id = &wrapped.master_key_id;
    let master = keyring.find(id).ok_or_else(|| EnvelopeError::UnknownMasterKey(id.clone()))?;
    let context = wrap_associated_data(owner_id, data_key_id, id);
    let opened = open_with(master.wrap_cipher(), &context, &wrapped.sealed)?;
    let key = opened.expose().try_into().map_err(|_| EnvelopeError::DoesNotOpen)?;
    Ok(DataKey::new(Zeroizing::new(key)))
}

/// Wraps a data key under the active master key; `None` if it is already. The data key does not change, so
/// secrets need not be sealed again.
pub fn rewrap_data_key(
    keyring: &Keyring,
    wrapped: &WrappedDataKey,
    owner_id: Uuid,
    data_key_id: Uuid,
    random: &mut Random<'_>,
) -> Result<Option<WrappedDataKey>, EnvelopeError> {
    if wrapped.master_key_id == keyring.active_id() {
        return Ok(None);
    }
    let data_key = unwrap_data_key(keyring, wrapped, owner_id, data_key_id)?;
    wrap_data_key(keyring, &data_key, owner_id, data_key_id, random).map(Some)
}

/// Seals a secret's value.
pub fn seal(
    data_key: &DataKey,
    context: &SecretContext,
    plaintext: &[u8],
    random: &mut Random<'_>,
) -> Result<Vec<u8>, EnvelopeError> {
    seal_with(&data_key.0.seal, &context.associated_data(), plaintext, random)
}

/// Opens a secret's value.
pub fn open(
    data_key: &DataKey,
    context: &SecretContext,
    sealed: &[u8],
) -> Result<SecretBytes, EnvelopeError> {
    open_with(&data_key.0.seal, &context.associated_data(), sealed)
}

/// A short keyed hash of a value. Shows whether two secrets of an owner are equal; guesses cannot be checked
/// without the data key.
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
    sealed: &[u8],
) -> Result<SecretBytes, EnvelopeError> {
    let (&format, rest) = sealed.split_first().ok_or(EnvelopeError::CutShort)?;
    if format != FORMAT {
        return Err(EnvelopeError::UnknownFormat(format));
    }
    let (nonce, ciphertext) =
        rest.split_first_chunk::<NONCE_BYTES>().ok_or(EnvelopeError::CutShort)?;
    if ciphertext.len() < TAG_BYTES {
        return Err(EnvelopeError::CutShort);
    }
    // Decrypted in place, in a buffer that is zeroized in every case.
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    cipher
        .decrypt_in_place(&(*nonce).into(), associated_data, &mut *buffer)
        .map_err(|_| EnvelopeError::DoesNotOpen)?;
    Ok(SecretBytes::from(std::mem::take(&mut *buffer)))
}

#[cfg(test)]
#[path = "tests/envelope.rs"]
mod tests;
