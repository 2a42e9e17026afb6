//! The keyring of a running process: shared, and read again when a key appears that it lacks, so
//! that master keys are rotated while serving.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::keyring::{Keyring, KeyringParseError};
use super::keyring_file::{self, FileVersion, KeyringFileError};
use super::random::Random;
use super::secret::SecretText;

/// A file that has not changed is read again no more often than this.
const REREAD_INTERVAL: Duration = Duration::from_secs(1);

/// Where the master keys come from.
#[derive(Debug, Clone)]
pub enum KeyringSource {
    /// A file, which may change while we run.
    File(PathBuf),
    /// An environment variable: the text form, its lines parted by newlines or `;`.
    Environment(SecretText),
}

/// There is no usable keyring.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    #[error(transparent)]
    File(#[from] KeyringFileError),
    #[error("the master key variable: {0}")]
    Environment(#[from] KeyringParseError),
    /// A key that is needed is not there, in the file as it is now either.
    #[error("the master key `{id}` is not in the keyring (it holds: {held})")]
    UnknownKey {
        id: String,
        /// Ids that are there.
        held: String,
    },
    /// A variable cannot be rewritten from inside.
    #[error(
        "the master keys come from the environment, and the first of them wraps every data key \
         already: put a new key in front there (a new one: echo \"mk-2 $(openssl rand -base64 32)\"), \
         keep the others, restart every server, and run this again"
    )]
    NotAFile,
}

/// What reading again brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// The file was read.
    Read,
    /// The file is the one that was read less than a second ago, or the source cannot change.
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
    /// Reads the keys. Blocks for the time of reading a small file.
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

    /// Writes a new file with mode 0600 (refusing to overwrite one) and loads it.
    pub fn create_file(path: &Path, keyring: &Keyring) -> Result<Self, KeyringError> {
        keyring_file::create(path, keyring)?;
        Self::load(KeyringSource::File(path.to_owned()))
    }

    /// Where the keys come from.
    pub fn source(&self) -> &KeyringSource {
        &self.shared.source
    }

    /// The keys as last read.
    pub fn get(&self) -> Arc<Keyring> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keys, read again first if the key of this id is not among them.
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
            held: keyring.ids().collect::<Vec<_>>().join(", "),
        })
    }

    /// Reads the file again, at once if it has changed, else at most once a second. A file that
    /// cannot be read leaves the keys as they are.
    pub fn reload(&self) -> Result<Reload, KeyringError> {
        self.reload_at(Instant::now())
    }

    fn reload_at(&self, now: Instant) -> Result<Reload, KeyringError> {
        let KeyringSource::File(path) = &self.shared.source else {
            return Ok(Reload::Unchanged);
        };
        // Held while reading: of many who miss a key at once, one reads.
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

    /// Adds a new active key to the file, replacing it as a whole, and uses it from now on. Data keys
    /// are to be wrapped anew after this, not before: other processes find the key in the file.
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
