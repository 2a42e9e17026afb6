//! Messages, however they are split, and damaged ones.

use proptest::prelude::*;

use super::*;

/// A message's headers and payload.
type Message = (Headers, Vec<u8>);

/// The messages of a stream up to where it is damaged, and whether it ends between two.
fn messages(stream: &[u8], sizes: &[usize]) -> (Vec<Message>, Result<bool, Corrupt>) {
    let mut reader = EventStreamReader::default();
    let (mut messages, mut payload) = (Vec::new(), Vec::new());
    let mut rest = stream;
    for size in sizes.iter().cycle() {
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        let mut at = 0;
        loop {
            match reader.next(chunk, &mut at) {
                Ok(None) => break,
                Ok(Some(Part::Payload(bytes))) => payload.extend_from_slice(bytes),
                Ok(Some(Part::End(headers))) => {
                    messages.push((headers.clone(), std::mem::take(&mut payload)));
                }
                Err(corrupt) => {
                    assert_eq!(reader.next(stream, &mut 0), Err(Corrupt), "nothing more is read");
                    return (messages, Err(corrupt));
                }
            }
        }
        assert_eq!(at, chunk.len());
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    (messages, Ok(reader.at_message_boundary()))
}

fn stream() -> Vec<u8> {
    let long = "x".repeat(3_000);
    ["{}", "", "{\"a\":1}", &long].map(|payload| exception_message("oops", payload)).concat()
}

#[test]
fn what_is_written_can_be_read() {
    let (messages, end) = messages(&stream(), &[1_000]);
    assert_eq!(end, Ok(true));
    let headers = Headers { message_type: "exception".to_owned(), event_type: "oops".to_owned() };
    assert!(messages.iter().all(|(found, _)| *found == headers), "{messages:?}");
    let lengths: Vec<usize> = messages.iter().map(|(_, payload)| payload.len()).collect();
    assert_eq!(lengths, [2, 0, 7, 3_000]);
}

#[test]
fn headers_of_all_types_are_passed_over() {
    let mut bytes = Vec::new();
    for (kind, value) in [
        (0, &b""[..]),
        (1, b""),
        (2, b"1"),
        (3, b"12"),
        (4, b"1234"),
        (5, b"12345678"),
        (6, b"\0\x031:2"),
        (7, b"\0\x00"),
        (8, b"12345678"),
        (9, b"1234567890123456"),
    ] {
        bytes.extend_from_slice(&[1, b'n', kind]);
        bytes.extend_from_slice(value);
    }
    bytes.extend_from_slice(b"\x0b:event-type\x07\0\x02hi");
    assert_eq!(Headers::read(&bytes).unwrap().event_type, "hi");
    for odd in [&b"\x05a"[..], b"\x01n", b"\x01n\x0a", b"\x01n\x07\0", b"\x01n\x07\0\x05a"] {
        assert_eq!(Headers::read(odd), Err(Corrupt), "{odd:?}");
    }
}

#[test]
fn lengths_are_bounded() {
    let prelude = |total: u32, headers: u32| {
        let mut bytes = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    };
    for (total, headers, is_read) in [
        (MAX_MESSAGE_BYTES, 0, true),
        (MAX_MESSAGE_BYTES + 1, 0, false),
        (MAX_MESSAGE_BYTES, MAX_HEADER_BYTES + 1, false),
        (16, 0, true),
        (15, 0, false),
        (20, 5, false),
        (u32::MAX, u32::MAX, false),
    ] {
        let end = messages(&prelude(total, headers), &[12]).1;
        assert_eq!(end.is_ok(), is_read, "{total} {headers}");
    }
    assert_eq!(messages(b"data: {\"a\":1}\n\n", &[100]).1, Err(Corrupt));
}

proptest! {
    #[test]
    fn any_split_gives_the_same_messages(sizes in prop::collection::vec(1..500_usize, 1..20)) {
        let stream = stream();
        prop_assert_eq!(messages(&stream, &sizes), messages(&stream, &[stream.len()]));
    }

    #[test]
    fn a_cut_stream_does_not_end_at_a_boundary(cut in any::<prop::sample::Index>()) {
        let stream = stream();
        let whole = messages(&stream, &[stream.len()]).0;
        let cut = cut.index(stream.len());
        let (found, end) = messages(&stream[..cut], &[100]);
        let length: usize = found.iter().map(|(_, payload)| payload.len() + exception_message("oops", "").len()).sum();
        prop_assert_eq!(end, Ok(length == cut));
        prop_assert_eq!(&found[..], &whole[..found.len()]);
    }

    #[test]
    fn damage_is_noticed(at in any::<prop::sample::Index>(), by in 1..=255_u8) {
        let mut stream = stream();
        let whole = messages(&stream, &[stream.len()]).0;
        let at = at.index(stream.len());
        stream[at] ^= by;
        let (found, end) = messages(&stream, &[100]);
        prop_assert_eq!(end, Err(Corrupt));
        prop_assert!(found.len() < whole.len());
        prop_assert_eq!(&found[..], &whole[..found.len()]);
    }

    #[test]
    fn any_bytes_are_no_danger(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = messages(&bytes, &[7]);
    }
}
