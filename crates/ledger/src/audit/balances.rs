//! Verifies every balance against the entries.
//!
//! Entries are summed while the chain is walked, up to its end; what is pending follows from requests that are not
//! decided. The stored balances are those of now: later entries are
//! summed in pages until few are left, and those in the same view as the balances are read in.

use std::collections::HashMap;

use super::page::Source;
use super::{Collected, DiscrepancyKind};
use crate::rows::{self, Cell, Table, Type, Typed, Value};
use crate::store::{Reader, StoreError};
use crate::stored_enum::Side;
use base::units::Currency;

/// Entries read at once, and the most that are left for the last view.
const PAGE: i64 = 2_000;

/// Debits and credits by account and currency.
#[derive(Clone, Debug, Default)]
pub struct Sums(HashMap<(String, Currency), (i128, i128)>);

impl Sums {
    /// Adds an entry, by its cells after `seq`. The check of the chain reports an unreadable one.
    pub fn add(&mut self, seq: i64, cells: Option<Vec<Value>>) {
        let entry = cells.and_then(|cells| rows::Entry::from_cells([vec![Value::Int(seq)], cells].concat()));
        let Some(entry) = entry else { return };
        let amount = i128::from(entry.amount_minor);
        let sum = self.0.entry((entry.account, entry.currency)).or_default();
        match entry.side {
            Side::Debit => sum.0 += amount,
            Side::Credit => sum.1 += amount,
        }
    }

    /// Adds a page of the entries after a place; returns the last one's place (`None` if there are none) and their
    /// number.
    fn page(&mut self, reader: &mut dyn Reader, after: i64) -> Result<(Option<i64>, usize), StoreError> {
        let page = Source::of(Table::Entry, false).page(reader, (after, i64::MAX), PAGE)?;
        let (last, count) = (page.last().map(|(seq, _)| *seq), page.len());
        page.into_iter().for_each(|(seq, cells)| self.add(seq, cells));
        Ok((last, count))
    }
}

/// Compares the stored balances with the sums of the entries up to `after` and of later ones.
pub fn verify(
    reader: &mut dyn Reader,
    mut sums: Sums,
    mut after: i64,
    found: &mut Collected,
) -> Result<(), StoreError> {
    loop {
        let (last, count) = sums.page(reader, after)?;
        after = last.unwrap_or(after);
        if (count as i64) < PAGE {
            break;
        }
    }
    crate::query::snapshot(reader, |reader| {
        while let (Some(last), _) = sums.page(reader, after)? {
            after = last;
        }
        compare(reader, sums, found)
    })
}

fn compare(reader: &mut dyn Reader, Sums(mut sums): Sums, found: &mut Collected) -> Result<(), StoreError> {
    let mut wrong = vec![];
    let Sums(mut held) = held(reader)?;
    for row in stored(reader)? {
        let Ok([account, currency, debit, credit, pending_debit, pending_credit]) = <[Value; 6]>::try_from(row) else {
            wrong.push(None);
            continue;
        };
        let account = word(account);
        let stored = word(debit).parse().ok().zip(word(credit).parse().ok());
        let code = word(currency);
        let currency = Currency::parse(&code).filter(|currency| currency.code() == code);
        let pending = word(pending_debit).parse().ok().zip(word(pending_credit).parse().ok());
        let key = currency.map(|currency| (account.clone(), currency));
        let (summed, asked) = key.map_or((None, None), |key| (sums.remove(&key), held.remove(&key)));
        // What is pending, or was, may come before the first entry.
        let summed = match summed {
            None if asked.is_some() || was_held(reader, &account, &code)? => Some((0, 0)),
            summed => summed,
        };
        if summed != stored || stored.is_none() || Some(asked.unwrap_or_default()) != pending {
            wrong.push(Some(account));
        }
    }
    wrong.extend(sums.into_keys().chain(held.into_keys()).map(|(account, _)| Some(account)));
    wrong.sort();
    wrong.dedup();
    for account in wrong {
        found.add(DiscrepancyKind::Balance, "balances", account, None);
    }
    Ok(())
}

/// Whether a transfer names the account.
fn was_held(reader: &mut dyn Reader, account: &str, currency: &str) -> Result<bool, StoreError> {
    let sql = "SELECT seq FROM transfers WHERE (debit_account = $1 OR credit_account = $1) AND currency = $2 LIMIT 1";
    let values = [Value::Text(account.to_owned()), Value::Text(currency.to_owned())];
    let named = reader.select(sql, &values, &[Type::Int]);
    // The check of the chain reports an unreadable row.
    named.map(|rows| !rows.is_empty()).or_else(|e| if let StoreError::Row(_) = e { Ok(false) } else { Err(e) })
}

/// What is asked for and not decided, by account and currency: debits and credits.
fn held(reader: &mut dyn Reader) -> Result<Sums, StoreError> {
    let sums = "currency, CAST(SUM(amount_minor / 1000000) AS BIGINT), CAST(SUM(amount_minor % 1000000) AS BIGINT)";
    let sql = format!(
        "SELECT 'liabilities:merchant:' || merchant, 'assets:channel:' || channel, {sums} FROM refunds \
         WHERE state = 'pending' GROUP BY merchant, channel, currency UNION ALL \
         SELECT debit_account, credit_account, {sums} FROM transfers WHERE state = 'pending' \
         GROUP BY debit_account, credit_account, currency"
    );
    let mut held = HashMap::<_, (i128, i128)>::new();
    let rows = match reader.select(&sql, &[], &[Type::Text, Type::Text, Type::Text, Type::Int, Type::Int]) {
        // The check of the chain reports an unreadable row.
        Err(StoreError::Row(_)) => return Ok(Sums(held)),
        rows => rows?,
    };
    for row in rows {
        let mut cells = row.into_iter();
        let mut text = || cells.next().map(word).unwrap_or_default();
        let (debit, credit, currency) = (text(), text(), Currency::parse(&text()));
        let mut int = || cells.next().and_then(i64::take).map_or(0, i128::from);
        let sum = int() * 1_000_000 + int();
        if let Some(currency) = currency {
            held.entry((debit, currency)).or_default().0 += sum;
            held.entry((credit, currency)).or_default().1 += sum;
        }
    }
    Ok(Sums(held))
}

/// The rows of balances, without cells where they cannot be read.
fn stored(reader: &mut dyn Reader) -> Result<Vec<Vec<Value>>, StoreError> {
    let sql = "SELECT account, currency, debit, credit, pending_debit, pending_credit FROM balances \
               ORDER BY account, currency";
    match reader.select(sql, &[], &[Type::Text; 6]) {
        Err(StoreError::Row(_)) => {}
        rows => return rows,
    }
    let count = reader.select("SELECT COUNT(*) FROM balances", &[], &[Type::Int])?;
    let count = count.into_iter().flatten().find_map(i64::take).unwrap_or(0);
    let one = format!("{sql} LIMIT 1 OFFSET $1");
    let rows = (0..count).map(|at| match reader.select(&one, &[Value::Int(at)], &[Type::Text; 6]) {
        Ok(mut rows) => Ok(rows.pop().unwrap_or_default()),
        Err(StoreError::Row(_)) => Ok(vec![]),
        Err(e) => Err(e),
    });
    rows.collect()
}

fn word(cell: Value) -> String {
    String::take(cell).unwrap_or_default()
}
