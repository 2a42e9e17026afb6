//! Test cases: async functions with a name and the databases they run on.

use std::{future::Future, pin::Pin};

use super::database::Database;

/// The running body of a case.
pub(crate) type CaseFuture = Pin<Box<dyn Future<Output = ()>>>;

/// The databases a case runs on, and its function.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    /// SQLite, and PostgreSQL if available.
    Both(fn(Database) -> CaseFuture),
    /// PostgreSQL only.
    Postgres(fn(Database) -> CaseFuture),
    /// No database.
    Plain(fn() -> CaseFuture),
}

#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// The module path.
    pub(crate) capability: &'static str,
    pub(crate) name: &'static str,
    pub(crate) body: Body,
}

impl Case {
    /// A case that runs on every available database.
    pub(crate) const fn new(
        capability: &'static str,
        name: &'static str,
        run: fn(Database) -> CaseFuture,
    ) -> Self {
        Self { capability, name, body: Body::Both(run) }
    }

    /// A case for PostgreSQL only.
    pub(crate) const fn postgres(
        capability: &'static str,
        name: &'static str,
        run: fn(Database) -> CaseFuture,
    ) -> Self {
        Self { capability, name, body: Body::Postgres(run) }
    }

    /// A case without a database.
    pub(crate) const fn plain(
        capability: &'static str,
        name: &'static str,
        run: fn() -> CaseFuture,
    ) -> Self {
        Self { capability, name, body: Body::Plain(run) }
    }

    /// The module and function name without the crate name, such as `proxy_streams::metrics_count_streams_and_tokens`.
    pub(crate) fn title(&self) -> String {
        let capability = self.capability.split_once("::").map_or(self.capability, |(_, rest)| rest);
        format!("{capability}::{}", self.name)
    }
}

/// Lists a capability's cases: `cases![a, b, plain c, postgres d]`.
///
/// `a` and `b` are `async fn(Database)` and run on every available database, `postgres d` only on
/// PostgreSQL; `plain c` is `async fn()`.
macro_rules! cases {
    ($($word:ident $($name:ident)?),* $(,)?) => {
        vec![$($crate::support::case::one_case!($word $($name)?)),*]
    };
}

/// One entry of [`cases!`].
macro_rules! one_case {
    (plain $name:ident) => {
        $crate::support::case::Case::plain(module_path!(), stringify!($name), || Box::pin($name()))
    };
    (postgres $name:ident) => {
        $crate::support::case::Case::postgres(module_path!(), stringify!($name), |database| {
            Box::pin($name(database))
        })
    };
    ($name:ident) => {
        $crate::support::case::Case::new(module_path!(), stringify!($name), |database| {
            Box::pin($name(database))
        })
    };
}
pub(crate) use {cases, one_case};
