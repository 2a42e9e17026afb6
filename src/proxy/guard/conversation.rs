//! Which conversation a request belongs to, so that its placeholders stay the same: the one that lies at the
//! provider and goes on, or that of its session header, or that of its first message.

use actix_web::http::header::HeaderName;
use smallvec::SmallVec;
use zeroize::Zeroizing;

use super::GuardStage;
use crate::directory::own_responses::OwnResponse;
use crate::domain::provider::UpstreamId;
use crate::llm::format::Format;
use crate::llm::stored_state::PREVIOUS_RESPONSE;
use crate::policy::guard::conversation::conversation_digest;
use crate::policy::guard::placeholder::{ConversationId, ConversationKey};
use crate::proxy::candidates::{scope_of, unavailable};
use crate::proxy::context::RequestContext;
use crate::proxy::error::ProxyError;
use crate::proxy::off_worker::off_worker;
use crate::proxy::read::CallerBody;

/// Tells which conversation a request belongs to.
const SESSION: HeaderName = HeaderName::from_static("x-tollgate-session-id");

pub(super) struct Conversation {
    pub(super) key: ConversationKey,
    /// The upstreams where it lies, if it goes on with a response that was made under a guard.
    pub(super) only_at: Option<Vec<UpstreamId>>,
}

impl GuardStage<'_> {
    pub(super) async fn conversation(
        &self,
        format: Format,
        body: &CallerBody,
        context: &mut RequestContext,
    ) -> Result<Conversation, ProxyError> {
        let data_key = self.data_key(context).await?;
        let continued = self.continued(format, body, context).await?;
        if let Some((first, _)) = continued.first() {
            let key = ConversationKey::of_continued(&data_key, *first);
            let lies_there = continued.iter().filter(|(id, _)| id == first);
            let only_at = Some(lies_there.map(|(_, upstream)| *upstream).collect());
            return Ok(Conversation { key, only_at });
        }
        let conversation = match self.caller.headers().get(SESSION) {
            Some(session) => session.as_bytes().to_vec(),
            None => {
                let text = body.json.bytes();
                let digest = move || conversation_digest(format, &text).to_vec();
                off_worker(body.json.bytes().len(), digest).await?
            }
        };
        let caller = match (self.subject.user_id, self.subject.api_key_id) {
            (Some(user), _) => user.to_string(),
            (None, Some(key)) => key.to_string(),
            (None, None) => String::new(),
        };
        let key = ConversationKey::derive(&data_key, caller.as_bytes(), &conversation);
        Ok(Conversation { key, only_at: None })
    }

    /// Where the response before this request was made under a guard of the workspace, and in which
    /// conversation.
    async fn continued(
        &self,
        format: Format,
        body: &CallerBody,
        context: &mut RequestContext,
    ) -> Result<SmallVec<[(ConversationId, UpstreamId); 1]>, ProxyError> {
        let mut continued = SmallVec::new();
        let previous = body.json.get(PREVIOUS_RESPONSE).filter(|_| format == Format::Responses);
        let Some(Ok(id)) = previous.map(serde_json::from_str::<String>) else {
            return Ok(continued);
        };
        for candidate in &self.candidates.list {
            let response = OwnResponse {
                scope: scope_of(&self.subject),
                upstream: candidate.upstream.id,
                response_id: id.clone(),
            };
            let found = self.plane.own_responses.find_guarded(response).await;
            let found = found.map_err(|error| unavailable(context, &error))?;
            continued.extend(found.map(|id| (id, candidate.upstream.id)));
        }
        Ok(continued)
    }

    /// The key that the placeholders of the workspace are derived from.
    async fn data_key(
        &self,
        context: &mut RequestContext,
    ) -> Result<Zeroizing<[u8; 32]>, ProxyError> {
        let found = self.plane.directory.find_placeholder_key(scope_of(&self.subject)).await;
        let entry = found.map_err(|error| error.to_string()).and_then(|entry| {
            entry.ok_or_else(|| "the workspace has no key for placeholders".to_owned())
        });
        let entry = entry.map_err(|cause| {
            context.request.record().cause = Some(cause);
            ProxyError::DirectoryUnavailable
        })?;
        let key = entry.open(&self.plane.keyring).map_err(|cause| {
            context.request.record().cause = Some(format!("the workspace's data key: {cause}"));
            ProxyError::Internal
        })?;
        Ok(Zeroizing::new(*key))
    }
}
