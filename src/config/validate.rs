//! Checks that depend on several options, or that parsing cannot make.

use std::time::Duration;

use super::ledger::{MIN_JOURNAL_BYTES, MIN_RETENTION_DAYS};
use super::{DatabaseUrl, Settings};

/// Everything that is wrong with the settings, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the settings cannot be used:\n  - {}", problems.join("\n  - "))]
pub struct SettingsError {
    pub problems: Vec<String>,
}

impl Settings {
    /// Checks the settings and reports all problems at once.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let mut problems = Vec::new();
        self.check_listening(&mut problems);
        self.check_keys(&mut problems);
        self.check_limits(&mut problems);
        self.check_times(&mut problems);
        self.check_ledger(&mut problems);
        let filter = &self.logging.log_filter;
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(filter) {
            problems.push(format!(
                "--log-filter `{filter}` is not a filter ({error}); write a level such as `info`, or \
                 pairs such as `info,tollgate=debug`"
            ));
        }
        if problems.is_empty() { Ok(()) } else { Err(SettingsError { problems }) }
    }

    fn check_listening(&self, problems: &mut Vec<String>) {
        let listen = self.listen.listen;
        if self.listen.admin_listen == Some(listen) && listen.port() != 0 {
            problems.push(format!(
                "--admin-listen and --listen are both {listen}; give the admin side its own port, or \
                 leave --admin-listen out"
            ));
        }
        for (option, path) in [
            ("--upstream-ca-file", &self.egress.upstream_ca_file),
            ("--redis-ca-file", &self.policies.redis_ca_file),
        ] {
            if let Some(path) = path
                && let Err(error) = std::fs::File::open(path)
            {
                problems.push(format!(
                    "{option} {} cannot be read ({error}); give a PEM file",
                    path.display()
                ));
            }
        }
    }

    fn check_keys(&self, problems: &mut Vec<String>) {
        let keys = &self.keys;
        // An empty variable counts as unset.
        let variable = keys.master_key.as_ref().is_some_and(|keys| !keys.is_empty());
        if variable && keys.master_key_file.is_some() {
            problems.push(
                "master keys come from --master-key-file or from TOLLGATE_MASTER_KEY; unset one of them"
                    .to_owned(),
            );
        }
        let postgres = matches!(self.database.database_url, DatabaseUrl::Postgres(_));
        if postgres && keys.source(&self.database.database_url).is_none() {
            problems.push(
                "PostgreSQL needs a master key that all replicas share: give --master-key-file or \
                 TOLLGATE_MASTER_KEY (a new one: echo \"mk-1 $(openssl rand -base64 32)\")"
                    .to_owned(),
            );
        }
    }

    fn check_limits(&self, problems: &mut Vec<String>) {
        let limits = &self.limits;
        for (flag, value) in [
            ("--max-body-bytes", limits.max_body_bytes),
            ("--max-connections", limits.max_connections),
            ("--max-concurrent-requests", limits.max_concurrent_requests),
            ("--database-connections", self.database.database_connections),
            ("--directory-capacity", self.directory.directory_capacity),
            ("--assumed-output-tokens", self.policies.assumed_output_tokens),
            ("--assumed-context-tokens", self.policies.assumed_context_tokens),
        ] {
            if value == 0 {
                problems.push(format!("{flag} is 0, which admits no request; give at least 1"));
            }
        }
        if limits.body_memory_bytes < limits.max_body_bytes {
            problems.push(format!(
                "--body-memory-bytes ({}) is less than one body's limit ({}); raise it, or lower \
                 --max-body-bytes",
                limits.body_memory_bytes, limits.max_body_bytes
            ));
        }
    }

    fn check_ledger(&self, problems: &mut Vec<String>) {
        let ledger = &self.ledger;
        if ledger.journal_max_bytes < MIN_JOURNAL_BYTES {
            problems.push(format!(
                "--journal-max-bytes ({}) is less than the {MIN_JOURNAL_BYTES} bytes that a \
                 journal needs; raise it",
                ledger.journal_max_bytes
            ));
        }
        if (1..MIN_RETENTION_DAYS).contains(&ledger.ledger_retention_days) {
            problems.push(format!(
                "--ledger-retention-days ({}) is shorter than the month that spend caps count; \
                 give at least {MIN_RETENTION_DAYS}, or 0 to keep everything",
                ledger.ledger_retention_days
            ));
        }
    }

    fn check_times(&self, problems: &mut Vec<String>) {
        let directory = &self.directory;
        if directory.directory_max_stale <= directory.directory_poll {
            problems.push(
                "--directory-max-stale is not longer than --directory-poll, so callers would be \
                 refused between two polls; give it several times as long"
                    .to_owned(),
            );
        }
        let times = &self.timeouts;
        // The shutdown times may be 0.
        for (flag, time) in [
            ("--head-timeout", times.head_timeout),
            ("--body-timeout", times.body_timeout),
            ("--connect-timeout", times.connect_timeout),
            ("--first-byte-timeout", times.first_byte_timeout),
            ("--idle-timeout", times.idle_timeout),
            ("--downstream-write-timeout", times.downstream_write_timeout),
            ("--database-timeout", self.database.database_timeout),
            ("--directory-poll", self.directory.directory_poll),
            ("--redis-timeout", self.policies.redis_timeout),
        ] {
            if time == Duration::ZERO {
                problems
                    .push(format!("{flag} is 0, so it always runs out; give a time such as 30s"));
            }
        }
    }
}
