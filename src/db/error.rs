//! Errors of the database, classified as far as callers need it.

use diesel::result::{DatabaseErrorKind, Error};

/// A failed database operation.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The row does not exist in the scope.
    #[error("not found")]
    NotFound,
    /// Another row that is not deleted has this unique value.
    #[error("a row with the same unique value exists")]
    UniqueViolation,
    /// The row is referenced, or references a row that does not exist.
    #[error("a foreign key constraint failed")]
    ForeignKeyViolation,
    /// The column cannot contain the value. Retrying does not help.
    #[error("the database rejects a value: {0}")]
    InvalidValue(String),
    /// The database cannot be reached or did not answer in time. Retrying later may help.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// Anything else: a defect, or a database in an unexpected state.
    #[error("database error: {0}")]
    Internal(String),
}

impl DbError {
    /// Whether the data that was to be written is the cause, so that every retry would fail too. False
    /// for every error that may be temporary, such as a full disk.
    pub fn is_caused_by_data(&self) -> bool {
        matches!(self, Self::UniqueViolation | Self::ForeignKeyViolation | Self::InvalidValue(_))
    }

    /// Whether a sum overflowed in SQLite.
    pub(super) fn is_overflow(&self) -> bool {
        matches!(self, Self::Internal(cause) if cause.ends_with("integer overflow"))
    }
}

/// SQLite's messages for invalid values, for which diesel has no kind.
const INVALID_VALUE_MESSAGES: [&str; 2] = ["datatype mismatch", "string or blob too big"];

/// Classifies by diesel's kinds, which are derived from error codes. Diesel does not expose the codes,
/// and PostgreSQL's messages may be in any language, so they are not compared: a session that the
/// server ended is recognized when it is rolled back, and values are checked before they are written.
impl From<Error> for DbError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::NotFound,
            Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Self::UniqueViolation,
            Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => {
                Self::ForeignKeyViolation
            }
            Error::DatabaseError(
                DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::SerializationFailure
                // The server is a standby after a failover, or its disk is full.
                | DatabaseErrorKind::ReadOnlyTransaction,
                info,
            ) => Self::Unavailable(info.message().to_owned()),
            Error::DatabaseError(
                kind @ (DatabaseErrorKind::NotNullViolation
                | DatabaseErrorKind::CheckViolation
                | DatabaseErrorKind::RestrictViolation
                | DatabaseErrorKind::ExclusionViolation),
                info,
            ) => Self::InvalidValue(format!("{kind:?}: {}", info.message())),
            Error::SerializationError(error) => Self::InvalidValue(error.to_string()),
            Error::DatabaseError(kind, info) => {
                let message = info.message();
                if message.contains("is locked") {
                    // SQLite: another connection was writing for too long.
                    Self::Unavailable(message.to_owned())
                } else if INVALID_VALUE_MESSAGES.contains(&message) {
                    Self::InvalidValue(message.to_owned())
                } else {
                    Self::Internal(format!("{kind:?}: {message}"))
                }
            }
            Error::BrokenTransactionManager => Self::Unavailable("the transaction was aborted".into()),
            other => Self::Internal(other.to_string()),
        }
    }
}

/// Converts [`DbError::NotFound`] to `None`.
pub(super) fn optional<T>(result: Result<T, DbError>) -> Result<Option<T>, DbError> {
    match result {
        Ok(row) => Ok(Some(row)),
        Err(DbError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_are_certainly_caused_by_data_are_classified_so() {
        let error = |kind, message: &str| {
            DbError::from(Error::DatabaseError(kind, Box::new(message.to_owned())))
        };
        let unknown = DatabaseErrorKind::Unknown;
        for (kind, message) in [
            (DatabaseErrorKind::UniqueViolation, "twice"),
            (DatabaseErrorKind::ForeignKeyViolation, "nowhere"),
            (DatabaseErrorKind::NotNullViolation, "nothing"),
            (DatabaseErrorKind::CheckViolation, "odd"),
            (DatabaseErrorKind::RestrictViolation, "needed"),
            (DatabaseErrorKind::ExclusionViolation, "beside"),
            (unknown, "string or blob too big"),
        ] {
            assert!(error(kind, message).is_caused_by_data(), "{kind:?} {message}");
        }
        for (kind, message) in [
            (unknown, "database or disk is full"),
            (unknown, "disk I/O error"),
            (unknown, "could not extend file \"base/1/2\": No space left on device"),
            (unknown, "could not write to file \"pg_wal/xlogtemp.1\": No space left on device"),
            (unknown, "no such table: ledger"),
            (unknown, "permission denied for table ledger"),
            (unknown, "database is locked"),
            (unknown, "out of memory"),
            (unknown, "out of shared memory"),
            (unknown, "block number out of range"),
            (unknown, "deadlock detected"),
            (DatabaseErrorKind::ReadOnlyTransaction, "cannot execute INSERT"),
            (DatabaseErrorKind::SerializationFailure, "could not serialize access"),
            (DatabaseErrorKind::ClosedConnection, "closed"),
        ] {
            assert!(!error(kind, message).is_caused_by_data(), "{kind:?} {message}");
        }
    }
}
