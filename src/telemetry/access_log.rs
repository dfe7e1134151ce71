//! The access log's writer: lines leave through per-thread buffers, and no request ever waits.
//!
//! A thread appends to its own buffer. A full buffer goes to a bounded queue, and the writer collects the others every
//! 100 ms, so a line costs a memory copy and wakes no thread. If the writer cannot keep up (a stalled pipe, a full
//! disk), whole buffers are dropped and their lines counted. Lines of one thread keep their order; lines of different
//! threads may swap places within 100 ms. While two processes write (an upgrade), lines for stdout leave in pieces that
//! a pipe takes whole (pipe(7)), so that the other's lines tear none apart.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::line::Line;
use base::clock;
use base::shard::{Counter, SHARDS, index};
use config::model::AccessLog as Target;

/// Large enough that a busy core is seldom interrupted by the writer, and that a file system takes it in few pieces.
const BUFFER_BYTES: usize = 64 * 1024;
/// Lines are rarely longer.
const LINE_BYTES: usize = 4096;
const QUEUE_BUFFERS: usize = 256;
const HAND_OVER: Duration = Duration::from_millis(100);
/// Linux writes this many bytes to a pipe in one piece.
const PIPE_BYTES: usize = 4096;

/// Lines, and their number.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    lines: u64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot(Mutex<Buffer>);

#[derive(Debug)]
struct Queue {
    full: VecDeque<Buffer>,
    /// Written and empty: reused, because fresh memory would cost a page fault for each 4 KiB.
    spare: Vec<Vec<u8>>,
    target: Option<Target>,
    stop: bool,
}

/// The access log.
#[derive(Debug)]
pub struct AccessLog {
    slots: [Slot; SHARDS],
    queue: Mutex<Queue>,
    wake: Condvar,
    reopen: AtomicBool,
    on: AtomicBool,
    shared: AtomicBool,
    dropped: Arc<Counter>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLog {
    /// Starts the writer, which writes nothing until [`AccessLog::point`] sets the target.
    pub fn start(dropped: Arc<Counter>) -> io::Result<Arc<Self>> {
        let log = Arc::new(Self {
            slots: Default::default(),
            queue: Mutex::new(Queue { full: VecDeque::new(), spare: Vec::new(), target: None, stop: false }),
            wake: Condvar::new(),
            reopen: AtomicBool::new(false),
            on: AtomicBool::new(false),
            shared: AtomicBool::new(false),
            dropped,
            writer: Mutex::new(None),
        });
        clock::follow_wall();
        let own = log.clone();
        let writer = std::thread::Builder::new().name("access-log".into()).spawn(move || own.write_all())?;
        *log.writer.lock() = Some(writer);
        Ok(log)
    }

    /// Whether lines are written at all.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Sets the target of lines from now on.
    pub fn point(&self, target: &Target) {
        self.queue.lock().target = Some(target.clone());
        self.on.store(*target != Target::Off, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Opens the file again, after a rotation moved it away.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Notes whether another process writes to the same target.
    pub fn share(&self, shared: bool) {
        self.shared.store(shared, Ordering::Relaxed);
    }

    /// Takes a line.
    pub fn log(&self, line: &Line<'_>) {
        let mut buffer = self.slots[index()].0.lock();
        if buffer.bytes.capacity() == 0 {
            buffer.bytes = self.queue.lock().spare.pop().unwrap_or_default();
            buffer.bytes.reserve(BUFFER_BYTES + LINE_BYTES);
        }
        line.write(&mut buffer.bytes);
        buffer.lines += 1;
        if buffer.bytes.len() >= BUFFER_BYTES {
            self.hand_over(std::mem::take(&mut buffer));
        }
    }

    fn hand_over(&self, buffer: Buffer) {
        let mut queue = self.queue.lock();
        if queue.full.len() < QUEUE_BUFFERS {
            queue.full.push_back(buffer);
            self.wake.notify_one();
        } else {
            self.dropped.add(buffer.lines);
        }
    }

    /// Writes all lines and ends the writer.
    pub fn stop(&self) {
        self.queue.lock().stop = true;
        self.wake.notify_one();
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }

    fn write_all(&self) {
        let mut out = Out::Off;
        loop {
            clock::follow_wall();
            let (full, target, stop) = {
                let mut queue = self.queue.lock();
                if queue.full.is_empty() && queue.target.is_none() && !queue.stop {
                    self.wake.wait_for(&mut queue, HAND_OVER);
                }
                (std::mem::take(&mut queue.full), queue.target.take(), queue.stop)
            };
            // Buffered lines belong to the old target, unless there was none.
            let mut target = target;
            if let (Out::Off, Some(first)) = (&out, &target) {
                out = Out::open(first);
                target = None;
            }
            let slots = self.slots.iter().map(|slot| std::mem::take(&mut *slot.0.lock()));
            for buffer in full.into_iter().chain(slots) {
                self.write(&mut out, buffer);
            }
            if let Some(target) = target {
                out = Out::open(&target);
            }
            if self.reopen.swap(false, Ordering::Relaxed) {
                out.reopen();
            }
            if stop {
                return;
            }
        }
    }

    fn write(&self, out: &mut Out, mut buffer: Buffer) {
        let piece = if self.shared.load(Ordering::Relaxed) { PIPE_BYTES } else { usize::MAX };
        if buffer.lines > 0 && out.write_all(&buffer.bytes, piece).is_err() {
            self.dropped.add(buffer.lines);
        }
        buffer.bytes.clear();
        if buffer.bytes.capacity() > 0 {
            let mut queue = self.queue.lock();
            if queue.spare.len() < SHARDS {
                queue.spare.push(buffer.bytes);
            }
        }
    }
}

/// The target of lines.
enum Out {
    Off,
    Stdout,
    File(File, std::path::PathBuf),
    Failed(std::path::PathBuf),
}

impl Out {
    fn open(target: &Target) -> Out {
        match target {
            Target::Off => Out::Off,
            Target::Stdout => Out::Stdout,
            Target::File(path) => Out::file(path),
        }
    }

    fn file(path: &Path) -> Out {
        match append_to(path) {
            Ok(file) => Out::File(file, path.to_owned()),
            Err(e) => {
                log::error!("access log {}: {e}; lines are dropped and counted until it can be opened", path.display());
                Out::Failed(path.to_owned())
            }
        }
    }

    fn reopen(&mut self) {
        if let Out::File(_, path) | Out::Failed(path) = self {
            *self = Out::file(&std::mem::take(path));
        }
    }

    fn write_all(&mut self, bytes: &[u8], piece: usize) -> io::Result<()> {
        match self {
            Out::Off => Ok(()),
            Out::Stdout => {
                // Stdout's own buffer would cut lines anywhere.
                let mut stdout = io::stdout().lock();
                pieces(bytes, piece).try_for_each(|lines| stdout.write_all(lines).and_then(|()| stdout.flush()))
            }
            Out::File(file, _) => file.write_all(bytes),
            Out::Failed(_) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Complete lines, as many as fit into `limit` bytes; a longer line alone.
fn pieces(mut bytes: &[u8], limit: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = if bytes.len() <= limit {
            bytes.len()
        } else {
            let newline = |byte: &u8| *byte == b'\n';
            let fits = bytes[..limit].iter().rposition(newline);
            fits.or_else(|| bytes.iter().position(newline)).map_or(bytes.len(), |at| at + 1)
        };
        let (piece, rest) = bytes.split_at(end);
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Opens a log file for appending, and creates it if absent.
pub fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_are_whole_lines() {
        let cut = |limit| pieces(b"one\ntwo\nthree and more\nx\n", limit).collect::<Vec<_>>();
        assert_eq!(cut(usize::MAX).len(), 1);
        assert_eq!(cut(9), [&b"one\ntwo\n"[..], b"three and more\n", b"x\n"]);
        assert_eq!(cut(4).concat(), cut(usize::MAX)[0]);
        assert_eq!(pieces(b"", 9).count(), 0);
    }
}
