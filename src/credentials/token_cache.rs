//! Tokens of this process. However many requests need one, over all workers, one of them mints it, with
//! the client of its own worker, and the others wait; if its caller leaves, the next one mints.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::sync::Cache;
use smallvec::SmallVec;

use super::mint::{MintFailure, MintedToken, TokenRequest, mint};
use super::{CredentialError, failed};
use crate::clock::Clock;
use crate::crypto::SecretText;
use crate::domain::connection::Connection;
use crate::domain::ids::SecretId;
use crate::domain::provider::UpstreamId;
use crate::upstream::UpstreamClient;

/// The most tokens that are kept.
const CAPACITY: usize = 10_000;
/// How long before its end a token is replaced. One that lives less than twice as long is replaced at
/// half of its life.
const EARLY: Duration = Duration::from_secs(60);
/// How long requests fail without asking a token endpoint that has failed.
const FAILURE: TimeDelta = TimeDelta::seconds(1);

/// The cache. Clones share the tokens.
#[derive(Clone)]
pub struct TokenCache {
    clock: Clock,
    slots: Arc<Cache<TokenKey, Arc<Slot>>>,
}

/// What a token depends on: a changed configuration, connection or secret has another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenKey {
    pub upstream: UpstreamId,
    /// When the configuration was changed last.
    pub updated_at: Option<DateTime<Utc>>,
    /// Of a built-in provider.
    pub connection: Option<Connection>,
    /// The secrets that it is minted with, each with its version. They belong to one workspace.
    pub secrets: SmallVec<[(SecretId, i64); 1]>,
}

/// The place of one token.
#[derive(Default)]
struct Slot {
    /// Held by the request that mints.
    minting: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    failure: Option<(DateTime<Utc>, MintFailure)>,
}

struct Token {
    text: SecretText,
    /// The token endpoint's.
    host: String,
    replace_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

/// A token that a request is sent with.
pub struct CachedToken {
    token: Arc<Token>,
    slot: Arc<Slot>,
}

impl CachedToken {
    /// The token itself, which must not be logged.
    pub fn text(&self) -> &SecretText {
        &self.token.text
    }

    /// The token endpoint's host.
    pub fn host(&self) -> &str {
        &self.token.host
    }

    /// The upstream refuses the token: the next request mints another one, unless one was minted since.
    pub fn forget(&self) {
        let mut state = self.slot.state();
        if state.token.as_ref().is_some_and(|token| Arc::ptr_eq(token, &self.token)) {
            state.token = None;
        }
    }
}

impl TokenCache {
    /// Without tokens.
    pub fn new(clock: Clock) -> Self {
        Self { clock, slots: Arc::new(Cache::new(CAPACITY)) }
    }

    /// The upstream's token, cached or new. While a token is valid and no other can be minted, it is used
    /// to its end. `name` is the upstream's, for the log, and `secret` the name of what it is minted with;
    /// `request` is made for a new token only, with the time that it is requested at.
    pub async fn find_or_mint(
        &self,
        key: &TokenKey,
        name: &str,
        client: &UpstreamClient,
        secret: &str,
        request: impl FnOnce(DateTime<Utc>) -> Result<TokenRequest, CredentialError>,
    ) -> Result<CachedToken, CredentialError> {
        let Ok(slot) =
            self.slots.get_or_insert_with(key, || Ok::<_, Infallible>(Arc::new(Slot::default())));
        let cached = |token| CachedToken { token, slot: Arc::clone(&slot) };
        if let Some(token) = slot.fresh(self.clock.now()) {
            return Ok(cached(token));
        }
        let _minting = match slot.minting.try_lock() {
            Ok(minting) => minting,
            Err(_) => match slot.valid(self.clock.now()) {
                Some(token) => return Ok(cached(token)),
                None => slot.minting.lock().await,
            },
        };
        let now = self.clock.now();
        if let Some(token) = slot.fresh(now) {
            return Ok(cached(token));
        }
        if let Some(failure) = slot.recent_failure(now) {
            return slot.valid(now).map(cached).ok_or_else(|| failed(secret, failure));
        }
        let request = request(now)?;
        let host = request.endpoint.host();
        match mint(client, request).await {
            Ok(minted) => {
                let token = Arc::new(Token::new(minted, host, now));
                *slot.state() = State { token: Some(Arc::clone(&token)), failure: None };
                Ok(cached(token))
            }
            Err(failure) => {
                tracing::warn!(upstream = name, error = %failure, "cannot get a token for an upstream");
                let now = self.clock.now();
                slot.state().failure = Some((now, failure.clone()));
                slot.valid(now).map(cached).ok_or_else(|| failed(secret, failure))
            }
        }
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token, if it need not be replaced yet.
    fn fresh(&self, now: DateTime<Utc>) -> Option<Arc<Token>> {
        self.state().token.clone().filter(|token| now < token.replace_at)
    }

    /// The token, if the upstream still takes it.
    fn valid(&self, now: DateTime<Utc>) -> Option<Arc<Token>> {
        self.state().token.clone().filter(|token| now < token.expires_at)
    }

    fn recent_failure(&self, now: DateTime<Utc>) -> Option<MintFailure> {
        let state = self.state();
        let recent = state.failure.as_ref().filter(|(at, _)| (now - at).abs() < FAILURE);
        recent.map(|(_, failure)| failure.clone())
    }
}

impl Token {
    fn new(minted: MintedToken, host: String, requested_at: DateTime<Utc>) -> Self {
        let MintedToken { text, life } = minted;
        let unused = EARLY.min(life / 2);
        Self {
            text,
            host,
            replace_at: requested_at + (life - unused),
            expires_at: requested_at + life,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_replaced_a_minute_before_their_end_or_at_half_of_their_life() {
        let now = Clock::default().now();
        for (life, replaced_after) in [(3600, 3540), (120, 60), (119, 59), (10, 5), (1, 0), (0, 0)]
        {
            let minted = MintedToken { text: "token".into(), life: Duration::from_secs(life) };
            let token = Token::new(minted, String::new(), now);
            assert_eq!((token.replace_at - now).num_seconds(), replaced_after, "{life}");
            assert_eq!((token.expires_at - now).num_seconds(), life as i64);
        }
    }
}
