//! Signatures that belong to a text or to a call of a tool (Gemini): a message has no member for them, so
//! they get a thinking block of their own, whose signature says where they belong.

use std::borrow::Cow;

use crate::llm::convert::opaque::Opaque;

/// Before the id of the call.
const CALL: &str = "call:";
/// The text before the thinking block.
const TEXT: &str = "text";

/// What a signature belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureOwner<'p> {
    /// The call with this id, in the same message.
    Call(&'p str),
    /// The text before it.
    Text,
}

/// The signature of the thinking block that carries what belongs to a text or a call. What is carried so
/// has no id of its own.
pub(super) fn to_signature(opaque: &Opaque<'_>, place: SignatureOwner<'_>) -> String {
    let place = match place {
        SignatureOwner::Call(id) => format!("{CALL}{id}"),
        SignatureOwner::Text => TEXT.to_owned(),
    };
    Opaque { id: Some(Cow::Owned(place)), ..opaque.clone() }.to_container()
}

/// The place that a signature names, if it is of this kind.
pub(super) fn of_opaque<'o>(opaque: &'o Opaque<'_>) -> Option<SignatureOwner<'o>> {
    match opaque.id.as_deref()? {
        TEXT => Some(SignatureOwner::Text),
        id => id.strip_prefix(CALL).map(SignatureOwner::Call),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::convert::opaque::{Family, OpaqueKind};

    #[test]
    fn places_are_found_again() {
        let kind = OpaqueKind::Signature;
        let opaque =
            Opaque { family: Family::Google, kind, id: None, data: Cow::Borrowed("Cg==.x") };
        for place in
            [SignatureOwner::Call("call_1"), SignatureOwner::Call(""), SignatureOwner::Text]
        {
            let signature = to_signature(&opaque, place);
            let read = Opaque::from_field(signature.into(), Family::Anthropic, kind).unwrap();
            assert_eq!(of_opaque(&read), Some(place));
            assert_eq!((read.family, read.data.as_ref()), (Family::Google, "Cg==.x"));
        }
        let own = Opaque { id: Some("rs_1".into()), ..opaque };
        assert_eq!(of_opaque(&own), None);
    }
}
