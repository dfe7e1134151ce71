//! Transfers between accounts by API, at once or in two phases: held first, then posted, voided or expired.
//!
//! A transfer never takes a merchant's account to debit, what is held included. Who holds for a merchant may have it
//! asked about: silence until `check_at` sends the event `transfer.check`, the check-back of a half message. Of two
//! decisions about one transfer the first counts.

use std::time::Duration;

use uuid::Uuid;

use super::facts::Facts;
use super::posting_builder::PostingBuilder;
use crate::command::Refusal;
use crate::query::views::{self, View};
use crate::rows::{BalanceRow, Transaction, Transfer};
use crate::stored_enum::{StoredEnum, TransferState, What};
use base::units::Currency;
use providers::event::Kind;

/// A transfer to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTransfer {
    /// The account that is debited.
    pub debit: Account,
    /// The account that is credited.
    pub credit: Account,
    /// The amount in minor units, above 0.
    pub amount_minor: i64,
    /// The currency of the amount.
    pub currency: Currency,
    /// Whether it is only held; `None` posts it at once.
    pub hold: Option<Hold>,
}

/// How long a transfer is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// The time after which it expires.
    pub expires_in: Option<Duration>,
    /// The time after which its merchant is asked about it.
    pub check_after: Option<Duration>,
}

/// An account of the chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The account, such as `assets:bank`.
    pub id: String,
    /// Whose it is.
    pub of: Owner,
}

/// To whom or what an account belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A merchant: what the platform owes it.
    Merchant(String),
    /// A channel: what its provider holds.
    Channel(String),
    /// Neither.
    Platform,
}

impl Account {
    /// Reads an account: `assets`, `liabilities`, `equity`, `income` or `expenses`, and one to four more words, which
    /// are lower-case letters, digits, `_` and `-`.
    pub fn read(id: &str) -> Option<Account> {
        let words: Vec<&str> = id.split(':').collect();
        let is_word = |word: &&str| {
            (1..=64).contains(&word.len())
                && word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
        };
        let begins = matches!(words[0], "assets" | "liabilities" | "equity" | "income" | "expenses");
        if !begins || !(2..=5).contains(&words.len()) || !words.iter().all(is_word) {
            return None;
        }
        let of = match words[..] {
            ["liabilities", "merchant", name] => Owner::Merchant(name.to_owned()),
            ["assets", "channel", name] => Owner::Channel(name.to_owned()),
            ["liabilities", "suspense", _] | ["income" | "expenses", "fee", _] => Owner::Platform,
            // Their accounts have no others below or above them.
            ["liabilities", "merchant" | "suspense", ..]
            | ["assets", "channel", ..]
            | ["income" | "expenses", "fee", ..] => return None,
            _ => Owner::Platform,
        };
        Some(Account { id: id.to_owned(), of })
    }

    /// The merchant whose it is.
    pub fn merchant(&self) -> Option<&str> {
        if let Owner::Merchant(name) = &self.of { Some(name) } else { None }
    }

    /// Whether a merchant may move money from here to `credit` by itself: its own, to another merchant.
    pub fn is_moved_by(&self, merchant: &str, credit: &Account) -> bool {
        self.merchant() == Some(merchant) && credit.merchant().is_some()
    }

    fn channel(&self) -> Option<&str> {
        if let Owner::Channel(name) = &self.of { Some(name) } else { None }
    }
}

/// Makes a transfer; returns its id.
pub fn create(
    asked: &NewTransfer,
    facts: &mut Facts,
    balance: impl Fn(&str, Currency) -> BalanceRow,
    scribe: &mut PostingBuilder<'_>,
) -> Result<Uuid, Refusal> {
    let NewTransfer { debit, credit, amount_minor, currency, hold } = asked;
    if debit.merchant().is_some() && balance(&debit.id, *currency).free_credit() < i128::from(*amount_minor) {
        let detail = "The merchant is owed less than that, less what is held already.";
        return Err(Refusal::new(422, "insufficient_balance", detail));
    }
    let merchant = debit.merchant().or(credit.merchant()).unwrap_or_default();
    let (seq, id) = scribe.name();
    let now = scribe.now();
    let after = |time: Option<Duration>| time.map(|time| now + i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 2));
    let Hold { expires_in, check_after } = hold.unwrap_or_default();
    let mut transfer = Transfer {
        seq,
        id,
        merchant: merchant.to_owned(),
        debit_account: debit.id.clone(),
        credit_account: credit.id.clone(),
        amount_minor: *amount_minor,
        currency: *currency,
        created_at: now,
        expires_at: after(expires_in),
        state: TransferState::Pending,
        transaction_id: None,
        check_at: after(check_after),
    };
    scribe.row(&transfer);
    match hold {
        Some(_) => scribe.hold(&debit.id, &credit.id, (*amount_minor, *currency)),
        None => {
            post(&mut transfer, scribe);
            scribe.update(&transfer);
        }
    }
    facts.add_transfer(transfer);
    Ok(id)
}

/// Posts or voids a transfer that is held.
pub fn decide(
    id: Uuid,
    merchant: Option<&str>,
    posts: bool,
    facts: &mut Facts,
    balance: impl Fn(&str, Currency) -> BalanceRow,
    scribe: &mut PostingBuilder<'_>,
) -> Result<(), Refusal> {
    let transfer = facts.transfer(id).filter(|transfer| merchant.is_none_or(|own| own == transfer.merchant));
    let transfer = transfer.ok_or_else(|| Refusal::new(404, "not_found", "There is no such transfer."))?;
    let [debit, credit] = [&transfer.debit_account, &transfer.credit_account].map(|id| Account::read(id));
    let is_own =
        |own: &str| debit.as_ref().zip(credit.as_ref()).is_some_and(|(debit, credit)| debit.is_moved_by(own, credit));
    if !merchant.is_none_or(is_own) {
        let detail = "A merchant's token decides what it may move itself; this is the platform's.";
        return Err(Refusal::new(403, "platform_only", detail));
    }
    expire(transfer, scribe);
    if transfer.state != TransferState::Pending {
        let detail = format!("It is {}: that stays.", transfer.state.word());
        return Err(Refusal::new(409, "already_decided", detail));
    }
    let now = balance(&transfer.debit_account, transfer.currency);
    let is_merchants = debit.is_some_and(|debit| debit.merchant().is_some());
    // A provider's message may have taken since what is held.
    if posts && is_merchants && now.credit - now.debit < i128::from(transfer.amount_minor) {
        let detail = "The merchant is owed less than that by now.";
        return Err(Refusal::new(422, "insufficient_balance", detail));
    }
    release(transfer, scribe);
    if posts {
        post(transfer, scribe);
    } else {
        transfer.state = TransferState::Voided;
    }
    scribe.update(transfer);
    Ok(())
}

/// The type of the event that asks a merchant about a transfer.
pub const CHECK: &str = "transfer.check";

/// Does what is due of a transfer: it expires, or its merchant is asked about it.
pub fn due(id: Uuid, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let Some(transfer) = facts.transfer(id) else { return };
    // Asked before it expires, also where both are due.
    if transfer.check_at.is_some_and(|at| at <= scribe.now()) {
        transfer.check_at = None;
        scribe.update(transfer);
        let shown: views::Transfer = View::of(transfer.clone());
        scribe.tell(CHECK.to_owned(), (id, None), &transfer.merchant, shown);
    }
    expire(transfer, scribe);
}

fn expire(transfer: &mut Transfer, scribe: &mut PostingBuilder<'_>) {
    let is_over = transfer.expires_at.is_some_and(|at| at <= scribe.now());
    if is_over && transfer.state == TransferState::Pending {
        release(transfer, scribe);
        transfer.state = TransferState::Expired;
        scribe.update(transfer);
    }
}

/// Gives back what a transfer held.
fn release(transfer: &mut Transfer, scribe: &mut PostingBuilder<'_>) {
    transfer.check_at = None;
    let amount = (-transfer.amount_minor, transfer.currency);
    scribe.hold(&transfer.debit_account, &transfer.credit_account, amount);
}

/// Writes the transaction of a transfer.
fn post(transfer: &mut Transfer, scribe: &mut PostingBuilder<'_>) {
    let [debit, credit] = [&transfer.debit_account, &transfer.credit_account].map(|id| Account::read(id));
    let (debit, credit) = (debit.as_ref(), credit.as_ref());
    let is_bank = |account: Option<&Account>| account.is_some_and(|account| account.id == "assets:bank");
    let kind = match (debit.and_then(Account::merchant), credit.and_then(Account::channel)) {
        (Some(_), _) if is_bank(credit) => Kind::Payout,
        (_, Some(_)) if is_bank(debit) => Kind::Settlement,
        _ => Kind::Transfer,
    };
    let channel = debit.and_then(Account::channel).or(credit.and_then(Account::channel)).unwrap_or_default();
    let (channel, merchant) = (channel.to_owned(), transfer.merchant.clone());
    let own = scribe.own(kind, (transfer.amount_minor, transfer.currency));
    let transaction = Transaction { channel, merchant, ..own };
    scribe.row(&transaction);
    let accounts = (transfer.debit_account.clone(), transfer.credit_account.clone());
    scribe.between(What::Post, &transaction, accounts);
    (transfer.state, transfer.transaction_id) = (TransferState::Posted, Some(transaction.id));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_of_the_chart() {
        assert_eq!(Account::read("liabilities:merchant:shop").unwrap().merchant(), Some("shop"));
        assert_eq!(Account::read("assets:channel:card").unwrap().channel(), Some("card"));
        assert_eq!(Account::read("equity:own").unwrap().of, Owner::Platform);
        for wrong in [
            "liabilities:merchant:shop:reserve",
            "liabilities:merchant",
            "assets:channel:a:b",
            "assets",
            "cash:bank",
            "assets:",
            "assets:Bank",
            "assets:a:b:c:d:e",
            "assets:a b",
            "",
        ] {
            assert_eq!(Account::read(wrong), None, "{wrong}");
        }
    }
}
