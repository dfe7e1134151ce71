//! Fills an empty store with transactions, as a ledger would have written them: the book decides, the chain's key links,
//! evidence is encrypted, balances are summed.
//!
//! The same number gives the same rows, keys and ciphertext aside. Of a thousand payments fifty are refunded, one comes
//! twice for its order, and one refund waits for a payment; a third pays a fee. One merchant has nearly all, a hundred have
//! a hundredth, and `corner` has one in a hundred thousand. Events are delivered. Rows are made in one thread and written
//! in another; no row is held longer than its chunk. Indexes are made at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use base::clock;
use base::secret::Secret;
use base::units::Currency;
use config::model::ledger::{Channel, Fee, Rounding, Store as Place};
use ledger::book::{self, Callback, Facts, PostingBuilder, Postings, Time};
use ledger::keys::Ring;
use ledger::rows::{BalanceRow, Cell, Evidence, Link, Row, Table, Value, Wrap};
use ledger::store;
use ledger::stored_enum::{EventState, StoredEnum};
use providers::configured::Configured;
use providers::event::{Amount, Effect, Kind, Of, ProviderEvent};
use providers::{Provider, wechatpay};
use uuid::Uuid;

use super::into::{Sink, postgres, sqlite};

/// Payments in a chunk.
const CHUNK: usize = 5_000;
/// 2025-01-01, and two seconds from one to the next.
const BEGAN_MS: i64 = 1_735_689_600_000;
const STEP_MS: i64 = 2_000;

/// Rows in the order of their `seq`, and their links.
#[derive(Default)]
pub struct Chunk {
    pub rows: Vec<Row>,
    pub links: Vec<Link>,
    transactions: usize,
}

/// What is written once all rows are.
#[derive(Default)]
pub struct End {
    pub balances: Vec<BalanceRow>,
    pub wraps: Vec<Wrap>,
}

/// Fills it, and prints how long that took.
pub fn run(place: &Place, key: [u8; 32], transactions: usize, bytes: usize) -> Result<(), String> {
    let began = clock::now();
    let mut opened = store::open(place).map_err(|e| e.to_string())?.ok_or("a ledger runs on this store")?;
    let empty =
        opened.heads().map_err(|e| e.to_string())?.seq == 0 && opened.wraps().is_ok_and(|wraps| wraps.is_empty());
    drop(opened);
    if !empty {
        return Err("the store is not empty: name another one".to_owned());
    }
    let mut sink: Box<dyn Sink> = match place {
        Place::Sqlite(path) => Box::new(sqlite::Sqlite::open(path)?),
        Place::Postgres { url, .. } => Box::new(postgres::Postgres::open(url)?),
    };
    let (send, chunks) = sync_channel(2);
    let end = std::thread::scope(|scope| {
        let making = scope.spawn(move || make(key, transactions, bytes, |chunk| send.send(chunk).is_ok()));
        let mut done = 0;
        for chunk in chunks {
            let chunk: Chunk = chunk;
            sink.put(&chunk)?;
            if (done + chunk.transactions) / 500_000 > done / 500_000 {
                let seconds = clock::now().since(began).as_secs_f64();
                eprintln!("fill: {} transactions after {seconds:.0} s", done + chunk.transactions);
            }
            done += chunk.transactions;
        }
        making.join().map_err(|_| "the rows' maker panicked".to_owned())?
    })?;
    sink.end(&end)?;
    println!("filled: {transactions} transactions in {:.0} s", clock::now().since(began).as_secs_f64());
    Ok(())
}

/// Makes rows, a chunk at a time, while `take` takes them.
fn make(key: [u8; 32], transactions: usize, bytes: usize, take: impl Fn(Chunk) -> bool) -> Result<End, String> {
    let (ring, wraps) = Ring::open(&[Secret(Arc::from(key))], &[], BEGAN_MS as u64).map_err(|e| e.to_string())?;
    let mut books = Books::new(ring, wraps, bytes);
    let (mut number, mut made) = (0, 0);
    while made < transactions {
        let last = books.seq;
        let mut chunk = Chunk::default();
        for _ in 0..CHUNK {
            if made + chunk.transactions >= transactions {
                break;
            }
            books.payment(number, &mut chunk, last)?;
            number += 1;
        }
        made += chunk.transactions;
        if !take(chunk) {
            return Err("nobody takes the rows any more".to_owned());
        }
    }
    Ok(End { balances: books.balances.into_values().collect(), wraps: books.wraps })
}

/// Where the books are.
struct Books {
    ring: Ring,
    wraps: Vec<Wrap>,
    seq: i64,
    link: Vec<u8>,
    ids: u64,
    payload: Vec<u8>,
    balances: BTreeMap<(String, Currency), BalanceRow>,
}

/// Channels as `scripts/bench --ledger` has them, of any merchant; Stripe's account is the merchant's.
const CHANNELS: [(&str, &str, &str, &str); 3] = [
    ("alipay", "alipay", "2021000000000001", "CNY"),
    ("wechatpay", "wechat", "1900000001", "CNY"),
    ("stripe", "card", "", "USD"),
];

fn merchant(number: usize) -> String {
    match number {
        n if n % 100_000 == 77 => "corner".to_owned(),
        n if n % 100 == 0 => format!("m{:02}", n / 100 % 100),
        _ => "shop".to_owned(),
    }
}

fn channel(number: usize) -> Arc<Channel> {
    let (_, name, ..) = CHANNELS[number % 3];
    let fee = Fee {
        percent: rust_decimal::Decimal::new(6, 1),
        fixed_minor: 0,
        minimum_minor: 1,
        rounding: Rounding::HalfEven,
    };
    Arc::new(Channel {
        name: Arc::from(name),
        // Who signs does not matter any more.
        provider: Configured::new(&wechatpay::PROVIDER, []),
        merchant: Arc::from(merchant(number)),
        require_order: false,
        fee: (name == "card").then_some(fee),
        query_after: vec![],
    })
}

impl Books {
    fn new(ring: Ring, wraps: Vec<Wrap>, bytes: usize) -> Books {
        let payload = (0..bytes).map(|at| b'a' + (at % 26) as u8).collect();
        Books { ring, wraps, seq: 0, link: vec![], ids: 0, payload, balances: BTreeMap::new() }
    }

    /// A payment, and what follows it.
    fn payment(&mut self, number: usize, chunk: &mut Chunk, last: i64) -> Result<(), String> {
        let (provider, _, account, currency) = CHANNELS[number % 3];
        let account = if provider == "stripe" { format!("merchant:{}", merchant(number)) } else { account.to_owned() };
        let amount = 100 + (number as i64 * 7919) % 1_000_000;
        let event = ProviderEvent {
            kind: Kind::Payment,
            effect: Effect::Book,
            account,
            key: format!("pay{number:012}"),
            number: Some(format!("pay{number:012}")),
            out_trade_no: Some(format!("order-{number:010}")),
            of: None,
            amount: Some(Amount::Exact(amount)),
            currency: Currency::parse(currency),
            occurred_ms: Some((BEGAN_MS + number as i64 * STEP_MS) as u64 - 1_500),
            request: None,
        };
        let of = |prefix: &str, kind, of, minor| ProviderEvent {
            kind,
            key: format!("{prefix}{number:012}"),
            number: Some(format!("{prefix}{number:012}")),
            of,
            amount: Some(Amount::Exact(minor)),
            ..event.clone()
        };
        let payment = Some(Of::Number(event.key.clone()));
        let mut events = vec![event.clone()];
        if number % 20 == 3 {
            events.push(of("ref", Kind::Refund, payment, 1 + amount / 3));
        }
        if number % 1_000 == 500 {
            events.push(of("dup", Kind::Payment, None, amount));
        }
        if number % 1_000 == 900 {
            events.push(of("lost", Kind::Refund, Some(Of::Number(format!("none{number:012}"))), 1));
        }
        let mut facts = Facts::default();
        for event in &events {
            self.callback(number, event, &mut facts, (chunk, last))?;
        }
        Ok(())
    }

    fn callback(
        &mut self,
        number: usize,
        event: &ProviderEvent,
        facts: &mut Facts,
        (chunk, last): (&mut Chunk, i64),
    ) -> Result<(), String> {
        let now = BEGAN_MS + number as i64 * STEP_MS;
        let key = self.ring.today(now as u64).map_err(|e| e.to_string())?;
        if !key.unkept().is_empty() {
            self.wraps.extend_from_slice(key.unkept());
            key.keep();
        }
        let id = self.id(now);
        let evidence = Evidence {
            seq: 0,
            id,
            channel: CHANNELS[number % 3].1.to_owned(),
            key_id: key.id(),
            received_at: now,
            headers: key.seal("evidence", "headers", id, &self.payload[..self.payload.len() / 4]),
            body: key.seal("evidence", "body", id, &self.payload),
        };
        let (seq, first) = (self.seq, self.ids);
        let mut drawn = 0;
        let mut ids = || {
            drawn += 1;
            named(now, first + drawn)
        };
        let mut scribe = PostingBuilder::new(seq, Time { recorded: now, wall: now }, &mut ids);
        let channel = channel(number);
        let provider = Provider::named(CHANNELS[number % 3].0).expect("a provider");
        let callback = Callback { provider, channel: &channel, event, evidence: &evidence };
        book::decide(&callback, facts, &mut scribe);
        let plan = scribe.done();
        self.ids += drawn;
        self.keep(plan, now, chunk, last);
        Ok(())
    }

    fn keep(&mut self, plan: Postings, now: i64, chunk: &mut Chunk, last: i64) {
        for movement in plan.moved {
            let empty = || BalanceRow::new(&movement.account, movement.currency);
            let balance = self.balances.entry((movement.account.clone(), movement.currency));
            movement.add_to(balance.or_insert_with(empty));
        }
        let link = self.ring.chain().link(&self.link, &plan.rows);
        (self.seq, self.link) = (link.seq, link.link.clone());
        chunk.transactions += plan.rows.iter().filter(|row| row.table == Table::Transaction).count();
        chunk.links.push(link);
        chunk.rows.extend(plan.rows.into_iter().map(|row| delivered(row, now)));
        for update in plan.updates.into_values() {
            // What follows a payment is in its chunk.
            let row = &mut chunk.rows[(update.seq - last - 1) as usize];
            row.values.splice(update.table.frozen().len().., update.state);
        }
    }

    fn id(&mut self, now: i64) -> Uuid {
        self.ids += 1;
        named(now, self.ids)
    }
}

/// Ids in the order of their making.
fn named(now: i64, number: u64) -> Uuid {
    let mut bytes = [0; 10];
    bytes[2..].copy_from_slice(&(number << 2).to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(now as u64, &bytes).into_uuid()
}

fn delivered(mut row: Row, now: i64) -> Row {
    if row.table == Table::Outgoing {
        let state = [
            Value::Text(EventState::Delivered.word().to_owned()),
            Value::Int(1),
            Value::Int(0),
            Value::Null,
            Value::Int(200),
            Some(now + 12).put(),
        ];
        row.values.splice(row.table.frozen().len().., state);
    }
    row
}
