//! Parses the files and merges them into one tree, whose spans are global offsets.
//!
//! Tables merge key by key, arrays of tables append, and a key set twice is a finding that names both places; the first
//! value stays. Parsing goes on after a syntax error, so that all of them are found at once. A file of nothing but white
//! space is not parsed at all: ten megabytes of it must cost nothing.

use std::ops::Range;

use serde_spanned::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use crate::config::findings::Findings;
use crate::config::places::{Places, Span};
use crate::config::source::Source;

/// Syntax errors of one file that are shown: after a while each is only the echo of the ones before.
const SYNTAX_SHOWN: usize = 20;

/// All files as one table.
pub struct Tree<'s> {
    /// The merged table.
    pub root: DeTable<'s>,
    /// Whether every file could be parsed.
    pub whole: bool,
}

/// Reads the files of `source` into one tree.
pub fn tree<'s>(source: &'s Source, places: &Places, findings: &mut Findings<'_>) -> Tree<'s> {
    let mut root = DeTable::new();
    for (index, file) in source.files.iter().enumerate() {
        if file.text.bytes().all(|byte| byte.is_ascii_whitespace()) && !file.text.contains('\r') {
            continue;
        }
        let (table, errors) = DeTable::parse_recoverable(&file.text);
        let base = places.base(index);
        for error in errors.iter().take(SYNTAX_SHOWN) {
            let span = error.span().unwrap_or_default();
            findings.at(
                &(base + span.start..base + span.end),
                format!("this is not TOML: {}", error.message()),
                SYNTAX_HINT,
            );
        }
        if let Some(error) = errors.get(SYNTAX_SHOWN) {
            let start = base + error.span().unwrap_or_default().start;
            let message = format!("this is not TOML, here and in {} more places", errors.len() - SYNTAX_SHOWN);
            findings.at(&(start..start), message, SYNTAX_HINT);
        }
        let shift = Shift { base, text: &file.text };
        merge(&mut root, shift.table(table.into_inner()), places, findings);
    }
    let whole = findings.count() == 0;
    Tree { root, whole }
}

const SYNTAX_HINT: &str = "keys are `key = value`, strings stand in \"quotes\", tables begin with `[name]`";

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
                // A table that only dotted keys imply has no place of its own: its key's is the best one.
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

fn merge<'s>(into: &mut DeTable<'s>, from: DeTable<'s>, places: &Places, findings: &mut Findings<'_>) {
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

/// Whether an array was written as `[[name]]`: then each of its tables has a header of its own.
fn of_tables(array: &DeArray<'_>, span: &Span, places: &Places) -> bool {
    !array.is_empty() && array.iter().all(|item| item.get_ref().is_table()) && places.place(span).text.starts_with("[[")
}
