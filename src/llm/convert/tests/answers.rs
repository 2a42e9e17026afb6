//! Every recorded answer for every caller whose format is another.

use super::recordings::{Recording, recordings};
use super::snapshots::Snapshots;
use super::{CALLERS, conversion, name, stream};
use crate::llm::format::Format;

#[test]
fn recorded_answers_are_written_as_in_the_snapshots() {
    let mut snapshots = Snapshots::open("answers");
    for recording in recordings() {
        for caller in CALLERS.into_iter().filter(|caller| *caller != recording.format) {
            let conversion = conversion(recording.format, caller);
            let plain = match conversion.plain(&recording.body, recording.is_stream) {
                Ok(json) => format!("{json}\n"),
                Err(failure) => format!("{}: {}\n", failure.code, failure.message),
            };
            let chunks = [&recording.body[..]];
            let (streamed, _) = stream(conversion, recording.is_stream, chunks);
            let file = format!("{}/{}.{}", name(recording.format), recording.name, name(caller));
            snapshots.check(&format!("{file}.json"), &plain);
            snapshots.check(&format!("{file}.sse"), &streamed);
        }
    }
    snapshots.finish();
}

#[test]
fn a_byte_order_mark_changes_nothing() {
    let is_text = |one: &Recording| one.format != Format::Converse || !one.is_stream;
    for recording in recordings().into_iter().filter(is_text) {
        for caller in CALLERS.into_iter().filter(|caller| *caller != recording.format) {
            let marked = [b"\xEF\xBB\xBF", &recording.body[..]].concat();
            let read = |body: &[u8]| {
                let conversion = conversion(recording.format, caller);
                let plain = conversion.plain(body, recording.is_stream).ok();
                (plain, stream(conversion, recording.is_stream, [body]))
            };
            assert_eq!(read(&marked), read(&recording.body), "{} for {caller:?}", recording.name);
        }
    }
}
