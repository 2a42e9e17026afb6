//! API keys: their format, what is stored of them, and how a presented key is checked.
//!
//! ```text
//! tg_ AbCdEfGhIjKl _ <43 characters> <6 characters>
//!     lookup id      256 random bits  CRC32 of everything before
//! ```
//! The variable parts are base 62; a key always has 65 characters. The lookup id is not secret: it identifies the row.
//! The checksum detects typos and the guesses of scanners without a lookup.

use std::fmt;

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version,
    password_hash::phc::PasswordHash,
};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::base62::{self, CHARS_32_BIT, CHARS_256_BIT};
use super::derive::keyed;
use super::random::{Random, RandomError};
use super::secret::SecretText;

/// The beginning of every key. Credentials without it are never looked up.
const PREFIX: &str = "tg_";
const LOOKUP_CHARS: usize = 12;
const BEFORE_SECRET: usize = PREFIX.len() + LOOKUP_CHARS + 1;
const BEFORE_CHECKSUM: usize = BEFORE_SECRET + CHARS_256_BIT;
/// The length of every key, in characters.
const KEY_CHARS: usize = BEFORE_CHECKSUM + CHARS_32_BIT;

/// Why a text is not an API key. None of the reasons discloses which keys exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFormatError {
    #[error("an API key begins with {PREFIX}")]
    Prefix,
    #[error("an API key has {KEY_CHARS} characters")]
    Length,
    #[error("the API key has an invalid character")]
    Characters,
    #[error("the API key is mistyped: its checksum is wrong")]
    Checksum,
}

/// Generating or hashing a key failed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    #[error(transparent)]
    Random(#[from] RandomError),
    #[error("argon2 failed: {0}")]
    Argon2(String),
}

/// The public part of a key, which identifies its row: twelve characters of base 62.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LookupId([u8; LOOKUP_CHARS]);

impl LookupId {
    /// The text form.
    pub fn as_str(&self) -> &str {
        // Every constructor accepts only ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for LookupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for LookupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LookupId({self})")
    }
}

impl std::str::FromStr for LookupId {
    type Err = KeyFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let chars = text.as_bytes().try_into().map_err(|_| KeyFormatError::Length)?;
        if !base62::is_base62(text.as_bytes()) {
            return Err(KeyFormatError::Characters);
        }
        Ok(Self(chars))
    }
}

/// A well-formed key. Whether it exists is not known.
#[derive(Clone)]
pub struct ParsedApiKey {
    lookup_id: LookupId,
    secret: Zeroizing<[u8; CHARS_256_BIT]>,
}

impl ParsedApiKey {
    /// The part that identifies the row.
    pub fn lookup_id(&self) -> LookupId {
        self.lookup_id
    }
}

impl fmt::Debug for ParsedApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ParsedApiKey({})", self.lookup_id)
    }
}

/// Parses and generates the text form of keys.
#[derive(Debug, Clone, Copy)]
pub struct ApiKeyText;

impl ApiKeyText {
    /// Whether a credential begins like an API key.
    pub fn has_prefix(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Parses a key. Costs one CRC of 59 bytes and no allocation.
    pub fn parse(text: &str) -> Result<ParsedApiKey, KeyFormatError> {
        if !Self::has_prefix(text) {
            return Err(KeyFormatError::Prefix);
        }
        let bytes: &[u8; KEY_CHARS] =
            text.as_bytes().try_into().map_err(|_| KeyFormatError::Length)?;
        let (body, checksum) = bytes.split_at(BEFORE_CHECKSUM);
        let (head, secret) = body.split_at(BEFORE_SECRET);
        let lookup = head
            .strip_prefix(PREFIX.as_bytes())
            .and_then(|rest| rest.strip_suffix(b"_"))
            .ok_or(KeyFormatError::Characters)?;
        if !(base62::is_base62(lookup) && base62::is_base62(secret) && base62::is_base62(checksum))
        {
            return Err(KeyFormatError::Characters);
        }
        if base62::encode_32(crc32fast::hash(body)) != checksum {
            return Err(KeyFormatError::Checksum);
        }
        Ok(ParsedApiKey {
            lookup_id: LookupId(lookup.try_into().map_err(|_| KeyFormatError::Length)?),
            secret: Zeroizing::new(secret.try_into().map_err(|_| KeyFormatError::Length)?),
        })
    }

    /// Generates a new key. Its text is shown once and not stored.
    pub fn generate(random: &mut Random<'_>) -> Result<NewApiKey, RandomError> {
        let lookup_id = LookupId(base62::random_chars(random)?);
        let mut number = Zeroizing::new([0; 32]);
        random(number.as_mut())?;
        let secret = base62::encode_256(number);
        // Allocated at full size, since a growing String would leave copies in memory.
        let mut text = Zeroizing::new(String::with_capacity(KEY_CHARS));
        text.push_str(PREFIX);
        text.push_str(lookup_id.as_str());
        text.push('_');
        text.extend(secret.iter().copied().map(char::from));
        let checksum = base62::encode_32(crc32fast::hash(text.as_bytes()));
        text.extend(checksum.iter().copied().map(char::from));
        let short_key = format!("{PREFIX}{}…", lookup_id.as_str().get(..6).unwrap_or_default());
        Ok(NewApiKey {
            text: SecretText::from(std::mem::take(&mut *text)),
            parsed: ParsedApiKey { lookup_id, secret },
            lookup_id,
            short_key,
        })
    }
}

/// A new key.
#[derive(Debug)]
pub struct NewApiKey {
    /// The whole key, which is shown once.
    pub text: SecretText,
    /// The same key, for [`hash_secret`].
    pub parsed: ParsedApiKey,
    pub lookup_id: LookupId,
    /// The display form: the beginning of the lookup id, nothing of the secret.
    pub short_key: String,
}

/// Light parameters (64 KiB, one pass, one lane), which take tens of microseconds.
///
/// They are right for keys and wrong for passwords. A slow hash protects secrets that can be guessed. This
/// secret has 256 random bits, which cannot be guessed at any speed, so the hash only has to be one-way, and
/// a slow one would only delay the first use of each key, since it runs inline. Passwords of people need the
/// OWASP parameters (19 MiB, two passes, or more) and a thread of their own.
fn argon2() -> Result<Argon2<'static>, HashError> {
    let params = Params::new(64, 1, 1, Some(32)).map_err(|e| HashError::Argon2(e.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Hashes the key's secret for storage as a PHC string. Never use it for passwords: see `argon2()`.
pub fn hash_secret(key: &ParsedApiKey, random: &mut Random<'_>) -> Result<String, HashError> {
    let mut salt = [0; 16];
    random(&mut salt)?;
    let hash: PasswordHash = argon2()?
        .hash_password_with_salt(key.secret.as_ref(), &salt)
        .map_err(|error| HashError::Argon2(error.to_string()))?;
    Ok(hash.to_string())
}

/// Whether the key's secret matches the hash. False if the hash cannot be parsed.
pub fn verify_secret(key: &ParsedApiKey, phc: &str) -> bool {
    let (Ok(hash), Ok(argon2)) = (PasswordHash::new(phc), argon2()) else {
        return false;
    };
    argon2.verify_password(key.secret.as_ref(), &hash).is_ok()
}

/// Makes digests of verified keys for a cache, keyed with a random key of this process, so that a dump of
/// the cache does not contain hashes that can be compared with other data.
#[derive(Clone)]
pub struct KeyDigester {
    keyed: Hmac<Sha256>,
}

impl KeyDigester {
    /// A digester with a new key. Create one for each process.
    pub fn new(random: &mut Random<'_>) -> Result<Self, RandomError> {
        let mut key = Zeroizing::new([0; 32]);
        random(key.as_mut())?;
        Ok(Self { keyed: keyed(&key) })
    }

    /// The digest of lookup id and secret.
    pub fn digest(&self, key: &ParsedApiKey) -> KeyDigest {
        let mut mac = self.keyed.clone();
        mac.update(&key.lookup_id.0);
        mac.update(key.secret.as_ref());
        KeyDigest(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for KeyDigester {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyDigester(..)")
    }
}

/// A digest by a [`KeyDigester`]. Has no `PartialEq`, so that it is only compared in constant time.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Compares in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyDigest(..)")
    }
}

#[cfg(test)]
#[path = "tests/api_key.rs"]
mod tests;
