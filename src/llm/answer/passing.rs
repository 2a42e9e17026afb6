//! Reads an event while it comes, in constant memory: one that is too long to be kept until its end,
//! or whose end has not come yet and that may be the one that is to be withheld.

use super::plain::{MODEL_BYTES, USAGE_BYTES};
use crate::json::scanner::{Keep, TopLevelScanner};

/// Most bytes that are held back. The event in question has a few hundred, search results and the
/// like included a few thousand; a longer one is passed on.
pub(super) const MOST_HELD: usize = 64 * 1024;

const DATA: &[u8] = b"data:";

/// Enough to tell an empty array from others, and an object from `null`, however they are indented.
const GLANCE: Keep = Keep { usage: 64, model: 0, choices: 64, kind: 0, response: false };

/// All that is read out of an event.
const ALL: Keep =
    Keep { usage: USAGE_BYTES, model: MODEL_BYTES, choices: 64, kind: 64, response: true };

#[derive(Debug, Clone, Copy)]
enum At {
    /// In a line's name, with so many bytes of [`DATA`] seen.
    Name(usize),
    Data,
    OtherLine,
    Comment,
}

/// An event, fed from its first byte on as it comes.
#[derive(Debug)]
pub(super) struct PassingEvent {
    at: At,
    json: TopLevelScanner,
    reads_all: bool,
}

impl PassingEvent {
    /// One of which only is asked whether it may be a usage event.
    pub(super) fn to_glance_at() -> Self {
        Self { at: At::Name(0), json: TopLevelScanner::new(GLANCE), reads_all: false }
    }

    /// One of which everything is asked.
    pub(super) fn to_read() -> Self {
        Self { at: At::Name(0), json: TopLevelScanner::new(ALL), reads_all: true }
    }

    /// The same, in the middle of it: past this data and this beginning of a line.
    pub(super) fn to_read_on(data: &[u8], line: &[u8]) -> Self {
        let mut event = Self::to_read();
        event.json.feed(data);
        event.feed(line);
        event
    }

    /// Whether everything may be asked.
    pub(super) fn reads_all(&self) -> bool {
        self.reads_all
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            rest = match self.at {
                At::Name(seen) => {
                    self.at = match (DATA.get(seen), first) {
                        (_, b'\n' | b'\r') => At::Name(0),
                        (_, b':') if seen == 0 => At::Comment,
                        (Some(b':'), b':') => At::Data,
                        (Some(wanted), first) if wanted == first => At::Name(seen + 1),
                        _ => At::OtherLine,
                    };
                    after
                }
                At::Data | At::OtherLine | At::Comment => {
                    let end = memchr::memchr2(b'\n', b'\r', rest);
                    let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
                    if matches!(self.at, At::Data) {
                        self.json.feed(line);
                    }
                    if end.is_some() {
                        self.at = At::Name(0);
                    }
                    after
                }
            };
        }
    }

    /// What has passed of its data.
    pub(super) fn json(&self) -> &TopLevelScanner {
        &self.json
    }

    /// Whether its data has passed, and is what a request for usage adds to a chat stream.
    pub(super) fn is_usage(&self) -> bool {
        let is_empty = |choices: &str| {
            let inside = choices.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            inside.is_some_and(|inside| inside.trim_ascii().is_empty())
        };
        self.json.choices.value().is_some_and(is_empty)
            && self.json.usage.value().is_some_and(|usage| usage.starts_with('{'))
    }

    /// Whether this may still become an event with no choices and a usage. A comment waits for
    /// nothing: outside an event it is not part of one.
    pub(super) fn may_be_usage(&self) -> bool {
        let mut choices = self.json.choices.beginning();
        let usage = self.json.usage.beginning().next();
        !matches!(self.at, At::Comment)
            && !self.json.is_other()
            && choices.next().is_none_or(|first| first == b'[')
            && choices.next().is_none_or(|second| second == b']')
            && usage.is_none_or(|first| first == b'{')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_be(text: &str) -> bool {
        let mut whole = PassingEvent::to_glance_at();
        whole.feed(text.as_bytes());
        let mut bytewise = PassingEvent::to_glance_at();
        text.as_bytes().iter().for_each(|byte| bytewise.feed(&[*byte]));
        assert_eq!(whole.may_be_usage(), bytewise.may_be_usage(), "{text}");
        whole.may_be_usage()
    }

    #[test]
    fn the_usage_event_is_known_at_its_end() {
        let is = |text: &str| {
            let mut event = PassingEvent::to_read();
            event.feed(text.as_bytes());
            event.is_usage()
        };
        assert!(is("data: {\"choices\": [ ],\"usage\":{\"a\":1}}\n\n"));
        assert!(!is("data: {\"choices\":[],\"usage\":{\"a\":1"));
        assert!(!is("data: {\"choices\":[],\"usage\":null}\n\n"));
        assert!(!is("data: {\"choices\":[{}],\"usage\":{}}\n\n"));
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
            "data: {\"choices\":n",
            "data: {\"choices\":[],\"usage\": n",
            "data: {\"usage\":null,",
        ] {
            assert!(!may_be(passed), "{passed}");
        }
    }
}
