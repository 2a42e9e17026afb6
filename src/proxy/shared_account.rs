//! Accounts at a provider that workspaces share, since the credential is their organization's. What one of
//! them has stored there, another one must not read; it may continue the responses that it made itself.

use super::DataPlane;
use super::candidates::{Candidate, Candidates, scope_of, unavailable};
use super::context::RequestContext;
use super::error::ProxyError;
use super::read::CallerBody;
use crate::directory::own_responses::{OwnResponse, OwnResponses};
use crate::domain::policy::Subject;
use crate::domain::provider::UpstreamId;
use crate::domain::scope::WorkspaceScope;
use crate::llm::stored_state::{PREVIOUS_RESPONSE, StoredState, is_stored_prompt};
use crate::policy::guard::placeholder::ConversationId;

/// Leaves out the candidates with a shared account if the request refers to what is stored there, unless
/// the workspace made it. An error if no other is left.
pub async fn keep_to_own_state(
    plane: &DataPlane,
    subject: &Subject<'_>,
    candidates: &mut Candidates,
    body: Option<&CallerBody>,
    context: &mut RequestContext,
) -> Result<(), ProxyError> {
    let is_shared = candidates.list.iter().any(|one| one.upstream.is_inherited);
    if !is_shared || candidates.subscription.is_some() {
        return Ok(());
    }
    let Some(body) = body else { return Ok(()) };
    let state = StoredState::of(body.json.text().as_bytes());
    let previous = state.previous_response.as_ref().map(|_| PREVIOUS_RESPONSE);
    let in_body = state.other().or(previous);
    let has_prompt = candidates.list.iter().any(names_stored_prompt);
    let Some(field) = in_body.or(has_prompt.then_some("model")) else { return Ok(()) };
    let mut allowed = candidates.list.clone();
    allowed.clear();
    for one in &candidates.list {
        // Boxed, so that it takes no room in the requests that refer to nothing.
        if !one.upstream.is_inherited
            || Box::pin(is_own(plane, subject, one, &state, context)).await?
        {
            allowed.push(one.clone());
        }
    }
    if allowed.is_empty() {
        return Err(ProxyError::SharedAccountState { field });
    }
    candidates.list = allowed;
    Ok(())
}

/// Whether a prompt that is stored at the provider is asked for in place of a model. This includes
/// the model of a configuration, since keys of a workspace may change it.
pub fn names_stored_prompt(candidate: &Candidate) -> bool {
    is_stored_prompt(candidate.model.sent_name())
}

/// Whether the request refers to nothing that is stored there, but for a response that the workspace had made.
async fn is_own(
    plane: &DataPlane,
    subject: &Subject<'_>,
    candidate: &Candidate,
    state: &StoredState,
    context: &mut RequestContext,
) -> Result<bool, ProxyError> {
    if state.other().is_some() || names_stored_prompt(candidate) {
        return Ok(false);
    }
    let Some(id) = &state.previous_response else { return Ok(true) };
    let response = OwnResponse {
        scope: scope_of(subject),
        upstream: candidate.upstream.id,
        response_id: id.clone(),
    };
    let found = plane.own_responses.contain(response).await;
    found.map_err(|error| unavailable(context, &error))
}

/// Takes note of the response that an answer is, for the workspace that had it made in a shared account or
/// under a guard.
pub struct ResponseOwner {
    pub own_responses: OwnResponses,
    pub scope: WorkspaceScope,
    pub upstream: UpstreamId,
    /// The conversation, if it is under a guard.
    pub guarded: Option<ConversationId>,
}

impl ResponseOwner {
    /// The answer is the response with this id.
    pub fn take_note(self, response_id: String) {
        let Self { own_responses, scope, upstream, guarded } = self;
        own_responses.add(OwnResponse { scope, upstream, response_id }, guarded);
    }
}
