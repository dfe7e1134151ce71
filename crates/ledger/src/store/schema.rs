//! The tables and indexes of the store, defined once for both engines.
//!
//! Every table of [`Table`] has `seq` as its primary key and a unique `id`; state that is stored beside one has its
//! `seq`. Times are milliseconds since 1970, ids and words are text, sums are decimal text (they may exceed 64 bits).
//! Unique indexes guarantee idempotence.

use crate::rows::{Column, Part, Table, Type};

/// The version of the schema. A newer store is refused; an older one is brought up to date ([`SqlDialect::forward`]).
pub const VERSION: i64 = 4;

/// The table of attempts.
pub(super) const ATTEMPTS: &str = "attempts";

/// The total of rows up to which missing parts of an older store are made within seconds.
pub(super) const FEW: i64 = 500_000;

/// Indexes; `CREATE … IF NOT EXISTS`, in both dialects. They are not part of the version: each start makes missing
/// ones, and an older ledger can write to a store that has more of them. Those that end with `seq` give lists in their
/// order.
pub const INDEXES: &[&str] = &[
    "CREATE UNIQUE INDEX IF NOT EXISTS transactions_meaning ON transactions (provider, account, kind, \"key\") \
     WHERE provider <> ''",
    "CREATE INDEX IF NOT EXISTS transactions_trade ON transactions (channel, out_trade_no) WHERE kind = 'payment'",
    "CREATE INDEX IF NOT EXISTS transactions_waits ON transactions (\"of\", provider, account) \
     WHERE state = 'parked' AND \"of\" IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS transactions_parked ON transactions (recorded_at) WHERE state = 'parked'",
    "CREATE INDEX IF NOT EXISTS transactions_number ON transactions (channel_txn_no) WHERE channel_txn_no IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS transactions_merchant ON transactions (merchant, seq)",
    "CREATE INDEX IF NOT EXISTS transactions_out_trade_no ON transactions (out_trade_no, seq) \
     WHERE out_trade_no IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS transactions_order ON transactions (order_id, payment_txn_no) \
     WHERE order_id IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS transactions_out_refund_no ON transactions (channel, out_refund_no) \
     WHERE out_refund_no IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS transactions_occurred ON transactions (channel, occurred_at, seq) \
     WHERE channel_txn_no IS NOT NULL",
    "CREATE UNIQUE INDEX IF NOT EXISTS orders_trade ON orders (channel, out_trade_no)",
    "CREATE INDEX IF NOT EXISTS orders_merchant ON orders (merchant, seq)",
    "CREATE INDEX IF NOT EXISTS orders_out_trade_no ON orders (out_trade_no, seq)",
    "CREATE INDEX IF NOT EXISTS journals_transaction ON journals (transaction_id)",
    "CREATE INDEX IF NOT EXISTS entries_account ON entries (account, seq)",
    "CREATE INDEX IF NOT EXISTS entries_transaction ON entries (transaction_id)",
    "CREATE INDEX IF NOT EXISTS outbox_due ON outbox (merchant, next_attempt_at, seq) WHERE state = 'pending'",
    "CREATE INDEX IF NOT EXISTS events_order ON events (order_id, seq)",
    "CREATE INDEX IF NOT EXISTS events_merchant ON events (merchant, seq)",
    "CREATE INDEX IF NOT EXISTS anomalies_open ON anomalies (state) WHERE state = 'open'",
    "CREATE INDEX IF NOT EXISTS anomalies_merchant ON anomalies (merchant, seq)",
    "CREATE INDEX IF NOT EXISTS anomalies_transaction ON anomalies (transaction_id) WHERE transaction_id IS NOT NULL",
    "CREATE UNIQUE INDEX IF NOT EXISTS refunds_order ON refunds (order_id, out_refund_no)",
    "CREATE INDEX IF NOT EXISTS refunds_merchant ON refunds (merchant, seq)",
    "CREATE INDEX IF NOT EXISTS refunds_number ON refunds (out_refund_no, seq)",
    "CREATE INDEX IF NOT EXISTS refunds_txn ON refunds (refund_txn_no) WHERE refund_txn_no IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS refunds_pending ON refunds (state) WHERE state = 'pending'",
    "CREATE INDEX IF NOT EXISTS orders_query ON orders (channel, query_at) \
     WHERE state = 'pending' AND query_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS refunds_query ON refunds (channel, query_at) \
     WHERE state = 'pending' AND query_at IS NOT NULL",
    "CREATE UNIQUE INDEX IF NOT EXISTS idempotency_keys_key ON idempotency_keys (\"key\")",
    "CREATE UNIQUE INDEX IF NOT EXISTS reconciliations_day ON reconciliations (channel, day)",
    "CREATE UNIQUE INDEX IF NOT EXISTS findings_number ON findings (reconciliation_id, kind, number)",
    "CREATE INDEX IF NOT EXISTS findings_anomaly ON findings (anomaly_id)",
    "CREATE UNIQUE INDEX IF NOT EXISTS adoptions_order ON adoptions (order_id)",
    "CREATE INDEX IF NOT EXISTS transfers_merchant ON transfers (merchant, seq)",
    "CREATE INDEX IF NOT EXISTS transfers_expires ON transfers (expires_at) \
     WHERE state = 'pending' AND expires_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS transfers_check ON transfers (check_at) WHERE check_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS endpoints_merchant ON endpoints (merchant, seq)",
    "CREATE INDEX IF NOT EXISTS endpoints_failing ON endpoints (failing_since) WHERE failing_since IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (endpoint_id, next_attempt_at, seq) WHERE state = 'pending'",
    "CREATE INDEX IF NOT EXISTS deliveries_order ON deliveries (endpoint_id, order_id, seq) WHERE state = 'pending'",
    "CREATE INDEX IF NOT EXISTS deliveries_event ON deliveries (event_seq)",
    "CREATE INDEX IF NOT EXISTS transfers_pending ON transfers (state) WHERE state = 'pending'",
];

/// Tables that came after version 2, each with the version that brought it.
const NEW: &[(i64, Table)] = &[
    (3, Table::Refund),
    (3, Table::IdempotencyKey),
    (3, Table::Adoption),
    (3, Table::Transfer),
    (4, Table::Reconciliation),
    (4, Table::Finding),
    (4, Table::Endpoint),
    (4, Table::Delivery),
];
/// Columns of state that came to older tables, each with the version that brought it. All may be empty.
const COLUMNS: &[(i64, Table, &str)] = &[
    (3, Table::Order, "asked_minor"),
    (3, Table::Order, "asked_currency"),
    (3, Table::Transaction, "out_refund_no"),
    (4, Table::Order, "query_at"),
    (4, Table::Order, "provider_no"),
    (4, Table::Order, "pay_id"),
    (4, Table::Refund, "query_at"),
];

/// The tables that a store of version `from` has not.
fn new(from: i64) -> impl Iterator<Item = Table> {
    NEW.iter().filter(move |(version, _)| *version > from).map(|(_, table)| *table)
}

/// The columns of older tables that a store of version `from` has not.
fn columns(from: i64) -> impl Iterator<Item = (Table, &'static str)> {
    let added = COLUMNS.iter().filter(move |(version, ..)| *version > from).map(|(_, table, name)| (*table, *name));
    added.filter(move |(table, _)| new(from).all(|made| made != *table))
}

/// The table of archived days.
const ARCHIVES: &str = "archives";

/// The name in an index's statement.
pub fn index_name(sql: &str) -> &str {
    sql.split_whitespace().skip_while(|word| *word != "EXISTS").nth(1).unwrap_or_default()
}

/// The SQL of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlDialect {
    /// SQLite
    Sqlite,
    /// PostgreSQL
    Postgres,
}

impl SqlDialect {
    fn spell(self, ty: Type) -> &'static str {
        match (ty, self) {
            (Type::Int, SqlDialect::Sqlite) => "INTEGER",
            (Type::Int, SqlDialect::Postgres) => "BIGINT",
            (Type::Text, SqlDialect::Sqlite) => "TEXT",
            // By bytes, as SQLite compares: both engines then list in one order, whatever the database's own collation
            // is.
            (Type::Text, SqlDialect::Postgres) => "TEXT COLLATE \"C\"",
            (Type::Blob, SqlDialect::Sqlite) => "BLOB",
            (Type::Blob, SqlDialect::Postgres) => "BYTEA",
        }
    }

    /// The end of a table's definition: it makes SQLite enforce types, as PostgreSQL does.
    fn end(self, by_key: bool) -> &'static str {
        match (self, by_key) {
            (SqlDialect::Postgres, _) => "",
            (SqlDialect::Sqlite, false) => " STRICT",
            (SqlDialect::Sqlite, true) => " STRICT, WITHOUT ROWID",
        }
    }

    /// Statements for everything that both engines have, except indexes.
    pub fn tables(self) -> Vec<String> {
        let [int, text, blob] = [Type::Int, Type::Text, Type::Blob].map(|ty| self.spell(ty));
        let (plain, by_key) = (self.end(false), self.end(true));
        let mut tables: Vec<String> =
            Table::ALL.iter().flat_map(|table| table.parts()).map(|part| self.table(&part)).collect();
        tables.extend(Table::ALL.iter().filter_map(|table| view(*table)));
        tables.push(format!(
            "CREATE TABLE IF NOT EXISTS chain (seq {int} PRIMARY KEY, rows {blob} NOT NULL, link {blob} NOT NULL){plain}"
        ));
        tables.push(format!(
            "CREATE TABLE IF NOT EXISTS balances (account {text} NOT NULL, currency {text} NOT NULL, \
             debit {text} NOT NULL, credit {text} NOT NULL, pending_debit {text} NOT NULL DEFAULT '0', \
             pending_credit {text} NOT NULL DEFAULT '0', PRIMARY KEY (account, currency)){by_key}"
        ));
        tables.push(format!(
            "CREATE TABLE IF NOT EXISTS keys (id {text} NOT NULL, wrapped_by {text} NOT NULL, \
             purpose {text} NOT NULL, day {text} NOT NULL, wrapped {blob} NOT NULL, created_at {int} NOT NULL, \
             PRIMARY KEY (id, wrapped_by)){by_key}"
        ));
        tables.push(self.archives());
        tables.push(self.attempts());
        tables
    }

    /// The days whose evidence is in files.
    fn archives(self) -> String {
        let [int, text, blob] = [Type::Int, Type::Text, Type::Blob].map(|ty| self.spell(ty));
        format!(
            "CREATE TABLE IF NOT EXISTS {ARCHIVES} (day {text} NOT NULL PRIMARY KEY, rows {int} NOT NULL, \
             digest {text} NOT NULL, mac {blob} NOT NULL){}",
            self.end(true)
        )
    }

    /// The table of attempts: a row in the order of the events, and no other index.
    fn attempts(self) -> String {
        let [int, text, blob] = [Type::Int, Type::Text, Type::Blob].map(|ty| self.spell(ty));
        format!(
            "CREATE TABLE IF NOT EXISTS {ATTEMPTS} (event_seq {int} NOT NULL, at {int} NOT NULL, \
             endpoint_id {text} NOT NULL, status {int}, latency_ms {int} NOT NULL, key_id {text}, body {blob}, \
             PRIMARY KEY (event_seq, at, endpoint_id)){}",
            self.end(true)
        )
    }

    /// Statements that make this version of an older one, in one transaction.
    pub fn forward(self, from: i64) -> Vec<String> {
        let apart = if from < 2 { self.apart() } else { vec![] };
        [apart, self.additions(from)].concat()
    }

    /// The tables of other programs that an older version must not meet ([`SqlDialect::forward`]).
    pub fn new_names(from: i64) -> Vec<&'static str> {
        let apart = if from < 2 { vec![Table::Outgoing.state_name(), Table::Outgoing.source()] } else { vec![] };
        let beside: &[&str] = if from < 4 { &[ARCHIVES, ATTEMPTS] } else { &[] };
        apart.into_iter().chain(new(from).map(Table::name)).chain(beside.iter().copied()).collect()
    }

    /// The tables whose columns change on the way from an older version.
    pub fn altered(from: i64) -> Vec<&'static str> {
        let events = (from < 2).then_some(Table::Outgoing.name());
        let balances = (from < 3).then_some("balances");
        let mut altered: Vec<_> = columns(from).map(|(table, _)| table.name()).chain(events).chain(balances).collect();
        altered.sort_unstable();
        altered.dedup();
        altered
    }

    /// The tables and columns that came after version `from`. No row is read or copied.
    fn additions(self, from: i64) -> Vec<String> {
        let text = self.spell(Type::Text);
        // Unlike at the first start, a table of this name is another program's.
        let made = |part: Part| self.table(&part).replacen("IF NOT EXISTS ", "", 1);
        let mut steps: Vec<String> = new(from).flat_map(|table| table.parts()).map(made).collect();
        steps.extend(new(from).filter_map(view));
        for (table, name) in columns(from) {
            let column = table.state().iter().find(|column| column.name == name).expect("a column of state");
            steps.push(format!("ALTER TABLE {} ADD COLUMN {name} {}", table.name(), self.spell(column.ty)));
        }
        if from < 3 {
            for column in ["pending_debit", "pending_credit"] {
                steps.push(format!("ALTER TABLE balances ADD COLUMN {column} {text} NOT NULL DEFAULT '0'"));
            }
        }
        if from < 4 {
            let beside = [self.archives(), self.attempts()];
            steps.extend(beside.map(|table| table.replacen("IF NOT EXISTS ", "", 1)));
        }
        let is_new = |sql: &&&str| new(from).any(|table| sql.contains(&format!(" ON {} ", table.name())));
        steps.extend(INDEXES.iter().filter(is_new).map(|sql| (*sql).to_owned()));
        steps
    }

    /// Version 2 of version 1: the state of events moves out of their rows.
    ///
    /// They copy that state, some fifty bytes an event, and no body. PostgreSQL drops the old columns without rewriting
    /// a row; SQLite would rewrite each. So on SQLite the columns stay, under names that are never read, and new rows
    /// leave them empty.
    fn apart(self) -> Vec<String> {
        let [events, outbox] = Table::Outgoing.parts().try_into().expect("events and their outbox");
        let columns: Vec<String> = outbox.columns().map(|column| format!("\"{}\"", column.name)).collect();
        let columns = columns.join(", ");
        let copy =
            format!("INSERT INTO {} ({columns}) SELECT {columns} FROM {} ORDER BY seq", outbox.name, events.name);
        // Unlike at the first start, a table of this name is another program's.
        let table = self.table(&outbox).replacen("IF NOT EXISTS ", "", 1);
        let mut steps = vec![table, copy, "DROP INDEX IF EXISTS events_due".to_owned()];
        steps.extend(self.leave());
        steps.extend(view(Table::Outgoing));
        steps.extend(INDEXES.iter().filter(|sql| index_name(sql) == "outbox_due").map(|sql| (*sql).to_owned()));
        steps
    }

    /// The statements of [`SqlDialect::forward`] from version 1 that take the state out of the rows of events. They read
    /// no row.
    pub(super) fn leave(self) -> Vec<String> {
        let alter = format!("ALTER TABLE {}", Table::Outgoing.name());
        let leave = |Column { name, optional, .. }: &Column| match self {
            SqlDialect::Postgres => vec![format!("{alter} DROP COLUMN {name}")],
            SqlDialect::Sqlite => {
                let needed = (!optional).then(|| format!("{alter} ALTER COLUMN {name} DROP NOT NULL"));
                needed.into_iter().chain([format!("{alter} RENAME COLUMN {name} TO old_{name}")]).collect()
            }
        };
        Table::Outgoing.state().iter().flat_map(leave).collect()
    }

    fn table(self, part: &Part) -> String {
        let column = |column: Column| {
            let more = match column.name {
                "seq" => " PRIMARY KEY",
                "id" => " NOT NULL UNIQUE",
                _ if column.optional => "",
                _ => " NOT NULL",
            };
            format!("\"{}\" {}{more}", column.name, self.spell(column.ty))
        };
        let columns: Vec<String> = part.columns().map(column).collect();
        format!("CREATE TABLE IF NOT EXISTS {} ({}){}", part.name, columns.join(", "), self.end(false))
    }
}

/// The view of a table whose state is stored beside it, with columns in the order of a row.
fn view(table: Table) -> Option<String> {
    let [own, beside] = <[Part; 2]>::try_from(table.parts()).ok()?;
    let stands = |column: Column| if own.columns().any(|known| known == column) { own.name } else { beside.name };
    let columns: Vec<String> =
        table.columns().map(|column| format!("{}.\"{}\"", stands(column), column.name)).collect();
    Some(format!(
        "CREATE VIEW {} AS SELECT {} FROM {own} JOIN {beside} ON {beside}.seq = {own}.seq",
        table.source(),
        columns.join(", "),
        own = own.name,
        beside = beside.name
    ))
}
