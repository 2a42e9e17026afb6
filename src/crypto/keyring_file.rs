//! The master key file: made once, never overwritten, replaced only as a whole.
//!
//! Unix only, like the rest of the server: modes and owners are part of the contract.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::keyring::{Keyring, KeyringParseError};
use super::random::{Random, RandomError};

/// Owner may read and write, nobody else anything.
const MODE: u32 = 0o600;
/// Far more keys than anybody keeps; more is another file given by mistake.
const MAX_BYTES: u64 = 64 * 1024;

/// The master key file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyringFileError {
    /// There is none.
    #[error("the master key file {} does not exist", path.display())]
    Missing { path: PathBuf },
    /// There is one where none may be.
    #[error("{} exists already and is not overwritten", path.display())]
    Exists { path: PathBuf },
    /// Another rotation holds the place of the new file.
    #[error(
        "{} exists: another rotation is running, or one was cut short; if none is running, remove it",
        path.display()
    )]
    Busy {
        /// The half-made file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// It was read and makes no sense.
    #[error("the master key file {}: {source}", path.display())]
    Parse { path: PathBuf, source: KeyringParseError },
    /// No key without randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> KeyringFileError + use<'a> {
    move |source| KeyringFileError::Io { action, path: path.to_owned(), source }
}

/// Which version of the file was read: changes with every replacement and every edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileVersion {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileVersion {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// The version that is there now, without reading it.
pub(super) fn version(path: &Path) -> Option<FileVersion> {
    fs::metadata(path).ok().as_ref().map(FileVersion::of)
}

/// Reads a file, and warns if others than its owner may read it too.
pub(super) fn read(path: &Path) -> Result<(Keyring, FileVersion), KeyringFileError> {
    let file = File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => KeyringFileError::Missing { path: path.to_owned() },
        _ => KeyringFileError::Io { action: "open", path: path.to_owned(), source },
    })?;
    let metadata = file.metadata().map_err(io_error("inspect", path))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            mode = %format!("{mode:04o}"),
            "the master key file is open to others than its owner; run chmod 600 on it"
        );
    }
    // Sized beforehand: a growing buffer would leave copies of keys behind.
    let size = metadata.len().min(MAX_BYTES) as usize;
    let mut text = Zeroizing::new(String::with_capacity(size + 1));
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(io_error("read", path))?;
    let keyring = Keyring::parse(&text)
        .map_err(|source| KeyringFileError::Parse { path: path.to_owned(), source })?;
    Ok((keyring, FileVersion::of(&metadata)))
}

/// Writes a new file with mode 0600, on disk when this returns. Never overwrites one.
pub(super) fn create(path: &Path, keyring: &Keyring) -> Result<(), KeyringFileError> {
    write_new(path, keyring).map_err(|error| match error {
        KeyringFileError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
            KeyringFileError::Exists { path: path.to_owned() }
        }
        other => other,
    })?;
    sync_directory(path)
}

/// Puts a new active key in front of a file's keys, and replaces the file as a whole: a reader sees
/// the old keys or the new ones. The half-made file is the lock between two rotations.
pub(super) fn rotate(path: &Path, random: &mut Random<'_>) -> Result<Keyring, KeyringFileError> {
    // A link stays a link: what it points to is replaced.
    let path = &fs::canonicalize(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => KeyringFileError::Missing { path: path.to_owned() },
        _ => KeyringFileError::Io { action: "find", path: path.to_owned(), source },
    })?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".rotating");
    let half_made = path.with_file_name(name);
    let lock = open_new(&half_made).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyringFileError::Busy { path: half_made.clone() },
        _ => KeyringFileError::Io { action: "create", path: half_made.clone(), source },
    })?;
    let replaced = rotate_into(path, lock, &half_made, random);
    if replaced.is_err() {
        let _ = fs::remove_file(&half_made);
    }
    let keyring = replaced?;
    sync_directory(path)?;
    Ok(keyring)
}

fn rotate_into(
    path: &Path,
    mut file: File,
    half_made: &Path,
    random: &mut Random<'_>,
) -> Result<Keyring, KeyringFileError> {
    let (mut keyring, _) = read(path)?;
    keyring.add_new_active(random)?;
    fill(&mut file, half_made, &keyring)?;
    // Rotated by root, read by the server's own user: the owner must stay.
    let (old, new) = (
        fs::metadata(path).map_err(io_error("inspect", path))?,
        file.metadata().map_err(io_error("inspect", half_made))?,
    );
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))
            .map_err(io_error("give the old owner to", half_made))?;
    }
    fs::rename(half_made, path).map_err(io_error("replace", path))?;
    Ok(keyring)
}

fn write_new(path: &Path, keyring: &Keyring) -> Result<(), KeyringFileError> {
    let mut file = open_new(path).map_err(io_error("create", path))?;
    let written = fill(&mut file, path, keyring);
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)
}

fn fill(file: &mut File, path: &Path, keyring: &Keyring) -> Result<(), KeyringFileError> {
    file.write_all(keyring.to_text().expose().as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io_error("write", path))
}

/// A new name is only safe once its directory is on disk.
fn sync_directory(path: &Path) -> Result<(), KeyringFileError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("sync", directory))
}

#[cfg(test)]
#[path = "tests/keyring_file.rs"]
mod tests;
