//! Reasoning in the fields of a message that OpenRouter and Google made known: `reasoning_details`, and
//! `extra_content` with Google's signatures.
//!
//! Entries of `reasoning_details` with the same `index` are pieces of one reasoning. The gateway's own
//! index is the place among the message's parts (reasoning, the text, each call), so that reasoning
//! between calls goes back to where it was.

use std::borrow::Cow;

use super::super::fields::{Fields, parse_array, parse_object};
use super::super::opaque::{CONTAINER, Family, Opaque, OpaqueKind};
use super::super::request::Text;
use crate::json::writer::JsonWriter;

/// The names of families in `format`. OpenRouter has none for Bedrock's.
const FORMATS: [(&str, Family); 5] = [
    ("anthropic-claude-v1", Family::Anthropic),
    ("openai-responses-v1", Family::OpenAi),
    ("azure-openai-responses-v1", Family::OpenAi),
    ("google-gemini-v1", Family::Google),
    ("bedrock-converse-v1", Family::Bedrock),
];

/// An entry of `reasoning_details`.
#[derive(Debug, Default)]
pub(super) struct Detail<'a> {
    pub(super) index: Option<u64>,
    pub(super) text: Text<'a>,
    pub(super) is_summary: bool,
    pub(super) opaque: Vec<Opaque<'a>>,
    /// The id of the call that the opaque parts belong to.
    pub(super) call: Option<Text<'a>>,
}

/// Reads `reasoning_details`. What is not understood is left out, since it belongs to a provider that is
/// not known.
pub(super) fn read_details(raw: &str) -> Vec<Detail<'_>> {
    parse_array(raw).unwrap_or_default().into_iter().filter_map(read_detail).collect()
}

fn read_detail(raw: &str) -> Option<Detail<'_>> {
    let fields = parse_object(raw)?;
    let text = |key| fields.find_text(key).filter(|text| !text.is_empty());
    let (summary, full) = (text("summary"), text("text"));
    let family = text("format").and_then(|format| family_of(&format));
    let signature = text("signature")
        .and_then(|signature| read_opaque(signature, family, OpaqueKind::Signature));
    let data_kind = match family {
        Some(Family::OpenAi) => OpaqueKind::Encrypted,
        Some(Family::Google) => OpaqueKind::Signature,
        _ => OpaqueKind::Redacted,
    };
    let mut data = text("data").and_then(|data| read_opaque(data, family, data_kind));
    let id = text("id");
    let mut call = None;
    match &mut data {
        Some(data) if data.is_of(Family::OpenAi) && data.id.is_none() => data.id = id,
        Some(data) if data.is_of(Family::Google) => call = id,
        _ => {}
    }
    Some(Detail {
        index: fields.get("index").and_then(|raw| raw.parse().ok()),
        is_summary: fields.get("summary").is_some(),
        text: match (summary, full) {
            (Some(summary), Some(full)) => summary + full,
            (text, None) | (None, text) => text.unwrap_or_default(),
        },
        opaque: signature.into_iter().chain(data).collect(),
        call,
    })
}

/// Callers that put pieces together may have written the word several times.
fn family_of(format: &str) -> Option<Family> {
    FORMATS.iter().find(|(name, _)| format.starts_with(name)).map(|(_, family)| *family)
}

/// A container names its family itself.
fn read_opaque(field: Text<'_>, family: Option<Family>, kind: OpaqueKind) -> Option<Opaque<'_>> {
    match family {
        Some(family) => Opaque::from_field(field, family, kind),
        None if field.starts_with(CONTAINER) => Opaque::from_field(field, Family::OpenAi, kind),
        None => None,
    }
}

/// An entry of `reasoning_details` that is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'e> {
    pub(super) index: u64,
    pub(super) text: &'e str,
    pub(super) is_summary: bool,
    pub(super) opaque: Option<&'e Opaque<'e>>,
    /// Names the family. Callers that put the pieces of a stream together by themselves append each
    /// string to the one before, so one piece of a reasoning names it.
    pub(super) has_format: bool,
    /// The id of the call that the opaque part belongs to.
    pub(super) call: Option<&'e str>,
}

impl Entry<'_> {
    pub(super) fn write(self, json: &mut JsonWriter) {
        let Self { index, text, is_summary, opaque, has_format, call } = self;
        let data = opaque.filter(|one| call.is_some() || one.kind != OpaqueKind::Signature);
        json.object(|json| {
            match data {
                Some(data) => {
                    json.key("type").string("reasoning.encrypted");
                    json.key("data").string(&data.data);
                    json.optional_string("id", call.or(data.id.as_deref()));
                }
                None => {
                    let (kind, key) = match is_summary {
                        true => ("reasoning.summary", "summary"),
                        false => ("reasoning.text", "text"),
                    };
                    json.key("type").string(kind);
                    json.key(key).string(text);
                    json.optional_string("signature", opaque.map(|signature| &signature.data));
                }
            }
            if let Some(opaque) = opaque.filter(|_| has_format) {
                json.key("format").string(format_of(opaque.family));
            }
            json.key("index").number(index);
        });
    }
}

fn format_of(family: Family) -> &'static str {
    FORMATS.iter().find(|(_, own)| *own == family).map_or("unknown", |(name, _)| name)
}

/// Writes the entries of a whole reasoning.
pub(super) fn write_details(
    json: &mut JsonWriter,
    index: u64,
    (text, is_summary): (&str, bool),
    opaque: &[Opaque<'_>],
) {
    let (signatures, data): (Vec<_>, Vec<_>) =
        opaque.iter().partition(|one| one.kind == OpaqueKind::Signature);
    let entry = Entry { index, text, is_summary, opaque: None, has_format: true, call: None };
    let signature = signatures.first().copied();
    if !text.is_empty() || signature.is_some() || data.is_empty() {
        Entry { opaque: signature, ..entry }.write(json);
    }
    for one in data {
        Entry { opaque: Some(one), ..entry }.write(json);
    }
}

/// Google's signature in an object's `extra_content`.
pub(super) fn read_extra_content<'a>(fields: &Fields<'a>) -> Option<Opaque<'a>> {
    let google = fields.find_object("extra_content")?.find_object("google")?;
    let signature = google.find_text("thought_signature")?;
    google_signature(signature)
}

/// A signature of Google's; `None` if it is empty.
pub(super) fn google_signature(signature: Text<'_>) -> Option<Opaque<'_>> {
    Opaque::from_field(signature, Family::Google, OpaqueKind::Signature)
}

/// Google's signature among the opaque parts.
pub(super) fn find_google<'o, 'a>(opaque: &'o [Opaque<'a>]) -> Option<&'o Opaque<'a>> {
    opaque.iter().find(|one| one.is_of(Family::Google) && one.kind == OpaqueKind::Signature)
}

pub(super) fn write_extra_content(json: &mut JsonWriter, signature: &Opaque<'_>) {
    json.key("extra_content").object(|json| {
        json.key("google").object(|json| {
            json.key("thought_signature").string(&signature.data);
        });
    });
}

/// LiteLLM's signature in the id of a call: `call_1__thought__<signature>`.
const ID_SIGNATURE: &str = "__thought__";

/// The id of a call, and the signature that LiteLLM appends to it.
pub(super) fn split_id(id: Text<'_>) -> (Text<'_>, Option<Text<'_>>) {
    match id {
        Cow::Borrowed(id) => match id.split_once(ID_SIGNATURE) {
            Some((id, signature)) => (id.into(), Some(signature.into())),
            None => (id.into(), None),
        },
        Cow::Owned(id) => match id.split_once(ID_SIGNATURE) {
            Some((id, signature)) => (id.to_owned().into(), Some(signature.to_owned().into())),
            None => (id.into(), None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opaque(family: Family, kind: OpaqueKind, id: Option<&'static str>) -> Opaque<'static> {
        Opaque { family, kind, id: id.map(Cow::Borrowed), data: "c2ln".into() }
    }

    #[test]
    fn what_is_written_is_read() {
        use OpaqueKind::{Encrypted, Redacted, Signature};
        for (text, is_summary, opaque) in [
            ("why", false, vec![]),
            ("why", true, vec![]),
            ("why", false, vec![opaque(Family::Anthropic, Signature, None)]),
            ("why", true, vec![opaque(Family::Anthropic, Signature, None)]),
            ("", false, vec![opaque(Family::Anthropic, Redacted, None)]),
            ("why", true, vec![opaque(Family::OpenAi, Encrypted, Some("rs_1"))]),
            ("", false, vec![opaque(Family::OpenAi, Encrypted, None)]),
            ("", false, vec![opaque(Family::Google, Signature, None)]),
            ("", false, vec![opaque(Family::Bedrock, Redacted, None)]),
            ("why", false, vec![opaque(Family::Bedrock, Signature, None)]),
        ] {
            let mut json = JsonWriter::new();
            json.array(|json| write_details(json, 7, (text, is_summary), &opaque));
            let json = json.finish();
            let details = read_details(&json);
            assert!(details.iter().all(|one| one.index == Some(7) && one.call.is_none()));
            let read: String = details.iter().map(|one| &*one.text).collect();
            assert_eq!((read.as_str(), details[0].is_summary), (text, is_summary), "{json}");
            let read: Vec<_> = details.into_iter().flat_map(|one| one.opaque).collect();
            assert_eq!(read, opaque, "{json}");
        }
    }

    #[test]
    fn signatures_of_calls_name_the_call() {
        let signature = opaque(Family::Google, OpaqueKind::Signature, None);
        let entry = Entry {
            index: 1,
            text: "",
            is_summary: false,
            opaque: Some(&signature),
            has_format: true,
            call: Some("call_1"),
        };
        let mut json = JsonWriter::new();
        json.array(|json| entry.write(json));
        let json = json.finish();
        assert_eq!(
            json,
            r#"[{"type":"reasoning.encrypted","data":"c2ln","id":"call_1","format":"google-gemini-v1","index":1}]"#
        );
        let details = read_details(&json);
        assert_eq!(details[0].call.as_deref(), Some("call_1"));
        assert_eq!(details[0].opaque, [signature]);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let json = r#"[3, {"type":"new"}, {"type":"reasoning.encrypted","data":"x","format":"xai-responses-v1"},
            {"type":"reasoning.text","text":"a","signature":"x"},
            {"type":"reasoning.encrypted","data":"tollgate.1.google.signature..abc"},
            {"summary":"s","data":"e","format":"openai-responses-v1openai-responses-v1"}]"#;
        let details = read_details(json);
        let opaque: Vec<_> = details.iter().map(|one| one.opaque.len()).collect();
        assert_eq!(opaque, [0, 0, 0, 1, 1]);
        assert_eq!(details[2].text, "a");
        assert!(details[3].opaque[0].is_of(Family::Google));
        assert!(details[4].is_summary && details[4].opaque[0].is_of(Family::OpenAi));
        assert!(read_details("{}").is_empty());
    }

    #[test]
    fn a_signature_is_taken_out_of_an_id() {
        for id in [Cow::Borrowed("a__thought__c2ln"), Cow::Owned("a__thought__c2ln".to_owned())] {
            assert_eq!(split_id(id), ("a".into(), Some("c2ln".into())));
        }
        assert_eq!(split_id("call_1".into()), ("call_1".into(), None));
    }
}
