//! A statement, streamed past the books, and the books of its day past the statement.
//!
//! Transactions are found by the provider's number, and those of the day by the provider's time, a page at a time, each
//! in a view of its own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read, Seek, SeekFrom};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use ring::digest::{SHA256, digest};
use rust_decimal::{Decimal, RoundingStrategy};

use super::compare::{self, Booked, Statement};
use super::{Compared, FOUND_MAX, Found};
use crate::query;
use crate::rows::{Transaction, Type, Value};
use crate::store::{Reader, StoreError};
use crate::stored_enum::{AnomalyKind, TxState};
use base::units::Currency;
use config::model::ledger::Channel;
use providers::event::{AMOUNT_MAX, Kind};
use providers::statement::{self, RowKind, RowStatus, StatementError, StatementRow, Summary};

/// Rows that are looked up at once.
const PAGE: usize = 200;
/// Transactions of the books that are read at once.
const BOOKS: i64 = 1_000;

/// Why a statement is not compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The file is not as it should be.
    #[error("{0}")]
    Statement(#[from] StatementError),
    /// The books cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// It is another day's.
    #[error("{0}")]
    Day(String),
    /// Too much differs.
    #[error("{0}")]
    TooMany(String),
}

/// Reads a whole statement, without the books: its day, as it was asked for or as the file shows it.
pub fn day(channel: &Channel, mut file: impl Read + Seek, asked: Option<Date>) -> Result<Date, ReconcileError> {
    file.seek(SeekFrom::Start(0)).map_err(StatementError::Io)?;
    let provider = channel.provider.provider;
    let zone = statement::zone(provider);
    let mut days = BTreeMap::<Date, u64>::new();
    let Summary { day, .. } = statement::read::<ReconcileError>(provider, file, |row| {
        if let Some(day) = row.at_ms.map(|ms| date(ms, &zone)) {
            *days.entry(day).or_default() += 1;
        }
        Ok(())
    })?;
    let most = days.iter().max_by_key(|(_, rows)| **rows).map(|(day, _)| *day);
    match (asked, day.or(most)) {
        (Some(asked), Some(stated)) if day.is_some() && asked != stated => {
            Err(ReconcileError::Day(format!("the file is the statement of {stated}, not of {asked}")))
        }
        (Some(asked), Some(stated)) if !days.is_empty() && !days.contains_key(&asked) => {
            Err(ReconcileError::Day(format!("the file has no row of {asked}; most are of {stated}")))
        }
        (Some(asked), _) => Ok(asked),
        (None, Some(stated)) => Ok(stated),
        (None, None) => Err(ReconcileError::Day("the file names no day: say which it is, by `date`".to_owned())),
    }
}

fn date(ms: i64, zone: &TimeZone) -> Date {
    jiff::Timestamp::from_millisecond(ms).unwrap_or_default().to_zoned(zone.clone()).date()
}

/// Compares a statement with the books.
pub fn compare(
    reader: &mut dyn Reader,
    channel: &Channel,
    day: Date,
    mut file: impl Read + Seek,
) -> Result<Compared, ReconcileError> {
    let zone = statement::zone(channel.provider.provider);
    let statement = Statement { channel, day, zone: &zone };
    let mut run = Run {
        reader,
        statement,
        seen: HashSet::new(),
        told: HashSet::new(),
        fees: BTreeMap::new(),
        all: Compared::default(),
    };
    file.seek(SeekFrom::Start(0)).map_err(StatementError::Io)?;
    let mut page = vec![];
    statement::read::<ReconcileError>(channel.provider.provider, file, |row| {
        page.push(row);
        if page.len() < PAGE { Ok(()) } else { run.page(std::mem::take(&mut page)) }
    })?;
    run.page(page)?;
    run.books()?;
    run.all.fees =
        run.fees.into_iter().filter_map(|(code, sum)| Some((Currency::parse(&code)?, rounded(sum)))).collect();
    run.all.fees.retain(|(_, sum)| *sum != 0);
    Ok(run.all)
}

fn rounded(sum: Decimal) -> i64 {
    let whole = sum.round_dp_with_strategy(0, RoundingStrategy::MidpointNearestEven);
    i64::try_from(whole).unwrap_or(AMOUNT_MAX)
}

struct Run<'a> {
    reader: &'a mut dyn Reader,
    statement: Statement<'a>,
    /// Digests of kind, number and payment of the rows so far.
    seen: HashSet<u128>,
    told: HashSet<(AnomalyKind, String)>,
    fees: BTreeMap<String, Decimal>,
    all: Compared,
}

/// The name of a payment or refund among the rows of a statement.
fn name(kind: Kind, number: &str, payment: Option<&str>) -> u128 {
    let payment = payment.filter(|_| kind == Kind::Refund).unwrap_or_default();
    let whole = digest(&SHA256, format!("{kind:?}\0{number}\0{payment}").as_bytes());
    whole.as_ref().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))
}

impl Run<'_> {
    fn page(&mut self, rows: Vec<StatementRow>) -> Result<(), ReconcileError> {
        let known = self.booked(rows.iter().map(|row| row.number.clone()).collect())?;
        for row in rows {
            self.all.rows += 1;
            let kind = compare::kind(&row);
            let is_first = self.seen.insert(name(kind, &row.number, row.payment.as_deref()));
            if row.kind == RowKind::Refund {
                // The books may not know of which payment it is.
                self.seen.insert(name(kind, &row.number, None));
            }
            if !is_first {
                self.tell(
                    AnomalyKind::DuplicateNumber,
                    &row.number,
                    None,
                    format!("twice, again in line {}", row.line),
                )?;
                continue;
            }
            let is_of = |one: &&Booked| compare::is_of(&row, &one.transaction);
            let mut booked = known.get(&row.number).and_then(|all| {
                all.iter().filter(is_of).min_by_key(|one| compare::rank(one.transaction.state)).cloned()
            });
            if booked.is_none() && row.kind == RowKind::Refund {
                booked = self.by_payment(&row)?;
            }
            if let (Some(fee), RowStatus::Succeeded) = (row.fee_minor, row.status) {
                *self.fees.entry(row.currency.code().to_owned()).or_default() += fee;
            }
            let differences = self.statement.differences(&row, booked.as_ref());
            self.all.matched += u64::from(differences.is_empty());
            let id = booked.map(|booked| booked.transaction.id);
            for (kind, detail) in differences {
                self.tell(kind, &row.number, id, detail)?;
            }
        }
        self.reader.pause();
        Ok(())
    }

    fn tell(
        &mut self,
        kind: AnomalyKind,
        number: &str,
        transaction_id: Option<uuid::Uuid>,
        detail: String,
    ) -> Result<(), ReconcileError> {
        if !self.told.insert((kind, number.to_owned())) {
            return Ok(());
        }
        if self.all.found.len() == FOUND_MAX {
            let (channel, day) = (&self.statement.channel.name, self.statement.day);
            return Err(ReconcileError::TooMany(format!(
                "more than {FOUND_MAX} differences: is it the statement of the channel {channel} of {day}? Nothing is written"
            )));
        }
        let detail = format!("{number}: {detail}");
        self.all.found.push(Found { kind, number: number.to_owned(), transaction_id, detail });
        Ok(())
    }

    /// The channel's transactions of these numbers.
    fn booked(&mut self, mut numbers: Vec<String>) -> Result<HashMap<String, Vec<Booked>>, StoreError> {
        numbers.sort_unstable();
        numbers.dedup();
        let Some(last) = numbers.last().cloned() else { return Ok(HashMap::new()) };
        // One text for any number of them, so that an engine prepares it once.
        numbers.resize(PAGE, last);
        let marks: Vec<String> = (1..=PAGE).map(|at| format!("${at}")).collect();
        let tail =
            format!(" WHERE channel_txn_no IN ({}) AND channel || '' = ${} ORDER BY seq", marks.join(", "), PAGE + 1);
        let channel = self.statement.channel.name.to_string();
        let values: Vec<Value> = numbers.into_iter().chain([channel]).map(Value::Text).collect();
        let mut found = HashMap::<String, Vec<Booked>>::new();
        let rows = query::rows::<Transaction>(self.reader, &tail, &values)?;
        let reversed: HashSet<String> = rows
            .iter()
            .filter(|row| row.kind == Kind::RefundReversal && matches!(row.state, TxState::Posted | TxState::Suspense))
            .map(|row| row.key.clone())
            .collect();
        for transaction in rows {
            let is_reversed = transaction.kind == Kind::Refund && reversed.contains(&transaction.key);
            let Some(number) = transaction.channel_txn_no.clone() else { continue };
            found.entry(number).or_default().push(Booked { transaction, is_reversed });
        }
        Ok(found)
    }

    /// A refund that the books have under another number: the only one of its payment and amount.
    fn by_payment(&mut self, row: &StatementRow) -> Result<Option<Booked>, StoreError> {
        let Some(payment) = &row.payment else { return Ok(None) };
        let payments = self.booked(vec![payment.clone()])?.remove(payment).unwrap_or_default();
        let order = payments
            .into_iter()
            .filter(|one| one.transaction.kind == Kind::Payment)
            .find_map(|one| one.transaction.order_id);
        let Some(order) = order else { return Ok(None) };
        let tail = " WHERE order_id = $1 AND payment_txn_no = $2 AND kind = 'refund' ORDER BY seq";
        let values = [crate::rows::Cell::put(&order), Value::Text(payment.clone())];
        let mut rows = query::rows::<Transaction>(self.reader, tail, &values)?;
        rows.retain(|refund| refund.amount_minor == Some(row.amount_minor));
        let Ok([transaction]) = <[Transaction; 1]>::try_from(rows) else { return Ok(None) };
        self.seen.insert(name(transaction.kind, &transaction.id.to_string(), None));
        Ok(Some(Booked { transaction, is_reversed: false }))
    }

    /// What the books have of the day and the statement has not.
    fn books(&mut self) -> Result<(), ReconcileError> {
        let day = self.statement.day;
        let (Some(from), Some(to)) = (self.start(day), day.tomorrow().ok().and_then(|next| self.start(next))) else {
            return Ok(());
        };
        let tail = " WHERE channel = $1 AND occurred_at >= $2 AND occurred_at < $3 AND (occurred_at > $2 OR seq > $4) \
                    AND channel_txn_no IS NOT NULL ORDER BY occurred_at, seq LIMIT $5";
        let (mut after, mut place) = (from, 0);
        loop {
            let channel = Value::Text(self.statement.channel.name.to_string());
            let values = [channel, Value::Int(after), Value::Int(to), Value::Int(place), Value::Int(BOOKS)];
            let rows = query::rows::<Transaction>(self.reader, tail, &values)?;
            let Some(last) = rows.last() else { return Ok(()) };
            (after, place) = (last.occurred_at, last.seq);
            rows.iter().try_for_each(|transaction| self.is_in_statement(transaction))?;
            self.reader.pause();
        }
    }

    fn start(&self, day: Date) -> Option<i64> {
        Some(day.to_zoned(self.statement.zone.clone()).ok()?.timestamp().as_millisecond())
    }

    fn is_in_statement(&mut self, transaction: &Transaction) -> Result<(), ReconcileError> {
        let is_money = matches!(transaction.kind, Kind::Payment | Kind::Refund)
            && matches!(transaction.state, TxState::Posted | TxState::Suspense);
        let Some(number) = transaction.channel_txn_no.as_ref().filter(|_| is_money) else { return Ok(()) };
        // Or it was found under another number.
        let id = transaction.id.to_string();
        let is_seen = [number, &id].iter().any(|number| self.seen.contains(&name(transaction.kind, number, None)));
        if is_seen || self.is_explained(transaction)? {
            return Ok(());
        }
        let amount = transaction.amount_minor.unwrap_or_default();
        let currency = transaction.currency.map(|currency| currency.to_string()).unwrap_or_default();
        let day = self.statement.day;
        let detail = format!("{amount} {currency} of {day} in the books: the statement does not have it");
        self.tell(AnomalyKind::MissingInStatement, number, Some(transaction.id), detail)
    }

    /// Whether it was taken back, or stands in the statement of another day.
    fn is_explained(&mut self, transaction: &Transaction) -> Result<bool, StoreError> {
        let other = "SELECT seq FROM anomalies WHERE transaction_id = $1 AND kind = 'wrong_day' LIMIT 1";
        let id = crate::rows::Cell::put(&transaction.id);
        if !self.reader.select(other, &[id], &[Type::Int])?.is_empty() {
            return Ok(true);
        }
        let Some(number) = &transaction.channel_txn_no else { return Ok(false) };
        let booked = self.booked(vec![number.clone()])?.remove(number).unwrap_or_default();
        Ok(booked.iter().any(|one| one.transaction.id == transaction.id && one.is_reversed))
    }
}
