//! A CSV whose header names what it has, for providers without a form of their own.

use std::io::{Read, Seek};

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::cells::Cells;
use super::lines::Lines;
use super::{RowKind, RowStatus, StatementError, StatementRow};
use crate::Provider;

/// All columns.
const KNOWN: [&str; 12] = [
    "number",
    "kind",
    "amount_minor",
    "amount",
    "currency",
    "fee_minor",
    "fee",
    "out_trade_no",
    "out_refund_no",
    "payment",
    "status",
    "at",
];

/// Reads all rows. The file names no day.
pub fn read<E: From<StatementError>>(
    provider: &Provider,
    file: impl Read + Seek,
    each: &mut impl FnMut(StatementRow) -> Result<(), E>,
) -> Result<Option<Date>, E> {
    let mut lines = Lines::new(file, encoding_rs::UTF_8, true);
    let columns = lines.header()?;
    if let Some(other) = columns.names().find(|name| !KNOWN.contains(name)) {
        let what = format!("unknown column `{other}`; known are {}", KNOWN.join(", "));
        return Err(StatementError::Line { line: columns.line(), what }.into());
    }
    let number = columns.needed(&["number"])?;
    columns.needed(&["kind"])?;
    let amount = columns.needed(&["amount_minor", "amount"])?;
    let currency = columns.needed(&["currency"])?;
    let is_minor = columns.place(&["amount_minor"]).is_some();
    while let Some((line, record)) = lines.record()? {
        let cells = Cells::of(line, &record, &columns)?;
        let text = |name: &str| cells.text(columns.place(&[name])).to_ascii_lowercase();
        let kind = match text("kind").trim_end_matches(".succeeded") {
            "payment" => RowKind::Payment,
            "refund" => RowKind::Refund,
            other => return Err(cells.wrong(format!("`kind` is \"{other}\", and should be payment or refund")).into()),
        };
        let status = match &*text("status") {
            "" | "succeeded" | "success" => RowStatus::Succeeded,
            "failed" | "fail" | "closed" => RowStatus::Failed,
            "pending" | "processing" => RowStatus::Pending,
            other => {
                let what = format!("`status` is \"{other}\", and should be succeeded, failed or pending");
                return Err(cells.wrong(what).into());
            }
        };
        if cells.text(Some(amount)).starts_with('-') {
            return Err(cells.wrong("an amount is above 0; `kind` says which way it went").into());
        }
        let currency = cells.currency(currency)?;
        let digits = (provider.digits)(currency);
        let fee_minor = match columns.place(&["fee_minor"]) {
            Some(place) => cells.decimal(Some(place))?,
            None => cells.fraction(columns.place(&["fee"]), digits)?,
        };
        each(StatementRow {
            line,
            kind,
            number: cells.number(number)?,
            payment: cells.some(columns.place(&["payment"])),
            out_trade_no: cells.some(columns.place(&["out_trade_no"])),
            out_refund_no: cells.some(columns.place(&["out_refund_no"])),
            amount_minor: cells.amount(amount, if is_minor { 0 } else { digits })?,
            currency,
            fee_minor,
            status,
            at_ms: cells.time(columns.place(&["at"]), &TimeZone::UTC)?,
        })?;
    }
    Ok(None)
}
