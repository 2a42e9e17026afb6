//! Opens the database, migrated, and the master keys that it needs.

use std::io::ErrorKind;
use std::path::Path;

use super::StartError;
use crate::config::{DatabaseUrl, Settings};
use crate::crypto::{
    Keyring, KeyringHandle, KeyringSource, WrappedDataKey, system_random, unwrap_data_key,
};
use crate::db::data_keys::{DataKeyRow, list_one_per_master_key};
use crate::db::{Conn, Database, Location};

/// The database and the master keys.
pub struct Store {
    /// Migrated.
    pub database: Database,
    /// Holds every master key that the database needs.
    pub keyring: KeyringHandle,
}

/// Opens the database without migrating it.
pub fn open_database(settings: &Settings) -> Result<Database, StartError> {
    let location = match &settings.database.database_url {
        DatabaseUrl::Sqlite(path) => {
            create_private(path)?;
            warn_of_readable_files(path);
            Location::Sqlite(path.clone())
        }
        DatabaseUrl::Postgres(url) => Location::Postgres {
            url: url.expose().to_owned(),
            ca_pem: match &settings.database.database_ca_file {
                Some(path) => Some(std::fs::read(path).map_err(StartError::DatabaseCa)?.into()),
                None => None,
            },
        },
    };
    let options = &settings.database;
    Ok(Database::open(location, options.database_connections, options.database_timeout)?)
}

/// Creates the file of a new embedded database with mode 0600. SQLite gives the files that it creates
/// next to it the same mode.
fn create_private(path: &Path) -> Result<(), StartError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StartError::DatabaseFile(path.to_owned(), error)),
    }
}

/// Warns if users other than their owner may read the files of an embedded database. Its secrets are
/// encrypted; metadata, hashes of keys and the ledger are not.
fn warn_of_readable_files(path: &Path) {
    #[cfg(unix)]
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        let Ok(metadata) = std::fs::metadata(&file) else { continue };
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            tracing::warn!(
                path = %Path::new(&file).display(),
                mode = %format!("{mode:04o}"),
                "other users can read the database file; run chmod 600 on it"
            );
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// Opens and migrates the database, and checks that the master keys open its secrets. A master key is
/// created only together with a new embedded database: with an existing one, a missing key file is an
/// error.
pub async fn open_store(settings: &Settings) -> Result<Store, StartError> {
    let source =
        settings.keys.source(&settings.database.database_url).ok_or(StartError::NoMasterKey)?;
    let keyring = load_keyring(settings, source)?;
    let database = open_database(settings)?;
    database.migrate().await?;
    check_keyring(&database, &keyring).await?;
    Ok(Store { database, keyring })
}

/// Creates the master key of an embedded database that is about to be created; later the database
/// exists, and no key is created for it. Does nothing otherwise: migrating opens no secret.
pub fn ensure_key_of_new_database(settings: &Settings) -> Result<(), StartError> {
    if let DatabaseUrl::Sqlite(file) = &settings.database.database_url
        && !file.exists()
        && let Some(source) = settings.keys.source(&settings.database.database_url)
    {
        load_keyring(settings, source)?;
    }
    Ok(())
}

fn load_keyring(settings: &Settings, source: KeyringSource) -> Result<KeyringHandle, StartError> {
    let KeyringSource::File(path) = &source else {
        return Ok(KeyringHandle::load(source)?);
    };
    if path.exists() {
        return Ok(KeyringHandle::load(source)?);
    }
    let new_database = match &settings.database.database_url {
        DatabaseUrl::Sqlite(file) => !file.exists(),
        DatabaseUrl::Postgres(_) => false,
    };
    if !new_database {
        return Err(StartError::MasterKeyFileMissing(path.clone()));
    }
    let keyring = Keyring::generate(&mut system_random)?;
    Ok(KeyringHandle::create_file(path, &keyring)?)
}

/// Opens one data key of each master key that the database names.
async fn check_keyring(database: &Database, keyring: &KeyringHandle) -> Result<(), StartError> {
    let rows: Vec<DataKeyRow> = database
        .housekeeping_read(async |conn: &mut Conn| list_one_per_master_key(conn).await)
        .await?;
    for row in rows {
        let keyring = keyring.with_key(&row.master_key_id)?;
        let owner = row.owner();
        let wrapped = WrappedDataKey { master_key_id: row.master_key_id, sealed: row.wrapped };
        unwrap_data_key(&keyring, &wrapped, owner.uuid(), row.id.uuid())
            .map_err(|_| StartError::WrongMasterKey(wrapped.master_key_id.clone()))?;
    }
    Ok(())
}
