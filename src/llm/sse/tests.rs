//! Events, however the stream is split.

use super::*;
use proptest::prelude::*;

type ReadEvent = (BlockKind, String, Option<String>);

/// The events of a stream in these chunks, and whether it ends at an event boundary.
fn read(chunks: &[&[u8]], max_event_bytes: usize) -> (Vec<ReadEvent>, bool) {
    let mut reader = SseReader::new(max_event_bytes);
    let mut events = Vec::new();
    let mut covered = 0;
    for chunk in chunks {
        let mut at = 0;
        while let Some(block) = reader.next(chunk, &mut at) {
            assert_eq!(block.range.start, covered);
            covered = block.range.end;
            if matches!(block.kind, BlockKind::Event | BlockKind::TooLong) {
                let data = block.data.map(|data| String::from_utf8_lossy(data).into_owned());
                events.push((block.kind, block.event.to_owned(), data));
            }
        }
        assert_eq!(at, chunk.len());
    }
    assert_eq!(reader.block_start(), covered);
    assert_eq!(reader.offset(), chunks.iter().map(|c| c.len() as u64).sum::<u64>());
    (events, reader.at_event_boundary())
}

fn event(event: &str, data: &str) -> ReadEvent {
    (BlockKind::Event, event.to_owned(), Some(data.to_owned()))
}

#[test]
fn every_line_end_and_field() {
    let stream = "\u{feff}: hello\n\ndata: a\r\n\r\nevent: e\rdata:b\rdata\rdata:  c\r\rid: 1\n\n\
                  data: é:x\n: comment\nretry: 3\n\n";
    let expected = vec![
        event("", "a"),
        event("e", "b\n\n c"),
        (BlockKind::Event, String::new(), None),
        event("", "é:x"),
    ];
    assert_eq!(read(&[stream.as_bytes()], 1000), (expected.clone(), true));
    let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
    assert_eq!(read(&bytes, 1000), (expected, true));
}

#[test]
fn boundaries() {
    for (stream, boundary) in [
        (&b""[..], true),
        (b"data: a\n\n", true),
        (b"data: a\n\n: wait\n", true),
        (b"data: a\r\n\r", true),
        (b"data: a\n\n\n", true),
        (b"data: a\n", false),
        (b"data: a\n\nd", false),
        (b"event: a\n", false),
        (b": wai", false),
    ] {
        assert_eq!(read(&[stream], 1000).1, boundary, "{:?}", String::from_utf8_lossy(stream));
    }
}

#[test]
fn an_event_over_the_limit_has_no_data() {
    let stream = format!("event: e\ndata: {}\n\ndata: b\n\n", "x".repeat(100));
    let expected = vec![(BlockKind::TooLong, "e".to_owned(), None), event("", "b")];
    for size in [1, 7, 200] {
        let chunks: Vec<&[u8]> = stream.as_bytes().chunks(size).collect();
        assert_eq!(read(&chunks, 64), (expected.clone(), true));
    }
    let mut reader = SseReader::new(64);
    for _ in 0..1000 {
        assert_eq!(reader.next(b"data: xxxxxxxxxxxxxx", &mut 0), None);
    }
    assert!(reader.line.capacity() + reader.data.capacity() < 2 * MAX_IDLE_CAPACITY);
}

#[test]
fn the_end_of_the_stream_completes_an_event() {
    let mut reader = SseReader::default();
    assert_eq!(reader.next(b"event: e\ndata: a\ndata: b", &mut 0), None);
    let block = reader.finish().unwrap();
    assert_eq!((block.event, block.data), ("e", Some(&b"a\nb"[..])));
    assert_eq!(SseReader::default().finish(), None);
}

#[test]
fn the_limit_is_the_same_wherever_a_crlf_is_split() {
    for max_event_bytes in 8..24 {
        let bytes = b"event: e\r\ndata: abcd\r\n\r\ndata: x\n\n";
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(
                read(&[first, second], max_event_bytes),
                read(&[bytes], max_event_bytes),
                "{cut}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn chunk_boundaries_do_not_matter(
        lines in prop::collection::vec("(data: ?[a-zé:]{0,9}|event: e|: c|id|é|)(\n|\r|\r\n|\n\n)", 0..20),
        bom in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        max_event_bytes in 8usize..80,
    ) {
        let stream = format!("{}{}", if bom { "\u{feff}" } else { "" }, lines.concat());
        let bytes = stream.as_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts {
            chunks.push(&bytes[from..cut]);
            from = cut;
        }
        chunks.push(&bytes[from..]);
        prop_assert_eq!(read(&chunks, max_event_bytes), read(&[bytes], max_event_bytes));
    }
}
