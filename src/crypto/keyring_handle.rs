//! The shared keyring of a running process. It is read again when a key is missing, so that master keys can
//! be rotated while the server runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::keyring::{Keyring, KeyringParseError};
use super::keyring_file::{self, FileVersion, KeyringFileError};
use super::random::Random;
use super::secret::SecretText;

/// A file that did not change is read again at most this often.
const REREAD_INTERVAL: Duration = Duration::from_secs(1);

/// The source of the master keys.
#[derive(Debug, Clone)]
pub enum KeyringSource {
    /// A file, which may change at any time.
    File(PathBuf),
    /// The value of an environment variable: the text form, with lines separated by newlines or `;`.
    Environment(SecretText),
}

/// The keyring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    #[error(transparent)]
    File(#[from] KeyringFileError),
    #[error("the environment variable with the master keys: {0}")]
    Environment(#[from] KeyringParseError),
    /// A required key is missing, also after reading the file again.
    #[error("the master key `{id}` is not in the keyring (available: {available})")]
    UnknownKey {
        id: String,
        /// The ids of the available keys.
        available: String,
    },
    #[error(
        "the master keys come from the environment, and the first of them wraps every data key \
         already: put a new key in front there (a new one: echo \"mk-2 $(openssl rand -base64 32)\"), \
         keep the others, restart every server, and run this again"
    )]
    NotAFile,
}

/// The result of [`KeyringHandle::reload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    Read,
    /// The file was read less than a second ago and has not changed, or the source cannot change.
    Unchanged,
}

struct LastRead {
    at: Instant,
    version: Option<FileVersion>,
}

struct Shared {
    source: KeyringSource,
    current: RwLock<Arc<Keyring>>,
    last_read: Mutex<LastRead>,
}

/// A cheap handle to the process's keyring.
#[derive(Clone)]
pub struct KeyringHandle {
    shared: Arc<Shared>,
}

impl KeyringHandle {
    /// Reads the keys. Blocks while a small file is read.
    pub fn load(source: KeyringSource) -> Result<Self, KeyringError> {
        let (keyring, version) = match &source {
            KeyringSource::File(path) => {
                let (keyring, version) = keyring_file::read(path)?;
                (keyring, Some(version))
            }
            KeyringSource::Environment(text) => {
                let lines = SecretText::from(text.expose().replace(';', "\n"));
                (Keyring::parse(lines.expose())?, None)
            }
        };
        Ok(Self {
            shared: Arc::new(Shared {
                source,
                current: RwLock::new(Arc::new(keyring)),
                last_read: Mutex::new(LastRead { at: Instant::now(), version }),
            }),
        })
    }

    /// Writes a new file with mode 0600 and loads it. Fails if the file exists.
    pub fn create_file(path: &Path, keyring: &Keyring) -> Result<Self, KeyringError> {
        keyring_file::create(path, keyring)?;
        Self::load(KeyringSource::File(path.to_owned()))
    }

    /// The source of the keys.
    pub fn source(&self) -> &KeyringSource {
        &self.shared.source
    }

    /// The keys that were read last.
    pub fn get(&self) -> Arc<Keyring> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keys. Reads them again if the key with this id is not among them.
    pub fn with_key(&self, id: &str) -> Result<Arc<Keyring>, KeyringError> {
        let keyring = self.get();
        if keyring.contains(id) {
            return Ok(keyring);
        }
        self.reload()?;
        let keyring = self.get();
        if keyring.contains(id) {
            return Ok(keyring);
        }
        Err(KeyringError::UnknownKey {
            id: id.to_owned(),
            available: keyring.ids().collect::<Vec<_>>().join(", "),
        })
    }

    /// Reads the file again if it has changed or was read more than a second ago. If it cannot be read,
    /// the keys do not change.
    pub fn reload(&self) -> Result<Reload, KeyringError> {
        self.reload_at(Instant::now())
    }

    fn reload_at(&self, now: Instant) -> Result<Reload, KeyringError> {
        let KeyringSource::File(path) = &self.shared.source else {
            return Ok(Reload::Unchanged);
        };
        // Locked while reading, so that concurrent requests read the file once.
        let mut last = self.shared.last_read.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = now.saturating_duration_since(last.at) < REREAD_INTERVAL;
        if recent && keyring_file::version(path) == last.version {
            return Ok(Reload::Unchanged);
        }
        last.at = now;
        let (keyring, version) = keyring_file::read(path)?;
        last.version = Some(version);
        self.replace(keyring);
        Ok(Reload::Read)
    }

    /// Adds a new active key to the file and uses it from now on. Data keys have to be wrapped again after
    /// this, because other processes find the new key in the file.
    pub fn rotate(&self, random: &mut Random<'_>) -> Result<Arc<Keyring>, KeyringError> {
        let KeyringSource::File(path) = &self.shared.source else {
            return Err(KeyringError::NotAFile);
        };
        self.replace(keyring_file::rotate(path, random)?);
        Ok(self.get())
    }

    fn replace(&self, keyring: Keyring) {
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keyring);
    }
}

impl std::fmt::Debug for KeyringHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("KeyringHandle").field(&self.get()).finish()
    }
}

#[cfg(test)]
#[path = "tests/keyring_handle.rs"]
mod tests;
