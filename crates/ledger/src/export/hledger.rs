//! The books as a journal for hledger: one transaction for each journal, in the order of the books.
//!
//! Accounts and commodities are declared, so that `hledger check -s` finds undeclared ones. An amount has its
//! currency's code before it and the currency's digits; where a provider counts in other units, as Stripe does, it has
//! the provider's digits, so that it is the sum that was paid. The description is the kind; the ids are tags, which hold
//! nothing that a provider or merchant chose.

use std::collections::HashMap;
use std::io::Write;

use uuid::Uuid;

use super::{ExportError, PAGE, pages, transactions};
use crate::query::{self, views};
use crate::rows::{Cell, Entry, Journal, Transaction, Type, Value};
use crate::store::{Reader, StoreError};
use crate::stored_enum::{Side, StoredEnum, TxState, What};
use base::units::Currency;
use providers::Provider;

/// Writes the whole journal.
pub fn write(reader: &mut dyn Reader, end: i64, out: &mut dyn Write) -> Result<(), ExportError> {
    declarations(reader, end, out)?;
    // The providers of the channels' last messages, and how those of a merchant count a currency.
    let (mut providers, mut of_merchants) = (HashMap::new(), HashMap::new());
    pages(reader, end, |reader, journals: Vec<Journal>| {
        let transactions = transactions(reader, journals.iter().map(|journal| journal.transaction_id))?;
        let ids = journals.iter().map(|journal| journal.transaction_id);
        let (tail, values) = query::among("transaction_id", ids, PAGE as usize);
        let mut entries: HashMap<Uuid, Vec<Entry>> = HashMap::new();
        for entry in query::rows::<Entry>(reader, &format!("{tail} ORDER BY seq"), &values)? {
            entries.entry(entry.journal_id).or_default().push(entry);
        }
        let states = states(reader, end, &transactions)?;
        for journal in journals {
            let of = transactions.get(&journal.transaction_id).ok_or_else(|| query::unreadable("journals"))?;
            let at = views::time(journal.recorded_at);
            writeln!(
                out,
                "{} {}  ; transaction_id:{}, sequence:{}, state:{}, what:{}",
                at.split('T').next().unwrap_or_default(),
                of.kind.word(),
                of.id,
                of.seq,
                states.get(&of.id).unwrap_or(&of.first_state).word(),
                journal.what.word(),
            )?;
            // A fee has no provider of its own and takes its payment's, whose journal is the channel's last one.
            if !of.provider.is_empty() {
                providers.insert(of.channel.clone(), Provider::named(&of.provider));
            }
            let provider = providers.get(&of.channel).copied().flatten();
            for entry in entries.remove(&journal.id).unwrap_or_default() {
                let currency = entry.currency;
                let place = (of.merchant.clone(), currency);
                let digits = match provider {
                    Some(provider) => (provider.digits)(currency),
                    // A payout or a transfer has no channel: it moves what the merchant's channels took.
                    None => of_merchants.get(&place).copied().unwrap_or(currency.digits()),
                };
                if !of.provider.is_empty() {
                    of_merchants.insert(place, digits);
                }
                let (account, amount) = (&entry.account, amount(entry.side, entry.amount_minor, (currency, digits)));
                writeln!(out, "    {account:<40}  {amount}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    })
}

/// The states of transactions by their journals up to `end`.
fn states(
    reader: &mut dyn Reader,
    end: i64,
    transactions: &HashMap<Uuid, Transaction>,
) -> Result<HashMap<Uuid, TxState>, StoreError> {
    let (tail, mut values) = query::among("transaction_id", transactions.keys().copied(), PAGE as usize);
    values.push(Value::Int(end));
    let mut states = HashMap::new();
    for journal in
        query::rows::<Journal>(reader, &format!("{tail} AND seq <= ${} ORDER BY seq", values.len()), &values)?
    {
        match journal.what {
            What::Post => states.insert(journal.transaction_id, TxState::Posted),
            What::Suspend => states.insert(journal.transaction_id, TxState::Suspense),
            What::Reverse => states.insert(journal.transaction_id, TxState::Noted),
            What::Release => None,
        };
    }
    Ok(states)
}

/// Declares currencies and accounts. Accounts are found one after the other by their index; every currency has a
/// balance.
fn declarations(reader: &mut dyn Reader, end: i64, out: &mut dyn Write) -> Result<(), ExportError> {
    writeln!(out, "decimal-mark .\n")?;
    for row in reader.select("SELECT DISTINCT currency FROM balances ORDER BY currency", &[], &[Type::Text])? {
        let currency = row.into_iter().next().and_then(Currency::take).ok_or_else(|| query::unreadable("balances"))?;
        writeln!(out, "commodity {currency} 1000.{}", "0".repeat(currency.digits() as usize))?;
    }
    writeln!(out)?;
    let next = "SELECT account, seq FROM entries WHERE account > $1 ORDER BY account, seq LIMIT 1";
    let mut account = String::new();
    while let Some(row) = reader.select(next, &[Value::Text(account)], &[Type::Text, Type::Int])?.pop() {
        let mut cells = row.into_iter();
        account = cells.next().and_then(String::take).ok_or_else(|| query::unreadable("entries"))?;
        if cells.next().and_then(i64::take).is_some_and(|first| first <= end) {
            writeln!(out, "account {account}")?;
        }
    }
    Ok(writeln!(out)?)
}

/// An amount such as `CNY 12.34`, `CNY -12.34` or `JPY 1200`.
fn amount(side: Side, minor: i64, (currency, digits): (Currency, u32)) -> String {
    let minor = i128::from(minor);
    let minor = if side == Side::Debit { minor } else { -minor };
    let sign = if minor < 0 { "-" } else { "" };
    let unit = 10_u128.pow(digits);
    let digits = digits as usize;
    let (whole, part) = (minor.unsigned_abs() / unit, minor.unsigned_abs() % unit);
    if digits == 0 { format!("{currency} {sign}{whole}") } else { format!("{currency} {sign}{whole}.{part:0digits$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_the_digits_of_its_currency() {
        let amount = |side, minor, code| {
            let currency = Currency::parse(code).unwrap();
            super::amount(side, minor, (currency, currency.digits()))
        };
        assert_eq!(amount(Side::Debit, 1234, "CNY"), "CNY 12.34");
        assert_eq!(amount(Side::Credit, 5, "CNY"), "CNY -0.05");
        assert_eq!(amount(Side::Credit, 1200, "JPY"), "JPY -1200");
        assert_eq!(amount(Side::Debit, 1_000, "KWD"), "KWD 1.000");
        assert_eq!(amount(Side::Debit, (1 << 53) - 1, "USD"), "USD 90071992547409.91");
    }
}
