//! Compares what the provider bills and what callers received with the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    call_plan::{CallPlan, Scenario},
    invoice::Entry,
    ledger_rows::{Rates, Row},
    traffic::{CallRecord, CallResult},
};

/// How long before the process was killed a caller may have disconnected from an attempt that was not
/// settled.
const SETTLING: Duration = Duration::from_secs(2);

/// The time from the start of a process to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessLifetime {
    began: Instant,
    killed: Option<Instant>,
}

impl ProcessLifetime {
    pub(crate) fn begun() -> Self {
        Self { began: Instant::now(), killed: None }
    }

    /// The process was killed now.
    pub(crate) fn killed(&mut self) {
        self.killed = Some(Instant::now());
    }

    /// Whether the call may have been lost when the process was killed.
    fn took(&self, record: &CallRecord) -> bool {
        self.killed.is_some_and(|killed| {
            record.began <= killed
                && record.ended + SETTLING >= killed
                && record.ended >= self.began
        })
    }
}

/// What is known independently of the ledger.
pub(crate) struct Reconciliation {
    /// By call number.
    pub(crate) invoice: BTreeMap<u64, Vec<Entry>>,
    /// One per call number.
    pub(crate) records: Vec<CallRecord>,
    /// In order.
    pub(crate) lifetimes: Vec<ProcessLifetime>,
    pub(crate) plan: Rc<dyn Fn(u64) -> CallPlan>,
    /// The prices of a configuration.
    pub(crate) rates: Rc<dyn Fn(&str) -> Rates>,
}

impl Reconciliation {
    /// The differences from the ledger.
    pub(crate) fn problems(&self, rows: &[Row]) -> Vec<String> {
        let mut problems = Vec::new();
        let ids: BTreeSet<_> = rows.iter().map(|row| &row.id).collect();
        if ids.len() != rows.len() {
            problems.push("a row's id is there twice".to_owned());
        }
        let mut by_number: BTreeMap<u64, Vec<&Row>> = BTreeMap::new();
        for row in rows {
            match row.number() {
                Some(number) => by_number.entry(number).or_default().push(row),
                None => problems.push(format!("a row without a number: {row:?}")),
            }
        }
        let records: BTreeMap<_, _> =
            self.records.iter().map(|record| (record.number, record)).collect();
        let numbers: BTreeSet<_> = by_number.keys().chain(self.invoice.keys()).copied().collect();
        for number in numbers {
            let mut rows = by_number.remove(&number).unwrap_or_default();
            rows.sort_by_key(|row| row.attempt);
            let entries = self.invoice.get(&number).map_or(&[][..], Vec::as_slice);
            let Some(record) = records.get(&number) else {
                problems.push(format!("number {number} was never sent: {rows:?}"));
                continue;
            };
            for problem in self.compare(record, entries, &rows) {
                let plan = (self.plan)(number);
                problems.push(format!(
                    "{problem}:\n  {plan:?}\n  {record:?}\n  {entries:?}\n  {rows:?}"
                ));
            }
        }
        problems
    }

    /// The differences for one call.
    fn compare(&self, record: &CallRecord, entries: &[Entry], rows: &[&Row]) -> Vec<&'static str> {
        let mut problems = Vec::new();
        let died = self.lifetimes.iter().any(|lifetime| lifetime.took(record));
        let of_request =
            |row: &&Row| record.request_id.as_ref().is_none_or(|id| *id == row.request_id);
        if !rows.iter().all(of_request) {
            problems.push("a row bears another request's id");
        }
        let attempts: Vec<_> = rows.iter().map(|row| row.attempt).collect();
        if attempts != (1..=rows.len() as i64).collect::<Vec<_>>() {
            problems.push("the attempts are not numbered from 1 on");
        }
        if rows.len() < entries.len() {
            problems.push("the ledger lacks an attempt");
            return problems;
        }
        // Attempts that did not reach the upstream come first: the last attempts are those it received.
        let (unknown, known) = rows.split_at(rows.len() - entries.len());
        for row in unknown {
            let nothing = matches!(row.outcome.as_str(), "failed" | "unknown" | "caller_left")
                && row.cost == Some(0)
                && row.usage_source != "provider";
            if !nothing && row.outcome != "lost" {
                problems.push("the ledger bills what never reached the upstream");
            }
        }
        for row in rows {
            if row.outcome == "lost" && !died {
                problems.push("an attempt is lost whose process lived on");
            }
        }
        for (row, entry) in known.iter().zip(entries) {
            problems.extend(self.compare_attempt(record, entry, row));
        }
        problems
    }

    fn compare_attempt(
        &self,
        record: &CallRecord,
        entry: &Entry,
        row: &Row,
    ) -> Option<&'static str> {
        if row.outcome == "lost" {
            // If the provider reported no usage, the gateway counts tokens after the last byte.
            let is_counted =
                entry.reported().is_none() && record.result == CallResult::Answered(200);
            return match record.result {
                CallResult::Answered(_) if !is_counted => Some("an answer that came whole is lost"),
                _ if row.usage_source != "estimated" || row.cost.is_none() => {
                    Some("a lost attempt is not charged as reserved")
                }
                _ => None,
            };
        }
        if row.cost.is_none() {
            return Some("the cost is not known in spite of a price");
        }
        let read = row.usage_source == "provider";
        let Some(usage) = entry.reported() else {
            let scenario = (self.plan)(record.number).scenario;
            return match (scenario, row.status) {
                _ if read => Some("the ledger has usage that was not reported"),
                (Scenario::Error(_), Some(400..)) if row.cost != Some(0) => {
                    Some("an error is billed")
                }
                _ => None,
            };
        };
        // A caller that disconnected may have ended the answer before its usage was read.
        let must_be_read =
            matches!(record.result, CallResult::Answered(200)) || row.outcome != "caller_left";
        if !read {
            return must_be_read.then_some("usage that was reported is not in the ledger");
        }
        if !row.counts(usage) {
            return Some("the tokens differ");
        }
        let bill = (self.rates)(&row.configuration).bill(usage);
        (row.cost.map(i128::from) != Some(bill)).then_some("the cost differs")
    }

    /// Fails the test unless enough of everything has happened to make the comparison meaningful.
    #[track_caller]
    pub(crate) fn assert_varied(&self, rows: &[Row]) {
        let mut scenarios: BTreeMap<String, usize> = BTreeMap::new();
        for record in &self.records {
            let scenario = (self.plan)(record.number).scenario;
            *scenarios.entry(format!("{scenario:?} {:?}", record.result)).or_default() += 1;
        }
        let count = |outcome: &str| rows.iter().filter(|row| row.outcome == outcome).count();
        let retried = rows.iter().filter(|row| row.attempt > 1).count();
        let outcomes = ["completed", "upstream_broke", "caller_left", "failed", "unknown", "lost"];
        let outcomes = outcomes.map(|outcome| (outcome, count(outcome)));
        println!("{} rows: {outcomes:?}, {retried} retried\n{scenarios:#?}", rows.len());
        for (outcome, count) in &outcomes[..4] {
            assert!(*count > 0, "nothing is {outcome}: {outcomes:?}");
        }
        // Few besides those in progress when a process was killed.
        let lost = count("lost");
        assert!(lost > 0 && lost * 5 < rows.len(), "{lost} of {} rows are lost", rows.len());
        let read = rows.iter().filter(|row| row.usage_source == "provider").count();
        assert!(read * 5 >= self.records.len(), "{read} of {} have usage", self.records.len());
    }
}
