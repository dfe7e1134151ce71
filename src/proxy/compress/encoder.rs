//! The three encoders behind one interface. Pingora has them too, but flushes nothing between two parts, ignores `q`
//! weights, and ends brotli without its last block.
//!
//! Levels suit answers that are made on the fly: they are below the codings' defaults where those are meant for files.
//! Windows and tables are small, because each answer under way holds them for as long as its client likes; [`cost`] is
//! what an encoder was measured to hold. That costs little compression: 67 KB of English (a README of this project)
//! shrank 2.32 times with zstd where a window of 512 KiB and tables six times as large gave 2.39, and 2.39 times
//! instead of 2.42 with brotli. Output gathers until it is taken; an empty input gives a valid empty stream.

use std::io::{self, Write};

use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use zstd::zstd_safe::CParameter;

use super::Coding;

const ZSTD_LEVEL: i32 = 3;
/// From level 4 on brotli's tables are several times as large.
const BROTLI_LEVEL: i32 = 3;
const GZIP_LEVEL: u32 = 5;
/// Binary logarithms of the windows, and of zstd's tables. Blocks are as large as the window, and zstd holds several.
const ZSTD_WINDOW: u32 = 15;
const ZSTD_TABLES: (u32, u32) = (14, 13);
const BROTLI_WINDOWS: (u32, u32) = (10, 16);
/// Size of brotli's input buffer.
const BROTLI_BUFFER: usize = 4_096;
/// Maximum bytes that an encoder holds, including the output of a part: measured for streams of a megabyte, flushed and
/// not.
const ZSTD_COST: u64 = 384 << 10;
const BROTLI_COST: u64 = 320 << 10;
const GZIP_COST: u64 = 320 << 10;
/// The same for zstd with a short body.
const ZSTD_SHORT: u64 = 16 << 10;
const ZSTD_SHORT_COST: u64 = 240 << 10;

/// Maximum bytes that an encoder holds for a body of `length` bytes, if known.
pub(super) fn cost(coding: Coding, length: Option<u64>) -> u64 {
    match coding {
        Coding::Zstd if length.is_some_and(|length| length <= ZSTD_SHORT) => ZSTD_SHORT_COST,
        Coding::Zstd => ZSTD_COST,
        Coding::Brotli => BROTLI_COST,
        Coding::Gzip => GZIP_COST,
    }
}

/// Parameters of zstd; for a small body it then takes a small window.
fn zstd_parameters() -> [CParameter; 3] {
    let (hash, chain) = ZSTD_TABLES;
    [CParameter::WindowLog(ZSTD_WINDOW), CParameter::HashLog(hash), CParameter::ChainLog(chain)]
}

fn brotli_parameters(length: Option<u64>) -> BrotliEncoderParams {
    let (least, most) = BROTLI_WINDOWS;
    let window = length.map_or(most, |length| length.next_power_of_two().ilog2().clamp(least, most));
    BrotliEncoderParams { quality: BROTLI_LEVEL, lgwin: window as i32, ..BrotliEncoderParams::default() }
}

/// An encoder and its output.
pub(super) enum Encoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    /// `None` once it has ended.
    Brotli(Option<Box<brotli::CompressorWriter<Vec<u8>>>>, Vec<u8>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

impl Encoder {
    /// An encoder for a body of `length` bytes, if known.
    pub(super) fn new(coding: Coding, length: Option<u64>) -> io::Result<Encoder> {
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                for parameter in zstd_parameters() {
                    encoder.set_parameter(parameter)?;
                }
                encoder.set_pledged_src_size(length)?;
                Encoder::Zstd(encoder)
            }
            Coding::Brotli => {
                let parameters = brotli_parameters(length);
                let encoder = brotli::CompressorWriter::with_params(Vec::new(), BROTLI_BUFFER, &parameters);
                Encoder::Brotli(Some(Box::new(encoder)), Vec::new())
            }
            Coding::Gzip => {
                Encoder::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL)))
            }
        })
    }

    /// Takes in a part.
    pub(super) fn write(&mut self, part: &[u8]) -> io::Result<()> {
        match self {
            Encoder::Zstd(encoder) => encoder.write_all(part),
            Encoder::Brotli(Some(encoder), _) => encoder.write_all(part),
            Encoder::Brotli(None, _) => Err(io::ErrorKind::WriteZero.into()),
            Encoder::Gzip(encoder) => encoder.write_all(part),
        }
    }

    /// Puts out all that was taken in.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Encoder::Zstd(encoder) => encoder.flush(),
            Encoder::Brotli(Some(encoder), _) => encoder.flush(),
            Encoder::Brotli(None, _) => Ok(()),
            Encoder::Gzip(encoder) => encoder.flush(),
        }
    }

    /// Puts out the end; nothing may follow.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match self {
            Encoder::Zstd(encoder) => encoder.do_finish(),
            Encoder::Brotli(encoder, rest) => {
                if let Some(encoder) = encoder.take() {
                    *rest = encoder.into_inner();
                }
                Ok(())
            }
            Encoder::Gzip(encoder) => encoder.try_finish(),
        }
    }

    /// The output since the last call.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let out = match self {
            Encoder::Zstd(encoder) => encoder.get_mut(),
            Encoder::Brotli(Some(encoder), _) => encoder.get_mut(),
            Encoder::Brotli(None, rest) => rest,
            Encoder::Gzip(encoder) => encoder.get_mut(),
        };
        (!out.is_empty()).then(|| std::mem::take(out).into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use zstd::zstd_safe::{CCtx, InBuffer, OutBuffer};

    use super::*;

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        match coding {
            Coding::Zstd => out = zstd::stream::decode_all(bytes).unwrap(),
            Coding::Brotli => {
                brotli::Decompressor::new(bytes, 4_096).read_to_end(&mut out).unwrap();
            }
            Coding::Gzip => {
                flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
            }
        }
        out
    }

    #[test]
    fn what_goes_in_comes_out() {
        for coding in Coding::ALL {
            for parts in [&[][..], &[&b"a"[..]], &[&[b'x'; 300_000][..], b"y", &[b'z'; 70_000]]] {
                let mut encoder = Encoder::new(coding, None).unwrap();
                let mut out = vec![];
                for part in parts {
                    encoder.write(part).unwrap();
                    encoder.flush().unwrap();
                    let given = encoder.take().expect("a flush gives all of it");
                    out.extend_from_slice(&given);
                }
                encoder.finish().unwrap();
                out.extend_from_slice(&encoder.take().unwrap_or_default());
                assert_eq!(decoded(coding, &out), parts.concat(), "{coding:?}");
                assert_eq!(encoder.take(), None);
            }
        }
    }

    /// The memory that zstd reports, for a text in parts.
    fn held_by_zstd(length: Option<u64>, bytes: usize) -> u64 {
        let mut context = CCtx::create();
        context.set_parameter(CParameter::CompressionLevel(ZSTD_LEVEL)).unwrap();
        zstd_parameters().into_iter().for_each(|parameter| assert!(context.set_parameter(parameter).is_ok()));
        context.set_pledged_src_size(length).unwrap();
        let mut out = vec![0; 1 << 20];
        let text: Vec<u8> = (0..bytes).map(|n| (n * n / 7 % 251) as u8).collect();
        for part in text.chunks(16 << 10) {
            let mut input = InBuffer::around(part);
            while input.pos() < part.len() {
                context.compress_stream(&mut OutBuffer::around(&mut out[..]), &mut input).unwrap();
            }
        }
        context.sizeof() as u64
    }

    #[test]
    fn no_encoder_holds_more_than_it_costs() {
        for (length, bytes) in [(None, 1 << 20), (None, 100), (Some(1 << 20), 1 << 20), (Some(70_000), 70_000)] {
            let (held, cost) = (held_by_zstd(length, bytes), cost(Coding::Zstd, length));
            assert!(held <= cost && held > cost / 3, "{length:?}: {held} of {cost}");
        }
        let held = held_by_zstd(Some(ZSTD_SHORT), ZSTD_SHORT as usize);
        assert!(held <= cost(Coding::Zstd, Some(ZSTD_SHORT)), "{held}");
    }

    #[test]
    fn text_still_shrinks() {
        let text = [
            &include_bytes!("../../../conf/reference.toml")[..],
            include_bytes!("../../../docs/figures.md"),
            include_bytes!("../../../docs/glossary.md"),
        ]
        .concat();
        for (coding, tenths) in [(Coding::Zstd, 22), (Coding::Brotli, 22), (Coding::Gzip, 22)] {
            for length in [None, Some(text.len() as u64)] {
                let mut encoder = Encoder::new(coding, length).unwrap();
                for part in text.chunks(16 << 10) {
                    encoder.write(part).unwrap();
                }
                encoder.finish().unwrap();
                let short = encoder.take().unwrap();
                assert_eq!(decoded(coding, &short), text);
                assert!(short.len() * tenths < text.len() * 10, "{coding:?}: {}", short.len());
            }
        }
    }

    #[test]
    fn a_wrong_length_is_an_error_and_no_wrong_body() {
        let mut encoder = Encoder::new(Coding::Zstd, Some(10)).unwrap();
        let wrote = encoder.write(b"too much for ten");
        assert!(wrote.is_err() || encoder.finish().is_err());
    }
}
