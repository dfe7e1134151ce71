//! HTTP/2 connections, read beside their codec: what is known of one does not depend on how its bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::proxy::downstream::frames::{Frames, Wrong};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is known after the client's bytes and the gateway's, in pieces of this size: the streams that opened, and the
/// state in the end.
fn read(client: &[u8], gateway: &[u8], size: usize) -> Result<(Vec<u32>, [i64; 5]), Wrong> {
    let (mut frames, mut opened) = (Frames::default(), vec![]);
    for mut part in [PREFACE, client].concat().chunks(size) {
        while !part.is_empty() {
            let taken = frames.came(part, 100)?;
            assert!((1..=part.len()).contains(&taken), "it takes {taken} of {}", part.len());
            part = &part[taken..];
            opened.extend(frames.opened());
        }
    }
    gateway.chunks(size).for_each(|part| frames.went(part));
    let flow = &frames.flow;
    let sizes = [flow.starving() as i64, flow.unfed() as i64, flow.opened().into(), flow.room(), flow.received() as i64];
    Ok((opened, sizes))
}

fuzz_target!(|bytes: &[u8]| {
    // What stands before the first `|` the client sends, the rest the gateway.
    let split = bytes.iter().position(|byte| *byte == b'|').unwrap_or(bytes.len());
    let (client, gateway) = (&bytes[..split], bytes.get(split + 1..).unwrap_or_default());
    let whole = read(client, gateway, usize::MAX);
    for size in [1, 2, 7, 10] {
        let cut = read(client, gateway, size);
        match (&whole, &cut) {
            (Ok(whole), Ok(cut)) => assert_eq!(whole, cut, "in pieces of {size}"),
            (Err(_), Err(_)) => {}
            _ => panic!("whole {whole:?}, in pieces of {size} {cut:?}"),
        }
    }
});
