//! WeChat Pay's bill of trades: ALL, SUCCESS or REFUND.
//!
//! Fees have five decimals of a yuan. Two lines of totals end the file.

use std::io::{Read, Seek, SeekFrom};

use csv::StringRecord;
use flate2::read::MultiGzDecoder;
use jiff::civil::Date;

use super::cells::{Cells, Columns};
use super::lines::Lines;
use super::{RowKind, RowStatus, StatementError, StatementRow, shanghai};

/// The first cell of the totals' header.
const TOTALS: &str = "总交易单数";

/// Reads all rows. The file names no day.
pub fn read<E: From<StatementError>>(
    mut file: impl Read + Seek,
    each: &mut impl FnMut(StatementRow) -> Result<(), E>,
) -> Result<Option<Date>, E> {
    let io = StatementError::Io;
    let begin = file.stream_position().map_err(io)?;
    let mut magic = vec![];
    (&mut file).take(2).read_to_end(&mut magic).map_err(io)?;
    file.seek(SeekFrom::Start(begin)).map_err(io)?;
    let file: Box<dyn Read + '_> =
        if magic == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut lines = Lines::new(file, encoding_rs::UTF_8, false);
    let columns = lines.header()?;
    let places = places(&columns)?;
    while let Some((line, record)) = lines.record()? {
        if record.get(0).is_some_and(|cell| cell.trim_start_matches('`').starts_with(TOTALS)) {
            if lines.record()?.is_some_and(|(_, totals)| totals.len() >= record.len()) {
                lines.end()?;
                return Ok(None);
            }
            break;
        }
        let record = joined(&record);
        let cells = Cells::of(line, &record, &columns)?;
        each(row(&cells, &places, line)?)?;
    }
    Err(StatementError::Format("the file has no totals (总交易单数) at its end: it is cut".to_owned()).into())
}

/// A cell without a back-tick is what a comma has cut off the one before.
fn joined(record: &StringRecord) -> StringRecord {
    let mut cells: Vec<String> = vec![];
    for cell in record {
        match cells.last_mut().filter(|_| !cell.starts_with('`')) {
            Some(before) => {
                before.push(',');
                before.push_str(cell);
            }
            None => cells.push(cell.to_owned()),
        }
    }
    StringRecord::from(cells)
}

struct Places {
    at: usize,
    state: Option<usize>,
    number: usize,
    trade: usize,
    currency: Option<usize>,
    amount: Option<usize>,
    refund_number: Option<usize>,
    refund_trade: Option<usize>,
    /// What was asked for, and what was paid of it in money.
    refund_amounts: [Option<usize>; 2],
    refund_state: Option<usize>,
    fee: Option<usize>,
}

fn places(columns: &Columns) -> Result<Places, StatementError> {
    Ok(Places {
        at: columns.needed(&["交易时间"])?,
        state: columns.place(&["交易状态"]),
        number: columns.needed(&["微信订单号"])?,
        trade: columns.needed(&["商户订单号"])?,
        currency: columns.place(&["货币种类"]),
        amount: columns.place(&["订单金额", "应结订单金额", "总金额"]),
        refund_number: columns.place(&["微信退款单号"]),
        refund_trade: columns.place(&["商户退款单号"]),
        refund_amounts: [columns.place(&["申请退款金额"]), columns.place(&["退款金额"])],
        refund_state: columns.place(&["退款状态"]),
        fee: columns.place(&["手续费"]),
    })
}

fn row(cells: &Cells<'_>, places: &Places, line: u64) -> Result<StatementRow, StatementError> {
    let state = cells.text(places.state);
    let refund = places.refund_number.filter(|_| state != "SUCCESS").and_then(|place| cells.some(Some(place)));
    if refund.is_none() && !matches!(state, "SUCCESS" | "") {
        return Err(cells.wrong(format!("`交易状态` is \"{state}\", and there is no 微信退款单号")));
    }
    let (payment, trade) = (cells.number(places.number)?, cells.some(Some(places.trade)));
    let amount = |place: Option<usize>| {
        let place = place.ok_or_else(|| cells.wrong("no column with an amount"))?;
        cells.amount(place, 2)
    };
    let [asked, _] = places.refund_amounts;
    let asked = asked.filter(|place| !matches!(cells.text(Some(*place)), "" | "0" | "0.00"));
    let currency = places.currency.map_or(Ok(base::units::Currency::CNY), |place| cells.currency(place))?;
    let fee_minor = cells.fraction(places.fee, 2)?;
    let at_ms = cells.time(Some(places.at), &shanghai())?;
    Ok(match refund {
        None => StatementRow {
            line,
            kind: RowKind::Payment,
            number: payment,
            payment: None,
            out_trade_no: trade,
            out_refund_no: None,
            amount_minor: amount(places.amount)?,
            currency,
            fee_minor,
            status: RowStatus::Succeeded,
            at_ms,
        },
        Some(number) => StatementRow {
            line,
            kind: RowKind::Refund,
            number,
            payment: Some(payment),
            out_trade_no: trade,
            out_refund_no: cells.some(places.refund_trade),
            amount_minor: amount(asked.or(places.refund_amounts[1]))?,
            currency,
            fee_minor,
            status: match cells.text(places.refund_state) {
                "SUCCESS" | "" => RowStatus::Succeeded,
                "PROCESSING" => RowStatus::Pending,
                "FAIL" | "FAILED" | "CHANGE" | "CLOSED" | "ABNORMAL" => RowStatus::Failed,
                other => return Err(cells.wrong(format!("`退款状态` is \"{other}\", which is none that is known"))),
            },
            at_ms,
        },
    })
}
