//! The merge of the files: it parses them into one tree, whose spans are global offsets.
//!
//! Tables merge key by key, arrays of tables append, and a key set twice is a finding that names both places; the first
//! value stays. Parsing continues after a syntax error, so that all errors are found at once. White space at the end of
//! a file is not parsed: ten megabytes of it must cost nothing.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use serde_spanned::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use crate::findings::Findings;
use crate::source::Source;
use crate::source_map::{SourceMap, Span};

/// Syntax errors of one file that are shown: after a while each only follows from those before.
const SYNTAX_SHOWN: usize = 20;

/// Files above this size are not parsed again after a syntax error.
const MENDED: usize = 1 << 20;

const SYNTAX_HINT: &str = "keys are `key = value`, strings stand in \"quotes\", tables begin with `[name]`";

/// One file, parsed; or its text without the lines that are not TOML, to be parsed.
pub struct Sheet<'s> {
    base: usize,
    text: Cow<'s, str>,
    parsed: Option<DeTable<'s>>,
}

/// All files as one table.
pub struct Tree<'s> {
    /// The merged table.
    pub root: DeTable<'s>,
    /// Whether every file could be parsed.
    pub whole: bool,
}

/// Parses every file and reports its syntax errors. The parser gives up at some of them, so their lines are blanked,
/// which moves nothing, until it reaches the end.
pub fn sheets<'s>(source: &'s Source, places: &SourceMap, findings: &mut Findings<'_>) -> Vec<Sheet<'s>> {
    // A text that ends in blanks is cut before them: ten megabytes of them would otherwise be as many tokens.
    let texts = source.files.iter().map(|file| file.text.trim_ascii_end()).enumerate();
    let written = texts.filter(|(_, text)| !text.is_empty());
    written.map(|(index, text)| sheet(places.base(index), text, findings)).collect()
}

fn sheet<'s>(base: usize, text: &'s str, findings: &mut Findings<'_>) -> Sheet<'s> {
    let mut sheet = Sheet { base, text: Cow::Borrowed(text), parsed: None };
    let (table, mut errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        sheet.parsed = Some(table.into_inner());
        return sheet;
    }
    let mut shown = 0;
    while shown <= SYNTAX_SHOWN && !errors.is_empty() {
        let mut lines = Vec::new();
        for error in &errors {
            let span = error.span().unwrap_or_default();
            let start = sheet.text.floor_char_boundary(span.start.min(text.len()));
            let line = sheet.text[..start].rfind('\n').map_or(0, |at| at + 1);
            shown += 1;
            match shown.cmp(&(SYNTAX_SHOWN + 1)) {
                Ordering::Less => {
                    let message = format!("this is not TOML: {}", error.message());
                    findings.at(&(base + span.start..base + span.end), message, SYNTAX_HINT);
                }
                Ordering::Equal => {
                    findings.at(&(base + start..base + start), "this is not TOML, nor is more below", SYNTAX_HINT)
                }
                Ordering::Greater => break,
            }
            lines.push(line);
        }
        if text.len() > MENDED || !blank_lines(sheet.text.to_mut(), lines) {
            break;
        }
        errors = DeTable::parse_recoverable(&sheet.text).1;
    }
    sheet
}

/// Blanks the lines that start at these offsets; false where nothing was left to blank.
fn blank_lines(text: &mut String, lines: Vec<usize>) -> bool {
    let mut blanked = false;
    for start in lines {
        let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        if !text[start..end].trim_ascii().is_empty() {
            // Every byte becomes a blank, so that the rest keeps its offset.
            text.replace_range(start..end, &" ".repeat(end - start));
            blanked = true;
        }
    }
    blanked
}

/// Merges the sheets into one tree.
pub fn tree<'t>(sheets: &'t mut [Sheet<'_>], places: &SourceMap, findings: &mut Findings<'_>) -> Tree<'t> {
    let mut tree = Tree { root: DeTable::new(), whole: true };
    for Sheet { base, text, parsed } in sheets {
        tree.whole &= parsed.is_some();
        let table = parsed.take().unwrap_or_else(|| DeTable::parse_recoverable(text).0.into_inner());
        merge(&mut tree.root, Shift { base: *base, text }.table(table), places, findings);
    }
    tree
}

/// Moves the spans of one file to global offsets.
struct Shift<'t> {
    base: usize,
    text: &'t str,
}

impl Shift<'_> {
    fn table<'s>(&self, table: DeTable<'s>) -> DeTable<'s> {
        let entry = |(key, value): (Spanned<DeString<'s>>, Spanned<DeValue<'s>>)| {
            let span = self.span(&key.span());
            let value = self.value(value, &span);
            (Spanned::new(span, key.into_inner()), value)
        };
        table.into_iter().map(entry).collect()
    }

    fn value<'s>(&self, value: Spanned<DeValue<'s>>, key: &Span) -> Spanned<DeValue<'s>> {
        let written = value.span();
        let mut span = self.span(&written);
        let value = match value.into_inner() {
            DeValue::Table(table) => {
                // A table that only dotted keys imply has no place of its own: its key's place is the best one.
                if !self.text.get(written).is_some_and(|text| text.starts_with(['[', '{'])) {
                    span = key.clone();
                }
                DeValue::Table(self.table(table))
            }
            DeValue::Array(array) => DeValue::Array(array.into_iter().map(|item| self.value(item, key)).collect()),
            scalar => scalar,
        };
        Spanned::new(span, value)
    }

    fn span(&self, span: &Range<usize>) -> Span {
        self.base + span.start..self.base + span.end
    }
}

fn merge<'s>(into: &mut DeTable<'s>, from: DeTable<'s>, places: &SourceMap, findings: &mut Findings<'_>) {
    for (key, value) in from {
        let Some((first, present)) = into.remove_entry(key.get_ref().as_ref()) else {
            into.insert(key, value);
            continue;
        };
        let (span, second) = (present.span(), value.span());
        let merged = match (present.into_inner(), value.into_inner()) {
            (DeValue::Table(mut present), DeValue::Table(more)) => {
                merge(&mut present, more, places, findings);
                DeValue::Table(present)
            }
            (DeValue::Array(present), DeValue::Array(more))
                if of_tables(&present, &span, places) && of_tables(&more, &second, places) =>
            {
                DeValue::Array(present.into_iter().chain(more).collect::<DeArray<'s>>())
            }
            (present, _) => {
                let place = places.place(&first.span());
                let message = format!("`{}` is set twice", key.get_ref());
                findings.at(&key.span(), message, format!("it is also set at {}:{}; keep one", place.file, place.line));
                present
            }
        };
        into.insert(first, Spanned::new(span, merged));
    }
}

/// Whether an array was written as `[[name]]`: then each of its tables has its own header.
fn of_tables(array: &DeArray<'_>, span: &Span, places: &SourceMap) -> bool {
    !array.is_empty() && array.iter().all(|item| item.get_ref().is_table()) && places.place(span).text.starts_with("[[")
}
