//! API keys: their written form, what is stored of them, and how a presented one is checked.
//!
//! ```text
//! tg_ AbCdEfGhIjKl _ <43 characters> <6 characters>
//!     lookup id      256 random bits  CRC32 of everything before
//! ```
//! All in base 62, always 65 characters. The lookup id is no secret: it finds the row. The checksum
//! refuses typos and what scanners try without a look at anything else.

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

/// What every key begins with. A credential without it is not ours and is never looked up.
const PREFIX: &str = "tg_";
const LOOKUP_CHARS: usize = 12;
const BEFORE_SECRET: usize = PREFIX.len() + LOOKUP_CHARS + 1;
const BEFORE_CHECKSUM: usize = BEFORE_SECRET + CHARS_256_BIT;
/// Length of every key, in characters.
const KEY_CHARS: usize = BEFORE_CHECKSUM + CHARS_32_BIT;

/// Why a text is not an API key. None of these says anything about which keys exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFormatError {
    /// It does not begin with `tg_`.
    #[error("an API key begins with {PREFIX}")]
    Prefix,
    /// It is too short or too long.
    #[error("an API key has {KEY_CHARS} characters")]
    Length,
    /// It has characters or separators where none can be.
    #[error("the API key has a character that cannot be there")]
    Characters,
    /// Its checksum does not fit: mistyped or made up.
    #[error("the API key is mistyped: its checksum does not fit")]
    Checksum,
}

/// Making or hashing a key failed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// No salt without randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The hash function refused its parameters.
    #[error("argon2 failed: {0}")]
    Argon2(String),
}

/// The public part of a key, by which its row is found. Twelve characters of base 62.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LookupId([u8; LOOKUP_CHARS]);

impl LookupId {
    /// The id as it is stored.
    pub fn as_str(&self) -> &str {
        // Every constructor admits ASCII only.
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

/// A well-formed key, its parts apart. Whether it is anybody's key is not yet known.
#[derive(Clone)]
pub struct ParsedApiKey {
    lookup_id: LookupId,
    secret: Zeroizing<[u8; CHARS_256_BIT]>,
}

impl ParsedApiKey {
    /// The part that finds the row.
    pub fn lookup_id(&self) -> LookupId {
        self.lookup_id
    }
}

impl fmt::Debug for ParsedApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ParsedApiKey({})", self.lookup_id)
    }
}

/// Reads the written form.
#[derive(Debug, Clone, Copy)]
pub struct ApiKeyText;

impl ApiKeyText {
    /// Whether a credential claims to be one of ours.
    pub fn is_ours(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Takes a key apart. Allocates nothing and costs one CRC of 59 bytes.
    pub fn parse(text: &str) -> Result<ParsedApiKey, KeyFormatError> {
        if !Self::is_ours(text) {
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

    /// Makes a new key. Its text is shown once and stored nowhere.
    pub fn generate(random: &mut Random<'_>) -> Result<NewApiKey, RandomError> {
        let lookup_id = LookupId(base62::random_chars(random)?);
        let mut number = Zeroizing::new([0; 32]);
        random(number.as_mut())?;
        let secret = base62::encode_256(number);
        // The full capacity at once: a growing String would leave copies behind.
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

/// A key that was just made.
#[derive(Debug)]
pub struct NewApiKey {
    /// What the caller gets, once.
    pub text: SecretText,
    /// The same key taken apart, for [`hash_secret`].
    pub parsed: ParsedApiKey,
    /// What the row is found by.
    pub lookup_id: LookupId,
    /// Display form: enough of the lookup id to recognise a key, nothing of its secret.
    pub short_key: String,
}

/// 64 KiB, one pass, one lane.
///
/// Right here, and wrong for passwords. A slow hash makes each guess at a secret dear, which matters
/// where people choose secrets that can be guessed. This secret is 256 random bits: at any price of
/// a guess there are too many guesses, so the hash only has to be one-way, and its cost would only
/// be paid by us, inline, on each first use of a key. These parameters take tens of microseconds.
/// A person's password needs the OWASP parameters (19 MiB, two passes, or more) and a thread of its
/// own.
fn argon2() -> Result<Argon2<'static>, HashError> {
    let params = Params::new(64, 1, 1, Some(32)).map_err(|e| HashError::Argon2(e.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Hashes the key's secret for storage, as a PHC string. See the note on its light parameters:
/// fit for 256 random bits, never for a password.
pub fn hash_secret(key: &ParsedApiKey, random: &mut Random<'_>) -> Result<String, HashError> {
    let mut salt = [0; 16];
    random(&mut salt)?;
    let hash: PasswordHash = argon2()?
        .hash_password_with_salt(key.secret.as_ref(), &salt)
        .map_err(|error| HashError::Argon2(error.to_string()))?;
    Ok(hash.to_string())
}

/// Whether the key's secret is the one that was hashed. A hash that cannot be read is a no.
pub fn verify_secret(key: &ParsedApiKey, phc: &str) -> bool {
    let (Ok(hash), Ok(argon2)) = (PasswordHash::new(phc), argon2()) else {
        return false;
    };
    argon2.verify_password(key.secret.as_ref(), &hash).is_ok()
}

/// Remembers verified keys without keeping them: a keyed digest under a key that lives and dies
/// with the process, so that a memory dump of a cache is no list of key hashes to compare with.
#[derive(Clone)]
pub struct KeyDigester {
    keyed: Hmac<Sha256>,
}

impl KeyDigester {
    /// A digester with a fresh key. Make one a process.
    pub fn new(random: &mut Random<'_>) -> Result<Self, RandomError> {
        let mut key = Zeroizing::new([0; 32]);
        random(key.as_mut())?;
        Ok(Self { keyed: keyed(&key) })
    }

    /// The digest of a key: lookup id and secret together.
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

/// What a [`KeyDigester`] made. Compared in constant time only, hence no `PartialEq`.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Constant-time comparison.
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
