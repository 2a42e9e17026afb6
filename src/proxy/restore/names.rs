//! Asks Presidio about the texts of an answer, once it is complete.

use tokio::time::Instant;
use uuid::Uuid;

use super::AnswerRestorer;
use crate::policy::guard::answer_names::AnswerNames;
use crate::policy::guard::redact::ScanError;
use crate::presidio::Presidio;
use crate::proxy::off_worker::off_worker;
use crate::upstream::UpstreamClient;

/// The search of one answer.
pub struct NameSearch {
    pub presidio: Presidio,
    /// The worker's.
    pub client: UpstreamClient,
    pub tenant: Uuid,
}

impl NameSearch {
    /// Tells the restorer which names are in its answer, all of which it has. `None` if a thread failed.
    pub async fn run(self, mut restorer: Box<AnswerRestorer>) -> Option<Box<AnswerRestorer>> {
        let Some(guard) = restorer.scan().map(|scan| scan.shared_guard()) else {
            return Some(restorer);
        };
        let deadline = Instant::now() + guard.timeout();
        let collect = move || {
            let texts = restorer.texts();
            (restorer, texts)
        };
        let (mut restorer, texts) = off_worker(usize::MAX, collect).await.ok()?;
        let names = match texts {
            Err(error) => Err(error),
            Ok(texts) if texts.is_empty() => Ok(None),
            Ok(texts) => {
                let asked = (guard.entities(), texts);
                let found =
                    self.presidio.find_entities(&self.client, self.tenant, asked, deadline).await;
                let found = found.map_err(|_| ScanError::NotSearched);
                found.and_then(|entities| AnswerNames::new(&entities))
            }
        };
        restorer.names_found(names);
        Some(restorer)
    }
}
