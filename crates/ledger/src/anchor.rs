//! The anchor: the end of the chain, kept outside of the store, in `state_dir/ledger.anchor`.
//!
//! A chain proves that no row was changed or removed between others; only an anchor proves that no row is missing at
//! the end. It is written each second and at shutdown, so a cut that is younger than the last anchor is not found. It
//! is replaced atomically: a crash leaves the old one or the new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::rows::{Type, Value};
use super::store::{Reader, StoreError};
use base::clock;
use base::files;
use base::hex;

/// The end of the chain at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The last row's `seq`.
    pub sequence: i64,
    /// The last link, in hex digits.
    pub head: String,
    /// When it was written: RFC 3339, UTC.
    pub at: String,
}

impl Anchor {
    /// The anchor of an end of the chain, at `now_ms` (milliseconds since 1970).
    pub fn new(sequence: i64, link: &[u8], now_ms: u64) -> Anchor {
        Anchor { sequence, head: hex::encode(link), at: clock::rfc3339(now_ms) }
    }

    /// Whether the chain in the store goes through this anchor; rows behind it came later. An anchor ahead of the
    /// store, or of another chain, does not hold.
    pub fn holds(&self, reader: &mut dyn Reader) -> Result<bool, StoreError> {
        let sql = "SELECT link FROM chain WHERE seq = $1";
        let rows = reader.select(sql, &[Value::Int(self.sequence)], &[Type::Blob])?;
        let link = rows.into_iter().flatten().next();
        Ok(matches!(link, Some(Value::Blob(link)) if hex::encode(&link).eq_ignore_ascii_case(&self.head)))
    }
}

/// The path of the anchor's file.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("ledger.anchor")
}

/// The stored anchor, if there is one; [`io::ErrorKind::InvalidData`] if the file is not an anchor.
pub fn read(path: &Path) -> io::Result<Option<Anchor>> {
    match fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Replaces the anchor and makes it durable.
pub fn write(path: &Path, anchor: &Anchor) -> io::Result<()> {
    files::replace(path, anchor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        assert_eq!(read(&path).unwrap(), None);
        for sequence in [7, 9] {
            let anchor = Anchor::new(sequence, &[0x0a, 0xff], 0);
            write(&path, &anchor).unwrap();
            assert_eq!(read(&path).unwrap(), Some(anchor));
        }
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let wanted = serde_json::json!({"sequence": 9, "head": "0aff", "at": "1970-01-01T00:00:00.000Z"});
        assert_eq!(json, wanted);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        fs::write(&path, "{").unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
