//! The map from a span to file, line, column and text.
//!
//! All files count as one long text: each has a base, so that one global offset names a place wherever tables of
//! several files were merged. An offset at the end of a file belongs to that file, not to the next one. Columns count
//! characters, not bytes and not what a terminal makes of them.

use std::ops::Range;
use std::sync::Arc;

use super::source::Source;
use base::finding::Place;

/// A range of the whole text, in global offsets.
pub type Span = Range<usize>;

/// The most characters of offending text that a finding quotes.
const QUOTED: usize = 120;

/// The start of every file and every line.
#[derive(Debug)]
pub struct SourceMap {
    files: Vec<FileLines>,
}

#[derive(Debug)]
struct FileLines {
    base: usize,
    path: Arc<str>,
    text: Arc<str>,
    /// Offsets where lines start, within the file; `source` keeps files below 4 GiB.
    lines: Vec<u32>,
}

impl SourceMap {
    /// Finds the starts of the lines of `source`.
    pub fn new(source: &Source) -> SourceMap {
        let mut base = 0;
        let mut files = Vec::with_capacity(source.files.len());
        for file in &source.files {
            let breaks = file.text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
            let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at as u32 + 1)).collect();
            files.push(FileLines { base, path: file.path.clone(), text: file.text.clone(), lines });
            base += file.text.len() + 1;
        }
        SourceMap { files }
    }

    /// The global offset at which the file with this index starts.
    pub fn base(&self, file: usize) -> usize {
        self.files[file].base
    }

    /// The first file as a whole, for findings without a place.
    pub fn nowhere(&self) -> Place {
        Place::file(self.files.first().map_or_else(|| "".into(), |file| file.path.clone()))
    }

    /// The place of a span; its text is the first line of the span, or the whole line where the span is empty.
    pub fn place(&self, span: &Span) -> Place {
        let index = self.files.partition_point(|file| file.base <= span.start);
        let Some(file) = index.checked_sub(1).and_then(|index| self.files.get(index)) else {
            return self.nowhere();
        };
        let text = &*file.text;
        let start = floor(text, span.start - file.base);
        let end = floor(text, span.end.saturating_sub(file.base)).max(start);
        let line = file.lines.partition_point(|&line| line as usize <= start);
        let line_start = file.lines[line - 1] as usize;
        let quoted = match first_line(&text[start..end]) {
            "" => first_line(&text[line_start..]).trim(),
            quoted => quoted,
        };
        Place {
            file: file.path.clone(),
            line,
            column: 1 + text[line_start..start].chars().count(),
            text: quoted.chars().take(QUOTED).collect::<String>().into(),
        }
    }
}

/// The nearest character boundary at or below `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("")
}
