//! The cells of a record by the names of their columns, and what they say.

use csv::StringRecord;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use super::StatementError;
use crate::event::AMOUNT_MAX;
use base::units::Currency;

/// The most characters of a cell that an error shows.
const SHOWN: usize = 40;

/// The columns of a file, by name.
#[derive(Debug)]
pub struct Columns {
    names: Vec<String>,
    line: u64,
}

/// A name as it is compared: brackets of either width are one.
fn plain(name: &str) -> String {
    name.trim().trim_start_matches('`').replace('（', "(").replace('）', ")")
}

impl Columns {
    /// The columns that a header names.
    pub fn of(line: u64, header: &StringRecord) -> Columns {
        Columns { names: header.iter().map(plain).collect(), line }
    }

    /// The place of the first column that has one of these names.
    pub fn place(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.names.iter().position(|column| *column == plain(name)))
    }

    /// The place of a column that must be there.
    pub fn needed(&self, names: &[&str]) -> Result<usize, StatementError> {
        let missing = || {
            let what = format!("no column `{}`; there are: {}", names.join("` or `"), self.names.join(", "));
            StatementError::Line { line: self.line, what }
        };
        self.place(names).ok_or_else(missing)
    }

    /// The header's line.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

/// A record that is read.
pub struct Cells<'a> {
    line: u64,
    record: &'a StringRecord,
    columns: &'a Columns,
}

impl<'a> Cells<'a> {
    /// A record with as many cells as there are columns; one more, if empty, comes of a comma at the end.
    pub fn of(line: u64, record: &'a StringRecord, columns: &'a Columns) -> Result<Cells<'a>, StatementError> {
        let (cells, expected) = (record.len(), columns.names.len());
        let ends_empty = cells == expected + 1 && record.get(expected).is_some_and(|cell| cell.trim().is_empty());
        let cells_of = Cells { line, record, columns };
        if cells == expected || ends_empty {
            return Ok(cells_of);
        }
        Err(cells_of.wrong(format!("{cells} cells where there are {expected} columns: the file may be cut")))
    }

    /// An error of this line.
    pub fn wrong(&self, what: impl Into<String>) -> StatementError {
        StatementError::Line { line: self.line, what: what.into() }
    }

    /// The text of a cell, without padding and back-tick; empty if there is no such column.
    pub fn text(&self, place: Option<usize>) -> &'a str {
        let cell = place.and_then(|place| self.record.get(place)).unwrap_or_default();
        cell.trim().trim_start_matches('`').trim()
    }

    /// The text of a cell, if it says something.
    pub fn some(&self, place: Option<usize>) -> Option<String> {
        Some(self.text(place)).filter(|text| !text.is_empty() && *text != "0").map(str::to_owned)
    }

    /// A number that must be there.
    pub fn number(&self, place: usize) -> Result<String, StatementError> {
        self.some(Some(place)).ok_or_else(|| self.bad(place, "a number"))
    }

    fn bad(&self, place: usize, expected: &str) -> StatementError {
        let cell: String = self.text(Some(place)).chars().take(SHOWN).collect();
        let name = self.columns.names.get(place).map_or("", String::as_str);
        self.wrong(format!("`{name}` is \"{cell}\", and should be {expected}"))
    }

    /// A decimal number; none in an empty cell.
    pub fn decimal(&self, place: Option<usize>) -> Result<Option<Decimal>, StatementError> {
        let text = self.text(place);
        let Some(place) = place.filter(|_| !text.is_empty()) else { return Ok(None) };
        // An exponent, a sign in front or a separator is no amount.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
        let exact = Decimal::from_str_exact(text).ok().filter(|_| is_plain);
        exact.map(Some).ok_or_else(|| self.bad(place, "an amount such as 12.34"))
    }

    /// An amount in major units, as minor units and fractions of them.
    pub fn fraction(&self, place: Option<usize>, digits: u32) -> Result<Option<Decimal>, StatementError> {
        let scale = Decimal::from(10_u64.pow(digits));
        let Some(major) = self.decimal(place)? else { return Ok(None) };
        let minor = major.checked_mul(scale).filter(|minor| minor.abs() <= Decimal::from(AMOUNT_MAX));
        let too_much = || self.bad(place.unwrap_or_default(), "at most 2^53 - 1 minor units");
        minor.map(Some).ok_or_else(too_much)
    }

    /// The size of an amount that must be there and above 0, in minor units.
    pub fn amount(&self, place: usize, digits: u32) -> Result<i64, StatementError> {
        let minor = self.fraction(Some(place), digits)?.map(|minor| minor.abs().normalize());
        let minor = minor.filter(|minor| minor.scale() == 0).and_then(|minor| i64::try_from(minor).ok());
        let minor = minor.filter(|minor| (1..=AMOUNT_MAX).contains(minor));
        minor.ok_or_else(|| self.bad(place, "an amount above 0, without a fraction of a minor unit"))
    }

    /// A currency.
    pub fn currency(&self, place: usize) -> Result<Currency, StatementError> {
        let code = self.text(Some(place)).to_ascii_uppercase();
        Currency::parse(&code).ok_or_else(|| self.bad(place, "a code of ISO 4217"))
    }

    /// A time in a zone (`2026-11-21 11:04:05`, also with `/`, `T` or an offset of its own), in milliseconds since 1970;
    /// none in an empty cell.
    pub fn time(&self, place: Option<usize>, zone: &TimeZone) -> Result<Option<i64>, StatementError> {
        let text = self.text(place);
        let Some(place) = place.filter(|_| !text.is_empty()) else { return Ok(None) };
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            return Ok(Some(at.as_millisecond()));
        }
        let text = text.replace('/', "-");
        let text = if text.matches(':').count() == 1 { format!("{text}:00") } else { text };
        let at = text.parse::<DateTime>().ok().and_then(|at| at.to_zoned(zone.clone()).ok());
        at.map(|at| Some(at.timestamp().as_millisecond())).ok_or_else(|| self.bad(place, "a time"))
    }
}
