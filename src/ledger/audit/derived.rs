//! What follows from a transaction's own rows: its state from its journals, and every balance from its entries.
//!
//! Transactions are read in pages, with their journals and entries; sums are kept by account and currency only. A
//! journal that does not sum to zero in a currency is named, as is an entry that belongs to no journal of its
//! transaction. After a release, and until the next journal, a transaction stays in suspense.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::page::Source;
use super::{Found, Harm};
use crate::ledger::event::Kind;
use crate::ledger::query;
use crate::ledger::rows::{self, Cell, Table, Type, Typed, Value};
use crate::ledger::store::{Failure, Reader};
use crate::ledger::words::{Side, TxState, What};

/// Transactions read at once.
const PAGE: i64 = 500;

/// Debits and credits by account and currency.
type Sums = BTreeMap<(String, String), (i128, i128)>;

/// Verifies transactions, journals and balances.
pub fn verify(reader: &mut dyn Reader, found: &mut Found) -> Result<(), Failure> {
    let mut sums = Sums::new();
    let source = Source::of(Table::Transaction, true);
    let mut after = i64::MIN;
    loop {
        let page = source.page(reader, after, i64::MAX, PAGE)?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        let mut here = Vec::with_capacity(page.len());
        for (seq, cells) in page {
            let id = cells.as_ref().and_then(|cells| Uuid::take(cells.first()?.clone())).map(|id| id.to_string());
            let read = cells.and_then(|cells| rows::Transaction::from_cells([vec![Value::Int(seq)], cells].concat()));
            match read {
                Some(transaction) => here.push(transaction),
                None => found.add(Harm::Balance, "transactions", id, Some(seq)),
            }
        }
        transactions(reader, &here, &mut sums, found)?;
    }
    orphans(reader, found)?;
    balances(reader, sums, found)
}

/// Rows of these transactions, by transaction.
fn rows_of<T: Typed>(
    reader: &mut dyn Reader,
    transactions: &[rows::Transaction],
    of: impl Fn(&T) -> Uuid,
) -> Result<HashMap<Uuid, Vec<T>>, Failure> {
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
    sums: &mut Sums,
    found: &mut Found,
) -> Result<(), Failure> {
    if transactions.is_empty() {
        return Ok(());
    }
    // A row that cannot be read was told by the chain; what it takes with it cannot be summed.
    let read = rows_of::<rows::Journal>(reader, transactions, |journal| journal.transaction_id).and_then(|journals| {
        Ok((journals, rows_of::<rows::Entry>(reader, transactions, |entry| entry.transaction_id)?))
    });
    let (journals, entries) = match read {
        Ok(read) => read,
        Err(Failure::Row(_)) if transactions.len() > 1 => {
            return transactions
                .iter()
                .try_for_each(|one| self::transactions(reader, std::slice::from_ref(one), sums, found));
        }
        Err(Failure::Row(_)) => return Ok(()),
        Err(e) => return Err(e),
    };
    for transaction in transactions {
        let journals = journals.get(&transaction.id).map(Vec::as_slice).unwrap_or_default();
        let entries = entries.get(&transaction.id).map(Vec::as_slice).unwrap_or_default();
        if !follows(transaction, journals) || !counts(transaction, entries) {
            found.add(Harm::Balance, "transactions", Some(transaction.id.to_string()), Some(transaction.seq));
        }
        sum(journals, entries, sums, found);
    }
    Ok(())
}

/// Whether a transaction is what its journals made of it.
fn follows(transaction: &rows::Transaction, journals: &[rows::Journal]) -> bool {
    let named = transaction.of.as_ref().and_then(|of| of.strip_prefix("n:"));
    let (mut state, mut order_id, mut payment_txn_no) = (transaction.first_state, None, named);
    for journal in journals {
        match journal.what {
            What::Post => state = TxState::Posted,
            What::Suspend => state = TxState::Suspense,
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
        && booked != journals.is_empty()
        && only_payments
}

/// Whether its currency and its order's number are the stated ones; a currency that is not stated is the one it was
/// posted in.
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

fn sum(journals: &[rows::Journal], entries: &[rows::Entry], sums: &mut Sums, found: &mut Found) {
    let mut rest: HashMap<(Uuid, &str), i128> = HashMap::new();
    for entry in entries {
        if !journals.iter().any(|journal| journal.id == entry.journal_id) {
            found.add(Harm::Balance, "entries", Some(entry.id.to_string()), Some(entry.seq));
        }
        let amount = i128::from(entry.amount_minor);
        let account = sums.entry((entry.account.clone(), entry.currency.to_string())).or_default();
        let left = rest.entry((entry.journal_id, entry.currency.code())).or_default();
        match entry.side {
            Side::Debit => (account.0, *left) = (account.0 + amount, *left + amount),
            Side::Credit => (account.1, *left) = (account.1 + amount, *left - amount),
        }
    }
    for journal in journals {
        let mut mine = rest.iter().filter(|((id, _), _)| *id == journal.id).peekable();
        if mine.peek().is_none() || mine.any(|(_, left)| *left != 0) {
            found.add(Harm::Balance, "journals", Some(journal.id.to_string()), Some(journal.seq));
        }
    }
}

/// Journals and entries of no transaction.
fn orphans(reader: &mut dyn Reader, found: &mut Found) -> Result<(), Failure> {
    for table in [Table::Journal, Table::Entry] {
        let name = table.name();
        let sql = format!(
            "SELECT seq, id FROM {name} WHERE NOT EXISTS \
             (SELECT 1 FROM transactions WHERE transactions.id = {name}.transaction_id) ORDER BY seq LIMIT 1000"
        );
        super::sums::name(reader, &sql, name, found)?;
    }
    Ok(())
}

/// The stored balances against the sums.
fn balances(reader: &mut dyn Reader, mut sums: Sums, found: &mut Found) -> Result<(), Failure> {
    let mut wrong = vec![];
    for row in stored(reader)? {
        let Ok([account, currency, debit, credit]) = <[Value; 4]>::try_from(row) else {
            wrong.push(None);
            continue;
        };
        let (account, currency) = (word(account), word(currency));
        let stored = word(debit).parse().ok().zip(word(credit).parse().ok());
        if sums.remove(&(account.clone(), currency)) != stored || stored.is_none() {
            wrong.push(Some(account));
        }
    }
    wrong.extend(sums.into_keys().map(|(account, _)| Some(account)));
    wrong.sort();
    wrong.dedup();
    for account in wrong {
        found.add(Harm::Balance, "balances", account, None);
    }
    Ok(())
}

/// The rows of balances; without cells where they cannot be read.
fn stored(reader: &mut dyn Reader) -> Result<Vec<Vec<Value>>, Failure> {
    let sql = "SELECT account, currency, debit, credit FROM balances ORDER BY account, currency";
    match reader.select(sql, &[], &[Type::Text; 4]) {
        Err(Failure::Row(_)) => {}
        rows => return rows,
    }
    let count = reader.select("SELECT COUNT(*) FROM balances", &[], &[Type::Int])?;
    let count = count.into_iter().flatten().find_map(i64::take).unwrap_or(0);
    let one = format!("{sql} LIMIT 1 OFFSET $1");
    let rows = (0..count).map(|at| match reader.select(&one, &[Value::Int(at)], &[Type::Text; 4]) {
        Ok(mut rows) => Ok(rows.pop().unwrap_or_default()),
        Err(Failure::Row(_)) => Ok(vec![]),
        Err(e) => Err(e),
    });
    rows.collect()
}

fn word(cell: Value) -> String {
    String::take(cell).unwrap_or_default()
}
