//! Callers that send requests continuously, none of which may fail, while a test disturbs the gateway.

use std::{cell::RefCell, rc::Rc};

use tokio::{sync::watch, task::JoinHandle};

use super::http::{Client, Request};

/// Running callers. They stop when this is stopped or dropped.
pub(crate) struct BackgroundLoad {
    stop: watch::Sender<bool>,
    answered: watch::Receiver<u64>,
    failures: Rc<RefCell<Vec<String>>>,
    callers: Vec<JoinHandle<()>>,
}

impl BackgroundLoad {
    /// Starts `callers` callers that repeat `request`, and waits until each has been answered.
    pub(crate) async fn start(client: &Client, request: Request, callers: usize) -> Self {
        let stop = watch::Sender::new(false);
        let (count, answered) = watch::channel(0);
        let failures = Rc::new(RefCell::new(Vec::new()));
        let one = |_| {
            let (client, request, failures) = (client.clone(), request.clone(), failures.clone());
            let (stopped, count) = (stop.subscribe(), count.clone());
            actix_rt::spawn(async move {
                while !*stopped.borrow() {
                    match client.try_send(request.clone()).await {
                        Ok(answer) if answer.status == 200 => {}
                        Ok(answer) => failures.borrow_mut().push(format!(
                            "{} {}",
                            answer.status,
                            answer.text()
                        )),
                        Err(cut) => failures.borrow_mut().push(format!("{cut:?}")),
                    }
                    count.send_modify(|count| *count += 1);
                }
            })
        };
        let callers = (0..callers).map(one).collect();
        let load = Self { stop, answered, failures, callers };
        load.wait_for_progress().await;
        load
    }

    /// Waits until each caller has begun and ended a request since this call. Fails the test if a
    /// request failed.
    pub(crate) async fn wait_for_progress(&self) {
        let mut answered = self.answered.clone();
        let until = *answered.borrow() + 2 * self.callers.len().max(1) as u64;
        answered.wait_for(|answered| *answered >= until).await.expect("the callers call");
        self.check();
    }

    /// Stops the callers. Fails the test if a request failed.
    pub(crate) async fn end(mut self) {
        self.stop.send_replace(true);
        for caller in self.callers.drain(..) {
            caller.await.expect("a caller ends");
        }
        self.check();
    }

    fn check(&self) {
        let failures = self.failures.borrow();
        assert!(failures.is_empty(), "{} calls failed: {:?}", failures.len(), failures.first());
    }
}

impl Drop for BackgroundLoad {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
