//! Reads an event while it comes, in constant memory: one that is too long to be kept until its end,
//! or whose end has not come yet and that may be the one that is to be withheld.

use super::members::{MODEL_BYTES, STATE_BYTES, USAGE_BYTES};
use super::plain::id_bytes;
use crate::json::scanner::{Keep, MemberNames, TopLevelScanner};
use crate::llm::chat::may_become_usage_event;
use crate::llm::format::Format;

const DATA: &[u8] = b"data:";

/// Finds out whether an event may become the usage event.
const FOR_WITHHOLDING: Keep = Keep {
    names: &MemberNames::USUAL,
    usage: STATE_BYTES,
    model: 0,
    id: 0,
    choices: STATE_BYTES,
    kind: 0,
    state: 0,
    response: false,
};

/// All that is read out of an event.
pub(super) fn for_reading(format: Format) -> Keep {
    Keep {
        names: format.member_names(),
        usage: USAGE_BYTES,
        model: MODEL_BYTES,
        id: id_bytes(format),
        choices: STATE_BYTES,
        kind: 64,
        state: STATE_BYTES,
        response: true,
    }
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// In a line's name, with so many bytes of [`DATA`] seen.
    Name(usize),
    Data,
    OtherLine,
    Comment,
}

/// An event, fed from its first byte on as it comes.
#[derive(Debug)]
pub(super) struct PartialEvent {
    place: Place,
    members: TopLevelScanner,
    reads_all: bool,
}

impl PartialEvent {
    /// Reads only whether it may become the usage event.
    pub(super) fn for_withholding() -> Self {
        Self {
            place: Place::Name(0),
            members: TopLevelScanner::new(FOR_WITHHOLDING),
            reads_all: false,
        }
    }

    /// Reads everything.
    pub(super) fn for_reading(format: Format) -> Self {
        let members = TopLevelScanner::new(for_reading(format));
        Self { place: Place::Name(0), members, reads_all: true }
    }

    /// The same from the middle of an event, after this data and this beginning of a line.
    pub(super) fn for_reading_from(format: Format, data: &[u8], line: &[u8]) -> Self {
        let mut event = Self::for_reading(format);
        event.members.feed(data);
        event.feed(line);
        event
    }

    pub(super) fn reads_all(&self) -> bool {
        self.reads_all
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            rest = match self.place {
                Place::Name(seen) => {
                    self.place = match (DATA.get(seen), first) {
                        (_, b'\n' | b'\r') => Place::Name(0),
                        (_, b':') if seen == 0 => Place::Comment,
                        (Some(b':'), b':') => Place::Data,
                        (Some(wanted), first) if wanted == first => Place::Name(seen + 1),
                        _ => Place::OtherLine,
                    };
                    after
                }
                Place::Data | Place::OtherLine | Place::Comment => {
                    let end = memchr::memchr2(b'\n', b'\r', rest);
                    let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
                    if matches!(self.place, Place::Data) {
                        self.members.feed(line);
                    }
                    if end.is_some() {
                        self.place = Place::Name(0);
                    }
                    after
                }
            };
        }
    }

    /// The members that have passed.
    pub(super) fn members(&self) -> &TopLevelScanner {
        &self.members
    }

    /// Whether this may still become the usage event. A comment outside an event is not part of one.
    pub(super) fn may_become_usage_event(&self) -> bool {
        !matches!(self.place, Place::Comment) && may_become_usage_event(&self.members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_be(text: &str) -> bool {
        let mut whole = PartialEvent::for_withholding();
        whole.feed(text.as_bytes());
        let mut bytewise = PartialEvent::for_withholding();
        text.as_bytes().iter().for_each(|byte| bytewise.feed(&[*byte]));
        assert_eq!(whole.may_become_usage_event(), bytewise.may_become_usage_event(), "{text}");
        whole.may_become_usage_event()
    }

    #[test]
    fn only_what_can_become_the_event_is_held() {
        for held in [
            "",
            "dat",
            "data:",
            "data: {\"id\":\"x\",\"cho",
            "data: {\"choices\":",
            "data: {\"choices\": [\r\ndata: ],",
            "data: {\"choices\":null,\"us",
            "data: {\"choices\":n",
            "event: x\r\ndata: {\"choices\":[],\"usage\":{\"prompt",
            "data: {\"a\":{\"choices\":[{}],\"usage\":null}",
        ] {
            assert!(may_be(held), "{held}");
        }
        for passed in [
            ": wait",
            "data: [",
            "data: {\"choices\":[{",
            "data: {\"choices\" : [ {",
            "data: {\"choices\":{",
            "data: {\"choices\":[],\"usage\": n",
            "data: {\"usage\":null,",
        ] {
            assert!(!may_be(passed), "{passed}");
        }
    }
}
