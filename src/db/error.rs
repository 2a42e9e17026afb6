//! What can go wrong with the database, as far as callers decide by it.

use diesel::result::{DatabaseErrorKind, Error};

/// A failed database operation.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// What was asked for is not there, or not in the scope that asked.
    #[error("not found")]
    NotFound,
    /// Another live row has this name.
    #[error("a row with the same unique value exists")]
    UniqueViolation,
    /// The row is referred to, or refers to something that is not there.
    #[error("a reference does not hold")]
    ForeignKeyViolation,
    /// The database can't be reached, or did not answer in time. Trying again later may help.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// Anything else: a defect, or a database in a state that should not be.
    #[error("database error: {0}")]
    Internal(String),
}

impl DbError {
    /// The value, or [`DbError::NotFound`].
    pub fn require<T>(found: Option<T>) -> Result<T, Self> {
        found.ok_or(Self::NotFound)
    }
}

impl From<Error> for DbError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::NotFound,
            Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Self::UniqueViolation,
            Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => {
                Self::ForeignKeyViolation
            }
            Error::DatabaseError(
                DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand,
                info,
            ) => Self::Unavailable(info.message().to_owned()),
            Error::DatabaseError(kind, info) => {
                let message = info.message();
                // PostgreSQL on its way down or up ends sessions with class 57 messages, which
                // diesel does not tell apart by kind; SQLite says that it is locked or busy.
                let passing = [
                    "terminating connection",
                    "shutting down",
                    "starting up",
                    "is locked",
                    "lock timeout",
                ];
                if passing.iter().any(|text| message.contains(text)) {
                    Self::Unavailable(message.to_owned())
                } else {
                    Self::Internal(format!("{kind:?}: {message}"))
                }
            }
            Error::BrokenTransactionManager => Self::Unavailable("transaction broken off".into()),
            other => Self::Internal(other.to_string()),
        }
    }
}

/// Turns "no such row" into `None`.
pub(super) fn optional<T>(result: Result<T, DbError>) -> Result<Option<T>, DbError> {
    match result {
        Ok(row) => Ok(Some(row)),
        Err(DbError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
