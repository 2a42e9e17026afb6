//! What a provider gives out to get it back unread: signatures of thoughts, encrypted reasoning. It is
//! valid only where it came from, so it travels with its family; through a format of another family it
//! travels in a container that names it.
//!
//! A container is `tollgate.1.<family>.<kind>.<base64url of the id>.<data>`. Nothing in it is secret: the
//! provider gave it to the caller.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::text_enum::text_enum;

/// Begins every container, of whatever version.
const PREFIX: &str = "tollgate.";
/// Begins every container of this version.
pub const CONTAINER: &str = "tollgate.1.";

text_enum! {
    /// Whose models can read it.
    pub enum Family {
        Anthropic = "anthropic",
        OpenAi = "openai",
        Google = "google",
        /// Models on Bedrock's Converse.
        Bedrock = "bedrock",
    }
}

text_enum! {
    /// What the provider does with it.
    pub enum OpaqueKind {
        /// Signs the text next to it (Anthropic `signature`, Gemini `thoughtSignature`).
        Signature = "signature",
        /// Thoughts that are not shown (Anthropic `redacted_thinking.data`, Bedrock `redactedContent`).
        Redacted = "redacted",
        /// The state of the reasoning (OpenAI `encrypted_content`).
        Encrypted = "encrypted",
    }
}

/// Stands where a format has what proves thoughts, for thoughts that came without it: on the way back it
/// tells that they are not those of the format's own family, and there is nothing in it.
pub fn no_proof() -> String {
    format!("{CONTAINER}none")
}

/// One piece of such data, as the provider gave it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opaque<'a> {
    pub family: Family,
    pub kind: OpaqueKind,
    /// The item's id, where the provider wants it back (OpenAI `rs_...`).
    pub id: Option<Cow<'a, str>>,
    pub data: Cow<'a, str>,
}

impl Opaque<'_> {
    /// The container, for a field of another family's format.
    pub fn to_container(&self) -> String {
        let id = URL_SAFE_NO_PAD.encode(self.id.as_deref().unwrap_or_default());
        let (family, kind) = (self.family.as_str(), self.kind.as_str());
        format!("{CONTAINER}{family}.{kind}.{id}.{}", self.data)
    }

    /// Reads a field of `family`'s format: a container, or what the family made itself. `None` for a
    /// container that is not understood, which has to be left out.
    pub fn from_field(field: Cow<'_, str>, family: Family, kind: OpaqueKind) -> Option<Opaque<'_>> {
        if !field.starts_with(PREFIX) {
            return (!field.is_empty()).then_some(Opaque { family, kind, id: None, data: field });
        }
        let rest = field.strip_prefix(CONTAINER)?;
        let (family, rest) = rest.split_once('.')?;
        let (kind, rest) = rest.split_once('.')?;
        let (id, data) = rest.split_once('.')?;
        let id = String::from_utf8(URL_SAFE_NO_PAD.decode(id).ok()?).ok()?;
        Some(Opaque {
            family: Family::parse(family)?,
            kind: OpaqueKind::parse(kind)?,
            id: (!id.is_empty()).then_some(Cow::Owned(id)),
            data: Cow::Owned(data.to_owned()),
        })
    }

    /// Whether a model of this family can read it.
    pub fn is_of(&self, family: Family) -> bool {
        self.family == family
    }

    /// The same, without borrowing.
    pub fn into_owned(self) -> Opaque<'static> {
        Opaque {
            family: self.family,
            kind: self.kind,
            id: self.id.map(|id| Cow::Owned(id.into_owned())),
            data: Cow::Owned(self.data.into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_gives_back_what_it_holds() {
        for family in Family::ALL {
            for kind in OpaqueKind::ALL {
                for id in [None, Some(Cow::Borrowed("rs_1.2/é"))] {
                    let opaque = Opaque { family, kind, id, data: Cow::Borrowed("ab.c+/=") };
                    let container = Cow::Owned(opaque.to_container());
                    let read = Opaque::from_field(container, Family::OpenAi, OpaqueKind::Encrypted);
                    assert_eq!(read, Some(opaque));
                }
            }
        }
    }

    #[test]
    fn what_is_no_container_is_the_familys_own() {
        let read = |text: &'static str| {
            Opaque::from_field(Cow::Borrowed(text), Family::Anthropic, OpaqueKind::Signature)
        };
        let own = read("EuY...").unwrap();
        assert!(own.is_of(Family::Anthropic) && own.data == "EuY..." && own.id.is_none());
        assert_eq!(read(no_proof().leak()), None);
        for unknown in [
            "",
            "tollgate.",
            "tollgate.2.google.signature..x",
            "tollgate.1.",
            "tollgate.1.other.signature..x",
            "tollgate.1.google.new..x",
        ] {
            assert_eq!(read(unknown), None, "{unknown}");
        }
    }
}
