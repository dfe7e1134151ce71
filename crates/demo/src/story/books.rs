//! After the payments: the books are compared with what was sent, with the merchant's events, and with themselves.
//!
//! Balances are known in three ways: from the providers' callbacks, from the ledger, and summed from its entries.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::payments::Paid;
use super::{LIMIT, Story, ms};
use crate::client;
use crate::ledger::{Balances, balances_of, balances_of_entries};
use crate::merchant::Heard;
use crate::payment::{Callback, Channel, FEE_PERCENT};
use crate::stage::until;
use crate::tell::thousands;
use base::clock;

impl Story<'_> {
    pub(super) async fn books_agree(&mut self, mut paid: Paid) -> Result<(), String> {
        self.tell.act("The books agree");
        let transactions = paid.ledger.all("/v1/transactions").await?;
        self.once_each(&paid, &transactions);
        self.merchant_heard(&paid, &transactions).await?;
        self.sums_are_equal(&paid).await?;
        self.chain_holds().await?;
        self.balances_are_right(&paid).await?;
        self.purchase(&paid).await?;
        self.turn("a graceful stop").await?;
        paid.process.terminate()?;
        let status = until("the ledger to end", LIMIT, async || paid.process.ended()).await?;
        self.promise(status.success(), format!("the ledger ended by itself after SIGTERM: {status}"));
        drop(paid.merchant);
        Ok(())
    }

    /// Everything acknowledged is in the books once, and nothing else is.
    fn once_each(&mut self, paid: &Paid, transactions: &[Value]) {
        let mut booked: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for transaction in transactions {
            if let Some(number) = transaction["channel_txn_no"].as_str() {
                booked.entry(number).or_default().push(transaction);
            }
        }
        let is_once = |number: &String| booked.get(&**number).is_some_and(|rows| rows.len() == 1 && is_posted(rows[0]));
        let before = paid.before.iter().filter(|number| is_once(number)).count();
        self.promise(
            before == paid.before.len(),
            format!("{before} callbacks acknowledged before kill -9: all of them in the books"),
        );
        let right =
            |(number, callback): &(&String, &Callback)| is_once(number) && is_told(booked[&***number][0], callback);
        let once = paid.genuine.iter().filter(right).count();
        self.promise(
            once == paid.genuine.len(),
            format!("{once} payments and refunds: each one posted exactly once, with its amount"),
        );
        self.promise(
            booked.values().map(Vec::len).sum::<usize>() == paid.genuine.len(),
            format!("{} duplicates were acknowledged and not booked", paid.twice),
        );
        let forged = paid.forged.iter().filter(|number| booked.contains_key(&***number)).count();
        self.promise(forged == 0, format!("{} forged payments left nothing in the books", paid.forged.len()));
        let parked = transactions.iter().filter(|transaction| transaction["state"] == "parked").count();
        self.promise(parked == 0, "nothing is parked: early refunds were posted with their payments");
    }

    /// Everything reached the merchant, under one id.
    async fn merchant_heard(&mut self, paid: &Paid, transactions: &[Value]) -> Result<(), String> {
        let posted = transactions.iter().filter(|transaction| transaction["kind"] != "fee");
        let posted: BTreeSet<&str> = posted.filter_map(|transaction| transaction["id"].as_str()).collect();
        let begun = clock::now();
        let all = async || {
            let heard = self.heard().await.ok()?;
            let pending = paid.ledger.json("/v1/events?state=pending&limit=1").await.ok()?;
            (heard.events.len() >= posted.len() && pending["data"].as_array()?.is_empty()).then_some(heard)
        };
        let heard = until("the merchant to have every event", LIMIT, all).await?;
        let waited = ms(clock::now().since(begun));
        let told: BTreeSet<&str> = heard.events.values().map(|event| &*event.transaction).collect();
        let times: u64 = heard.events.values().map(|event| event.times).sum();
        let events = heard.events.len();
        self.tell.say(format_args!("the merchant has had everything after {waited}"));
        self.promise(
            told == posted && events == posted.len(),
            format!("{events} events reached the merchant, one id for each payment and refund"),
        );
        self.promise(
            heard.unsigned == 0 && heard.changed == 0,
            format!("it heard {} requests, all signed; what came again came unchanged", thousands(times)),
        );
        let listed = paid.ledger.all("/v1/events").await?;
        let delivered = listed.iter().filter(|event| event["state"] == "delivered");
        let delivered: BTreeSet<&str> = delivered.filter_map(|event| event["id"].as_str()).collect();
        let same = listed.len() == delivered.len() && heard.events.keys().map(|id| &**id).eq(delivered.iter().copied());
        self.promise(same, format!("the ledger lists {} events as delivered, the same ones", delivered.len()));
        Ok(())
    }

    pub(super) async fn heard(&self) -> Result<Heard, String> {
        let answer = client::once(self.conf.merchant, "GET", "/heard").await?;
        serde_json::from_str(&answer.body).map_err(|e| format!("/heard: {e}"))
    }

    async fn sums_are_equal(&mut self, paid: &Paid) -> Result<(), String> {
        let integrity = paid.ledger.json("/v1/integrity").await?;
        let sums = integrity["sums"].as_array().cloned().unwrap_or_default();
        let text: Vec<String> = sums
            .iter()
            .map(|sum| {
                let amount = |side: &str| money(sum[side].as_i64().unwrap_or_default());
                let currency = sum["currency"].as_str().unwrap_or_default();
                format!("{currency} {} = {}", amount("debit_minor"), amount("credit_minor"))
            })
            .collect();
        let equal = sums.len() == 3 && sums.iter().all(|sum| sum["debit_minor"] == sum["credit_minor"]);
        self.promise(equal, format!("debits are credits: {}", text.join(", ")));
        Ok(())
    }

    async fn chain_holds(&mut self) -> Result<(), String> {
        let (holds, said) = self.ledger_tool(&["verify"]).await?;
        self.tell.say("tollgate ledger verify -c gateway.toml");
        self.tell.quote(&said);
        self.promise(holds, "every row and every link of the chain is as it was written");
        Ok(())
    }

    async fn balances_are_right(&mut self, paid: &Paid) -> Result<(), String> {
        let (told, said) = self.ledger_tool(&["balances", "--json"]).await?;
        let kept = balances_of(&serde_json::from_str(&said).map_err(|e| format!("{e}: {said}"))?);
        let (exported, entries) = self.ledger_tool(&["export", "--format", "csv"]).await?;
        let summed = balances_of_entries(&entries).ok_or("`tollgate ledger export` cannot be read")?;
        let meant = meant(paid.genuine.values());
        self.tell.say("tollgate ledger balances -c gateway.toml, as money:");
        for ((account, currency), minor) in &kept {
            self.tell.quote(&format!("{account:<26}  {currency} {:>13}", money(*minor)));
        }
        self.promise(
            told && exported && kept == summed && kept == meant,
            format!("{} balances: as kept, as summed from the entries, as the providers sent them", kept.len()),
        );
        Ok(())
    }

    pub(super) async fn ledger_tool(&self, arguments: &[&str]) -> Result<(bool, String), String> {
        let file = self.folder.at("gateway.toml");
        let file = file.to_string_lossy();
        self.tollgate.tool(&self.folder, &[&["ledger"], arguments, &["-c", &file]].concat()).await
    }
}

fn is_posted(transaction: &Value) -> bool {
    transaction["state"] == "posted"
}

fn is_told(transaction: &Value, callback: &Callback) -> bool {
    transaction["channel"] == callback.channel.name()
        && transaction["kind"] == callback.kind()
        && transaction["amount_minor"] == callback.amount
        && transaction["currency"] == callback.channel.currency()
}

/// The balance of each account by what was sent.
fn meant<'a>(callbacks: impl Iterator<Item = &'a Callback>) -> Balances {
    let mut balances = Balances::new();
    let mut move_money = |from: String, to: String, callback: &Callback, amount: i64| {
        for (account, amount) in [(to, amount), (from, -amount)] {
            *balances.entry((account, callback.channel.currency().to_owned())).or_default() += amount;
        }
    };
    for callback in callbacks {
        let (channel, merchant) = (format!("assets:channel:{}", callback.channel.name()), "liabilities:merchant:shop");
        if callback.is_refund {
            move_money(channel, merchant.to_owned(), callback, callback.amount);
            continue;
        }
        move_money(merchant.to_owned(), channel, callback, callback.amount);
        if callback.channel == Channel::Card {
            let fee = callback.amount * FEE_PERCENT / 100;
            move_money("income:fee:card".to_owned(), merchant.to_owned(), callback, fee);
        }
    }
    balances
}

/// An amount such as `-1,234.50`.
fn money(minor: i64) -> String {
    let sign = if minor < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", thousands(minor.unsigned_abs() / 100), minor.unsigned_abs() % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fee_is_kept_when_its_payment_is_given_back() {
        let callback = |is_refund| Callback { channel: Channel::Card, order: 1, is_refund, amount: 1_000 };
        let balances = meant([callback(false), callback(true)].iter());
        let of = |account: &str| balances[&(account.to_owned(), "USD".to_owned())];
        assert_eq!((of("assets:channel:card"), of("liabilities:merchant:shop"), of("income:fee:card")), (0, 10, -10));
    }

    #[test]
    fn money_has_its_cents() {
        assert_eq!([money(-123_450), money(7), money(0)], ["-1,234.50", "0.07", "0.00"]);
    }
}
