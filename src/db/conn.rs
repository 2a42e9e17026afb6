//! One connection, to either database, and the macro that runs one query body on both.

use diesel::SqliteConnection;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

/// A connection to the embedded database.
pub(super) type Sqlite = SyncConnectionWrapper<SqliteConnection>;

/// A connection checked out of a pool. Table functions take `&mut Conn`.
#[expect(clippy::large_enum_variant, reason = "one a transaction, on its task; never kept")]
pub enum Conn {
    /// Embedded.
    Sqlite(Object<Sqlite>),
    /// A server.
    Postgres(Object<AsyncPgConnection>),
}

/// Expands the same expression for either kind of connection: `on!(conn, c => query.execute(c))`
/// awaits it and turns diesel's error into [`DbError`](super::DbError).
macro_rules! on {
    ($conn:expr, $c:ident => $query:expr) => {
        match $conn {
            $crate::db::Conn::Sqlite(object) => {
                let $c = &mut **object;
                $query.await
            }
            $crate::db::Conn::Postgres(object) => {
                let $c = &mut **object;
                $query.await
            }
        }
        .map_err($crate::db::DbError::from)
    };
}
pub(crate) use on;
