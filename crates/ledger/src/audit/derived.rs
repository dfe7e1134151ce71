//! Verifies what follows from a transaction's own rows: its state from its journals.
//!
//! Transactions are read in pages, with their journals and entries. A journal that does not sum to zero in a currency
//! is reported, as is an entry that belongs to no journal of its transaction. After a release, and until the next
//! journal, a transaction stays in suspense; a reversal without another journal leaves it noted. One that was kept without an entry may be booked much later: its journal
//! names it.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::page::Source;
use super::{Collected, DiscrepancyKind, Range};
use crate::query;
use crate::rows::{self, Cell, Table, Type, Typed, Value};
use crate::store::{Reader, StoreError};
use crate::stored_enum::{Side, TxState, What};
use providers::event::Kind;

/// Transactions read at once.
const PAGE: i64 = 500;

/// Older rows that these rows may have changed.
#[derive(Debug, Default)]
pub struct Touched {
    /// Orders.
    pub orders: BTreeSet<Uuid>,
    /// The providers' numbers of payments.
    pub payments: BTreeSet<String>,
    /// Payments that were kept without an entry and are booked now.
    pub booked: BTreeSet<Uuid>,
}

/// Verifies transactions and journals of a range, and transactions up to `old` that got a journal in it.
pub fn verify(
    reader: &mut dyn Reader,
    range: Range,
    old: Option<i64>,
    found: &mut Collected,
) -> Result<Touched, StoreError> {
    let source = Source::of(Table::Transaction, true);
    let mut touched = Touched::default();
    let mut after = range.0;
    loop {
        let page = source.page(reader, (after, range.1), PAGE)?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        let read = typed(page, found);
        transactions(reader, &read, found)?;
        old.iter().for_each(|_| touched.add(&read));
    }
    if let Some(old) = old {
        let ids = reader.select(
            "SELECT DISTINCT transaction_id FROM journals WHERE seq > $1 AND seq <= $2",
            &[Value::Int(range.0), Value::Int(range.1)],
            &[Type::Text],
        );
        // The check of the chain reports an unreadable one.
        let ids = ids.or_else(|e| if let StoreError::Row(_) = e { Ok(vec![]) } else { Err(e) })?;
        let ids: Vec<Uuid> = ids.into_iter().flatten().filter_map(Uuid::take).collect();
        for ids in ids.chunks(PAGE as usize) {
            let (tail, mut values) = query::among("id", ids.iter().copied(), PAGE as usize);
            values.push(Value::Int(old));
            let rows = source.rows(reader, &format!("{tail} AND seq <= ${} ORDER BY seq", values.len()), &values)?;
            let read = typed(rows, found);
            transactions(reader, &read, found)?;
            touched.add(&read);
            touched.booked.extend(read.iter().filter(|one| one.kind == Kind::Payment).map(|one| one.id));
        }
    }
    orphans(reader, range, found)?;
    Ok(touched)
}

impl Touched {
    fn add(&mut self, transactions: &[rows::Transaction]) {
        self.orders.extend(transactions.iter().filter_map(|transaction| transaction.order_id));
        let numbers = transactions.iter().filter(|transaction| transaction.kind != Kind::Payment);
        self.payments.extend(numbers.filter_map(|transaction| transaction.payment_txn_no.clone()));
    }
}

/// The readable transactions; the others are reported.
fn typed(page: Vec<(i64, Option<Vec<Value>>)>, found: &mut Collected) -> Vec<rows::Transaction> {
    let mut here = Vec::with_capacity(page.len());
    for (seq, cells) in page {
        let id = cells.as_ref().and_then(|cells| Uuid::take(cells.first()?.clone())).map(|id| id.to_string());
        let read = cells.and_then(|cells| rows::Transaction::from_cells([vec![Value::Int(seq)], cells].concat()));
        match read {
            Some(transaction) => here.push(transaction),
            None => found.add(DiscrepancyKind::Balance, "transactions", id, Some(seq)),
        }
    }
    here
}

/// Rows of these transactions, by transaction.
fn rows_of<T: Typed>(
    reader: &mut dyn Reader,
    transactions: &[rows::Transaction],
    of: impl Fn(&T) -> Uuid,
) -> Result<HashMap<Uuid, Vec<T>>, StoreError> {
    let ids = transactions.iter().map(|transaction| transaction.id);
    let (tail, ids) = query::among("transaction_id", ids, PAGE as usize);
    let tail = format!("{tail} ORDER BY seq");
    let mut by_id: HashMap<Uuid, Vec<T>> = HashMap::new();
    for row in query::rows::<T>(reader, &tail, &ids)? {
        by_id.entry(of(&row)).or_default().push(row);
    }
    Ok(by_id)
}

fn transactions(
    reader: &mut dyn Reader,
    transactions: &[rows::Transaction],
    found: &mut Collected,
) -> Result<(), StoreError> {
    if transactions.is_empty() {
        return Ok(());
    }
    // The check of the chain reports an unreadable row; its transaction cannot be summed.
    let read = rows_of::<rows::Journal>(reader, transactions, |journal| journal.transaction_id).and_then(|journals| {
        Ok((journals, rows_of::<rows::Entry>(reader, transactions, |entry| entry.transaction_id)?))
    });
    let (journals, entries) = match read {
        Ok(read) => read,
        Err(StoreError::Row(_)) if transactions.len() > 1 => {
            return transactions
                .iter()
                .try_for_each(|one| self::transactions(reader, std::slice::from_ref(one), found));
        }
        Err(StoreError::Row(_)) => return Ok(()),
        Err(e) => return Err(e),
    };
    for transaction in transactions {
        let journals = journals.get(&transaction.id).map(Vec::as_slice).unwrap_or_default();
        let entries = entries.get(&transaction.id).map(Vec::as_slice).unwrap_or_default();
        if !follows(transaction, journals) || !counts(transaction, entries) {
            found.add(
                DiscrepancyKind::Balance,
                "transactions",
                Some(transaction.id.to_string()),
                Some(transaction.seq),
            );
        }
        balanced(journals, entries, found);
    }
    Ok(())
}

/// Whether the transaction's state follows from its journals.
fn follows(transaction: &rows::Transaction, journals: &[rows::Journal]) -> bool {
    let named = transaction.of.as_ref().and_then(|of| of.strip_prefix("n:"));
    let (mut state, mut order_id, mut payment_txn_no) = (transaction.first_state, None, named);
    let mut is_taken_back = false;
    for journal in journals {
        is_taken_back = journal.what == What::Reverse;
        match journal.what {
            What::Post => state = TxState::Posted,
            What::Suspend => state = TxState::Suspense,
            What::Reverse => state = TxState::Noted,
            What::Release => {}
        }
        order_id = journal.order_id;
        payment_txn_no = journal.payment_txn_no.as_deref();
    }
    let booked = matches!(state, TxState::Posted | TxState::Suspense);
    let only_payments = transaction.kind == Kind::Payment
        || (transaction.refunded_minor == 0 && transaction.held_minor == 0 && transaction.fee_minor.is_none());
    transaction.state == state
        && transaction.order_id == order_id
        && transaction.payment_txn_no.as_deref() == payment_txn_no
        && (booked || is_taken_back) != journals.is_empty()
        && only_payments
}

/// Whether the currency and the order's number are the stated ones; without a stated currency it must be the posted
/// one.
fn counts(transaction: &rows::Transaction, entries: &[rows::Entry]) -> bool {
    let posted = entries.first().map(|entry| entry.currency);
    if transaction.stated_trade_no.is_some() && transaction.stated_trade_no != transaction.out_trade_no {
        return false;
    }
    match transaction.stated_currency.or(posted) {
        Some(currency) => transaction.currency == Some(currency),
        None => true,
    }
}

/// Reports journals that do not sum to zero, and entries of none of them.
fn balanced(journals: &[rows::Journal], entries: &[rows::Entry], found: &mut Collected) {
    let mut rest: HashMap<(Uuid, &str), i128> = HashMap::new();
    for entry in entries {
        if !journals.iter().any(|journal| journal.id == entry.journal_id) {
            found.add(DiscrepancyKind::Balance, "entries", Some(entry.id.to_string()), Some(entry.seq));
        }
        let amount = i128::from(entry.amount_minor);
        let left = rest.entry((entry.journal_id, entry.currency.code())).or_default();
        *left += if entry.side == Side::Debit { amount } else { -amount };
    }
    for journal in journals {
        let mut mine = rest.iter().filter(|((id, _), _)| *id == journal.id).peekable();
        if mine.peek().is_none() || mine.any(|(_, left)| *left != 0) {
            found.add(DiscrepancyKind::Balance, "journals", Some(journal.id.to_string()), Some(journal.seq));
        }
    }
}

/// Reports journals and entries without a transaction, and events without their state, which would never be sent.
fn orphans(reader: &mut dyn Reader, range: Range, found: &mut Collected) -> Result<(), StoreError> {
    let range = [Value::Int(range.0), Value::Int(range.1)];
    let none_of = |name: &str, other: &str, on: &str| {
        format!(
            "SELECT seq, id FROM {name} WHERE seq > $1 AND seq <= $2 AND NOT EXISTS \
             (SELECT 1 FROM {other} WHERE {other}.{on}) ORDER BY seq LIMIT 1000"
        )
    };
    for name in [Table::Journal, Table::Entry].map(Table::name) {
        let sql = none_of(name, "transactions", &format!("id = {name}.transaction_id"));
        super::sums::name(reader, (&sql, &range), (DiscrepancyKind::Balance, name), found)?;
    }
    let state = Table::Outgoing.state_name();
    let sql = none_of(Table::Outgoing.name(), state, "seq = events.seq");
    super::sums::name(reader, (&sql, &range), (DiscrepancyKind::Removed, state), found)?;
    stray(reader, &range, found)
}

/// Reports delivery state without an event, or of another merchant than the event's: due events are found by merchant,
/// and a stray row keeps a later event with its `seq` from being written.
pub fn stray(reader: &mut dyn Reader, range: &[Value; 2], found: &mut Collected) -> Result<(), StoreError> {
    let sql = "SELECT seq, (SELECT id FROM events WHERE events.seq = outbox.seq) FROM outbox WHERE seq > $1 AND seq <= $2 \
               AND NOT EXISTS (SELECT 1 FROM events WHERE events.seq = outbox.seq AND events.merchant = outbox.merchant) \
               ORDER BY seq LIMIT 1000";
    super::sums::name(reader, (sql, range), (DiscrepancyKind::Balance, Table::Outgoing.state_name()), found)
}
