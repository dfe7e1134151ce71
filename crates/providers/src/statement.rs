//! Providers' statements of a day, read row by row in bounded memory.
//!
//! | module | reads |
//! |---|---|
//! | [`alipay`] | 业务明细: a zip of GBK CSVs, or the CSV; summary lines begin with `#` |
//! | [`wechatpay`] | the bill of trades: each cell behind a back-tick, plain or gzip; its totals end it |
//! | [`stripe`] | the itemised balance-change report, and exports of balance history |
//! | [`generic`] | a CSV whose header names what it has |
//! | [`lines`] | the lines of a file, decompressed and decoded |
//! | [`cells`] | cells by the names of their columns, and what they say |
//!
//! Columns are found by their names, in any order. Money is read exactly. A file that was cut is an error wherever the
//! provider ends its files in a way that shows it. Layouts: the providers' documentation of their bills.

pub mod alipay;
pub mod cells;
pub mod generic;
pub mod lines;
pub mod stripe;
pub mod wechatpay;

use std::io::{Read, Seek};

use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use rust_decimal::Decimal;

use crate::Provider;
use base::units::Currency;

/// The kind of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowKind {
    /// A payment.
    Payment,
    /// A refund.
    Refund,
}

/// What the provider says became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowStatus {
    /// It went through.
    Succeeded,
    /// It did not.
    Failed,
    /// It is not decided yet.
    Pending,
}

/// A row of a statement.
#[derive(Clone, Debug, PartialEq)]
pub struct StatementRow {
    /// Its line in the file, from 1.
    pub line: u64,
    /// Its kind.
    pub kind: RowKind,
    /// The provider's number, as callbacks have it.
    pub number: String,
    /// Of a refund: the provider's number of its payment, if the row has it.
    pub payment: Option<String>,
    /// The merchant's number of the order.
    pub out_trade_no: Option<String>,
    /// The merchant's number of the refund.
    pub out_refund_no: Option<String>,
    /// The amount in the provider's minor units, above 0.
    pub amount_minor: i64,
    /// The currency of the amount.
    pub currency: Currency,
    /// What the provider kept, in minor units and fractions of them; below 0 where it gave something back.
    pub fee_minor: Option<Decimal>,
    /// What became of it.
    pub status: RowStatus,
    /// When it was, in milliseconds since 1970.
    pub at_ms: Option<i64>,
}

/// Why a statement is not read.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// The file cannot be read, decompressed or decoded.
    #[error("the file cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// A line is not as it should be.
    #[error("line {line}: {what}")]
    Line {
        /// The line, from 1.
        line: u64,
        /// What is wrong, and what it should be.
        what: String,
    },
    /// It is no statement of this provider, or not all of it.
    #[error("{0}")]
    Format(String),
}

/// What a whole file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Its payments and refunds.
    pub rows: u64,
    /// The day that the file names, in the provider's time zone.
    pub day: Option<Date>,
}

/// Reads all rows in their order; `each` may end it with an error of its own. The file is read from where it stands.
pub fn read<E: From<StatementError>>(
    provider: &Provider,
    file: impl Read + Seek,
    mut each: impl FnMut(StatementRow) -> Result<(), E>,
) -> Result<Summary, E> {
    let mut rows = 0;
    let mut counted = |row| {
        rows += 1;
        each(row)
    };
    let day = match provider.name {
        "alipay" => alipay::read(file, &mut counted)?,
        "wechatpay" => wechatpay::read(file, &mut counted)?,
        "stripe" => stripe::read(provider, file, &mut counted)?,
        _ => generic::read(provider, file, &mut counted)?,
    };
    Ok(Summary { rows, day })
}

/// The time zone in which a provider's days begin: that of Shanghai, which has no summer time, or UTC.
pub fn zone(provider: &Provider) -> TimeZone {
    if matches!(provider.name, "alipay" | "wechatpay") { shanghai() } else { TimeZone::UTC }
}

fn shanghai() -> TimeZone {
    TimeZone::fixed(Offset::constant(8))
}

#[cfg(test)]
mod tests;
