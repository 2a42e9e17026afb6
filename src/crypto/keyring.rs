//! The keyring: several master keys with ids. Its text form has one `<id> <base64 of 32 bytes>` on each line and
//! `#` comments. The first key is active: it wraps new data keys. The others open data keys that they
//! wrapped before.

use std::fmt;

use aes_gcm::{Aes256Gcm, KeyInit};
use base64::{Engine, engine::general_purpose::STANDARD};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::derive::derive;
use super::random::{Random, RandomError};
use super::secret::SecretText;

const MAX_ID_CHARS: usize = 64;
/// HKDF label of the key that wraps data keys.
const WRAP_LABEL: &[u8] = b"tollgate/v1/wrap-data-key";
/// HKDF label of the keys that placeholders are derived from, where a workspace has no data key.
const PLACEHOLDER_LABEL: &[u8] = b"tollgate/v1/placeholders-without-data-key";

/// A keyring's text is invalid. The errors name the line and not its content, which may be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringParseError {
    #[error("there is no master key in it; a line is `<id> <base64 of 32 bytes>`")]
    Empty,
    #[error("line {line}: expected `<id> <base64 of 32 bytes>`, found {parts} part(s)")]
    Parts { line: usize, parts: usize },
    #[error("line {line}: an id has 1 to {MAX_ID_CHARS} letters, digits, `.`, `_` or `-`")]
    Id { line: usize },
    #[error("line {line}: the key is not base64 (standard alphabet, with padding)")]
    Base64 { line: usize },
    #[error("line {line}: the key has {bytes} bytes, not 32")]
    Length { line: usize, bytes: usize },
    #[error("line {line}: the id `{id}` is used twice")]
    Duplicate { line: usize, id: String },
}

pub(super) struct MasterKey {
    id: String,
    key: Zeroizing<[u8; 32]>,
    /// Derived once, since it costs more than using it.
    wrap: Box<Aes256Gcm>,
}

impl MasterKey {
    fn new(id: String, key: Zeroizing<[u8; 32]>) -> Self {
        let wrap = Box::new(Aes256Gcm::new(&(*derive(&key, WRAP_LABEL)).into()));
        Self { id, key, wrap }
    }

    fn generate(random: &mut Random<'_>) -> Result<Self, RandomError> {
        let (mut id, mut key) = ([0; 4], Zeroizing::new([0; 32]));
        random(&mut id)?;
        random(key.as_mut())?;
        Ok(Self::new(format!("mk-{:08x}", u32::from_be_bytes(id)), key))
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn wrap_cipher(&self) -> &Aes256Gcm {
        &self.wrap
    }
}

/// The master keys of a process. One of them is active.
pub struct Keyring {
    active: MasterKey,
    older: Vec<MasterKey>,
}

impl Keyring {
    /// Parses the text form.
    pub fn parse(text: &str) -> Result<Self, KeyringParseError> {
        let mut keys: Vec<MasterKey> = Vec::new();
        for (line, content) in text.lines().enumerate().map(|(i, content)| (i + 1, content)) {
            let content = content.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            let mut parts = content.split_whitespace();
            let (Some(id), Some(encoded), None) = (parts.next(), parts.next(), parts.next()) else {
                return Err(KeyringParseError::Parts {
                    line,
                    parts: content.split_whitespace().count(),
                });
            };
            if !is_id(id) {
                return Err(KeyringParseError::Id { line });
            }
            let bytes = Zeroizing::new(
                STANDARD.decode(encoded).map_err(|_| KeyringParseError::Base64 { line })?,
            );
            let key = <[u8; 32]>::try_from(bytes.as_slice())
                .map_err(|_| KeyringParseError::Length { line, bytes: bytes.len() })?;
            if keys.iter().any(|other| other.id == id) {
                return Err(KeyringParseError::Duplicate { line, id: id.to_owned() });
            }
            keys.push(MasterKey::new(id.to_owned(), Zeroizing::new(key)));
        }
        let mut keys = keys.into_iter();
        let active = keys.next().ok_or(KeyringParseError::Empty)?;
        Ok(Self { active, older: keys.collect() })
    }

    /// A keyring with one new key.
    pub fn generate(random: &mut Random<'_>) -> Result<Self, RandomError> {
        Ok(Self { active: MasterKey::generate(random)?, older: Vec::new() })
    }

    /// Adds a new active key and returns its id. The other keys stay, to open what they wrapped.
    pub fn add_new_active(&mut self, random: &mut Random<'_>) -> Result<&str, RandomError> {
        let mut key = MasterKey::generate(random)?;
        while self.contains(&key.id) {
            key = MasterKey::generate(random)?;
        }
        self.older.insert(0, std::mem::replace(&mut self.active, key));
        Ok(&self.active.id)
    }

    /// The id of the key that wraps new data keys.
    pub fn active_id(&self) -> &str {
        &self.active.id
    }

    /// The key that the placeholders of a workspace without a data key are derived from. It changes with
    /// the active key.
    pub fn placeholder_key(&self, workspace_id: Uuid) -> Zeroizing<[u8; 32]> {
        derive(&derive(&self.active.key, PLACEHOLDER_LABEL), workspace_id.as_bytes())
    }

    /// The ids of all keys, the active one first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys().map(|key| key.id.as_str())
    }

    /// Whether there is a key with this id.
    pub fn contains(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    /// The text form for [`Keyring::parse`].
    pub fn to_text(&self) -> SecretText {
        // Allocated at full size, since a growing String would leave copies of keys in memory.
        let size = 128 + self.keys().map(|key| key.id.len() + 64).sum::<usize>();
        let mut text = Zeroizing::new(String::with_capacity(size));
        text.push_str(
            "# Tollgate master keys. The first is the active one. Keep a copy elsewhere.\n",
        );
        for key in self.keys() {
            let mut encoded = Zeroizing::new([0; 44]);
            // 32 bytes are exactly 44 characters.
            let written = STANDARD.encode_slice(key.key.as_slice(), encoded.as_mut()).unwrap_or(0);
            text.push_str(&key.id);
            text.push(' ');
            text.extend(encoded.iter().take(written).copied().map(char::from));
            text.push('\n');
        }
        SecretText::from(std::mem::take(&mut *text))
    }

    pub(super) fn active(&self) -> &MasterKey {
        &self.active
    }

    pub(super) fn find(&self, id: &str) -> Option<&MasterKey> {
        self.keys().find(|key| key.id == id)
    }

    fn keys(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.active).chain(&self.older)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Keyring")?;
        formatter.debug_list().entries(self.ids()).finish()
    }
}

fn is_id(id: &str) -> bool {
    (1..=MAX_ID_CHARS).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
#[path = "tests/keyring.rs"]
mod tests;
