//! Alipay's 业务明细.
//!
//! In the zip lie the details and their sums (汇总), whose names are GBK, too. Fees that were charged are below 0 in the
//! file.

use std::io::{Read, Seek, SeekFrom};

use jiff::civil::Date;

use super::cells::{Cells, Columns};
use super::lines::{Lines, encoding_of};
use super::{RowKind, RowStatus, StatementError, StatementRow, shanghai};
use base::units::Currency;

/// Bytes by which the encoding is told.
const FIRST: u64 = 64 << 10;
/// How the details end.
const ENDED: &str = "业务明细列表结束";

/// Reads all rows; returns the day that the file names.
pub fn read<E: From<StatementError>>(
    mut file: impl Read + Seek,
    each: &mut impl FnMut(StatementRow) -> Result<(), E>,
) -> Result<Option<Date>, E> {
    let io = StatementError::Io;
    let begin = file.stream_position().map_err(io)?;
    let first = first(&mut file).map_err(io)?;
    file.seek(SeekFrom::Start(begin)).map_err(io)?;
    if !first.starts_with(b"PK\x03\x04") {
        return details(file, &first, each);
    }
    let broken = |e: zip::result::ZipError| StatementError::Format(format!("the zip cannot be read: {e}"));
    let mut archive = zip::ZipArchive::new(file).map_err(broken)?;
    for at in 0..archive.len() {
        let is_sums = archive.by_index(at).map(|entry| is_sums(entry.name_raw())).map_err(broken)?;
        if is_sums {
            continue;
        }
        let first = super::alipay::first(&mut archive.by_index(at).map_err(broken)?).map_err(io)?;
        return details(archive.by_index(at).map_err(broken)?, &first, each);
    }
    Err(StatementError::Format("the zip has no file of details (业务明细)".to_owned()).into())
}

fn first(file: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut first = vec![];
    file.take(FIRST).read_to_end(&mut first)?;
    Ok(first)
}

/// Whether a name, in GBK or UTF-8, is that of the sums, or of a folder.
fn is_sums(name: &[u8]) -> bool {
    let gbk = encoding_rs::GBK.decode_without_bom_handling(name).0;
    name.ends_with(b"/") || gbk.contains("汇总") || String::from_utf8_lossy(name).contains("汇总")
}

struct Places {
    kind: usize,
    number: usize,
    trade: Option<usize>,
    refund: usize,
    amount: usize,
    fee: Option<usize>,
    at: Option<usize>,
}

fn details<E: From<StatementError>>(
    file: impl Read,
    first: &[u8],
    each: &mut impl FnMut(StatementRow) -> Result<(), E>,
) -> Result<Option<Date>, E> {
    let mut lines = Lines::new(file, encoding_of(first), false);
    let (mut day, mut header, mut has_ended) = (None, None, false);
    while let Some((line, record)) = lines.record()? {
        let begin = record.get(0).unwrap_or_default();
        if begin.starts_with('#') {
            has_ended |= begin.contains(ENDED) && header.is_some();
            day = day.or_else(|| begin.contains("起始日期").then(|| named_day(begin)).flatten());
            continue;
        }
        if has_ended {
            let what = "it goes on after its end: are these two files?".to_owned();
            return Err(StatementError::Line { line, what }.into());
        }
        let Some((columns, places)) = &header else {
            header = Some(columns(line, &record)?);
            continue;
        };
        if let Some(row) = row(&Cells::of(line, &record, columns)?, places, line)? {
            each(row)?;
        }
    }
    if has_ended {
        return Ok(day);
    }
    let what = "the file has no end (业务明细列表结束): it is cut, or no statement of Alipay";
    Err(StatementError::Format(what.to_owned()).into())
}

fn columns(line: u64, record: &csv::StringRecord) -> Result<(Columns, Places), StatementError> {
    let columns = Columns::of(line, record);
    let places = Places {
        kind: columns.needed(&["业务类型"])?,
        number: columns.needed(&["支付宝交易号"])?,
        trade: columns.place(&["商户订单号"]),
        refund: columns.needed(&["退款批次号/请求号", "退款批次号", "退款请求号"])?,
        amount: columns.needed(&["订单金额(元)", "订单金额"])?,
        fee: columns.place(&["服务费(元)", "服务费"]),
        at: columns.place(&["完成时间", "创建时间"]),
    };
    Ok((columns, places))
}

/// The first day of a line such as `#起始日期：[2026年11月30日 00:00:00]`.
fn named_day(line: &str) -> Option<Date> {
    let numbers: Vec<i16> =
        line.split(|letter: char| !letter.is_ascii_digit()).filter_map(|part| part.parse().ok()).take(3).collect();
    let [year, month, day] = <[i16; 3]>::try_from(numbers).ok()?;
    Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()
}

fn row(cells: &Cells<'_>, places: &Places, line: u64) -> Result<Option<StatementRow>, StatementError> {
    let kind = match cells.text(Some(places.kind)) {
        "交易" => RowKind::Payment,
        "退款" => RowKind::Refund,
        // Transfers, fees and the like are not what callbacks tell of.
        _ => return Ok(None),
    };
    let trade_no = cells.number(places.number)?;
    let refund = cells.some(Some(places.refund)).filter(|_| kind == RowKind::Refund);
    let (number, payment) = match kind {
        RowKind::Payment => (trade_no, None),
        RowKind::Refund => (refund.clone().unwrap_or_else(|| trade_no.clone()), Some(trade_no)),
    };
    Ok(Some(StatementRow {
        line,
        kind,
        number,
        payment,
        out_trade_no: cells.some(places.trade),
        out_refund_no: refund,
        amount_minor: cells.amount(places.amount, 2)?,
        currency: Currency::CNY,
        fee_minor: cells.fraction(places.fee, 2)?.map(|fee| -fee),
        status: RowStatus::Succeeded,
        at_ms: cells.time(places.at, &shanghai())?,
    }))
}
