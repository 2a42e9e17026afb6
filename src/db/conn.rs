//! A connection to either database, and the macro that runs the same query on both.

use diesel::SqliteConnection;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

/// A connection to the embedded database.
pub(super) type Sqlite = SyncConnectionWrapper<SqliteConnection>;

/// A connection checked out of a pool. Table functions take `&mut Conn`.
#[expect(clippy::large_enum_variant, reason = "one for each transaction, on its task")]
pub enum Conn {
    Sqlite(Object<Sqlite>),
    Postgres(Object<AsyncPgConnection>),
}

/// Expands the expression for both kinds of connection: `on!(conn, c => query.execute(c))` awaits it
/// and converts diesel's error to [`DbError`](super::DbError).
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
