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
    /// A value that no column may hold. Trying it again won't help.
    #[error("the database refuses a value: {0}")]
    Refused(String),
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

    /// Whether what was to be written is at fault, so that it would fail at any other time too.
    /// Only what is known to be so: everything else may pass, a full disk above all.
    pub fn is_of_data(&self) -> bool {
        matches!(self, Self::UniqueViolation | Self::ForeignKeyViolation | Self::Refused(_))
    }

    /// Whether SQLite could not say a sum since it is beyond the largest number.
    pub(super) fn is_overflow(&self) -> bool {
        matches!(self, Self::Internal(cause) if cause.ends_with("integer overflow"))
    }
}

/// How SQLite says that a value is at fault, where diesel has no kind for it.
const OF_DATA: [&str; 2] = ["datatype mismatch", "string or blob too big"];

/// By diesel's kinds, which are made of codes. Diesel does not pass on the codes themselves, and a
/// PostgreSQL says the rest in any language, so its words decide nothing: of a session that it ended
/// we know by the session, and a value that a column can't hold is never given to it.
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
                // A server that another has taken over from, or that is out of disk.
                | DatabaseErrorKind::ReadOnlyTransaction,
                info,
            ) => Self::Unavailable(info.message().to_owned()),
            Error::DatabaseError(
                kind @ (DatabaseErrorKind::NotNullViolation
                | DatabaseErrorKind::CheckViolation
                | DatabaseErrorKind::RestrictViolation
                | DatabaseErrorKind::ExclusionViolation),
                info,
            ) => Self::Refused(format!("{kind:?}: {}", info.message())),
            Error::SerializationError(error) => Self::Refused(error.to_string()),
            Error::DatabaseError(kind, info) => {
                let message = info.message();
                if message.contains("is locked") {
                    // SQLite, which has written so long for somebody else.
                    Self::Unavailable(message.to_owned())
                } else if OF_DATA.contains(&message) {
                    Self::Refused(message.to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_the_values_fault_is_taken_for_it() {
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
            assert!(error(kind, message).is_of_data(), "{kind:?} {message}");
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
            assert!(!error(kind, message).is_of_data(), "{kind:?} {message}");
        }
    }
}
