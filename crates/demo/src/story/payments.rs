//! Payments: three providers send signed callbacks, some twice, some out of order, some forged, and the ledger dies.
//!
//! The number of callbacks is chosen so that every provider is still sending when the ledger is killed, with callbacks
//! unanswered. A provider repeats a callback until it is acknowledged, as real ones do, only sooner.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use super::{LIMIT, Story, ms};
use crate::client;
use crate::ledger::Ledger;
use crate::payment::{CHANNELS, Callback, Channel};
use crate::sender::{Senders, send};
use crate::stage::{Process, until, within};
use crate::tell::thousands;
use base::clock;

/// Payments of each provider.
const ORDERS: u32 = 150;
/// One in this many is refunded before its payment is reported.
const EARLY: u32 = 15;
/// One in this many is refunded, and reported at any time.
const REFUNDED: u32 = 5;
/// One in this many callbacks comes twice.
const TWICE: usize = 5;
/// Callbacks that each provider sends only after the kill, however late that comes.
const KEPT_BACK: usize = 50;
/// The time for which the ledger is down.
const DOWN: Duration = Duration::from_millis(400);
/// The longest time of all callbacks together.
const PATIENCE: Duration = Duration::from_secs(45);

/// What was sent, and what must be in the books.
pub(super) struct Paid {
    pub(super) process: Process,
    pub(super) merchant: Process,
    pub(super) ledger: Ledger,
    /// Callbacks that must be in the books once, by number.
    pub(super) genuine: BTreeMap<String, Callback>,
    /// Numbers that were acknowledged before the kill.
    pub(super) before: Vec<String>,
    /// Acknowledgements of what had been acknowledged before.
    pub(super) twice: usize,
    /// Numbers that must not be in the books.
    pub(super) forged: Vec<String>,
}

impl Story<'_> {
    pub(super) async fn payments(&mut self) -> Result<Paid, String> {
        self.tell.act("Payments: signed callbacks, some twice, some forged, and kill -9 of the ledger among them");
        self.tell.quote(self.conf.books().trim_start());
        let merchant = self.start_merchant().await?;
        let process = self.start_ledger().await?;
        let ledger = Ledger { address: self.conf.ledger, token: self.secrets.token.clone() };
        let (early, crowd) = (early(), crowd());
        let mut genuine = BTreeMap::new();
        genuine.extend(early.iter().chain(&crowd).map(|callback| (callback.number(), callback.clone())));
        let (before, twice, forged) = (vec![], early.len() + crowd.len() - genuine.len(), vec![]);
        let mut paid = Paid { process, merchant, ledger, genuine, before, twice, forged };
        self.refunds_come_first(&early, &mut paid).await?;
        self.forge(&mut paid).await?;
        self.kill_among(&crowd, &mut paid).await?;
        self.turn("the books agree").await?;
        Ok(paid)
    }

    async fn start_merchant(&self) -> Result<Process, String> {
        let (address, secret) = (self.conf.merchant, self.folder.at("secrets/shop.whsec"));
        let (text, secret) = (address.to_string(), secret.to_string_lossy());
        let process = Process::part(&["merchant", &text, &secret], Stdio::null(), Stdio::inherit())?;
        let hears = async || client::once(address, "GET", "/heard").await.is_ok().then_some(());
        until("the merchant to hear", LIMIT, hears).await?;
        self.tell.say(format_args!("merchant     {address}   pid {}", process.id()));
        Ok(process)
    }

    /// Starts the ledger, for the first time or again.
    async fn start_ledger(&self) -> Result<Process, String> {
        let begun = clock::now();
        let (file, log) = (self.folder.at("gateway.toml"), self.folder.at("ledger.log"));
        let opened = File::options().create(true).append(true).open(&log);
        let messages = opened.map_err(|e| format!("{}: {e}", log.display()))?;
        let mut process = self.tollgate.serve(&["ledger", "run"], &file, messages.into())?;
        let ledger = Ledger { address: self.conf.ledger, token: String::new() };
        let ready = async || match process.ended() {
            Some(status) => Some(Err(format!("the ledger ended at once ({status})"))),
            None => ledger.is_ready().await.then_some(Ok(())),
        };
        let waited = until("the ledger to be ready", LIMIT, ready).await.and_then(|ready| ready);
        waited.map_err(|why| {
            format!("{why}; it said:\n{}", std::fs::read_to_string(&log).unwrap_or_default().trim_end())
        })?;
        let after = ms(clock::now().since(begun));
        self.tell.say(format_args!("ledger       {}   pid {}   ready after {after}", ledger.address, process.id()));
        Ok(process)
    }

    async fn refunds_come_first(&mut self, early: &[Callback], paid: &mut Paid) -> Result<(), String> {
        let senders = Senders::start(self.visitor.door.clone(), &self.secrets, early, 0);
        let tally = within("the early refunds to be acknowledged", PATIENCE, senders.done()).await?;
        self.visitor.answers += tally.answers;
        paid.before.extend(tally.acknowledged.iter().map(Callback::number));
        let parked = paid.ledger.json("/v1/transactions?state=parked&kind=refund&limit=1000").await?;
        let parked = parked["data"].as_array().map_or(0, Vec::len);
        self.promise(
            tally.acknowledged.len() == early.len() && parked == early.len(),
            format!("{parked} refunds came before their payments: acknowledged, and parked until these come"),
        );
        Ok(())
    }

    /// Sends payments, each with one byte changed.
    async fn forge(&mut self, paid: &mut Paid) -> Result<(), String> {
        let mut refused = 0;
        for channel in CHANNELS {
            let callback = Callback { channel, order: ORDERS, is_refund: false, amount: amount(channel, ORDERS) };
            let forged = callback.signed(&self.secrets, clock::wall_ms()).forged();
            let answer = send(&self.visitor.door, &mut None, &forged).await?;
            self.visitor.answers += 1;
            refused += usize::from(answer.status.as_u16() == 401);
            self.tell.say(format_args!("POST {}, a byte flipped: {}", forged.path, answer.status));
            paid.forged.push(callback.number());
        }
        self.promise(refused == CHANNELS.len(), format!("{refused} forged payments, a byte flipped in each: 401"));
        Ok(())
    }

    /// Sends all callbacks, and kills the ledger once a third of them is acknowledged.
    async fn kill_among(&mut self, crowd: &[Callback], paid: &mut Paid) -> Result<(), String> {
        let senders = Senders::start(self.visitor.door.clone(), &self.secrets, crowd, KEPT_BACK);
        let payments = ORDERS as usize * CHANNELS.len();
        let refunds = paid.genuine.values().filter(|callback| callback.is_refund).count() - paid.before.len();
        self.tell.say(format_args!(
            "{} callbacks of {} providers: {payments} payments, {refunds} refunds, {} of them twice",
            crowd.len(),
            CHANNELS.len(),
            paid.twice
        ));
        let third = async || {
            let seen = senders.look(|tally| (tally.acknowledged.len(), tally.in_flight));
            (seen.0 >= crowd.len() / 3).then_some(seen.1)
        };
        let in_flight = until("a third of the callbacks to be acknowledged", PATIENCE, third).await?;
        paid.before.extend(senders.look(|tally| tally.acknowledged.iter().map(Callback::number).collect::<Vec<_>>()));
        let (id, killed) = (paid.process.id(), clock::now());
        paid.process.kill()?;
        let before = senders.look(|tally| tally.acknowledged.len());
        self.tell.say(format_args!("kill -9 {id} with {before} of them acknowledged and {in_flight} unanswered"));
        senders.send_all();
        // Wait until a callback fails because there is no ledger.
        let away = async || senders.look(|tally| (tally.came_again > 0).then_some(()));
        until("a callback that nobody acknowledges", LIMIT, away).await?;
        tokio::time::sleep(DOWN).await;
        paid.process = self.start_ledger().await?;
        let down = ms(clock::now().since(killed));
        let tally = within("all callbacks to be acknowledged", PATIENCE, senders.done()).await?;
        self.visitor.answers += tally.answers;
        let again = tally.came_again;
        self.promise(
            again > 0,
            format!("{again} callbacks were not acknowledged in the {down} without a ledger, and came again"),
        );
        tally.wrong.iter().take(3).for_each(|wrong| self.tell.quote(wrong));
        self.promise(
            tally.wrong.is_empty() && tally.acknowledged.len() == crowd.len(),
            format!("all {} callbacks were acknowledged in the end", thousands(tally.acknowledged.len() as u64)),
        );
        Ok(())
    }
}

/// Refunds of payments that are not reported yet.
fn early() -> Vec<Callback> {
    let orders = (0..ORDERS).filter(|order| order % EARLY == 0);
    orders.flat_map(|order| CHANNELS.map(|channel| refund(channel, order))).collect()
}

/// All payments and the other refunds, some of them twice, in any order.
fn crowd() -> Vec<Callback> {
    let mut all = vec![];
    for channel in CHANNELS {
        for order in 0..ORDERS {
            all.push(Callback { channel, order, is_refund: false, amount: amount(channel, order) });
            if order % REFUNDED == 1 {
                all.push(refund(channel, order));
            }
        }
    }
    let twice: Vec<Callback> = all.iter().step_by(TWICE).cloned().collect();
    all.extend(twice);
    fastrand::shuffle(&mut all);
    all
}

/// Whole units of money, so that every fee is a whole number of cents.
fn amount(channel: Channel, order: u32) -> i64 {
    100 * (10 + (i64::from(order) * 37 + channel as i64 * 61) % (190 + channel as i64))
}

/// Half of the payment, or a little less.
fn refund(channel: Channel, order: u32) -> Callback {
    Callback { channel, order, is_refund: true, amount: amount(channel, order) / 200 * 100 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_refund_has_its_payment_and_some_callbacks_come_twice() {
        let (early, crowd) = (early(), crowd());
        let numbers: BTreeSet<String> = crowd.iter().map(Callback::number).collect();
        assert!(numbers.len() < crowd.len() && early.iter().all(|refund| !numbers.contains(&refund.number())));
        for refund in early.iter().chain(&crowd).filter(|callback| callback.is_refund) {
            let payment = crowd.iter().find(|c| !c.is_refund && (c.channel, c.order) == (refund.channel, refund.order));
            assert!(payment.is_some_and(|payment| refund.amount < payment.amount && refund.amount > 0));
        }
    }
}
