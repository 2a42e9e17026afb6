//! The order in which a request tries the targets of a chain: step by step, and within a weighted step by a
//! pick that is the same for all requests of a conversation, so that they find the provider's prompt cache.

use std::cmp::Ordering;

use actix_web::http::header::HeaderMap;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::domain::ids::{RequestId, WorkspaceId};
use crate::domain::policy::fallback::{Candidate, Step};
use crate::json::object::JsonBody;
use crate::llm::format::Format;
use crate::llm::prompt_start::prompt_start;

/// Headers that name the caller's conversation; the first that is there counts. After the gateway's own:
/// Claude Code's, and the one that OpenRouter documents.
const SESSION_HEADERS: [&str; 3] =
    ["x-tollgate-session-id", "x-claude-code-session-id", "x-session-id"];

/// What a pick depends on.
pub type Seed = [u8; 32];

/// The seed of a request: a hash, under its workspace, of its session's header, or else of its body's
/// `prompt_cache_key`, or else of the beginning of its prompt. Without any of them it is another one for each
/// request.
pub fn seed_of(
    workspace_id: WorkspaceId,
    headers: &HeaderMap,
    body: Option<(Format, &JsonBody)>,
    request_id: RequestId,
) -> Seed {
    let mut hash = Sha256::new_with_prefix(workspace_id.uuid().as_bytes());
    let mut feed = |kind: &[u8], text: &[u8]| {
        hash.update(kind);
        hash.update(text);
    };
    let session = SESSION_HEADERS.iter().find_map(|name| headers.get(*name));
    let key = body.and_then(|(_, body)| body.get("prompt_cache_key"));
    // A raw value, in which text is in quotes.
    let key = key.filter(|raw| raw.starts_with('"') && raw.len() > 2);
    let start = body.map(|(format, body)| prompt_start(format, body)).unwrap_or_default();
    match (session.filter(|value| !value.is_empty()), key) {
        (Some(session), _) => feed(b"session:", session.as_bytes()),
        (None, Some(key)) => feed(b"key:", key.as_bytes()),
        (None, None) if !start.is_empty() => {
            start.iter().for_each(|part| feed(b"prompt:", part.as_bytes()));
        }
        (None, None) => feed(b"request:", request_id.uuid().as_bytes()),
    }
    hash.finalize().into()
}

/// The targets in the order in which they are tried. `seed` is asked for only if a step is weighted.
///
/// A weighted step is ordered by weighted rendezvous hashing: each target is the first one in proportion to
/// its weight, and where the first one is left out its requests spread over the others in proportion to
/// theirs, while the requests of the others stay where they are.
pub fn in_order(steps: &[Step], seed: impl FnOnce() -> Seed) -> SmallVec<[&Candidate; 6]> {
    let is_weighted = steps.iter().any(|step| matches!(step, Step::Weighted(_)));
    let seed = is_weighted.then(seed).unwrap_or_default();
    let mut order = SmallVec::new();
    for step in steps {
        let mut members: SmallVec<[(f64, &Candidate); 5]> = step
            .members()
            .map(|(weight, candidate)| {
                (-share(&seed, candidate).ln() / f64::from(weight), candidate)
            })
            .collect();
        members.sort_by(|(one, _), (other, _)| one.partial_cmp(other).unwrap_or(Ordering::Equal));
        order.extend(members.into_iter().map(|(_, candidate)| candidate));
    }
    order
}

/// A number between 0 and 1, both excluded, evenly spread over seeds and targets.
#[expect(clippy::cast_precision_loss, reason = "of 52 bits, none is lost")]
fn share(seed: &Seed, candidate: &Candidate) -> f64 {
    let mut hash = Sha256::new_with_prefix(seed);
    match candidate {
        Candidate::Model { provider, model } => {
            hash.update(provider.as_str());
            hash.update("/");
            hash.update(model);
        }
        Candidate::Configuration(id) => hash.update(id.uuid().as_bytes()),
    }
    let digest: [u8; 32] = hash.finalize().into();
    let bits = digest.iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)) >> 12;
    (bits as f64 + 0.5) / (1_u64 << 52) as f64
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::domain::provider::Provider;

    fn target(model: &str) -> Candidate {
        Candidate::Model { provider: Provider::Openai, model: model.to_owned() }
    }

    fn seed(number: u64) -> Seed {
        Sha256::digest(number.to_be_bytes()).into()
    }

    fn names(order: &[&Candidate]) -> String {
        let names = order.iter().map(|one| match one {
            Candidate::Model { model, .. } => model.as_str(),
            Candidate::Configuration(_) => "?",
        });
        names.collect()
    }

    #[test]
    fn targets_are_picked_by_weight_within_their_step() {
        let weighted = |members: &[(u32, &str)]| {
            Step::Weighted(members.iter().map(|(weight, name)| (*weight, target(name))).collect())
        };
        let steps = [
            Step::One(target("a")),
            weighted(&[(6, "b"), (3, "c"), (1, "d")]),
            Step::One(target("e")),
        ];
        let mut counts = std::collections::BTreeMap::new();
        for number in 0..10_000 {
            let order = names(&in_order(&steps, || seed(number)));
            assert_eq!(order, names(&in_order(&steps, || seed(number))), "the same seed");
            assert!(order.starts_with('a') && order.ends_with('e') && order.len() == 5, "{order}");
            *counts.entry(order[1..3].to_owned()).or_insert(0_i32) += 1;
        }
        // By the weights: 6/10 begin with b, of which 3/4 go on with c.
        let expected =
            [("bc", 4500), ("bd", 1500), ("cb", 2571), ("cd", 429), ("db", 667), ("dc", 333)];
        for (order, expected) in expected {
            assert!((counts[order] - expected).abs() < 250, "{order}: {counts:?}");
        }
        let plain = [Step::One(target("a")), Step::One(target("b"))];
        assert_eq!(names(&in_order(&plain, || panic!("no step is weighted"))), "ab");
    }

    #[test]
    fn a_conversation_keeps_its_seed() {
        let workspace = WorkspaceId::from(Uuid::from_u128(1));
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs
                .iter()
                .map(|(name, value)| {
                    (HeaderName::from_static(name), HeaderValue::from_static(value))
                })
                .collect()
        };
        let seed = |headers: &HeaderMap, text: &'static str, request: u128| {
            let body = JsonBody::parse(Bytes::from_static(text.as_bytes())).unwrap();
            let body = Some((Format::Chat, &body));
            seed_of(workspace, headers, body, RequestId::from(Uuid::from_u128(request)))
        };
        let (none, session) = (headers(&[]), headers(&[("x-claude-code-session-id", "s")]));
        let own = headers(&[("x-session-id", "s"), ("x-tollgate-session-id", "t")]);
        let first = r#"{"messages":[{"role":"user","content":"Hi"}]}"#;
        let later =
            r#"{"messages":[{"role":"user","content":"Hi"},{"role":"user","content":"2"}]}"#;
        let other = r#"{"messages":[{"role":"user","content":"Ho"}]}"#;
        let keyed = r#"{"prompt_cache_key":"k","messages":[{"role":"user","content":"Ho"}]}"#;
        let keyed_later = r#"{"prompt_cache_key":"k","messages":[]}"#;
        assert_eq!(seed(&none, first, 1), seed(&none, later, 2));
        assert_ne!(seed(&none, first, 1), seed(&none, other, 1));
        assert_ne!(seed(&none, other, 1), seed(&none, keyed, 1));
        assert_eq!(seed(&none, keyed, 1), seed(&none, keyed_later, 2));
        assert_eq!(seed(&session, keyed, 1), seed(&session, other, 2));
        assert_ne!(seed(&session, first, 1), seed(&own, first, 1));
        assert_eq!(
            seed(&headers(&[("x-tollgate-session-id", "t")]), first, 1),
            seed(&own, other, 1)
        );
        assert_ne!(seed(&none, "{}", 1), seed(&none, "{}", 2));
        let elsewhere = WorkspaceId::from(Uuid::from_u128(2));
        let request = RequestId::from(Uuid::from_u128(1));
        let of = |workspace| seed_of(workspace, &session, None, request);
        assert_ne!(of(workspace), of(elsewhere));
    }
}
