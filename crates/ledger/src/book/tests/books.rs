//! Books in memory that answer exactly what is asked, and messages for them.

use base::secret::Secret;

use super::*;
use crate::command::{Call, Command, Commanded, key_digest};
use crate::keys::Ring;
use crate::rows::{BalanceRow, Finding, IdempotencyKey, Reconciliation, Refund, Transfer};

/// Books in memory.
pub(super) struct Books {
    pub(super) rows: BTreeMap<i64, Row>,
    pub(super) channel: Arc<Channel>,
    pub(super) clock: i64,
    pub(super) provider: &'static Provider,
    /// Balances, whose currency is always the same.
    pub(super) held: BTreeMap<String, BalanceRow>,
    /// The facts of a batch that goes on.
    pub(super) shared: Option<Facts>,
}

/// By a clock that is right.
pub(super) fn at(now: i64) -> Time {
    Time { recorded: now, wall: now }
}

pub(super) fn channel() -> Channel {
    Channel {
        name: "card".into(),
        provider: Configured { provider: &stripe::PROVIDER, values: Values::default() },
        merchant: "shop".into(),
        require_order: false,
        fee: None,
        query_after: vec![],
    }
}

impl Books {
    pub(super) fn new() -> Books {
        Books::with(channel())
    }

    pub(super) fn with(channel: Channel) -> Books {
        Books {
            rows: BTreeMap::new(),
            channel: Arc::new(channel),
            clock: 1_000,
            provider: &stripe::PROVIDER,
            held: BTreeMap::new(),
            shared: None,
        }
    }

    pub(super) fn all<T: Typed>(&self) -> Vec<T> {
        let rows = self.rows.values().filter(|row| row.table == T::TABLE);
        rows.map(|row| {
            let mut cells = vec![Value::Int(row.seq), Value::Text(row.id.to_string())];
            cells.extend(row.values.clone());
            T::from_cells(cells).unwrap()
        })
        .collect()
    }

    pub(super) fn load(&self, asked: &Wanted) -> Loaded {
        let mut transactions: Vec<Transaction> = self.all();
        transactions.retain(|t| {
            let by_key = asked.keys.iter().any(|key| {
                (key.provider, &key.account, key.kind, &key.key) == (&*t.provider, &t.account, t.kind, &t.key)
            });
            let by_trade = t.kind == Kind::Payment
                && asked.trades.iter().any(|(c, o)| *c == t.channel && Some(o) == t.out_trade_no.as_ref());
            let waits = t.state == TxState::Parked
                && asked.waiting.iter().any(|(p, a, of)| {
                    *p == t.provider && a.as_ref().is_none_or(|a| *a == t.account) && Some(of) == t.of.as_ref()
                });
            let by_number = asked.numbers.iter().any(|(p, kind, number)| {
                *p == t.provider && *kind == t.kind && Some(number) == t.channel_txn_no.as_ref()
            });
            let of_order = asked.of_orders.iter().any(|(c, o)| {
                self.all().iter().any(|order: &Order| {
                    Some(order.id) == t.order_id && *c == order.channel && *o == order.out_trade_no
                })
            });
            let of_id = t.order_id.is_some_and(|id| asked.transactions_of.contains(&id));
            let names = t.out_refund_no.clone().map(|no| (t.channel.clone(), no));
            let is_named = names.is_some_and(|named| asked.named_refunds.contains(&named));
            by_key || by_number || by_trade || waits || of_order || of_id || is_named
        });
        let mut refunds: Vec<Refund> = self.all();
        refunds.retain(|refund| {
            asked.refunds.iter().any(|(order, no)| *order == refund.order_id && *no == refund.out_refund_no)
                || asked.refunds_of.iter().any(|(c, no)| {
                    let of = |order: &Order| order.id == refund.order_id && *no == order.out_trade_no;
                    *c == refund.channel && self.all::<Order>().iter().any(of)
                })
                || asked.refund_txns.iter().any(|no| Some(no) == refund.refund_txn_no.as_ref())
        });
        let mut idempotency_keys: Vec<IdempotencyKey> = self.all();
        idempotency_keys.retain(|key| asked.idempotency_keys.contains(&key.key));
        let mut orders: Vec<Order> = self.all();
        orders.retain(|order| {
            asked.orders.iter().any(|(c, o)| *c == order.channel && *o == order.out_trade_no)
                || asked.order_ids.contains(&order.id)
                || transactions.iter().any(|t| t.order_id == Some(order.id))
                || refunds.iter().any(|refund| refund.order_id == order.id)
        });
        let mut transfers: Vec<Transfer> = self.all();
        transfers.retain(|transfer| asked.transfers.contains(&transfer.id));
        let mut reconciliations: Vec<Reconciliation> = self.all();
        reconciliations.retain(|row| asked.reconciliations.contains(&(row.channel.clone(), row.day.clone())));
        let mut findings: Vec<Finding> = self.all();
        findings.retain(|row| reconciliations.iter().any(|of| of.id == row.reconciliation_id));
        Loaded { transactions, orders, refunds, idempotency_keys, transfers, reconciliations, findings }
    }

    /// What a callback does, and its outcome.
    pub(super) fn take(&mut self, event: &ProviderEvent) -> Outcome {
        self.run(event, decide)
    }

    pub(super) fn run<T>(
        &mut self,
        event: &ProviderEvent,
        does: impl FnOnce(&Callback<'_>, &mut Facts, &mut PostingBuilder<'_>) -> T,
    ) -> T {
        self.clock += 1;
        let evidence = Evidence {
            seq: 0,
            id: Uuid::now_v7(),
            channel: "card".into(),
            key_id: Uuid::nil(),
            received_at: self.clock,
            headers: vec![],
            body: vec![],
        };
        let channel = self.channel.clone();
        let callback = Callback { provider: self.provider, channel: &channel, event, evidence: &evidence };
        let mut asked = Wanted::default();
        asks(&callback, &mut asked);
        let mut facts = Facts::new(self.load(&asked));
        let mut more = Wanted::default();
        asks_more(&callback, &facts, &mut more);
        asks_to_accept(&callback, &facts, &mut more);
        facts.extend(self.load(&more));
        let mut ids = Uuid::now_v7;
        let last = self.rows.keys().next_back().copied().unwrap_or(0);
        let mut scribe = PostingBuilder::new(last, at(self.clock), &mut ids);
        let outcome = does(&callback, &mut facts, &mut scribe);
        let plan = scribe.done();
        self.keep(last, plan);
        outcome
    }

    /// What a caller of the API asks for, and the answer: its status, and its object or the end of the problem's type.
    pub(super) fn ask(&mut self, key: &str, call: Call) -> (u16, serde_json::Value) {
        self.clock += 1;
        let ring = Ring::open(&[Secret([7; 32].into())], &[], 0).unwrap().0;
        let command = Command {
            merchant: Some("shop".into()),
            key: key_digest(Some("shop"), key),
            fingerprint: format!("{call:?}"),
            call,
            sealing: ring.today(0).unwrap(),
        };
        let mut asked = Wanted::default();
        command.asks(&mut asked);
        let mut facts = Facts::new(self.load(&asked));
        let mut more = Wanted::default();
        command.asks_more(&mut facts, &mut more);
        facts.extend(self.load(&more));
        // Within a batch nothing is read anew.
        let mut facts = self.shared.take().unwrap_or(facts);
        let mut ids = Uuid::now_v7;
        let last = self.rows.keys().next_back().copied().unwrap_or(0);
        let mut scribe = PostingBuilder::new(last, at(self.clock), &mut ids);
        let balance =
            |account: &str, currency| self.held.get(account).cloned().unwrap_or(BalanceRow::new(account, currency));
        let answer = command.decide(&mut facts, balance, &mut scribe);
        let plan = scribe.done();
        self.keep(last, plan);
        match answer {
            Commanded::Answer { status, body } => (status, serde_json::from_slice(&body).unwrap()),
            Commanded::Before { status, .. } => (status, "before".into()),
            Commanded::Other => (422, "other".into()),
            Commanded::Running => (409, "running".into()),
            Commanded::Calls(subject) => (0, subject.id().to_string().into()),
        }
    }

    /// A message and a call in one batch, whose facts they share.
    pub(super) fn batch(&mut self, event: &ProviderEvent, call: Call) {
        let facts = std::cell::RefCell::new(Facts::default());
        self.run(event, |callback, own, scribe| {
            decide(callback, own, scribe);
            std::mem::swap(own, &mut facts.borrow_mut());
        });
        self.shared = Some(facts.into_inner());
        self.ask("batch", call);
    }

    /// Does what is due of a transfer.
    pub(super) fn due(&mut self, id: Uuid) {
        let mut facts = Facts::new(self.load(&Wanted { transfers: vec![id], ..Wanted::default() }));
        let mut ids = Uuid::now_v7;
        let last = self.rows.keys().next_back().copied().unwrap_or(0);
        let mut scribe = PostingBuilder::new(last, at(self.clock), &mut ids);
        crate::book::transfers::due(id, &mut facts, &mut scribe);
        let plan = scribe.done();
        self.keep(last, plan);
    }

    /// Lets time pass, in milliseconds.
    pub(super) fn passes(&mut self, ms: i64) {
        self.clock += ms;
    }

    pub(super) fn keep(&mut self, last: i64, plan: Postings) {
        for movement in plan.moved {
            let empty = || BalanceRow::new(&movement.account, movement.currency);
            movement.add_to(self.held.entry(movement.account.clone()).or_insert_with(empty));
        }
        for (n, row) in plan.rows.into_iter().enumerate() {
            assert_eq!(row.seq, last + 1 + n as i64, "rows have no gap");
            self.rows.insert(row.seq, row);
        }
        for ((table, seq), update) in plan.updates {
            let row = self.rows.get_mut(&seq).unwrap();
            assert_eq!(row.table, table);
            row.values.splice(table.frozen().len().., update.state);
        }
        self.check();
    }

    /// What holds after every message.
    pub(super) fn check(&self) {
        let mut journals = BTreeMap::<Uuid, i64>::new();
        for entry in self.all::<Entry>() {
            let sign = if entry.side == Side::Debit { 1 } else { -1 };
            *journals.entry(entry.journal_id).or_default() += sign * entry.amount_minor;
        }
        assert!(journals.values().all(|sum| *sum == 0), "every journal sums to zero");
        let transactions: Vec<Transaction> = self.all();
        for payment in transactions.iter().filter(|t| t.kind == Kind::Payment && t.state == TxState::Posted) {
            assert!((0..=payment.amount_minor.unwrap()).contains(&payment.refunded_minor));
        }
        let told: Vec<Outgoing> = self.all();
        let booked = transactions.iter().filter(|t| matches!(t.state, TxState::Posted | TxState::Suspense));
        for transaction in booked.filter(|t| t.evidence_id.is_some()) {
            let kind = format!("{}.{}", transaction.kind.word(), transaction.state.word());
            let of = |event: &&Outgoing| event.transaction_id == transaction.id && event.kind == kind;
            // What an adoption moves to suspense is told by its answer.
            let moved = transaction.state == TxState::Suspense && transaction.first_state == TxState::Posted;
            assert_eq!(told.iter().filter(of).count(), usize::from(!moved), "one event each");
        }
    }

    pub(super) fn balance(&self, account: &str) -> i64 {
        let entries = self.all::<Entry>();
        let of = entries.iter().filter(|entry| entry.account == account);
        of.map(|e| if e.side == Side::Debit { e.amount_minor } else { -e.amount_minor }).sum()
    }

    pub(super) fn order(&self) -> Order {
        self.all::<Order>().remove(0)
    }

    pub(super) fn anomalies(&self) -> Vec<&'static str> {
        self.all::<Anomaly>().iter().map(|anomaly| anomaly.kind.word()).collect()
    }

    pub(super) fn states(&self) -> Vec<(&'static str, &'static str)> {
        self.all::<Transaction>().iter().map(|t| (t.kind.word(), t.state.word())).collect()
    }
}

pub(super) fn usd() -> Currency {
    Currency::parse("USD").unwrap()
}

pub(super) fn paid(number: &str, trade: &str, amount: i64) -> ProviderEvent {
    ProviderEvent {
        kind: Kind::Payment,
        effect: Effect::Book,
        account: String::new(),
        key: number.into(),
        number: Some(number.into()),
        out_trade_no: Some(trade.into()),
        of: None,
        amount: Some(Amount::Exact(amount)),
        currency: Some(usd()),
        occurred_ms: Some(5),
        request: None,
    }
}

pub(super) fn of(kind: Kind, number: &str, payment: &str, amount: i64) -> ProviderEvent {
    ProviderEvent {
        kind,
        out_trade_no: None,
        of: Some(Of::Number(payment.into())),
        key: number.into(),
        number: Some(number.into()),
        ..paid("", "", amount)
    }
}

pub(super) fn cumulative(number: &str, payment: &str, all: i64) -> ProviderEvent {
    ProviderEvent { amount: Some(Amount::Cumulative(all)), ..of(Kind::Refund, number, payment, 0) }
}

pub(super) const ASSETS: &str = "assets:channel:card";
pub(super) const OWED: &str = "liabilities:merchant:shop";
pub(super) const SUSPENSE: &str = "liabilities:suspense:card";
