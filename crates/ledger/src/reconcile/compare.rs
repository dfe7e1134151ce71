//! A row of a statement beside the transaction that the books have under its number. Pure.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use crate::book::fee;
use crate::rows::Transaction;
use crate::stored_enum::{AnomalyKind, StoredEnum, TxState};
use config::model::ledger::Channel;
use providers::event::Kind;
use providers::statement::{RowKind, RowStatus, StatementRow};

/// The statement that a row stands in.
#[derive(Debug)]
pub struct Statement<'a> {
    /// Its channel.
    pub channel: &'a Channel,
    /// Its day.
    pub day: Date,
    /// The time zone in which its days begin.
    pub zone: &'a TimeZone,
}

/// A transaction of the books, with what became of it.
#[derive(Clone, Debug)]
pub struct Booked {
    /// The transaction.
    pub transaction: Transaction,
    /// Whether a later message took it back.
    pub is_reversed: bool,
}

/// The kind of a row as the books have it.
pub fn kind(row: &StatementRow) -> Kind {
    match row.kind {
        RowKind::Payment => Kind::Payment,
        RowKind::Refund => Kind::Refund,
    }
}

/// Whether this transaction is the row's: the same kind, and of the same payment where both name one.
pub fn is_of(row: &StatementRow, transaction: &Transaction) -> bool {
    let named = transaction.of.as_deref().and_then(|of| of.strip_prefix("n:"));
    let payment = transaction.payment_txn_no.as_deref().or(named);
    transaction.kind == kind(row) && payment.zip(row.payment.as_deref()).is_none_or(|(ours, theirs)| ours == theirs)
}

/// The rank of a state: of several transactions of one number the first counts.
pub fn rank(state: TxState) -> u8 {
    match state {
        TxState::Posted => 0,
        TxState::Suspense => 1,
        TxState::Parked => 2,
        TxState::Noted => 3,
    }
}

impl Statement<'_> {
    /// The day of a time in milliseconds since 1970.
    pub fn day_of(&self, ms: i64) -> Date {
        jiff::Timestamp::from_millisecond(ms).unwrap_or_default().to_zoned(self.zone.clone()).date()
    }

    /// What differs.
    pub fn differences(&self, row: &StatementRow, booked: Option<&Booked>) -> Vec<(AnomalyKind, String)> {
        let mut found = vec![];
        let stated = format!("{} {} of line {}", row.amount_minor, row.currency, row.line);
        if let Some(day) = row.at_ms.map(|ms| self.day_of(ms)).filter(|day| *day != self.day) {
            found.push((AnomalyKind::WrongDay, format!("the statement of {} has it on {day}", self.day)));
        }
        let known = booked.map(|booked| &booked.transaction);
        let Some(Booked { transaction, is_reversed }) = booked.filter(|_| known.is_some_and(is_known)) else {
            if row.status == RowStatus::Succeeded {
                let why = known.map_or("the books do not have it", |_| "the books have only noted it");
                found.push((AnomalyKind::MissingInLedger, format!("{stated}: {why}")));
            }
            return found;
        };
        if let Some(wrong) = state(row, transaction, *is_reversed) {
            found.push(wrong);
        }
        let ours = (transaction.amount_minor.or(transaction.stated_minor), transaction.currency);
        // A refund that waits for its payment may not know the currency.
        let is_other = ours.1.is_some_and(|currency| currency != row.currency);
        if row.status != RowStatus::Failed && (is_other || ours.0 != Some(row.amount_minor)) {
            let amount = ours.0.map_or("no amount".to_owned(), |minor| minor.to_string());
            let currency = ours.1.map(|currency| format!(" {currency}")).unwrap_or_default();
            found.push((AnomalyKind::AmountDiffers, format!("{stated}: the books have {amount}{currency}")));
        }
        found.extend(self.fee(row));
        // One that the file itself has on another day is told already.
        let booked_on = self.day_of(transaction.occurred_at);
        if found.iter().all(|(kind, _)| *kind != AnomalyKind::WrongDay) && booked_on != self.day {
            found.push((
                AnomalyKind::WrongDay,
                format!("the statement of {} has it, the books on {booked_on}", self.day),
            ));
        }
        found
    }

    /// A payment's fee of another minor unit than the channel's `fee` makes it. Statements have fractions of one.
    fn fee(&self, row: &StatementRow) -> Option<(AnomalyKind, String)> {
        let theirs = row.fee_minor.filter(|_| row.kind == RowKind::Payment && row.status == RowStatus::Succeeded)?;
        let ours = fee::amount_of(self.channel.fee.as_ref()?, row.amount_minor);
        let differs = (theirs - Decimal::from(ours)).abs() >= Decimal::ONE;
        let detail = || format!("a fee of {} in line {}, by the channel's `fee` {ours}", theirs.normalize(), row.line);
        differs.then(|| (AnomalyKind::FeeDiffers, detail()))
    }
}

/// Whether the books have more than a note of it.
fn is_known(transaction: &Transaction) -> bool {
    transaction.state != TxState::Noted
}

fn state(row: &StatementRow, transaction: &Transaction, is_reversed: bool) -> Option<(AnomalyKind, String)> {
    let line = row.line;
    match (row.status, transaction.state) {
        (RowStatus::Failed, TxState::Posted | TxState::Suspense) if !is_reversed => {
            let detail = format!("line {line}: it failed; the books have it {}", transaction.state.word());
            Some((AnomalyKind::StatusDiffers, detail))
        }
        (RowStatus::Succeeded, _) if is_reversed => {
            let detail = format!("line {line}: it succeeded; the books have taken it back");
            Some((AnomalyKind::StatusDiffers, detail))
        }
        (RowStatus::Succeeded, TxState::Parked) if row.kind == RowKind::Refund => {
            Some((AnomalyKind::RefundWithoutPayment, format!("line {line}: it is parked, its payment has not come")))
        }
        (RowStatus::Succeeded, TxState::Parked) => {
            Some((AnomalyKind::StuckPending, format!("line {line}: it is parked, its order has not come")))
        }
        _ => None,
    }
}
