//! Exports of the books: CSV with one line for each entry, and a journal for hledger.
//!
//! Both follow the order of the books up to the end that they see first. They are written as they are read: only a page
//! is in memory, and no view of the store stays open while the reader of the output works. A transaction with entries
//! changes only its state, which is shown as it was at that end. Numbers of orders and payments are written as stored;
//! payers do not occur.

mod hledger;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::{self, Write};

use uuid::Uuid;

use super::query::{self, views};
use super::rows::{Entry, Transaction, Value};
use super::store::{Reader, StoreError};
use super::stored_enum::{Side, StoredEnum};

/// Rows read at once.
const PAGE: i64 = 1000;

/// The format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One line for each entry
    Csv,
    /// A journal for hledger
    Hledger,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The books could not be read.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The output could not be written.
    #[error("the export cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// Writes all books to `out`.
pub fn export(reader: &mut dyn Reader, format: Format, out: &mut dyn Write) -> Result<(), ExportError> {
    let (end, _) = query::head(reader)?;
    match format {
        Format::Csv => csv(reader, end, out)?,
        Format::Hledger => hledger::write(reader, end, out)?,
    }
    Ok(out.flush()?)
}

const COLUMNS: [&str; 12] = [
    "sequence",
    "transaction_id",
    "recorded_at",
    "kind",
    "merchant",
    "channel",
    "out_trade_no",
    "channel_txn_no",
    "account",
    "debit_minor",
    "credit_minor",
    "currency",
];

fn csv(reader: &mut dyn Reader, end: i64, out: &mut dyn Write) -> Result<(), ExportError> {
    let mut lines = csv::Writer::from_writer(out);
    lines.write_record(COLUMNS).map_err(io::Error::from)?;
    pages(reader, end, |reader, entries: Vec<Entry>| {
        let transactions = transactions(reader, entries.iter().map(|entry| entry.transaction_id))?;
        for entry in entries {
            let of = transactions.get(&entry.transaction_id).ok_or_else(|| query::unreadable("entries"))?;
            let amount = entry.amount_minor.to_string();
            let (debit, credit) = match entry.side {
                Side::Debit => (&*amount, "0"),
                Side::Credit => ("0", &*amount),
            };
            let record = [
                &entry.seq.to_string(),
                &entry.transaction_id.to_string(),
                &views::time(entry.recorded_at),
                of.kind.word(),
                &of.merchant,
                &of.channel,
                of.out_trade_no.as_deref().unwrap_or_default(),
                of.channel_txn_no.as_deref().unwrap_or_default(),
                &entry.account,
                debit,
                credit,
                entry.currency.code(),
            ];
            lines.write_record(record).map_err(io::Error::from)?;
        }
        Ok(())
    })?;
    Ok(lines.flush()?)
}

/// Reads rows in the order of the books up to `end`, a page at a time.
fn pages<T: super::rows::Typed>(
    reader: &mut dyn Reader,
    end: i64,
    mut take: impl FnMut(&mut dyn Reader, Vec<T>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let mut after = 0;
    loop {
        let tail = " WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3";
        let page: Vec<T> = query::rows(reader, tail, &[Value::Int(after), Value::Int(end), Value::Int(PAGE)])?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.row().seq;
        take(reader, page)?;
    }
}

/// Transactions by id.
fn transactions(
    reader: &mut dyn Reader,
    ids: impl Iterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Transaction>, StoreError> {
    let (tail, values) = query::among("id", ids, PAGE as usize);
    let found: Vec<Transaction> = query::rows(reader, &tail, &values)?;
    Ok(found.into_iter().map(|transaction| (transaction.id, transaction)).collect())
}
