//! The provider's invoice: the requests that a scripted upstream received, and the usage it reported.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

use super::{
    call_plan::CallPlan,
    openai::Usage,
    script::{Marker, Script},
    upstream::{RecordedRequest, ScriptedUpstream},
};

/// One request that the upstream received completely.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    reports: Option<Usage>,
    sent: Marker,
}

impl Entry {
    /// One whose usage, if any, was sent completely.
    pub(crate) fn of(reports: Option<Usage>) -> Self {
        let sent = Marker::default();
        sent.set();
        Self { reports, sent }
    }

    /// The usage that was sent completely, which the provider bills.
    pub(crate) fn reported(&self) -> Option<Usage> {
        self.reports.filter(|_| self.sent.is_set())
    }
}

/// The entries by call number, in the order received. Clones share the invoice.
#[derive(Clone)]
pub(crate) struct Invoice(Arc<watch::Sender<BTreeMap<u64, Vec<Entry>>>>);

impl Invoice {
    /// Starts an upstream that follows the plans and records the invoice.
    pub(crate) async fn start(
        plan: impl Fn(u64) -> CallPlan + Send + Sync + 'static,
    ) -> (Self, ScriptedUpstream) {
        let invoice = Self(Arc::new(watch::Sender::new(BTreeMap::new())));
        let book = invoice.clone();
        let serve = move |request: &RecordedRequest| book.enter(request, &plan);
        let upstream = ScriptedUpstream::with(serve).await;
        (invoice, upstream)
    }

    fn enter(&self, request: &RecordedRequest, plan: &impl Fn(u64) -> CallPlan) -> Script {
        let number = CallPlan::number_of(request)
            .unwrap_or_else(|| panic!("a request without a number: {}", request.target));
        let before = self.0.borrow().get(&number).map_or(0, Vec::len);
        let served = plan(number).serve(request, before);
        let entry = Entry { reports: served.reports, sent: served.sent };
        self.0.send_modify(|entries| entries.entry(number).or_default().push(entry));
        served.script
    }

    /// Waits until the upstream has received this call.
    pub(crate) async fn has(&self, number: u64) {
        let mut entries = self.0.subscribe();
        // The sender lives as long as this invoice.
        let _ = entries.wait_for(|entries| entries.contains_key(&number)).await;
    }

    pub(crate) fn entries(&self) -> BTreeMap<u64, Vec<Entry>> {
        self.0.borrow().clone()
    }
}
