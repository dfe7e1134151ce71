//! A small book in a file, with one of everything, written through the rows' own types and linked with the chain's key.

mod requests;

use std::collections::BTreeMap;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::chain::ChainKey;
use crate::resolve;
use crate::rows::*;
use crate::store::schema::{INDEXES, SqlDialect};
use crate::store::{Reader, StoreError};
use crate::stored_enum::*;
use base::units::Currency;
use providers::event::Kind;

pub use self::requests::full;

/// When the first row was written: 2026-11-21T03:38:00.120Z; each callback is a second later.
pub const START: i64 = 1_795_232_280_120;

/// Reads a file, as strictly about types as a store may be.
pub struct TestReader(Connection);

struct Bound<'v>(&'v Value);

impl rusqlite::ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn failure(e: impl ToString) -> StoreError {
    StoreError::Row(e.to_string())
}

impl Reader for TestReader {
    fn select(&mut self, sql: &str, values: &[Value], types: &[Type]) -> Result<Vec<Vec<Value>>, StoreError> {
        let mut statement = self.0.prepare(sql).map_err(failure)?;
        assert_eq!(statement.column_count(), types.len(), "{sql}");
        let bound: Vec<_> = values.iter().map(Bound).collect();
        let mut rows = statement.query(rusqlite::params_from_iter(bound)).map_err(failure)?;
        let mut found = vec![];
        while let Some(row) = rows.next().map_err(failure)? {
            let cell = |(at, ty): (usize, &Type)| match (row.get_ref(at).map_err(failure)?, ty) {
                (ValueRef::Null, _) => Ok(Value::Null),
                (ValueRef::Integer(number), Type::Int) => Ok(Value::Int(number)),
                (ValueRef::Text(text), Type::Text) => {
                    Ok(Value::Text(String::from_utf8(text.to_vec()).map_err(failure)?))
                }
                (ValueRef::Blob(bytes), Type::Blob) => Ok(Value::Blob(bytes.to_vec())),
                _ => Err(failure("another type")),
            };
            found.push(types.iter().enumerate().map(cell).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(found)
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        self.0.execute_batch("BEGIN").map_err(failure)
    }

    fn end(&mut self) {
        self.0.execute_batch("COMMIT").unwrap();
    }
}

/// A book that is being written.
pub struct Book {
    folder: tempfile::TempDir,
    /// What may be tampered with.
    pub store: Connection,
    /// The chain's key.
    pub key: ChainKey,
    seq: i64,
    head: Vec<u8>,
    time: i64,
    pending: Vec<Row>,
    balances: BTreeMap<(String, &'static str), (i128, i128)>,
    /// What is pending.
    held: BTreeMap<(String, &'static str), (i128, i128)>,
}

impl Book {
    /// Without a row.
    pub fn empty() -> Book {
        let folder = tempfile::tempdir().unwrap();
        let store = Connection::open(folder.path().join("ledger.db")).unwrap();
        store.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF").unwrap();
        for sql in SqlDialect::Sqlite.tables() {
            // Who can write to the file can take its types away, too.
            let loose = sql.replace(" STRICT, WITHOUT ROWID", "").replace(" STRICT", "");
            store.execute_batch(&loose).unwrap();
        }
        INDEXES.iter().for_each(|sql| store.execute_batch(sql).unwrap());
        let (key, balances, held) = (ChainKey::new(&[7; 32]), BTreeMap::new(), BTreeMap::new());
        Book { folder, store, key, seq: 0, head: vec![], time: START, pending: vec![], balances, held }
    }

    /// Another connection to it.
    pub fn reader(&self) -> TestReader {
        TestReader(Connection::open(self.folder.path().join("ledger.db")).unwrap())
    }

    /// Where it stands: the last row's place and link.
    pub fn head(&self) -> (i64, Vec<u8>) {
        (self.seq, self.head.clone())
    }

    /// The folder it stands in.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    fn next(&mut self) -> (i64, Uuid) {
        self.seq += 1;
        (self.seq, Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + self.seq as u128))
    }

    fn push(&mut self, row: &impl Typed) {
        self.pending.push(row.row());
    }

    /// Writes what was added, under one link.
    pub fn commit(&mut self) {
        let rows = std::mem::take(&mut self.pending);
        self.store.execute_batch("BEGIN").unwrap();
        for row in &rows {
            let mut values = vec![Value::Int(row.seq), row.id.put()];
            values.extend(row.values.iter().cloned());
            for part in row.table.parts() {
                let columns: Vec<_> = part.columns().map(|column| format!("\"{}\"", column.name)).collect();
                let marks = vec!["?"; columns.len()].join(", ");
                let sql = format!("INSERT INTO {} ({}) VALUES ({marks})", part.name, columns.join(", "));
                let own = part.columns.iter().map(|(at, _)| Bound(&values[*at]));
                self.store.execute(&sql, rusqlite::params_from_iter(own)).unwrap();
            }
        }
        let link = self.key.link(&self.head, &rows);
        let sql = "INSERT INTO chain (seq, rows, link) VALUES (?, ?, ?)";
        self.store.execute(sql, params![link.seq, link.rows, link.link]).unwrap();
        for ((account, currency), (debit, credit)) in &self.balances {
            let sql = "INSERT OR REPLACE INTO balances (account, currency, debit, credit) VALUES (?, ?, ?, ?)";
            self.store.execute(sql, params![account, currency, debit.to_string(), credit.to_string()]).unwrap();
        }
        for ((account, currency), (debit, credit)) in &self.held {
            let sql =
                "UPDATE balances SET pending_debit = ?3, pending_credit = ?4 WHERE account = ?1 AND currency = ?2";
            self.store.execute(sql, params![account, currency, debit.to_string(), credit.to_string()]).unwrap();
        }
        self.store.execute_batch("COMMIT").unwrap();
        self.head = link.link;
        self.time += 1000;
    }

    /// Adds what was received.
    pub fn evidence(&mut self, channel: &str) -> Uuid {
        let (seq, id) = self.next();
        self.evidence_as(seq, id, channel)
    }

    /// Adds what was decided of an anomaly.
    pub fn resolution(&mut self, anomaly: Uuid, channel: &str) {
        let (seq, _) = self.next();
        self.evidence_as(seq, resolve::id_of(anomaly), channel);
    }

    fn evidence_as(&mut self, seq: i64, id: Uuid, channel: &str) -> Uuid {
        let (headers, body) = (vec![1, 2, 3], vec![4, 5, 6]);
        let key_id = Uuid::from_u128(9);
        self.push(&Evidence { seq, id, channel: channel.to_owned(), key_id, received_at: self.time, headers, body });
        id
    }

    /// Adds an order.
    pub fn order(&mut self, order: impl FnOnce(&mut Order)) -> Uuid {
        let (seq, id) = self.next();
        let mut row = Order {
            seq,
            id,
            merchant: "shop".to_owned(),
            channel: "card".to_owned(),
            out_trade_no: format!("T-{seq}"),
            amount_minor: 10_000,
            currency: Currency::CNY,
            source: Source::Callback,
            created_at: self.time,
            state: OrderState::Pending,
            paid_minor: 0,
            refunded_minor: 0,
            refund_pending_minor: 0,
            paid_at: None,
            asked_minor: None,
            asked_currency: None,
            query_at: None,
            provider_no: None,
            pay_id: None,
        };
        order(&mut row);
        row.paid_at = row.paid_at.map(|_| self.time);
        self.push(&row);
        id
    }

    /// Adds a transaction: by default a posted payment on `card`.
    pub fn fact(&mut self, fact: impl FnOnce(&mut Transaction)) -> Transaction {
        let (seq, id) = self.next();
        let mut row = Transaction {
            seq,
            id,
            evidence_id: None,
            provider: "stripe".to_owned(),
            account: String::new(),
            kind: Kind::Payment,
            key: format!("K-{seq}"),
            channel: "card".to_owned(),
            merchant: "shop".to_owned(),
            out_trade_no: None,
            channel_txn_no: None,
            of: None,
            amount_minor: Some(10_000),
            stated_trade_no: None,
            stated_minor: None,
            stated_currency: Some(Currency::CNY),
            currency: Some(Currency::CNY),
            occurred_at: self.time - 5_000,
            recorded_at: self.time,
            first_state: TxState::Posted,
            state: TxState::Posted,
            order_id: None,
            payment_txn_no: None,
            fee_minor: None,
            refunded_minor: 0,
            held_minor: 0,
            out_refund_no: None,
        };
        fact(&mut row);
        (row.stated_trade_no, row.stated_currency) = (row.out_trade_no.clone(), row.currency);
        self.push(&row);
        row
    }

    /// Adds a transaction's journal.
    pub fn journal(&mut self, of: &Transaction, what: What, debit: &str, credit: &str) {
        let (seq, id) = self.next();
        let (order_id, payment_txn_no, recorded_at) = (of.order_id, of.payment_txn_no.clone(), self.time);
        self.push(&Journal { seq, id, transaction_id: of.id, what, order_id, payment_txn_no, recorded_at });
        let (amount_minor, currency) = (of.amount_minor.unwrap(), of.currency.unwrap());
        for (side, account) in [(Side::Debit, debit), (Side::Credit, credit)] {
            let (seq, entry) = self.next();
            let account = account.to_owned();
            let code = if currency == Currency::CNY { "CNY" } else { "JPY" };
            let sums = self.balances.entry((account.clone(), code)).or_default();
            match side {
                Side::Debit => sums.0 += i128::from(amount_minor),
                Side::Credit => sums.1 += i128::from(amount_minor),
            }
            let (journal_id, transaction_id) = (id, of.id);
            let id = entry;
            self.push(&Entry {
                seq,
                id,
                journal_id,
                transaction_id,
                account,
                side,
                amount_minor,
                currency,
                recorded_at,
            });
        }
    }

    /// Adds what a merchant is told of it.
    pub fn event(&mut self, of: &Transaction, state: EventState) -> Uuid {
        let (seq, id) = self.next();
        let pending = state == EventState::Pending;
        self.push(&Outgoing {
            seq,
            id,
            kind: format!("{}.{}", of.kind.word(), of.state.word()),
            transaction_id: of.id,
            order_id: of.order_id,
            merchant: of.merchant.clone(),
            body: "{}".to_owned(),
            created_at: self.time,
            state,
            attempts: 1,
            round: 1,
            next_attempt_at: pending.then_some(self.time + 5_000),
            last_status: Some(if pending { 500 } else { 200 }),
            delivered_at: (!pending).then_some(self.time + 10),
        });
        id
    }

    /// Adds an anomaly.
    pub fn anomaly(&mut self, kind: AnomalyKind, channel: &str, merchant: &str, transaction_id: Option<Uuid>) -> Uuid {
        let (seq, id) = self.next();
        self.push(&Anomaly {
            seq,
            id,
            kind,
            channel: channel.to_owned(),
            merchant: merchant.to_owned(),
            transaction_id,
            evidence_id: None,
            detail: "500 CNY instead of 600".to_owned(),
            opened_at: self.time,
            state: AnomalyState::Open,
        });
        id
    }
}

const CARD: &str = "assets:channel:card";
const SHOP: &str = "liabilities:merchant:shop";

/// One of everything.
pub fn sample() -> Book {
    let mut book = Book::empty();
    paid_and_refunded(&mut book);
    in_suspense(&mut book);
    kept_only(&mut book);
    in_yen(&mut book);
    book.order(|order| (order.source, order.out_trade_no) = (Source::Api, "T-api".to_owned()));
    book.commit();
    book
}

/// A payment with a fee, a refund, its reversal in part, and a refund in suspense.
fn paid_and_refunded(book: &mut Book) {
    let evidence_id = Some(book.evidence("card"));
    let paid_at = Some(START);
    let order_id = Some(book.order(|order| {
        (order.state, order.out_trade_no) = (OrderState::PartiallyRefunded, "T-1".to_owned());
        (order.paid_minor, order.refunded_minor, order.paid_at) = (10_000, 2_000, paid_at);
    }));
    let payment = book.fact(|t| {
        (t.evidence_id, t.order_id, t.out_trade_no) = (evidence_id, order_id, Some("T-1".to_owned()));
        (t.channel_txn_no, t.fee_minor) = (Some("pi_1".to_owned()), Some(60));
        (t.refunded_minor, t.held_minor) = (2_000, 500);
    });
    book.journal(&payment, What::Post, CARD, SHOP);
    let fee = book.fact(|t| {
        (t.kind, t.amount_minor, t.provider) = (Kind::Fee, Some(60), String::new());
        (t.order_id, t.payment_txn_no) = (order_id, Some("pi_1".to_owned()));
    });
    book.journal(&fee, What::Post, SHOP, "income:fee:card");
    book.event(&payment, EventState::Delivered);
    book.commit();
    let later = [
        (Kind::Refund, 3_000, TxState::Posted),
        (Kind::RefundReversal, 1_000, TxState::Posted),
        (Kind::Refund, 500, TxState::Suspense),
    ];
    for (kind, amount, state) in later {
        let evidence_id = Some(book.evidence("card"));
        let fact = book.fact(|t| {
            (t.evidence_id, t.order_id, t.out_trade_no) = (evidence_id, order_id, Some("T-1".to_owned()));
            (t.kind, t.amount_minor, t.state, t.first_state) = (kind, Some(amount), state, state);
            (t.channel_txn_no, t.payment_txn_no) = (Some(format!("re_{amount}")), Some("pi_1".to_owned()));
        });
        match (kind, state) {
            (_, TxState::Suspense) => book.journal(&fact, What::Suspend, "liabilities:suspense:card", CARD),
            (Kind::Refund, _) => book.journal(&fact, What::Post, SHOP, CARD),
            _ => book.journal(&fact, What::Post, CARD, SHOP),
        }
        book.event(&fact, EventState::Delivered);
        book.commit();
    }
}

/// A payment that is not what its order wants.
fn in_suspense(book: &mut Book) {
    let evidence_id = Some(book.evidence("ali"));
    let order_id = Some(book.order(|order| {
        (order.merchant, order.channel, order.amount_minor) = ("bazaar".to_owned(), "ali".to_owned(), 600);
        (order.state, order.out_trade_no) = (OrderState::Suspense, "A-1".to_owned());
    }));
    let fact = book.fact(|t| {
        (t.evidence_id, t.order_id, t.out_trade_no) = (evidence_id, order_id, Some("A-1".to_owned()));
        (t.provider, t.account, t.channel, t.merchant) =
            ("alipay".to_owned(), "app".to_owned(), "ali".to_owned(), "bazaar".to_owned());
        (t.amount_minor, t.state, t.first_state) = (Some(500), TxState::Suspense, TxState::Suspense);
        t.channel_txn_no = Some("2026".to_owned());
    });
    book.journal(&fact, What::Suspend, "assets:channel:ali", "liabilities:suspense:ali");
    book.event(&fact, EventState::Pending);
    book.anomaly(AnomalyKind::AmountMismatch, "ali", "bazaar", Some(fact.id));
    book.commit();
}

/// A refund whose payment did not come, a note, and something no transaction was made of.
fn kept_only(book: &mut Book) {
    for (kind, state) in [(Kind::Refund, TxState::Parked), (Kind::Other, TxState::Noted)] {
        let evidence_id = Some(book.evidence("card"));
        book.fact(|t| {
            (t.evidence_id, t.kind, t.state, t.first_state) = (evidence_id, kind, state, state);
            (t.of, t.payment_txn_no) = (Some("n:pi_9".to_owned()), Some("pi_9".to_owned()));
            if state == TxState::Noted {
                (t.amount_minor, t.currency, t.of, t.payment_txn_no) = (None, None, None, None);
            }
        });
        book.commit();
    }
    book.evidence("card");
    book.anomaly(AnomalyKind::ContentConflict, "", "", None);
    book.commit();
}

/// A payment in a currency without a minor unit, and its chargeback.
fn in_yen(book: &mut Book) {
    let yen = Currency::parse("JPY").unwrap();
    let order_id = Some(book.order(|order| {
        (order.state, order.out_trade_no) = (OrderState::Paid, "J-1".to_owned());
        (order.amount_minor, order.paid_minor, order.paid_at, order.currency) = (1_200, 1_200, Some(START), yen);
    }));
    for (kind, number) in [(Kind::Payment, "pi_2"), (Kind::Chargeback, "du_1")] {
        let fact = book.fact(|t| {
            (t.kind, t.order_id, t.amount_minor, t.currency) = (kind, order_id, Some(1_200), Some(yen));
            (t.channel_txn_no, t.out_trade_no) = (Some(number.to_owned()), Some("J-1".to_owned()));
            t.payment_txn_no = (kind == Kind::Chargeback).then(|| "pi_2".to_owned());
        });
        let (debit, credit) = if kind == Kind::Payment { (CARD, SHOP) } else { (SHOP, CARD) };
        book.journal(&fact, What::Post, debit, credit);
        book.event(&fact, EventState::Dead);
        book.commit();
    }
}
