//! The reader of a cohort's file of users: one key a line, a million of them in a fraction of a second.
//!
//! The file is read once, line by line into one buffer; only the hashes are kept. A line that is not a user key is a
//! finding whose place is in the file itself. A set is shared for as long as it is in use: a file that has not
//! changed since is not read again. The file is identified by path, device, inode, size and both times of change,
//! taken before and after reading. A file that changed meanwhile, or so recently that another change could have the
//! same time, is read anew the next time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Check;
use super::files::open;
use crate::file::scalar::{FilePath, Word};
use base::clock;
use base::finding::Place;
use gray::cohort::{UserSet, user_hash};

/// The most bytes of a file.
const FILE_MAX: u64 = 512 << 20;
/// The most bytes of a user key.
const KEY_MAX: usize = 1024;
/// Faulty lines of a file that are shown; the rest is counted.
const SHOWN: usize = 20;
/// The most characters of a line that a finding quotes.
const QUOTED: usize = 120;
/// The kernel's file times move in steps of up to 10 ms: two changes within one step have the same time.
const TICK_MS: i64 = 20;
/// The size of one read, in bytes.
const BUFFER: usize = 256 << 10;
/// Users that are inserted into the set together: then their cache misses overlap (a third of the time).
const BATCH: usize = 64 << 10;

/// Sets in use, with the state of the file that each was read from.
static SETS: Mutex<BTreeMap<PathBuf, (Stamp, Weak<UserSet>)>> = Mutex::new(BTreeMap::new());

/// The observable state of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Stamp> {
        let it = file.metadata()?;
        Ok(Stamp {
            device: it.dev(),
            inode: it.ino(),
            size: it.size(),
            modified: (it.mtime(), it.mtime_nsec()),
            changed: (it.ctime(), it.ctime_nsec()),
        })
    }

    /// Whether a change after this stamp would have changed it.
    fn is_settled(&self, wall_ms: u64) -> bool {
        let (seconds, nanoseconds) = self.changed.max(self.modified);
        i64::try_from(wall_ms).is_ok_and(|now| now - (seconds * 1000 + nanoseconds / 1_000_000) > TICK_MS)
    }
}

impl Check<'_, '_> {
    /// The users of a file.
    pub(super) fn users(&mut self, file: &Word<FilePath>) -> Option<Arc<UserSet>> {
        let lines = match self.read_with(file, known_or_read)? {
            Found::Known(set) => return Some(set),
            Found::Lines(lines) => lines,
        };
        let path: Arc<str> = self.source.root.join(&file.value.0.0).display().to_string().into();
        for fault in &lines.faults {
            let Fault { line, column, text, message, hint } = fault;
            let place = Place { file: path.clone(), line: *line, column: *column, text: text.as_str().into() };
            self.findings.elsewhere(&place, message, *hint);
        }
        if let Some(line) = lines.first_hidden {
            let place = Place { file: path, line, column: 1, text: "".into() };
            let message = format!("and {} more lines that are no user keys", lines.hidden);
            self.findings.elsewhere(&place, message, "mend the first ones and check again");
        }
        lines.faults.is_empty().then_some(lines.users)
    }
}

/// The result for a file.
enum Found {
    /// The file has not changed since it was read.
    Known(Arc<UserSet>),
    /// The file was read now.
    Lines(Lines),
}

/// The content of a file.
struct Lines {
    users: Arc<UserSet>,
    faults: Vec<Fault>,
    /// The number of further faulty lines, and the first of them.
    hidden: usize,
    first_hidden: Option<usize>,
}

/// A faulty line.
#[derive(Debug)]
struct Fault {
    line: usize,
    column: usize,
    text: String,
    message: String,
    hint: &'static str,
}

fn known_or_read(path: &Path) -> io::Result<Found> {
    let file = open(path)?;
    let before = Stamp::of(&file)?;
    if let Some(set) = known(path, before) {
        return Ok(Found::Known(set));
    }
    if before.size > FILE_MAX {
        return Err(too_large());
    }
    let lines = read(BufReader::with_capacity(BUFFER, (&file).take(FILE_MAX + 1)))?;
    // The clock is read first: a change after the stamp has a later time than this.
    let now = clock::wall_ms();
    let after = Stamp::of(&file)?;
    if before == after && after.is_settled(now) && lines.faults.is_empty() {
        let mut sets = SETS.lock();
        sets.retain(|_, (_, set)| set.strong_count() > 0);
        sets.insert(path.to_owned(), (after, Arc::downgrade(&lines.users)));
    }
    Ok(Found::Lines(lines))
}

fn known(path: &Path, stamp: Stamp) -> Option<Arc<UserSet>> {
    let sets = SETS.lock();
    let (seen, set) = sets.get(path)?;
    if *seen == stamp { set.upgrade() } else { None }
}

fn too_large() -> io::Error {
    io::Error::other(format!("it is larger than {} MiB", FILE_MAX >> 20))
}

/// Reads every line.
fn read(mut from: impl BufRead) -> io::Result<Lines> {
    let (mut users, mut batch, mut line) = (UserSet::default(), Vec::with_capacity(BATCH), Vec::new());
    let (mut number, mut bytes) = (0, 0);
    let (mut faults, mut hidden, mut first_hidden) = (Vec::new(), 0, None);
    loop {
        line.clear();
        let length = from.read_until(b'\n', &mut line)? as u64;
        bytes += length;
        if length == 0 {
            break;
        }
        if bytes > FILE_MAX {
            return Err(too_large());
        }
        number += 1;
        // The byte order mark that some editors write belongs to no key.
        let text = if number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line[..] };
        let Some(key) = key_of(text) else { continue };
        if batch.len() == BATCH {
            batch.drain(..).for_each(|user| users.insert(user));
        }
        match fault(key) {
            None => batch.push(user_hash(key)),
            Some(_) if faults.len() == SHOWN => {
                hidden += 1;
                first_hidden.get_or_insert(number);
            }
            Some((at, message, hint)) => {
                let start = key.as_ptr().addr() - line.as_ptr().addr();
                let column = 1 + String::from_utf8_lossy(&line[..start + at]).chars().count();
                faults.push(Fault { line: number, column, text: quoted(key), message, hint });
            }
        }
    }
    batch.drain(..).for_each(|user| users.insert(user));
    Ok(Lines { users: Arc::new(users), faults, hidden, first_hidden })
}

/// The key of a line, if there is one.
fn key_of(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = line.iter().position(|byte| !blank(byte))?;
    let end = line.iter().rposition(|byte| !blank(byte))?;
    let key = &line[start..=end];
    (key[0] != b'#').then_some(key)
}

/// The fault of a key: its byte, a message and a hint.
fn fault(key: &[u8]) -> Option<(usize, String, &'static str)> {
    if key.len() > KEY_MAX {
        let message = format!("the user key is longer than {KEY_MAX} bytes");
        return Some((0, message, "the file holds one user key a line"));
    }
    // Nearly all keys are plain ASCII, which needs no further check.
    if key.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let text = match str::from_utf8(key) {
        Ok(text) => text,
        Err(error) => {
            return Some((
                error.valid_up_to(),
                "the user key is not UTF-8 from here on".to_owned(),
                "save the file as UTF-8",
            ));
        }
    };
    let (at, letter) = text.char_indices().find(|(_, letter)| letter.is_control())?;
    let message = format!("the user key holds the control character U+{:04X}", u32::from(letter));
    Some((at, message, "remove it: no user key has one"))
}

/// A line in a form that is safe to quote.
fn quoted(key: &[u8]) -> String {
    // Four bytes are the longest character.
    let text = String::from_utf8_lossy(&key[..key.len().min(4 * QUOTED)]);
    text.chars().take(QUOTED).map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_within_a_tick_may_change_again_unseen() {
        let at = |modified, changed| Stamp { device: 1, inode: 1, size: 1, modified, changed };
        let stamp = at((100, 0), (100, 500_900_000));
        assert!(!stamp.is_settled(100_500) && !stamp.is_settled(100_520) && stamp.is_settled(100_521));
        // The later of both times counts, and one in the future is not settled.
        assert!(!at((100, 500_000_000), (90, 0)).is_settled(100_510));
        assert!(!at((200, 0), (200, 0)).is_settled(100_000));
    }
}
