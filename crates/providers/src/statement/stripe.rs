//! Stripe's itemised balance-change report, and exports of balance history that name payment intents.
//!
//! Amounts are in major units; those of refunds are below 0.

use std::io::{Read, Seek};

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::cells::{Cells, Columns};
use super::lines::Lines;
use super::{RowKind, RowStatus, StatementError, StatementRow};
use crate::Provider;

/// Reads all rows. The file names no day.
pub fn read<E: From<StatementError>>(
    provider: &Provider,
    file: impl Read + Seek,
    each: &mut impl FnMut(StatementRow) -> Result<(), E>,
) -> Result<Option<Date>, E> {
    let mut lines = Lines::new(file, encoding_rs::UTF_8, true);
    let columns = lines.header()?;
    let places = places(&columns)?;
    while let Some((line, record)) = lines.record()? {
        let cells = Cells::of(line, &record, &columns)?;
        if let Some(row) = row(&cells, &places, (provider, line))? {
            each(row)?;
        }
    }
    Ok(None)
}

struct Places {
    kind: usize,
    amount: usize,
    fee: Option<usize>,
    currency: usize,
    at: Option<usize>,
    source: usize,
    intent: Option<usize>,
    charge: Option<usize>,
    trade: Option<usize>,
    refund: Option<usize>,
}

fn places(columns: &Columns) -> Result<Places, StatementError> {
    Ok(Places {
        kind: columns.needed(&["reporting_category", "Type", "type"])?,
        amount: columns.needed(&["gross", "Amount", "amount"])?,
        fee: columns.place(&["fee", "Fee"]),
        currency: columns.needed(&["currency", "Currency"])?,
        at: columns.place(&["created_utc", "created", "Created (UTC)", "Created date (UTC)"]),
        source: columns.needed(&["source_id", "Source", "source"])?,
        // The books know a payment by it.
        intent: Some(columns.needed(&["payment_intent_id", "PaymentIntent ID", "payment_intent"])?),
        charge: columns.place(&["charge_id", "charge"]),
        trade: columns.place(&["payment_metadata[out_trade_no]", "out_trade_no (metadata)"]),
        refund: columns.place(&["refund_metadata[out_refund_no]", "out_refund_no (metadata)"]),
    })
}

fn row(
    cells: &Cells<'_>,
    places: &Places,
    (provider, line): (&Provider, u64),
) -> Result<Option<StatementRow>, StatementError> {
    let (kind, status) = match cells.text(Some(places.kind)) {
        "charge" | "payment" => (RowKind::Payment, RowStatus::Succeeded),
        "refund" | "payment_refund" => (RowKind::Refund, RowStatus::Succeeded),
        "refund_failure" | "payment_failure_refund" => (RowKind::Refund, RowStatus::Failed),
        // Payouts, disputes and Stripe's own fees are not payments.
        _ => return Ok(None),
    };
    let payment = cells.some(places.intent).or_else(|| cells.some(places.charge));
    let (number, payment) = match kind {
        RowKind::Payment => (payment.map_or_else(|| cells.number(places.source), Ok)?, None),
        RowKind::Refund => (cells.number(places.source)?, payment),
    };
    let currency = cells.currency(places.currency)?;
    let digits = (provider.digits)(currency);
    Ok(Some(StatementRow {
        line,
        kind,
        number,
        payment,
        out_trade_no: cells.some(places.trade),
        out_refund_no: cells.some(places.refund),
        amount_minor: cells.amount(places.amount, digits)?,
        currency,
        fee_minor: cells.fraction(places.fee, digits)?,
        status,
        at_ms: cells.time(places.at, &TimeZone::UTC)?,
    }))
}
