//! The chain: an HMAC link over every immutable row as stored and the link before it.
//!
//! A link covers the rows of one callback. For each row it holds the table, the id and a digest of the frozen columns,
//! so that a changed or removed row is named exactly. The link is keyed, so that write access to the store without an
//! encryption key is not enough to make another one. A cut tail is found by the anchor, which is kept elsewhere.
//!
//! Digest: SHA-256 over the table's code, `seq` (8 bytes, big endian), the id's 16 bytes, and for each frozen column a
//! tag (0 null, 1 number, 2 text, 3 bytes), for text and bytes the length (4 bytes, big endian), and the content.

use ring::{digest, hmac};
use uuid::Uuid;

use super::rows::{Link, Row, Table, Value};

/// Bytes of a row in a link: table code, id, digest.
pub const ROW_BYTES: usize = 1 + 16 + 32;

/// The chain's key.
#[derive(Clone)]
pub struct ChainKey(hmac::Key);

impl std::fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChainKey(..)")
    }
}

impl ChainKey {
    /// The key from its 32 bytes.
    pub fn new(bytes: &[u8]) -> ChainKey {
        ChainKey(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The link over `rows` (in the order of their `seq`, without gaps) and the link `before`, which is empty for the
    /// first.
    pub fn link(&self, before: &[u8], rows: &[Row]) -> Link {
        let seq = rows.last().map_or(0, |row| row.seq);
        let mut covered = Vec::with_capacity(rows.len() * ROW_BYTES);
        for row in rows {
            covered.push(row.table as u8);
            covered.extend_from_slice(row.id.as_bytes());
            covered.extend_from_slice(&row_digest(row.table, row.seq, row.id, &row.values));
        }
        let link = self.sign(before, seq, &covered);
        Link { seq, rows: covered, link }
    }

    /// The HMAC of an archived day. Its text differs from the bytes of any link in length or in its first word.
    pub fn seal_archive(&self, day: &str, rows: i64, digest: &str) -> Vec<u8> {
        hmac::sign(&self.0, format!("tollgate archive {day} {rows} {digest}").as_bytes()).as_ref().to_vec()
    }

    /// The HMAC that the link over these bytes must have.
    pub fn sign(&self, before: &[u8], seq: i64, rows: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(before);
        context.update(&seq.to_be_bytes());
        context.update(rows);
        context.sign().as_ref().to_vec()
    }
}

/// Whether the bytes of a link whose last row has the place `seq` name this row as it is.
pub fn names(seq: i64, rows: &[u8], row: &Row) -> bool {
    let first = seq - (rows.len() / ROW_BYTES) as i64 + 1;
    let at = usize::try_from(row.seq - first).ok();
    let named = at.and_then(|at| rows.chunks_exact(ROW_BYTES).nth(at));
    named.is_some_and(|named| {
        let digest = row_digest(row.table, row.seq, row.id, &row.values);
        named[0] == row.table as u8 && named[1..17] == *row.id.as_bytes() && named[17..] == digest
    })
}

/// SHA-256 of a row's frozen columns; columns of state after them in `values` are ignored.
pub fn row_digest(table: Table, seq: i64, id: Uuid, values: &[Value]) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(512);
    bytes.push(table as u8);
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(id.as_bytes());
    for value in values.iter().take(table.frozen().len()) {
        let (tag, content): (u8, &[u8]) = match value {
            Value::Null => (0, &[]),
            Value::Int(number) => {
                bytes.push(1);
                bytes.extend_from_slice(&number.to_be_bytes());
                continue;
            }
            Value::Text(text) => (2, text.as_bytes()),
            Value::Blob(blob) => (3, blob),
        };
        bytes.push(tag);
        if tag != 0 {
            bytes.extend_from_slice(&(content.len() as u32).to_be_bytes());
            bytes.extend_from_slice(content);
        }
    }
    let digest = digest::digest(&digest::SHA256, &bytes);
    digest.as_ref().try_into().unwrap_or([0; 32])
}
