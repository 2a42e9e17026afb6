//! Builds statements whose columns, groups and filters are only known at run time, from constant text and
//! bound values. Only for statements that diesel's query builder cannot express.

use chrono::NaiveDateTime;
use diesel::pg::Pg;
use diesel::sql_types::{Text, Timestamp};
use diesel::sqlite::Sqlite;
use diesel::{QueryableByName, sql_query};
use diesel_async::RunQueryDsl;

use super::conn::on;
use super::{Conn, DbError};

/// The most values of an `IN` list. SQLite allows 32,766 values in a statement.
pub(super) const MAX_LISTED: usize = 500;

enum Bind {
    Text(String),
    Time(NaiveDateTime),
}

/// A statement in the dialect of one of the databases. Values are always bound.
pub(super) struct Sql {
    text: String,
    binds: Vec<Bind>,
    postgres: bool,
}

impl Sql {
    /// An empty statement for the connection's database.
    pub(super) fn of(conn: &Conn) -> Self {
        let postgres = matches!(conn, Conn::Postgres(_));
        Self { text: String::new(), binds: Vec::new(), postgres }
    }

    /// Whether the statement is for PostgreSQL.
    pub(super) fn is_postgres(&self) -> bool {
        self.postgres
    }

    /// Adds text, which must not come from a caller.
    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a value.
    pub(super) fn text(&mut self, value: impl Into<String>) -> &mut Self {
        self.bind(Bind::Text(value.into()))
    }

    /// Adds an instant.
    pub(super) fn time(&mut self, value: NaiveDateTime) -> &mut Self {
        self.bind(Bind::Time(value))
    }

    /// Adds ` AND column IN (...)`; nothing for an empty list.
    pub(super) fn and_one_of<T: ToString>(&mut self, column: &str, values: &[T]) -> &mut Self {
        if values.is_empty() {
            return self;
        }
        self.push(" AND ").push(column).push(" IN (");
        for (at, value) in values.iter().enumerate() {
            self.push(if at == 0 { "" } else { ", " }).text(value.to_string());
        }
        self.push(")")
    }

    /// Adds ` AND column = ...`, if there is a value.
    pub(super) fn and_is<T: ToString>(&mut self, column: &str, value: Option<T>) -> &mut Self {
        match value {
            Some(value) => self.push(" AND ").push(column).push(" = ").text(value.to_string()),
            None => self,
        }
    }

    /// Tells SQLite which index to use for the table that was just added: without statistics it may
    /// choose one that leads to many more rows.
    pub(super) fn by_index(&mut self, index: &str) -> &mut Self {
        if !self.postgres {
            self.push(" INDEXED BY ").push(index);
        }
        self
    }

    /// Adds the condition that the column contains this text exactly.
    pub(super) fn contains(&mut self, column: &str, part: String) -> &mut Self {
        let function = if self.postgres { "strpos" } else { "instr" };
        self.push(function).push("(").push(column).push(", ").text(part).push(") > 0")
    }

    /// Adds the sum of a column of non-negative numbers. Half the cost of [`Self::sum`] on SQLite, but
    /// fails there if it overflows: see [`DbError::is_overflow`].
    pub(super) fn plain_sum(&mut self, column: &str) -> &mut Self {
        match self.postgres {
            true => self.sum(column),
            false => self.push("COALESCE(SUM(").push(column).push("), 0)"),
        }
    }

    /// Adds the sum of a column of non-negative numbers. Saturates instead of failing, so that absurd
    /// numbers from upstreams or admins do not make the other data unreadable.
    pub(super) fn sum(&mut self, column: &str) -> &mut Self {
        let text = if self.postgres {
            // LEAST ignores nulls.
            format!("LEAST(COALESCE(SUM({column}), 0), 9223372036854775807)::bigint")
        } else {
            // The sums of the upper and lower 32 bits cannot overflow. Added together they become a real
            // number if they are too large.
            format!(
                "COALESCE(CAST(SUM({column} >> 32) * 4294967296 \
                 + SUM({column} & 4294967295) AS INTEGER), 0)"
            )
        };
        self.push(&text)
    }

    /// Runs the statement.
    pub(super) async fn load<R>(self, conn: &mut Conn) -> Result<Vec<R>, DbError>
    where
        R: QueryableByName<Sqlite> + QueryableByName<Pg> + Send + 'static,
    {
        let Self { text, binds, .. } = self;
        on!(conn, c => {
            let mut query = sql_query(text).into_boxed();
            for bind in binds {
                query = match bind {
                    Bind::Text(value) => query.bind::<Text, _>(value),
                    Bind::Time(value) => query.bind::<Timestamp, _>(value),
                };
            }
            query.load(c)
        })
    }

    fn bind(&mut self, value: Bind) -> &mut Self {
        self.binds.push(value);
        match self.postgres {
            true => self.text.push_str(&format!("${}", self.binds.len())),
            false => self.text.push('?'),
        }
        self
    }
}
