//! Connections as clients write them, cut into pieces of every size.

use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn preface(window: u32) -> Vec<u8> {
    let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &setting)].concat()
}

fn get(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, 5, stream, block)
}

fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

/// Takes in all the bytes, one head after the other.
fn take(frames: &mut Frames, mut bytes: &[u8]) -> Result<(), Wrong> {
    while !bytes.is_empty() {
        bytes = &bytes[frames.came(bytes, 100)?..];
    }
    Ok(())
}

/// The state of a connection after these bytes, however they are split.
fn after(bytes: &[u8]) -> Result<Frames, Wrong> {
    let read = |size: usize| {
        let mut frames = Frames::default();
        bytes.chunks(size).try_for_each(|part| take(&mut frames, part)).map(|()| frames)
    };
    let whole = read(bytes.len().max(1));
    for size in [1, 2, 3, 7, 9, 10, 64] {
        let cut = read(size);
        let told = |read: &Result<Frames, Wrong>| {
            read.as_ref().map(|it| (it.flow.unfed(), it.flow.starving(), it.flow.opened())).map_err(|wrong| *wrong)
        };
        assert_eq!(told(&whole), told(&cut), "cut into pieces of {size}");
    }
    whole
}

#[test]
fn streams_without_a_window_are_counted_until_they_end() {
    let mut bytes = preface(0);
    (0..5).for_each(|n| bytes.extend(get(2 * n + 1, b"\x82")));
    let mut frames = after(&bytes).unwrap();
    assert_eq!((frames.flow.unfed(), frames.flow.starving()), (5, 0), "nothing is to be sent yet");
    (0..5).for_each(|n| frames.went(&frame(HEADERS, 4, 2 * n + 1, b"\x88")));
    assert_eq!((frames.flow.unfed(), frames.flow.starving()), (5, 5));
    frames.came(&window_update(1, 1023), 100).unwrap();
    assert_eq!((frames.flow.unfed(), frames.flow.opened()), (5, 0), "a token opens nothing");
    frames.came(&window_update(1, 1024), 100).unwrap();
    assert_eq!((frames.flow.unfed(), frames.flow.starving(), frames.flow.opened()), (4, 4, 1));
    frames.went(&frame(DATA, 0, 1, &[0; 2000]));
    assert_eq!((frames.flow.unfed(), frames.flow.starving()), (4, 5), "it was used up: it has been fed");
    frames.went(&frame(HEADERS, 5, 3, b"\x88"));
    assert_eq!((frames.flow.unfed(), frames.flow.starving()), (3, 4), "an answer without a body needs none");
    frames.went(&frame(RST_STREAM, 0, 5, &[0; 4]));
    frames.came(&frame(RST_STREAM, 0, 7, &[0; 4]), 100).unwrap();
    assert_eq!((frames.flow.unfed(), frames.flow.starving()), (1, 2));
    frames.came(&frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9, 0, 4, 0, 0, 255, 255]), 100).unwrap();
    assert_eq!((frames.flow.unfed(), frames.flow.starving()), (0, 0), "the setting concerns streams that are open");
}

#[test]
fn a_connections_window_starves_all_of_its_streams() {
    let mut frames = after(&[preface(1 << 20), get(1, b"\x82"), get(3, b"\x82")].concat()).unwrap();
    (0..2).for_each(|n| frames.went(&frame(HEADERS, 4, 2 * n + 1, b"\x88")));
    frames.came(&get(5, b"\x82"), 100).unwrap();
    frames.went(&[frame(DATA, 0, 1, &[0; 16_384]), frame(DATA, 0, 3, &[0; 48_500])].concat());
    assert_eq!((frames.flow.unfed(), frames.flow.starving()), (0, 2));
    frames.came(&window_update(0, 10_000), 100).unwrap();
    assert_eq!(frames.flow.starving(), 0);
    frames.went(&frame(DATA, END_STREAM, 1, &[0; 9_900]));
    assert_eq!(frames.flow.starving(), 1, "what is whole starves no more");
}

#[test]
fn an_upload_whose_answer_is_whole_is_open_and_does_not_starve() {
    let mut frames = after(&[preface(0), frame(HEADERS, 4, 1, b"\x83")].concat()).unwrap();
    frames.went(&frame(HEADERS, 5, 1, b"\x88"));
    assert_eq!(frames.flow.unfed(), 0);
    frames.came(&window_update(1, 1 << 30), 100).unwrap();
    frames.came(&frame(DATA, END_STREAM, 1, b"end"), 100).unwrap();
    assert_eq!(frames.flow.unfed(), 0);
}

#[test]
fn streams_that_nobody_answers_any_more_are_bounded() {
    let mut bytes = preface(9);
    (0..256).for_each(|n| bytes.extend(get(2 * n + 1, b"")));
    assert!(after(&bytes).is_ok());
    bytes.extend(get(999, b""));
    assert_eq!(after(&bytes).unwrap_err(), Wrong::TooManyStreams);
}

#[test]
fn windows_end_at_two_gibibytes() {
    let big = (1_u32 << 31) - 1;
    assert_eq!(after(&[preface(0), window_update(0, big)].concat()).unwrap_err(), Wrong::FlowControl);
    let stream = [preface(1), get(1, b"\x82")].concat();
    assert_eq!(after(&[stream.clone(), window_update(1, big)].concat()).unwrap_err(), Wrong::FlowControl);
    assert!(after(&[stream.clone(), window_update(1, big - 1)].concat()).is_ok());
    let setting = frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 255, 255, 255]);
    assert_eq!(after(&[stream, window_update(1, 9), setting].concat()).unwrap_err(), Wrong::FlowControl);
    assert!(after(&[preface(1), window_update(7, big), window_update(7, big)].concat()).is_ok(), "no stream of ours");
}

#[test]
fn a_stream_that_its_client_has_reset_is_closed() {
    let reset = [preface(9), frame(HEADERS, 4, 1, b"\x83"), frame(RST_STREAM, 0, 1, &[0; 4])].concat();
    assert!(after(&[reset.clone(), window_update(1, 1)].concat()).is_ok());
    assert_eq!(after(&[reset.clone(), frame(DATA, 0, 1, b"x")].concat()).unwrap_err(), Wrong::StreamClosed);
    assert_eq!(after(&[reset, get(1, b"\x82")].concat()).unwrap_err(), Wrong::StreamClosed);
}

#[test]
fn resets_of_what_is_not_answered_are_counted_once() {
    let mut frames = Frames::default();
    frames.came(&preface(65_535), 100).unwrap();
    for n in 0..10 {
        frames.came(&get(2 * n + 1, b"\x82"), 100).unwrap();
        frames.came(&frame(RST_STREAM, 0, 2 * n + 1, &[0; 4]), 100).unwrap();
        frames.came(&frame(RST_STREAM, 0, 2 * n + 1, &[0; 4]), 100).unwrap();
    }
    assert!(frames.flow.resets_most(10) && !frames.flow.resets_most(11));
    (10..30).for_each(|n| take(&mut frames, &get(2 * n + 1, b"\x82")).unwrap());
    assert!(!frames.flow.resets_most(10), "most are not");
    let mut frames = after(&[preface(9), frame(HEADERS, 4, 1, b"\x83")].concat()).unwrap();
    frames.went(&frame(HEADERS, 5, 1, b"\x8d"));
    frames.came(&frame(RST_STREAM, 0, 1, &[0; 4]), 100).unwrap();
    assert!(!frames.flow.resets_most(1), "its answer was whole");
}

#[test]
fn one_new_head_is_handed_on_at_a_time() {
    let mut frames = Frames::default();
    let (before, first) = (preface(9), [frame(HEADERS, 1, 1, b"\x82"), frame(CONTINUATION, 4, 1, b"\x86")].concat());
    let (trailers, second) = (frame(HEADERS, 5, 3, b""), frame(HEADERS, 4, 3, b"\x83"));
    let all = [&before[..], &first, &second, &trailers, &window_update(0, 1), &get(5, b"\x82")].concat();
    let mut handed = vec![];
    let mut left = &all[..];
    while !left.is_empty() {
        let part = frames.came(left, 100).unwrap();
        handed.push((part, frames.opened()));
        left = &left[part..];
    }
    let rest = all.len() - before.len() - first.len() - second.len();
    assert_eq!(
        handed,
        [(before.len() + first.len(), Some(1)), (second.len(), Some(3)), (rest, Some(5))],
        "trailers open nothing"
    );
    frames.came(&window_update(0, 1), 100).unwrap();
    assert_eq!(frames.opened(), None);
}

#[test]
fn an_upload_waits_for_its_client_while_its_windows_are_open() {
    let upload = |frames: &Frames, id| frames.flow.upload(id, frames.flow.room()).map(|it| (it.received, it.may_send));
    let mut frames =
        after(&[preface(9), frame(HEADERS, 4, 1, b"\x83"), frame(HEADERS, 4, 3, b"\x83")].concat()).unwrap();
    assert_eq!(upload(&frames, 1), Some((0, true)));
    let part = frame(DATA, 0, 1, &[0; 10_000]);
    let (begin, end) = part.split_at(5_000);
    take(&mut frames, begin).unwrap();
    assert_eq!(upload(&frames, 1), Some((4_991, true)), "what came of a frame counts before its end");
    take(&mut frames, end).unwrap();
    (0..3).for_each(|_| take(&mut frames, &part).unwrap());
    let both = |frames: &Frames| (upload(frames, 1), upload(frames, 3));
    assert_eq!(both(&frames), (Some((40_000, false)), Some((0, true))), "nothing of the other waits here");
    take(&mut frames, &frame(DATA, 0, 1, &vec![0; 25_000])).unwrap();
    assert_eq!(both(&frames), (Some((65_000, false)), Some((0, false))), "nobody may send");
    frames.went(&frame(WINDOW_UPDATE, 0, 0, &40_000_u32.to_be_bytes()));
    assert_eq!(both(&frames), (Some((65_000, false)), Some((0, true))));
    let update = frame(WINDOW_UPDATE, 0, 1, &40_000_u32.to_be_bytes());
    update.chunks(4).for_each(|part| frames.went(part));
    assert_eq!(upload(&frames, 1), Some((65_000, true)));
    take(&mut frames, &frame(DATA, END_STREAM, 1, b"x")).unwrap();
    take(&mut frames, &frame(RST_STREAM, 0, 3, &[0; 4])).unwrap();
    assert_eq!((upload(&frames, 1), upload(&frames, 3), upload(&frames, 5)), (None, None, None));
}

#[test]
fn what_a_client_himself_keeps_from_being_read_is_no_excuse() {
    let heads = [frame(HEADERS, 4, 1, b"\x83"), frame(HEADERS, 4, 3, b"\x83")].concat();
    let mut frames = after(&[preface(0), heads].concat()).unwrap();
    take(&mut frames, &frame(DATA, 0, 1, &vec![0; 65_000])).unwrap();
    assert!(frames.flow.room() < 1_000, "its server may be slow");
    frames.went(&frame(HEADERS, 4, 1, b"\x8d"));
    assert_eq!(frames.flow.room(), 65_535, "it has an answer, and takes nothing of it");
    take(&mut frames, &window_update(1, 60_000)).unwrap();
    assert!(frames.flow.room() < 1_000);
}

#[test]
fn fields_are_counted_without_decoding() {
    let fields = |block: &[u8]| {
        let mut whole = Fields::default();
        whole.count(block);
        let mut parts = Fields::default();
        block.iter().for_each(|byte| parts.count(&[*byte]));
        assert_eq!(whole.counted(), parts.counted());
        whole.counted()
    };
    assert_eq!(fields(b"\x82\x86\x84"), 3);
    assert_eq!(fields(b"\x3f\xe1\x1f\x82"), 1, "a change of the table's size is none");
    assert_eq!(fields(b"\x40\x0acustom-key\x0dcustom-header\x82"), 2, "RFC 7541, C.2.1");
    assert_eq!(fields(b"\x04\x0c/sample/path\x10\x08password\x06secret"), 2, "C.2.2 and C.2.3");
    assert_eq!(fields(b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"), 4, "C.4.1");
    assert_eq!(fields(b"\xff\x80\x01\x7f\x00\x01v\x0f\x2f\x00"), 3, "indices in several bytes");
    let long = [&b"\x00\x7f\x81\x01"[..], &[b'n'; 256], b"\x00\x82"].concat();
    assert_eq!(fields(&long), 2, "lengths in several bytes");
}

#[test]
fn a_head_of_absurdly_many_fields_is_wrong() {
    let begin = |fields: usize| get(1, &vec![0xbe; fields]);
    assert!(after(&[preface(9), begin(100)].concat()).is_ok());
    assert_eq!(after(&[preface(9), begin(101)].concat()).unwrap_err(), Wrong::TooManyFields);
    let parts = [frame(HEADERS, 1, 1, &[0xbe; 60]), frame(CONTINUATION, 4, 1, &[0xbe; 60])].concat();
    assert_eq!(after(&[preface(9), parts].concat()).unwrap_err(), Wrong::TooManyFields);
    let padded = [&[200, 0, 0, 0, 0, 0][..], &[0xbe; 90], &[0; 200]].concat();
    assert!(after(&[preface(9), frame(HEADERS, 5 | PADDED | PRIORITY, 1, &padded)].concat()).is_ok());
}
