//! Every recorded answer for every caller whose format is another.

use super::recordings::recordings;
use super::snapshots::Snapshots;
use super::{CALLERS, conversion, name, stream};

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
