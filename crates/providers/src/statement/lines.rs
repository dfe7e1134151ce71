//! The records of a CSV file, decompressed and decoded while they are read.
//!
//! What one record may take is bounded, so that a quote that never ends does not fill the memory, and so is what a
//! compressed file may become.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use csv::StringRecord;
use encoding_rs::{CoderResult, Decoder, Encoding};

use super::StatementError;
use super::cells::Columns;

/// The most bytes of a record.
const RECORD_MAX: u64 = 4 << 20;
/// The most bytes of a file, decompressed.
const FILE_MAX: u64 = 8 << 30;

/// UTF-8 of a file in another encoding.
struct Decoded<R> {
    from: R,
    decoder: Decoder,
    name: &'static str,
    raw: Vec<u8>,
    /// What of `raw` is not decoded yet.
    left: std::ops::Range<usize>,
    ended: bool,
    /// Whether the decoder has given its last.
    done: bool,
    /// Bytes given out since the last record.
    since: Rc<Cell<u64>>,
    all: u64,
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.done {
                return Ok(0);
            }
            if self.left.is_empty() && !self.ended {
                let read = self.from.read(&mut self.raw)?;
                (self.left, self.ended) = (0..read, read == 0);
            }
            let raw = &self.raw[self.left.clone()];
            let (result, read, written, wrong) = self.decoder.decode_to_utf8(raw, out, self.ended);
            self.done = self.ended && result == CoderResult::InputEmpty;
            if wrong {
                let why = format!("it has bytes that are no {}", self.name);
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            self.left.start += read;
            self.all += written as u64;
            self.since.set(self.since.get() + written as u64);
            if self.since.get() > RECORD_MAX || self.all > FILE_MAX {
                let why = "a line is longer than 4 MiB, or the file than 8 GiB";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            let kept = without_returns(&mut out[..written]);
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}

/// Takes carriage returns out, so that lines are counted alike whichever way they end; returns what is left.
fn without_returns(bytes: &mut [u8]) -> usize {
    let mut kept = 0;
    for at in 0..bytes.len() {
        if bytes[at] != b'\r' {
            bytes[kept] = bytes[at];
            kept += 1;
        }
    }
    kept
}

/// The records of a file.
pub struct Lines<R> {
    reader: csv::Reader<Decoded<R>>,
    since: Rc<Cell<u64>>,
}

/// The encoding of a file's first bytes: UTF-8 if they are, else GBK.
pub fn encoding_of(first: &[u8]) -> &'static Encoding {
    // The last character may be cut.
    match std::str::from_utf8(first) {
        Err(e) if e.error_len().is_some() => encoding_rs::GBK,
        _ => encoding_rs::UTF_8,
    }
}

impl<R: Read> Lines<R> {
    /// The records of a file in this encoding; `quotes` says whether cells may stand in them.
    pub fn new(from: R, encoding: &'static Encoding, quotes: bool) -> Lines<R> {
        let since = Rc::new(Cell::new(0));
        let decoded = Decoded {
            from,
            decoder: encoding.new_decoder_with_bom_removal(),
            name: encoding.name(),
            raw: vec![0; 64 << 10],
            left: 0..0,
            ended: false,
            done: false,
            since: Rc::clone(&since),
            all: 0,
        };
        let reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).quoting(quotes).from_reader(decoded);
        Lines { reader, since }
    }

    /// The columns that the first record names.
    pub fn header(&mut self) -> Result<Columns, StatementError> {
        let (line, header) = self.record()?.ok_or_else(|| StatementError::Format("the file is empty".to_owned()))?;
        Ok(Columns::of(line, &header))
    }

    /// Reads to the end, where a compressed file has its checksum; nothing may come any more.
    pub fn end(&mut self) -> Result<(), StatementError> {
        match self.record()? {
            None => Ok(()),
            Some((line, _)) => {
                let what = "it goes on after its end: are these two files?".to_owned();
                Err(StatementError::Line { line, what })
            }
        }
    }

    /// The next record with its line; none at the end. Empty lines are passed over.
    pub fn record(&mut self) -> Result<Option<(u64, StringRecord)>, StatementError> {
        let mut record = StringRecord::new();
        self.since.set(0);
        let line = self.reader.position().line();
        match self.reader.read_record(&mut record) {
            Ok(false) => Ok(None),
            Ok(true) => Ok(Some((record.position().map_or(line, csv::Position::line), record))),
            Err(e) => match e.into_kind() {
                csv::ErrorKind::Io(e) => Err(StatementError::Io(e)),
                other => Err(StatementError::Line { line, what: format!("it is no CSV: {other:?}") }),
            },
        }
    }
}
