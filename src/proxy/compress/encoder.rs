//! The three encoders behind one face. Pingora has all of them too, but gives out nothing between two parts, does not
//! weigh `q`, and ends brotli without its last block.
//!
//! Levels are those for answers that are made anew each time: below the codings' own defaults where those are meant for
//! files. The window is bounded, as each answer under way holds one: 512 KiB, far below the 8 MiB that clients take
//! (RFC 9659). Output gathers until it is taken; an empty input gives a valid stream of nothing.

use std::io::{self, Write};

use bytes::Bytes;

use super::Coding;

const ZSTD_LEVEL: i32 = 3;
const BROTLI_LEVEL: u32 = 4;
const GZIP_LEVEL: u32 = 5;
/// Binary logarithm of the window.
const WINDOW: u32 = 19;
/// What brotli reads at once.
const BROTLI_BUFFER: usize = 4_096;

/// An encoder and what it has given out.
pub(super) enum Encoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    /// Gone once it has ended.
    Brotli(Option<Box<brotli::CompressorWriter<Vec<u8>>>>, Vec<u8>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

impl Encoder {
    /// An encoder for a body of so many bytes, where that is known.
    pub(super) fn new(coding: Coding, length: Option<u64>) -> io::Result<Encoder> {
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(WINDOW)?;
                if let Some(length) = length.filter(|length| *length < 1 << WINDOW) {
                    // A small body then takes a small window.
                    encoder.set_pledged_src_size(Some(length))?;
                }
                Encoder::Zstd(encoder)
            }
            Coding::Brotli => {
                let encoder = brotli::CompressorWriter::new(Vec::new(), BROTLI_BUFFER, BROTLI_LEVEL, WINDOW);
                Encoder::Brotli(Some(Box::new(encoder)), Vec::new())
            }
            Coding::Gzip => {
                Encoder::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL)))
            }
        })
    }

    /// Takes a part in.
    pub(super) fn write(&mut self, part: &[u8]) -> io::Result<()> {
        match self {
            Encoder::Zstd(encoder) => encoder.write_all(part),
            Encoder::Brotli(Some(encoder), _) => encoder.write_all(part),
            Encoder::Brotli(None, _) => Err(io::ErrorKind::WriteZero.into()),
            Encoder::Gzip(encoder) => encoder.write_all(part),
        }
    }

    /// Gives out all that was taken in.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Encoder::Zstd(encoder) => encoder.flush(),
            Encoder::Brotli(Some(encoder), _) => encoder.flush(),
            Encoder::Brotli(None, _) => Ok(()),
            Encoder::Gzip(encoder) => encoder.flush(),
        }
    }

    /// Gives out the end; nothing may follow.
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

    /// What was given out since it was last asked.
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

    #[test]
    fn a_wrong_length_is_an_error_and_no_wrong_body() {
        let mut encoder = Encoder::new(Coding::Zstd, Some(10)).unwrap();
        let wrote = encoder.write(b"too much for ten");
        assert!(wrote.is_err() || encoder.finish().is_err());
    }
}
