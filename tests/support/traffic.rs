//! Callers that make planned calls in the order of their numbers, at the gateway's current address, and
//! record the result of each.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::{
    call_plan::{CallPlan, Scenario},
    connection::{BodyEnd, Connection},
    invoice::Invoice,
    wait::within,
};

/// A call that takes longer counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallResult {
    /// A complete answer with this status.
    Answered(u16),
    /// No answer, or an incomplete one.
    Broken,
    /// The caller disconnected as planned.
    CallerLeft,
}

/// What the caller knows about a call.
#[derive(Clone, Debug)]
pub(crate) struct CallRecord {
    pub(crate) number: u64,
    /// The `x-request-id` of the answer, if there was one.
    pub(crate) request_id: Option<String>,
    pub(crate) result: CallResult,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

struct Shared {
    plan: Box<dyn Fn(u64) -> CallPlan>,
    invoice: Invoice,
    key: String,
    next: Cell<u64>,
    end: u64,
    records: RefCell<Vec<CallRecord>>,
    ended: watch::Sender<u64>,
}

/// Running callers.
pub(crate) struct Traffic {
    shared: Rc<Shared>,
    gateway: watch::Sender<SocketAddr>,
    callers: Vec<JoinHandle<()>>,
}

impl Traffic {
    pub(crate) fn start(
        plan: impl Fn(u64) -> CallPlan + 'static,
        invoice: &Invoice,
        key: &str,
        gateway: SocketAddr,
        (callers, end): (usize, u64),
    ) -> Self {
        let shared = Rc::new(Shared {
            plan: Box::new(plan),
            invoice: invoice.clone(),
            key: key.to_owned(),
            next: Cell::new(0),
            end,
            records: RefCell::default(),
            ended: watch::Sender::new(0),
        });
        let gateway = watch::Sender::new(gateway);
        let one = |_| actix_rt::spawn(Rc::clone(&shared).work(gateway.subscribe()));
        let callers = (0..callers).map(one).collect();
        Self { shared, gateway, callers }
    }

    /// Sets the gateway's new address.
    pub(crate) fn set_gateway(&self, gateway: SocketAddr) {
        self.gateway.send_replace(gateway);
    }

    /// The number of ended calls.
    pub(crate) fn ended(&self) -> u64 {
        *self.shared.ended.borrow()
    }

    /// Waits until `count` calls have ended, or all.
    pub(crate) async fn reaches(&self, count: u64) {
        let mut ended = self.shared.ended.subscribe();
        let count = count.min(self.shared.end);
        // The sender lives as long as this.
        let _ = ended.wait_for(|ended| *ended >= count).await;
    }

    /// Waits until all calls have ended, and returns their records.
    pub(crate) async fn end(self) -> Vec<CallRecord> {
        for caller in self.callers {
            caller.await.expect("a caller ends");
        }
        self.shared.records.take()
    }
}

impl Shared {
    async fn work(self: Rc<Self>, mut gateway: watch::Receiver<SocketAddr>) {
        while self.next.get() < self.end {
            let number = self.next.get();
            self.next.set(number + 1);
            let plan = (self.plan)(number);
            loop {
                let address = *gateway.borrow_and_update();
                if let Ok(connection) = Connection::open(address).await {
                    let call = self.call(&plan, connection);
                    let record = within(PATIENCE, &format!("{plan:?} ends"), call).await;
                    self.records.borrow_mut().push(record);
                    self.ended.send_modify(|ended| *ended += 1);
                    break;
                }
                // Nothing was sent: the gateway is being restarted on another port.
                if gateway.changed().await.is_err() {
                    return;
                }
            }
        }
    }

    async fn call(&self, plan: &CallPlan, mut connection: Connection) -> CallRecord {
        let began = Instant::now();
        let mut request_id = None;
        let result = self.exchange(plan, &mut connection, &mut request_id).await;
        // Callers disconnect here.
        drop(connection);
        CallRecord { number: plan.number, request_id, result, began, ended: Instant::now() }
    }

    async fn exchange(
        &self,
        plan: &CallPlan,
        connection: &mut Connection,
        request_id: &mut Option<String>,
    ) -> CallResult {
        if connection.request(&plan.request().bearer(&self.key)).await.is_err() {
            return CallResult::Broken;
        }
        let head = tokio::select! {
            head = connection.head() => head,
            () = self.invoice.has(plan.number), if plan.scenario == Scenario::CallerLeavesBeforeHead => return CallResult::CallerLeft,
        };
        let Ok(head) = head else { return CallResult::Broken };
        *request_id = head.header("x-request-id").map(str::to_owned);
        let leaves = head.status == 200
            && matches!(
                plan.scenario,
                Scenario::CallerLeavesInBody | Scenario::CallerLeavesAfterUsage
            );
        if !leaves {
            return match connection.rest().await.1 {
                BodyEnd::Complete => CallResult::Answered(head.status),
                BodyEnd::UntilClose | BodyEnd::Broken(_) => CallResult::Broken,
            };
        }
        // The upstream does not send the rest, so an end of the body is a broken connection.
        let mut seen = Vec::new();
        loop {
            let Ok(Some(piece)) = connection.piece().await else { return CallResult::Broken };
            seen.extend_from_slice(&piece.bytes);
            let has = |text: &str| memchr::memmem::find(&seen, text.as_bytes()).is_some();
            if plan.scenario == Scenario::CallerLeavesInBody
                || has("_tokens\"")
                || plan.withholds_usage()
            {
                return CallResult::CallerLeft;
            }
        }
    }
}
