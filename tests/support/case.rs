//! What a case is: an async function with a name and the databases that it wants.

use std::{future::Future, pin::Pin};

use super::database::Database;

/// A case's body, on the thread of its own that the runner gives it.
pub(crate) type CaseFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Which databases a case runs on, and how it is started.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    /// On SQLite, and on PostgreSQL where one is at hand.
    Both(fn(Database) -> CaseFuture),
    /// On PostgreSQL alone: replicas, notifications, outages.
    Postgres(fn(Database) -> CaseFuture),
    /// Without a database.
    Plain(fn() -> CaseFuture),
}

/// One test.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// The capability, as a module path.
    pub(crate) capability: &'static str,
    /// The function's name.
    pub(crate) name: &'static str,
    /// What runs.
    pub(crate) body: Body,
}

impl Case {
    /// A case that runs on every database at hand.
    pub(crate) const fn new(
        capability: &'static str,
        name: &'static str,
        run: fn(Database) -> CaseFuture,
    ) -> Self {
        Self { capability, name, body: Body::Both(run) }
    }

    /// A case for PostgreSQL alone.
    pub(crate) const fn postgres(
        capability: &'static str,
        name: &'static str,
        run: fn(Database) -> CaseFuture,
    ) -> Self {
        Self { capability, name, body: Body::Postgres(run) }
    }

    /// A case that needs no database.
    pub(crate) const fn plain(
        capability: &'static str,
        name: &'static str,
        run: fn() -> CaseFuture,
    ) -> Self {
        Self { capability, name, body: Body::Plain(run) }
    }

    /// `proxy_streams::a_caller_that_leaves_cancels_the_upstream`, without the crate's name.
    pub(crate) fn title(&self) -> String {
        let capability = self.capability.split_once("::").map_or(self.capability, |(_, rest)| rest);
        format!("{capability}::{}", self.name)
    }
}

/// Lists a capability's cases: `cases![a, b, plain c, postgres d]`.
///
/// `a` and `b` are `async fn(Database)` and run on every database at hand, `postgres d` only on
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
