//! The database.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::values::{SecretParser, parse_duration};
use crate::crypto::SecretText;

/// The database.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub struct DatabaseSettings {
    /// The database: `sqlite:PATH` for one process, `postgres://...` for several replicas
    #[arg(
        long,
        env = "TOLLGATE_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "sqlite:tollgate.db",
        value_parser = SecretParser::<DatabaseUrl>::default()
    )]
    pub database_url: DatabaseUrl,

    /// Size of the connection pool; on SQLite of the pool of readers, beside one writer
    #[arg(long, env = "TOLLGATE_DATABASE_CONNECTIONS", value_name = "NUMBER", default_value_t = 8)]
    pub database_connections: usize,

    /// PEM file of certificate authorities to trust for PostgreSQL, besides the public ones
    /// (`sslmode=require` in the URL checks certificates, the default `prefer` does not)
    #[arg(long, env = "TOLLGATE_DATABASE_CA_FILE", value_name = "PATH")]
    pub database_ca_file: Option<PathBuf>,

    /// Time limit for getting a connection from the pool and for opening a new one
    #[arg(
        long,
        env = "TOLLGATE_DATABASE_TIMEOUT",
        value_name = "TIME",
        default_value = "5s",
        value_parser = parse_duration
    )]
    pub database_timeout: Duration,
}

/// The location of the database.
#[derive(Clone, Debug)]
pub enum DatabaseUrl {
    /// A file of embedded SQLite.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(PostgresUrl),
}

/// A PostgreSQL URL. It may hold a password: Debug shows nothing, Display host, port and database.
#[derive(Clone)]
pub struct PostgresUrl(SecretText);

impl PostgresUrl {
    /// The whole URL, for the connector alone.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PostgresUrl(..)")
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("postgres://")?;
        // User info and query may hold a password.
        match Url::parse(self.expose()) {
            Ok(url) => {
                formatter.write_str(url.host_str().unwrap_or("(default host)"))?;
                if let Some(port) = url.port() {
                    write!(formatter, ":{port}")?;
                }
                formatter.write_str(url.path())
            }
            Err(_) => formatter.write_str("(not shown)"),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(formatter, "sqlite:{}", path.display()),
            Self::Postgres(url) => url.fmt(formatter),
        }
    }
}

/// The text is not a database URL. The message does not repeat it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    #[error("a database is `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/NAME`")]
    Scheme,
    #[error("`sqlite:` needs the path of a file after it, as in `sqlite:tollgate.db`")]
    NoPath,
    /// A database in memory, which the next connection would not find.
    #[error("an in-memory SQLite database keeps nothing: give a path, as in `sqlite:tollgate.db`")]
    InMemory,
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(PostgresUrl(SecretText::from(text))));
        }
        let path = text.strip_prefix("sqlite:").ok_or(DatabaseUrlError::Scheme)?;
        // `sqlite:///var/lib/x.db` and `sqlite://x.db` are common spellings of the same.
        match path.strip_prefix("//").unwrap_or(path) {
            "" => Err(DatabaseUrlError::NoPath),
            ":memory:" => Err(DatabaseUrlError::InMemory),
            path => Ok(Self::Sqlite(path.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_paths() {
        for (text, path) in [
            ("sqlite:tollgate.db", "tollgate.db"),
            ("sqlite:/var/lib/t.db", "/var/lib/t.db"),
            ("sqlite:///var/lib/t.db", "/var/lib/t.db"),
            ("sqlite://t.db", "t.db"),
        ] {
            let DatabaseUrl::Sqlite(parsed) = text.parse().unwrap() else { panic!("{text}") };
            assert_eq!(parsed, PathBuf::from(path));
        }
    }

    #[test]
    fn postgres_is_shown_without_its_password() {
        for text in [
            "postgres://tollgate:hunter2@db.internal:5433/gate?sslmode=require",
            "postgresql://db.internal:5433/gate?password=hunter2&user=tollgate",
        ] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), "postgres://db.internal:5433/gate");
            assert!(!format!("{url:?}").contains("hunter2"));
            let DatabaseUrl::Postgres(url) = url else { panic!("{text}") };
            assert_eq!(url.expose(), text);
        }
        let odd: DatabaseUrl = "postgres://u:hunter2@a:1,b:2/gate".parse().unwrap();
        assert!(!odd.to_string().contains("hunter2"), "{odd}");
    }

    #[test]
    fn an_invalid_url_is_refused_without_being_repeated() {
        for (text, error) in [
            ("tollgate.db", DatabaseUrlError::Scheme),
            ("mysql://root:hunter2@x/y", DatabaseUrlError::Scheme),
            ("sqlite:", DatabaseUrlError::NoPath),
            ("sqlite://", DatabaseUrlError::NoPath),
            ("sqlite::memory:", DatabaseUrlError::InMemory),
        ] {
            let said = text.parse::<DatabaseUrl>().unwrap_err();
            assert_eq!(said, error, "{text}");
            assert!(!said.to_string().contains("hunter2"));
        }
    }
}
