//! One record in its binary form: a mark, the payload's length and CRC32, and the payload: which kind
//! of record it is, and its fields in a fixed order. A new field comes at the end, and is absent in
//! the records of earlier versions; any other change of the layout gets a new kind.
//!
//! Numbers are LEB128 varints, ids 16 bytes, texts their length and UTF-8. The mark never occurs in
//! UTF-8, so a reader that looks for the next record after a damaged one can't be misled by a
//! caller's text.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::DateTime;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as TextError, StrDeserializer};
use uuid::Uuid;

use crate::accounting::record::{AttemptEnd, AttemptStart, LedgerEntry};
use crate::domain::content_finding::{ContentFinding, ContentFindings};
use crate::domain::ids::ConfigurationId;
use crate::domain::money::NanoUsd;
use crate::domain::provider::{Provider, UpstreamId};
use crate::domain::tokens::TokenUsage;

/// The first byte of every record.
pub(super) const MARK: u8 = 0xff;
/// Mark, length and checksum.
const HEAD: usize = 9;
/// The longest payload; a longer one is damage.
const MAX_PAYLOAD: usize = 64 << 20;

const START: u8 = 1;
const END: u8 = 2;
const ENTRY: u8 = 3;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An attempt is about to be sent. Written again when its segment would otherwise have to stay.
    Start(Arc<AttemptStart>),
    End(Box<AttemptEnd>),
    /// Start and end at once: a blocked request, or an attempt that has no room in memory.
    Entry(Box<LedgerEntry>),
}

/// Replaces the buffer's content by a start.
pub(super) fn encode_start(start: &AttemptStart, buffer: &mut Vec<u8>) {
    encode(START, buffer, |buffer| put_start(start, buffer));
}

/// Replaces the buffer's content by an end.
pub(super) fn encode_end(end: &AttemptEnd, buffer: &mut Vec<u8>) {
    encode(END, buffer, |buffer| put_end(end, buffer));
}

/// Replaces the buffer's content by a start and its end.
pub(super) fn encode_entry(start: &AttemptStart, end: &AttemptEnd, buffer: &mut Vec<u8>) {
    encode(ENTRY, buffer, |buffer| {
        put_start(start, buffer);
        put_end(end, buffer);
    });
}

fn encode(kind: u8, buffer: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    buffer.clear();
    buffer.extend_from_slice(&[0; HEAD]);
    buffer.push(kind);
    put(buffer);
    if let Some((head, payload)) = buffer.split_first_chunk_mut::<HEAD>() {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
        let checksum = crc32fast::hash(payload).to_le_bytes();
        let [a, b, c, d] = length;
        let [e, f, g, h] = checksum;
        *head = [MARK, a, b, c, d, e, f, g, h];
    }
}

/// What some bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// A record of so many bytes.
    Record(Record, usize),
    /// The beginning of a record whose rest is missing.
    Truncated,
    /// No record.
    Damaged,
}

/// Reads the record at the beginning of the bytes.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    if bytes.first() != Some(&MARK) {
        return Decoded::Damaged;
    }
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Decoded::Truncated };
    let [_, a, b, c, d, e, f, g, h] = *head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > MAX_PAYLOAD {
        return Decoded::Damaged;
    }
    let Some(payload) = rest.get(..length) else { return Decoded::Truncated };
    if crc32fast::hash(payload) != u32::from_le_bytes([e, f, g, h]) {
        return Decoded::Damaged;
    }
    match read(&mut Fields(payload)) {
        Some(record) => Decoded::Record(record, HEAD + length),
        None => Decoded::Damaged,
    }
}

fn read(fields: &mut Fields<'_>) -> Option<Record> {
    Some(match fields.byte()? {
        START => Record::Start(Arc::new(fields.start()?)),
        END => Record::End(Box::new(fields.end()?)),
        ENTRY => Record::Entry(Box::new(LedgerEntry {
            start: Arc::new(fields.start()?),
            end: fields.end()?,
        })),
        _ => return None,
    })
}

fn put_start(start: &AttemptStart, out: &mut Vec<u8>) {
    let ids = [
        start.id.uuid(),
        start.request_id.uuid(),
        start.organization_id.uuid(),
        start.workspace_id.uuid(),
        // The name is enough for a built-in provider.
        start.upstream.configuration_id().map_or(Uuid::nil(), ConfigurationId::uuid),
    ];
    ids.iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
    put_optional(start.api_key_id, out, |id, out| out.extend_from_slice(id.uuid().as_bytes()));
    put_optional(start.user_id, out, |id, out| out.extend_from_slice(id.uuid().as_bytes()));
    put_number(u64::from(start.attempt), out);
    put_signed(start.admitted_at.timestamp_micros(), out);
    put_text(&start.configuration, out);
    put_text(&start.route, out);
    put_optional(start.model_asked.as_deref(), out, put_text);
    put_text(&start.model, out);
    put_optional(start.client_request_id.as_deref(), out, put_text);
    put_list(&start.policies, out, |id, out| out.extend_from_slice(id.uuid().as_bytes()));
    put_number(start.metadata.len() as u64, out);
    for (key, value) in &start.metadata {
        put_text(key, out);
        put_text(value, out);
    }
    put_optional(start.reserved, out, |cost, out| put_signed(cost.nanos(), out));
    put_optional(start.price_version.as_deref(), out, put_text);
}

fn put_end(end: &AttemptEnd, out: &mut Vec<u8>) {
    out.extend_from_slice(end.id.uuid().as_bytes());
    put_text(end.outcome.as_str(), out);
    put_optional(end.status, out, |status, out| put_number(u64::from(status), out));
    put_optional(end.code.as_deref(), out, put_text);
    put_optional(end.model_used.as_deref(), out, put_text);
    let counts = end.usage.counts();
    put_number(counts.len() as u64, out);
    counts.into_iter().for_each(|count| put_optional(count, out, put_number));
    put_text(end.usage_source.as_str(), out);
    put_optional(end.cost, out, |cost, out| put_signed(cost.nanos(), out));
    put_optional(end.first_byte_ms, out, put_number);
    put_optional(end.duration_ms, out, put_number);
    put_list(&end.violated, out, |id, out| out.extend_from_slice(id.uuid().as_bytes()));
    put_optional(end.price_version.as_deref(), out, put_text);
    put_optional(end.list_cost, out, |cost, out| put_signed(cost.nanos(), out));
    put_list(end.findings.as_slice(), out, |finding, out| {
        put_text(finding.place.as_str(), out);
        put_text(&finding.category, out);
        put_text(finding.action.as_str(), out);
        put_number(finding.count, out);
    });
}

fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Zigzag: small numbers of either sign are short.
fn put_signed(number: i64, out: &mut Vec<u8>) {
    put_number((number << 1 ^ number >> 63) as u64, out);
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_number(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn put_optional<T>(value: Option<T>, out: &mut Vec<u8>, put: impl FnOnce(T, &mut Vec<u8>)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(value, out);
    }
}

fn put_list<T>(list: &[T], out: &mut Vec<u8>, put: impl Fn(&T, &mut Vec<u8>)) {
    put_number(list.len() as u64, out);
    list.iter().for_each(|item| put(item, out));
}

/// The fields of a payload that were not read yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn start(&mut self) -> Option<AttemptStart> {
        let mut ids = [Uuid::nil(); 5];
        for id in &mut ids {
            *id = self.id()?;
        }
        let [id, request_id, organization_id, workspace_id, configuration_id] = ids;
        let api_key_id = self.optional(Self::id)?.map(Into::into);
        let user_id = self.optional(Self::id)?.map(Into::into);
        let attempt = u32::try_from(self.number()?).ok()?;
        let admitted_at = DateTime::from_timestamp_micros(self.signed()?)?;
        let configuration = self.text()?;
        let upstream = match configuration_id.is_nil() {
            true => UpstreamId::Provider(Provider::parse(&configuration)?),
            false => UpstreamId::Configuration(configuration_id.into()),
        };
        Some(AttemptStart {
            id: id.into(),
            request_id: request_id.into(),
            organization_id: organization_id.into(),
            workspace_id: workspace_id.into(),
            upstream,
            api_key_id,
            user_id,
            attempt,
            admitted_at,
            configuration,
            route: self.text()?,
            model_asked: self.optional(Self::text)?,
            model: self.text()?,
            client_request_id: self.optional(Self::text)?,
            policies: self.list(|fields| fields.id().map(Into::into))?,
            metadata: BTreeMap::from_iter(
                self.list(|fields| Some((fields.text()?, fields.text()?)))?,
            ),
            reserved: self.optional(Self::signed)?.map(NanoUsd::from_nanos),
            price_version: self.optional(Self::text)?,
        })
    }

    fn end(&mut self) -> Option<AttemptEnd> {
        Some(AttemptEnd {
            id: self.id()?.into(),
            outcome: self.word()?,
            status: self.optional(Self::number)?.and_then(|status| u16::try_from(status).ok()),
            code: self.optional(Self::text)?,
            model_used: self.optional(Self::text)?,
            usage: {
                let mut counts = TokenUsage::default().counts();
                let reported = self.list(|fields| fields.optional(Self::number))?;
                counts.iter_mut().zip(reported).for_each(|(count, reported)| *count = reported);
                TokenUsage::from_counts(counts)
            },
            usage_source: self.word()?,
            cost: self.optional(Self::signed)?.map(NanoUsd::from_nanos),
            first_byte_ms: self.optional(Self::number)?,
            duration_ms: self.optional(Self::number)?,
            violated: self.list(|fields| fields.id().map(Into::into))?,
            price_version: if self.0.is_empty() { None } else { self.optional(Self::text)? },
            list_cost: if self.0.is_empty() {
                None
            } else {
                self.optional(Self::signed)?.map(NanoUsd::from_nanos)
            },
            findings: if self.0.is_empty() {
                ContentFindings::default()
            } else {
                self.list(Self::finding)?.into()
            },
        })
    }

    fn finding(&mut self) -> Option<ContentFinding> {
        Some(ContentFinding {
            place: self.word()?,
            category: self.text()?,
            action: self.word()?,
            count: self.number()?,
        })
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    fn id(&mut self) -> Option<Uuid> {
        Uuid::from_slice(self.bytes(16)?).ok()
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn text(&mut self) -> Option<String> {
        Some(self.str()?.to_owned())
    }

    fn str(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    /// One of an enum's text forms.
    fn word<T: Deserialize<'a>>(&mut self) -> Option<T> {
        let text: StrDeserializer<'a, TextError> = self.str()?.into_deserializer();
        T::deserialize(text).ok()
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.byte()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }

    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        (0..self.number()?).map(|_| read(self)).collect()
    }
}
