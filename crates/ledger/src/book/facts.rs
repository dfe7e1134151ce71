//! What is known of the books while a batch is decided: rows from the store, and what the batch has added.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::rows::{Finding, IdempotencyKey, Order, Reconciliation, Refund, Transaction, Transfer};
use crate::store::Loaded;
use crate::stored_enum::{AnomalyKind, TxState};
use providers::event::{Kind, Of};

type KeyText = (String, String, Kind, String);

/// The transactions and orders that matter to a batch.
#[derive(Debug, Default)]
pub struct Facts {
    transactions: Vec<Transaction>,
    /// The transactions that came from the store, by `seq`.
    loaded: HashSet<i64>,
    by_key: HashMap<KeyText, usize>,
    /// Payments by channel and out_trade_no.
    by_trade: HashMap<(String, String), Vec<usize>>,
    /// Transactions by provider, kind and the provider's number.
    by_number: HashMap<(String, Kind, String), Vec<usize>>,
    /// Parked transactions by provider and `of`.
    parked: HashMap<(String, String), Vec<usize>>,
    orders: Vec<Order>,
    order_by_trade: HashMap<(String, String), usize>,
    order_by_id: HashMap<Uuid, usize>,
    refunds: Vec<Refund>,
    idempotency_keys: HashMap<String, IdempotencyKey>,
    transfers: HashMap<Uuid, Transfer>,
    reconciliations: Vec<Reconciliation>,
    findings: HashSet<(Uuid, AnomalyKind, String)>,
}

/// The name by which a transaction refers to its payment: `n:` and the provider's number, or `o:` and the order's.
pub fn of(of: &Of) -> String {
    match of {
        Of::Number(number) => format!("n:{number}"),
        Of::OutTradeNo(number) => format!("o:{number}"),
    }
}

impl Facts {
    /// The facts that the store has.
    pub fn new(loaded: Loaded) -> Facts {
        let mut facts = Facts::default();
        facts.extend(loaded);
        facts
    }

    /// Adds what the store has, unless it is there already.
    pub fn extend(&mut self, loaded: Loaded) {
        loaded.orders.into_iter().for_each(|order| self.add_order(order));
        let mut transactions = loaded.transactions;
        transactions.sort_by_key(|transaction| transaction.seq);
        for transaction in transactions {
            if self.loaded.insert(transaction.seq) {
                self.add(transaction);
            }
        }
        loaded.refunds.into_iter().for_each(|refund| self.add_refund(refund));
        loaded.idempotency_keys.into_iter().for_each(|key| self.add_key(key));
        loaded.transfers.into_iter().for_each(|transfer| self.add_transfer(transfer));
        loaded.reconciliations.into_iter().for_each(|row| self.add_reconciliation(row));
        loaded.findings.into_iter().for_each(|row| self.add_finding(row));
    }

    /// Adds a requested refund, unless it is there already.
    pub fn add_refund(&mut self, refund: Refund) {
        if self.refunds.iter().all(|known| known.id != refund.id) {
            self.refunds.push(refund);
        }
    }

    /// Adds a reconciliation.
    pub fn add_reconciliation(&mut self, row: Reconciliation) {
        self.reconciliations.push(row);
    }

    /// The reconciliation of a statement.
    pub fn reconciliation(&self, channel: &str, day: &str) -> Option<&Reconciliation> {
        self.reconciliations.iter().find(|row| row.channel == channel && row.day == day)
    }

    /// Adds a finding.
    pub fn add_finding(&mut self, row: Finding) {
        self.findings.insert((row.reconciliation_id, row.kind, row.number));
    }

    /// Whether a statement has found this before.
    pub fn has_finding(&self, reconciliation: Uuid, kind: AnomalyKind, number: &str) -> bool {
        self.findings.contains(&(reconciliation, kind, number.to_owned()))
    }

    /// Adds a transfer.
    pub fn add_transfer(&mut self, transfer: Transfer) {
        self.transfers.insert(transfer.id, transfer);
    }

    /// A transfer by id.
    pub fn transfer(&mut self, id: Uuid) -> Option<&mut Transfer> {
        self.transfers.get_mut(&id)
    }

    /// Adds an idempotency key.
    pub fn add_key(&mut self, key: IdempotencyKey) {
        self.idempotency_keys.insert(key.key.clone(), key);
    }

    /// The call that has this idempotency key.
    pub fn key(&self, digest: &str) -> Option<&IdempotencyKey> {
        self.idempotency_keys.get(digest)
    }

    /// A requested refund, by itself and its order.
    pub fn refund_where(&mut self, is: impl Fn(&Refund, &Order) -> bool) -> Option<&mut Refund> {
        let Facts { refunds, orders, order_by_id, .. } = self;
        let order = |refund: &Refund| order_by_id.get(&refund.order_id).map(|at| &orders[*at]);
        refunds.iter_mut().find(|refund| order(refund).is_some_and(|order| is(refund, order)))
    }

    /// The places of all transactions of an order, in the order in which they came.
    pub fn of_order(&self, order: Uuid) -> Vec<usize> {
        let of = |at: &usize| self.transactions[*at].order_id == Some(order);
        let mut places: Vec<usize> = (0..self.transactions.len()).filter(of).collect();
        places.sort_by_key(|at| self.transactions[*at].seq);
        places
    }

    /// The transactions of a channel that name a refund by this number.
    pub fn naming_refund(&self, channel: &str, out_refund_no: &str) -> impl Iterator<Item = &Transaction> {
        let is = move |found: &&Transaction| {
            found.channel == channel && found.out_refund_no.as_deref() == Some(out_refund_no)
        };
        self.transactions.iter().filter(is)
    }

    /// The places of all payments with an out_trade_no in a channel, in the order in which they came.
    pub fn payments(&self, channel: &str, out_trade_no: &str) -> Vec<usize> {
        let mut places = self.by_trade.get(&(channel.to_owned(), out_trade_no.to_owned())).cloned().unwrap_or_default();
        places.sort_by_key(|at| self.transactions[*at].seq);
        places
    }

    /// Adds a transaction; returns its place.
    pub fn add(&mut self, transaction: Transaction) -> usize {
        let at = self.transactions.len();
        let Transaction { provider, account, kind, key, .. } = &transaction;
        self.by_key.insert((provider.clone(), account.clone(), *kind, key.clone()), at);
        if let (Kind::Payment, Some(number)) = (kind, &transaction.out_trade_no) {
            self.by_trade.entry((transaction.channel.clone(), number.clone())).or_default().push(at);
        }
        if let (TxState::Parked, Some(of)) = (transaction.state, &transaction.of) {
            self.parked.entry((provider.clone(), of.clone())).or_default().push(at);
        }
        if let Some(number) = &transaction.channel_txn_no {
            self.by_number.entry((provider.clone(), *kind, number.clone())).or_default().push(at);
        }
        self.transactions.push(transaction);
        at
    }

    /// Adds an order, unless it is there already.
    pub fn add_order(&mut self, order: Order) {
        if self.order_by_id.contains_key(&order.id) {
            return;
        }
        let at = self.orders.len();
        self.order_by_trade.insert((order.channel.clone(), order.out_trade_no.clone()), at);
        self.order_by_id.insert(order.id, at);
        self.orders.push(order);
    }

    /// The transaction at a place.
    pub fn transaction(&self, at: usize) -> &Transaction {
        &self.transactions[at]
    }

    /// The transaction at a place, to change its state.
    pub fn transaction_mut(&mut self, at: usize) -> &mut Transaction {
        &mut self.transactions[at]
    }

    /// The place of a transaction by meaning.
    pub fn place(&self, provider: &str, account: &str, kind: Kind, key: &str) -> Option<usize> {
        self.by_key.get(&(provider.to_owned(), account.to_owned(), kind, key.to_owned())).copied()
    }

    /// The places of all transactions with a provider's number, in any account, in the order in which they came.
    pub fn numbered(&self, provider: &str, kind: Kind, number: &str) -> Vec<usize> {
        let mut places =
            self.by_number.get(&(provider.to_owned(), kind, number.to_owned())).cloned().unwrap_or_default();
        places.sort_by_key(|at| self.transactions[*at].seq);
        places
    }

    /// The payment of an out_trade_no in a channel: a posted one, else one in suspense, else a parked one.
    pub fn payment_of(&self, channel: &str, out_trade_no: &str) -> Option<usize> {
        let places = self.by_trade.get(&(channel.to_owned(), out_trade_no.to_owned()))?;
        let rank = |at: &usize| match self.transactions[*at].state {
            TxState::Posted => 0,
            TxState::Suspense => 1,
            TxState::Parked => 2,
            TxState::Noted => 3,
        };
        places.iter().copied().min_by_key(|at| (rank(at), self.transactions[*at].seq))
    }

    /// The parked transactions that wait for `of`, in one account or in any, in the order in which they came.
    pub fn parked(&self, provider: &str, account: Option<&str>, of: &str) -> Vec<usize> {
        let mut parked = self.parked.get(&(provider.to_owned(), of.to_owned())).cloned().unwrap_or_default();
        let is_there = |waits: &Transaction| account.is_none_or(|account| waits.account == account);
        parked.retain(|at| {
            let waits = &self.transactions[*at];
            waits.state == TxState::Parked && is_there(waits)
        });
        parked.sort_by_key(|at| self.transactions[*at].seq);
        parked
    }

    /// The id of an order by channel and out_trade_no.
    pub fn order_id(&self, channel: &str, out_trade_no: &str) -> Option<Uuid> {
        let at = *self.order_by_trade.get(&(channel.to_owned(), out_trade_no.to_owned()))?;
        self.orders.get(at).map(|order| order.id)
    }

    /// An order by channel and out_trade_no.
    pub fn order_of(&mut self, channel: &str, out_trade_no: &str) -> Option<&mut Order> {
        let at = *self.order_by_trade.get(&(channel.to_owned(), out_trade_no.to_owned()))?;
        self.orders.get_mut(at)
    }

    /// An order by id.
    pub fn order(&mut self, id: Uuid) -> Option<&mut Order> {
        let at = *self.order_by_id.get(&id)?;
        self.orders.get_mut(at)
    }
}
