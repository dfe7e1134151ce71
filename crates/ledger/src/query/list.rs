//! The parameters of a list: its filters, its cursor and its limit.
//!
//! Lists are newest first, by `seq`; a cursor holds the `seq` of the last row shown, so that rows written meanwhile
//! neither repeat nor hide others. An unknown parameter is refused by name, as is one that is given twice: an answer to
//! half of a question would be silently wrong.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::rows::{Table, Value};
use crate::stored_enum::{
    AnomalyKind, AnomalyState, EventState, OrderState, RefundState, StoredEnum, TransferState, TxState,
};
use providers::event::Kind;

/// Rows that a list shows by default.
const LIMIT: i64 = 100;
/// The most rows that a list shows.
const LIMIT_MAX: i64 = 1000;

/// Parameters of a query, as written.
pub type Pairs = Vec<(String, String)>;

/// Why a query is not answered, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QueryError(pub String);

/// A list of the API.
#[derive(Debug)]
pub struct List {
    /// The table of its rows.
    pub table: Table,
    /// The column that `from` and `to` bound.
    pub time: &'static str,
    /// The other filters.
    pub filters: &'static [Filter],
}

/// A filter of a list.
#[derive(Debug)]
pub struct Filter {
    name: &'static str,
    /// The condition, with `?` for the value.
    sql: &'static str,
    /// Whether it leaves few rows, which its own index finds.
    few: bool,
    /// The accepted words; without them, any text.
    words: Option<fn() -> Vec<&'static str>>,
}

/// The condition on the merchant.
const MERCHANT: &str = "merchant = ?";
/// The same without its index: few rows must be found by the index of their own filter.
const MERCHANT_OF_FEW: &str = "merchant || '' = ?";

fn words<W: StoredEnum>() -> Vec<&'static str> {
    W::WORDS.iter().map(|(word, _)| *word).collect()
}

const fn text(name: &'static str, sql: &'static str) -> Filter {
    Filter { name, sql, few: false, words: None }
}

const fn number(name: &'static str, sql: &'static str) -> Filter {
    Filter { name, sql, few: true, words: None }
}

const fn word(name: &'static str, sql: &'static str, words: fn() -> Vec<&'static str>) -> Filter {
    Filter { name, sql, few: false, words: Some(words) }
}

/// `GET /v1/orders`
pub const ORDERS: List = List {
    table: Table::Order,
    time: "created_at",
    filters: &[
        text("merchant", MERCHANT),
        text("channel", "channel = ?"),
        word("state", "state = ?", words::<OrderState>),
        number("out_trade_no", "out_trade_no = ?"),
    ],
};

/// `GET /v1/refunds`
pub const REFUNDS: List = List {
    table: Table::Refund,
    time: "created_at",
    filters: &[
        text("merchant", MERCHANT),
        text("channel", "channel = ?"),
        word("state", "state = ?", words::<RefundState>),
        number("out_trade_no", "order_id IN (SELECT id FROM orders WHERE out_trade_no = ?)"),
        number("out_refund_no", "out_refund_no = ?"),
    ],
};

/// `GET /v1/transfers`
pub const TRANSFERS: List = List {
    table: Table::Transfer,
    time: "created_at",
    filters: &[text("merchant", MERCHANT), word("state", "state = ?", words::<TransferState>)],
};

/// `GET /v1/transactions`
pub const TRANSACTIONS: List = List {
    table: Table::Transaction,
    time: "recorded_at",
    filters: &[
        text("merchant", MERCHANT),
        text("channel", "channel = ?"),
        word("state", "state = ?", words::<TxState>),
        word("kind", "kind = ?", words::<Kind>),
        number("out_trade_no", "out_trade_no = ?"),
        number("channel_txn_no", "channel_txn_no = ?"),
    ],
};

/// The state of an event at all its addresses. A store without endpoints is not asked for them at each event.
const EVENT_STATE: &str = "CASE WHEN NOT EXISTS (SELECT 1 FROM deliveries WHERE seq > 0) THEN state \
    ELSE CASE (SELECT MAX(CASE d.state WHEN 'pending' THEN 2 WHEN 'dead' THEN 1 ELSE 0 END) FROM deliveries AS d \
    WHERE d.event_seq = outgoing.seq AND (SELECT n.deleted_at FROM endpoints AS n WHERE n.id = d.endpoint_id) IS NULL) \
    WHEN 2 THEN 'pending' WHEN 1 THEN CASE state WHEN 'pending' THEN state ELSE 'dead' END ELSE state END END = ?";

/// `GET /v1/events`; filters on columns that events lack use the transaction, which has the same order.
pub const EVENTS: List = List {
    table: Table::Outgoing,
    time: "created_at",
    filters: &[
        text("merchant", MERCHANT),
        text("channel", "EXISTS (SELECT 1 FROM transactions AS t WHERE t.id = transaction_id AND t.channel || '' = ?)"),
        word("state", EVENT_STATE, words::<EventState>),
        // The event's type, such as `payment.posted`, or a transaction's kind.
        text("kind", "kind || '.' LIKE CAST(? AS TEXT) || '.%'"),
        number(
            "out_trade_no",
            "order_id IN (SELECT order_id FROM transactions WHERE out_trade_no = ?) AND \
             transaction_id || '' IN (SELECT id FROM transactions WHERE out_trade_no = ?)",
        ),
        number(
            "channel_txn_no",
            "order_id IN (SELECT order_id FROM transactions WHERE channel_txn_no = ?) AND \
             transaction_id || '' IN (SELECT id FROM transactions WHERE channel_txn_no = ?)",
        ),
    ],
};

/// `GET /v1/anomalies`; filters on columns that anomalies lack use the transaction.
pub const ANOMALIES: List = List {
    table: Table::Anomaly,
    time: "opened_at",
    filters: &[
        text("merchant", MERCHANT),
        text("channel", "channel = ?"),
        word("state", "state = ?", words::<AnomalyState>),
        word("kind", "kind = ?", words::<AnomalyKind>),
        number("out_trade_no", "transaction_id IN (SELECT id FROM transactions WHERE out_trade_no = ?)"),
        number("channel_txn_no", "transaction_id IN (SELECT id FROM transactions WHERE channel_txn_no = ?)"),
    ],
};

/// `GET /v1/accounts/{id}/entries`
pub const ENTRIES: List = List { table: Table::Entry, time: "recorded_at", filters: &[] };

/// Conditions, joined by AND; values in the order of their use.
#[derive(Clone, Debug, Default)]
pub struct Where {
    conditions: Vec<String>,
    /// Values for `$1`, `$2` …
    pub values: Vec<Value>,
}

impl Where {
    /// Adds a condition; each `?` in it stands for `value`.
    pub fn and(&mut self, sql: &str, value: Value) {
        self.values.push(value);
        self.conditions.push(sql.replace('?', &format!("${}", self.values.len())));
    }

    /// The clause ` WHERE …`, or an empty string.
    pub fn sql(&self) -> String {
        if self.conditions.is_empty() { String::new() } else { format!(" WHERE {}", self.conditions.join(" AND ")) }
    }
}

/// A query of a list.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// The conditions on its rows.
    pub filter: Where,
    /// The most rows of the page.
    pub limit: i64,
    /// Whether a filter leaves few rows.
    few: bool,
    /// The column that `from` and `to` bound.
    time: &'static str,
    span: (Option<i64>, Option<i64>),
}

impl ListQuery {
    /// The column that is bounded, with its bounds from and to. Its values do not decrease in the order of `seq`.
    pub fn span(&self) -> (&'static str, Option<i64>, Option<i64>) {
        if self.few { (self.time, None, None) } else { (self.time, self.span.0, self.span.1) }
    }

    /// Restricts the list to this merchant.
    pub fn of(&mut self, merchant: &str) {
        let sql = if self.few { MERCHANT_OF_FEW } else { MERCHANT };
        self.filter.and(sql, Value::Text(merchant.to_owned()));
    }

    /// The SQL after a table's name, newest first, with one row more than is shown.
    pub fn sql(mut self) -> (String, Vec<Value>) {
        let tail = format!("{} ORDER BY seq DESC LIMIT ${}", self.filter.sql(), self.filter.values.len() + 1);
        self.filter.values.push(Value::Int(self.limit + 1));
        (tail, self.filter.values)
    }
}

impl Filter {
    /// The filter's name, and the accepted words, if not any text.
    pub fn describe(&self) -> (&'static str, Option<Vec<&'static str>>) {
        (self.name, self.words.map(|words| words()))
    }
}

impl List {
    /// Reads the query's parameters.
    pub fn asked(&self, pairs: &Pairs) -> Result<ListQuery, QueryError> {
        let mut known = vec!["limit", "cursor", "from", "to"];
        known.extend(self.filters.iter().map(|filter| filter.name));
        only(pairs, &known)?;
        let mut filter = Where::default();
        let few = self.filters.iter().any(|known| known.few && get(pairs, known.name).is_some());
        for known in self.filters {
            let Some(value) = get(pairs, known.name) else { continue };
            if let Some(words) = known.words.map(|words| words()).filter(|words| !words.contains(&value)) {
                return Err(QueryError(format!("`{}` is one of {}.", known.name, words.join(", "))));
            }
            let sql = if few && known.sql == MERCHANT { MERCHANT_OF_FEW } else { known.sql };
            filter.and(sql, Value::Text(value.to_owned()));
        }
        let bound = |name| get(pairs, name).map(|at| moment(name, at).map(|at| at.at_or_after)).transpose();
        let span = (bound("from")?, bound("to")?);
        span.0.into_iter().for_each(|from| filter.and(&format!("{} >= ?", self.time), Value::Int(from)));
        span.1.into_iter().for_each(|to| filter.and(&format!("{} < ?", self.time), Value::Int(to)));
        if let Some(cursor) = get(pairs, "cursor") {
            let seq = opened(cursor).and_then(|text| text.parse().ok()).filter(|seq: &i64| *seq > 0);
            filter.and("seq < ?", Value::Int(seq.ok_or_else(bad_cursor)?));
        }
        Ok(ListQuery { filter, limit: limit(pairs)?, few, time: self.time, span })
    }
}

/// Refuses unknown parameters, and those given twice.
pub fn only(pairs: &Pairs, known: &[&str]) -> Result<(), QueryError> {
    for (at, (name, value)) in pairs.iter().enumerate() {
        if !known.contains(&name.as_str()) {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            let there = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
            return Err(QueryError(format!("There is no parameter `{shown}` here; there are: {there}.")));
        }
        if pairs[..at].iter().any(|(before, _)| before == name) {
            return Err(QueryError(format!("The parameter `{name}` is given twice.")));
        }
        // PostgreSQL cannot store such text.
        if value.contains('\0') {
            return Err(QueryError(format!("The parameter `{name}` holds a zero byte.")));
        }
    }
    Ok(())
}

/// The value of a parameter.
pub fn get<'p>(pairs: &'p Pairs, name: &str) -> Option<&'p str> {
    pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Reads `limit`.
pub fn limit(pairs: &Pairs) -> Result<i64, QueryError> {
    let Some(limit) = get(pairs, "limit") else { return Ok(LIMIT) };
    let number = limit.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    number.ok_or_else(|| QueryError(format!("`limit` is a number from 1 to {LIMIT_MAX}.")))
}

/// A moment in milliseconds, which may fall between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The last millisecond that is not after it.
    pub at_or_before: i64,
    /// The first millisecond that is not before it.
    pub at_or_after: i64,
}

/// Parses a parameter that is a time (RFC 3339).
pub fn moment(name: &str, value: &str) -> Result<Moment, QueryError> {
    let bad =
        || QueryError(format!("`{name}` is a time of RFC 3339, as in 2026-11-21T03:38:00.123Z; write `+` as %2B."));
    let nanoseconds = value.parse::<jiff::Timestamp>().map_err(|_| bad())?.as_nanosecond();
    let at_or_before = i64::try_from(nanoseconds.div_euclid(1_000_000)).map_err(|_| bad())?;
    let between = nanoseconds.rem_euclid(1_000_000) != 0;
    Ok(Moment { at_or_before, at_or_after: at_or_before + i64::from(between) })
}

/// Encodes a text as a cursor.
pub fn sealed(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Decodes the text of a cursor.
pub fn opened(cursor: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()
}

/// The error for a cursor that no list gave out.
pub fn bad_cursor() -> QueryError {
    QueryError("`cursor` is the `next` of a list, as it was given.".to_owned())
}
