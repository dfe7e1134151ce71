//! The file of an archived day: lines of JSON.
//!
//! The first line names the format and the day, each following one is a row of evidence as it was stored (encrypted,
//! bytes in base64), and the last has the number of rows, their digest, and the HMAC of the three by the chain's key.
//! The digest is SHA-256 over the rows' own digests ([`row_digest`]) in the order of `seq`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Archive, ArchiveError};
use crate::chain::{ChainKey, row_digest};
use crate::rows::{Evidence, Typed};

/// The version of the format.
const FORMAT: u32 = 1;
/// The most bytes of a line: a message of 1 MiB and its headers, in base64.
const LINE_MAX: u64 = 8 << 20;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct First {
    tollgate_archive: u32,
    day: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    seq: i64,
    id: String,
    channel: String,
    key_id: String,
    received_at: i64,
    headers: String,
    body: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Last {
    rows: i64,
    digest: String,
    mac: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Record {
    Row(Line),
    Last(Last),
}

/// The digest of rows, one after the other.
struct Digest(Context, i64);

impl Digest {
    fn new() -> Digest {
        Digest(Context::new(&SHA256), 0)
    }

    fn take(&mut self, evidence: &Evidence) {
        let row = evidence.row();
        self.0.update(&row_digest(row.table, row.seq, row.id, &row.values));
        self.1 += 1;
    }

    fn end(self, day: &str, key: &ChainKey) -> Archive {
        let digest = base::hex::encode(self.0.finish().as_ref());
        Archive { mac: key.seal_archive(day, self.1, &digest), day: day.to_owned(), rows: self.1, digest }
    }
}

/// A file that is being written, under another name until it is whole and durable.
pub struct Writer {
    out: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
    day: String,
    digest: Digest,
}

fn line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

impl Writer {
    /// Begins a file that is not there yet.
    pub fn begin(path: &Path, day: &str) -> io::Result<Writer> {
        if path.try_exists()? {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists: name another file, or move it away"));
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let mut out = BufWriter::new(File::create(&part)?);
        line(&mut out, &First { tollgate_archive: FORMAT, day: day.to_owned() })?;
        Ok(Writer { out, part, path: path.to_owned(), day: day.to_owned(), digest: Digest::new() })
    }

    /// Writes a row.
    pub fn row(&mut self, evidence: &Evidence) -> io::Result<()> {
        self.digest.take(evidence);
        let Evidence { seq, id, channel, key_id, received_at, headers, body } = evidence;
        let (headers, body) = (STANDARD.encode(headers), STANDARD.encode(body));
        let (seq, id, key_id, received_at) = (*seq, id.to_string(), key_id.to_string(), *received_at);
        line(&mut self.out, &Line { seq, id, channel: channel.clone(), key_id, received_at, headers, body })
    }

    /// Ends the file, and makes it durable.
    pub fn end(mut self, key: &ChainKey) -> io::Result<Archive> {
        let archive = self.digest.end(&self.day, key);
        let mac = base::hex::encode(&archive.mac);
        line(&mut self.out, &Last { rows: archive.rows, digest: archive.digest.clone(), mac })?;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        std::fs::rename(&self.part, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(archive)
    }
}

/// Reads a whole file; `each` takes its rows before it is known that the file is whole.
pub fn read(
    path: &Path,
    key: &ChainKey,
    mut each: impl FnMut(Evidence) -> Result<(), ArchiveError>,
) -> Result<Archive, ArchiveError> {
    let wrong = |at: usize, why: &str| ArchiveError::Refused(format!("{}:{at}: {why}", path.display()));
    let io = |e: io::Error| ArchiveError::Io(path.to_owned(), e);
    let mut lines = BufReader::new(File::open(path).map_err(io)?);
    let mut next = || {
        let mut line = vec![];
        lines.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).map_err(io)?;
        Ok::<_, ArchiveError>(line)
    };
    let first = serde_json::from_slice::<First>(&next()?).ok().filter(|first| first.tollgate_archive == FORMAT);
    let day = first.ok_or_else(|| wrong(1, "it is no archive of this version of tollgate"))?.day;
    let mut digest = Digest::new();
    for at in 2.. {
        let line = next()?;
        if line.is_empty() {
            return Err(wrong(at, "the file ends early: its last line is missing"));
        }
        match serde_json::from_slice(&line).map_err(|_| wrong(at, "the line is neither a row nor the end"))? {
            Record::Row(line) => {
                let bytes = |text: &str| STANDARD.decode(text).map_err(|_| wrong(at, "its bytes are no base64"));
                let uuid = |text: &str| Uuid::try_parse(text).map_err(|_| wrong(at, "its id is none"));
                let (headers, body) = (bytes(&line.headers)?, bytes(&line.body)?);
                let (id, key_id) = (uuid(&line.id)?, uuid(&line.key_id)?);
                let Line { seq, channel, received_at, .. } = line;
                let evidence = Evidence { seq, id, channel, key_id, received_at, headers, body };
                digest.take(&evidence);
                each(evidence)?;
            }
            Record::Last(last) => {
                let archive = digest.end(&day, key);
                let is_whole = (last.rows, &last.digest) == (archive.rows, &archive.digest);
                if !is_whole || last.mac != base::hex::encode(&archive.mac) || !next()?.is_empty() {
                    return Err(wrong(at, "the file was changed, or made with other encryption keys"));
                }
                return Ok(archive);
            }
        }
    }
    unreachable!("lines end")
}
