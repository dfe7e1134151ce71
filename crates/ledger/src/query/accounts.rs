//! Balances of accounts: now, at a time in the past, and all together.
//!
//! The stored balance is that of now; an earlier one follows from the entries by `recorded_at`, without what was pending. A
//! sum is taken in two parts, so that no engine's 64 bits overflow. An account exists once it has a balance; before its
//! first entry it had zero.

use std::collections::HashMap;

use super::list::{self, Pairs, QueryError, Where};
use super::views::{Account, Balance, Page, Sum};
use super::{Reader, decimal, int, text};
use crate::rows::{Table, Type, Value};
use crate::store::StoreError;
use crate::stored_enum::{Side, StoredEnum};

/// Columns of a balance.
const COLUMNS: &str = "account, currency, debit, credit, pending_debit, pending_credit";

/// The account of what a merchant is owed.
pub fn of_merchant(name: &str) -> String {
    format!("liabilities:merchant:{name}")
}

/// The accounts to list.
#[derive(Clone, Debug)]
pub struct AccountsQuery {
    after: Option<String>,
    limit: i64,
}

impl AccountsQuery {
    /// Reads the query's parameters.
    pub fn read(pairs: &Pairs) -> Result<AccountsQuery, QueryError> {
        list::only(pairs, &["limit", "cursor"])?;
        let after = match list::get(pairs, "cursor") {
            Some(cursor) => {
                let id = list::opened(cursor).filter(|id| id.contains(':') && !id.contains('\0'));
                Some(id.ok_or_else(list::bad_cursor)?)
            }
            None => None,
        };
        Ok(AccountsQuery { after, limit: list::limit(pairs)? })
    }
}

/// Lists accounts by id; with `only`, just that one.
pub fn list(reader: &mut dyn Reader, asked: &AccountsQuery, only: Option<&str>) -> Result<Page<Account>, StoreError> {
    let mut filter = Where::default();
    if let Some(after) = &asked.after {
        filter.and("account > ?", Value::Text(after.clone()));
    }
    if let Some(only) = only {
        filter.and("account = ?", Value::Text(only.to_owned()));
    }
    let sql = format!("SELECT DISTINCT account FROM balances{}", filter.sql());
    let mut values = filter.values;
    values.push(Value::Int(asked.limit + 1));
    let sql = format!(
        "SELECT {COLUMNS} FROM balances WHERE account IN ({sql} ORDER BY account LIMIT ${}) \
         ORDER BY account, currency",
        values.len()
    );
    let mut data = grouped(reader, &sql, &values)?;
    let more = data.len() as i64 > asked.limit;
    data.truncate(asked.limit as usize);
    let next = data.last().filter(|_| more).map(|account| list::sealed(&account.id));
    Ok(Page { data, next })
}

/// All accounts with their balances.
pub fn all(reader: &mut dyn Reader) -> Result<Vec<Account>, StoreError> {
    grouped(reader, &format!("SELECT {COLUMNS} FROM balances ORDER BY account, currency"), &[])
}

/// An account as it is now.
pub fn one(reader: &mut dyn Reader, id: &str) -> Result<Option<Account>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM balances WHERE account = $1 ORDER BY currency");
    Ok(grouped(reader, &sql, &[Value::Text(id.to_owned())])?.pop())
}

/// An account as it was at the end of the millisecond `at`, read within one view: the sum of its entries until then, or
/// its balance less later entries, whichever are fewer rows of the books.
pub fn as_of(reader: &mut dyn Reader, id: &str, at: i64) -> Result<Option<Account>, StoreError> {
    let Some(mut account) = one(reader, id)? else { return Ok(None) };
    let later = super::first_at(reader, Table::Entry, "recorded_at", at.saturating_add(1))?;
    let is_late = later > super::head(reader)?.0 / 2;
    let sql = format!(
        "SELECT currency, side, CAST(SUM(amount_minor / 1000000) AS BIGINT), \
         CAST(SUM(amount_minor % 1000000) AS BIGINT) FROM entries \
         WHERE account = $1 AND seq {} $2 GROUP BY currency, side",
        if is_late { ">=" } else { "<" }
    );
    let values = [Value::Text(id.to_owned()), Value::Int(later)];
    let mut sums = HashMap::<(String, Side), i128>::new();
    for row in reader.select(&sql, &values, &[Type::Text, Type::Text, Type::Int, Type::Int])? {
        let mut cells = row.into_iter();
        let (currency, side) = (text(cells.next())?, text(cells.next())?);
        let sum = i128::from(int(cells.next())?) * 1_000_000 + i128::from(int(cells.next())?);
        let side = Side::from_word(&side).ok_or_else(|| super::unreadable("entries"))?;
        sums.insert((currency, side), sum);
    }
    for balance in &mut account.balances {
        let sum = |side| sums.get(&(balance.currency.clone(), side)).copied().unwrap_or_default();
        let (debit, credit) = (sum(Side::Debit), sum(Side::Credit));
        let (debit, credit) =
            if is_late { (balance.debit_minor - debit, balance.credit_minor - credit) } else { (debit, credit) };
        *balance = Balance::new(balance.currency.clone(), debit, credit);
    }
    Ok(Some(account))
}

/// All accounts together, by currency.
pub fn sums(reader: &mut dyn Reader) -> Result<Vec<Sum>, StoreError> {
    let mut sums: Vec<Sum> = vec![];
    for balance in all(reader)?.into_iter().flat_map(|account| account.balances) {
        let Balance { currency, debit_minor, credit_minor, .. } = balance;
        match sums.iter_mut().find(|sum| sum.currency == currency) {
            Some(sum) => {
                sum.debit_minor += debit_minor;
                sum.credit_minor += credit_minor;
            }
            None => sums.push(Sum { currency, debit_minor, credit_minor }),
        }
    }
    sums.sort_by(|a, b| a.currency.cmp(&b.currency));
    Ok(sums)
}

fn grouped(reader: &mut dyn Reader, sql: &str, values: &[Value]) -> Result<Vec<Account>, StoreError> {
    let mut accounts: Vec<Account> = vec![];
    for row in reader.select(sql, values, &[Type::Text; 6])? {
        let mut cells = row.into_iter();
        let (id, currency) = (text(cells.next())?, text(cells.next())?);
        let balance = Balance::new(currency, decimal(cells.next())?, decimal(cells.next())?);
        let (pending_debit_minor, pending_credit_minor) = (decimal(cells.next())?, decimal(cells.next())?);
        let balance = Balance { pending_debit_minor, pending_credit_minor, ..balance };
        match accounts.last_mut().filter(|account| account.id == id) {
            Some(account) => account.balances.push(balance),
            None => accounts.push(Account { id, balances: vec![balance] }),
        }
    }
    Ok(accounts)
}
