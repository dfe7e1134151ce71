//! Connecting to PostgreSQL: checks of the server, session settings, the lock, the schema, and the epoch.
//!
//! TLS follows `sslmode` of the URL: `disable`; `prefer` (the default) encrypts if the server can but, as in libpq,
//! accepts any certificate; `require` encrypts and, unlike libpq's, verifies the server's certificate and name against
//! the system's roots (`SSL_CERT_FILE` names others). A password is sent by SCRAM, with channel binding if the server
//! supports it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::{Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::cells::failure;
use super::client::Client;
use super::tls;
use crate::rows::Table;
use crate::store::schema::{ATTEMPTS, FEW, INDEXES, SqlDialect, VERSION};
use crate::store::{OLDER, StoreError, later, sql};
use base::clock;
use base::secret::Secret;

/// The advisory lock's key: `tollgate` as a number.
pub(super) const LOCK: i64 = i64::from_be_bytes(*b"tollgate");

/// `server_version_num` of the oldest supported server.
const OLDEST: i32 = 150_000;

/// The last warning of the server.
pub(super) type Warnings = Arc<Mutex<Option<String>>>;

/// A connection that has the lock and the epoch.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) warnings: Warnings,
    pub(super) epoch: i64,
}

/// The session settings of a writer. A frozen process must not keep the books, so the server ends its session, and with
/// it the lock. A commit that no standby confirmed shows only as a warning, which a role's own setting may hide.
///
/// The writer makes point queries only: a plan from when the books were small must not become a scan of large ones, nor
/// be made anew for each batch.
const WRITER: &str = "SET idle_session_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'; \
    SET lock_timeout = '5s'; SET statement_timeout = 0; SET plan_cache_mode = force_generic_plan; SET jit = off; \
    SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
    SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; \
    SET client_min_messages = warning";

const READER: &str = "SET default_transaction_read_only = on; SET idle_session_timeout = 0; \
    SET idle_in_transaction_session_timeout = '10min'; SET statement_timeout = 0; SET jit = off";

/// Settings for few rows of large tables: without statistics, which a young store lacks, the server would scan the
/// tables.
pub(super) const POINTS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off";

pub(super) fn said(error: &tokio_postgres::Error) -> StoreError {
    let code = error.code().map_or("", |code| code.code());
    let text = match failure(error) {
        StoreError::Row(text)
        | StoreError::Full(text)
        | StoreError::Held(text)
        | StoreError::Lost(text)
        | StoreError::Slow(text)
        | StoreError::Poisoned(text) => text,
    };
    match code.get(..2) {
        // A wrong user or name, or a missing right: trying again does not help.
        Some("28" | "3D" | "42") => StoreError::Row(format!("PostgreSQL: {text}")),
        Some("53" | "57" | "08") | None => StoreError::Lost(format!("PostgreSQL: {text}")),
        Some(_) => failure(error),
    }
}

pub(super) fn connect(url: &str, password: Option<&Secret>, name: &str) -> Result<(Client, Warnings), StoreError> {
    let mut config: Config = url.parse().map_err(|e| StoreError::Row(format!("store: {e}")))?;
    if let Some(Secret(password)) = password {
        config.password(&**password);
    }
    let warnings = Warnings::default();
    let heard = warnings.clone();
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(5));
    }
    config
        .application_name(name)
        .tcp_user_timeout(Duration::from_secs(10))
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3);
    // Of several servers the one that writes has the books; a standby's may be old.
    if name == WRITER_NAME || config.get_hosts().len() > 1 {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    let tls = tls::client(config.get_ssl_mode() == SslMode::Require)?;
    let hear = move |notice: DbError| {
        if notice.parsed_severity() == Some(Severity::Warning) {
            *heard.lock() = Some(format!("{} ({})", notice.message(), notice.code().code()));
        }
    };
    let connected = Client::connect(&config, MakeRustlsConnect::new(tls), hear);
    let mut client = connected.map_err(|e| StoreError::Lost(e.to_string()))?.map_err(|e| said(&e))?;
    let version: i32 = show(&mut client, "server_version_num")?.parse().unwrap_or(0);
    if version < OLDEST {
        return Err(StoreError::Row(format!("PostgreSQL {} is too old; 15 or newer is needed", version / 10_000)));
    }
    Ok((client, warnings))
}

const WRITER_NAME: &str = "tollgate-ledger";

fn show(client: &mut Client, setting: &str) -> Result<String, StoreError> {
    let row = client.query_one("SELECT current_setting($1)", &[&setting]).map_err(|e| said(&e))?;
    row.try_get(0).map_err(|e| said(&e))
}

/// The writer's connection; `None` while another process holds the lock. Slow work is done only if there is `time`.
pub(super) fn writer(url: &str, password: Option<&Secret>, time: bool) -> Result<Option<Opened>, StoreError> {
    let (mut client, warnings) = connect(url, password, WRITER_NAME)?;
    for setting in DURABLE {
        if show(&mut client, setting)? == "off" {
            return Err(StoreError::Row(not_durable(setting)));
        }
    }
    client.batch_execute(WRITER).map_err(|e| said(&e))?;
    // Set it even if it is so already: the server's files may change under a session that did not set it.
    let wait = if show(&mut client, "synchronous_commit")? == "remote_apply" { "remote_apply" } else { "on" };
    client.batch_execute(&format!("SET synchronous_commit = {wait}")).map_err(|e| said(&e))?;
    let locked = client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).map_err(|e| said(&e))?;
    if !locked.try_get(0).map_err(|e| said(&e))? {
        return Ok(None);
    }
    create(&mut client)?;
    // This is durable before anything else is written, and with it all earlier commits.
    let raise = "UPDATE writer SET epoch = epoch + 1, at = now() RETURNING epoch";
    warnings.lock().take();
    let epoch = client.query_one(raise, &[]).and_then(|row| row.try_get(0)).map_err(|e| said(&e))?;
    // No writer of an older epoch is left: its transactions have ended, and it can begin no more.
    if let Some(older) = version(&mut client)?.filter(|version| *version != VERSION) {
        forward(&mut client, (epoch, older), time)?;
    }
    if let Some(warning) = warnings.lock().take() {
        return Err(StoreError::Lost(warning));
    }
    Ok(Some(Opened { client, warnings, epoch }))
}

/// Settings of the server without which a crash may lose or tear commits. They follow a reload.
const DURABLE: [&str; 2] = ["fsync", "full_page_writes"];

fn not_durable(setting: &str) -> String {
    format!("PostgreSQL runs with {setting} = off: it would acknowledge what a crash loses; turn it on")
}

/// The query whether they are still on.
pub(super) fn is_durable() -> String {
    DURABLE.map(|setting| format!("SELECT '{setting}' WHERE current_setting('{setting}') = 'off'")).join(" UNION ALL ")
}

/// Why nothing may be acknowledged any more, if that is so.
pub(super) fn durable(answers: &[SimpleQueryMessage]) -> Result<(), StoreError> {
    let off =
        answers.iter().find_map(|answer| if let SimpleQueryMessage::Row(row) = answer { row.get(0) } else { None });
    off.map_or(Ok(()), |setting| {
        let more = "let it write all to the disk (`sync`), then start the ledger again";
        Err(StoreError::Poisoned(format!("{}; {more}", not_durable(setting))))
    })
}

/// The version of the schema; `None` without a schema.
fn version(client: &mut Client) -> Result<Option<i64>, StoreError> {
    let there = client.query_one("SELECT to_regclass('tollgate_meta') IS NOT NULL", &[]).map_err(|e| said(&e))?;
    if !there.try_get(0).map_err(|e| said(&e))? {
        return Ok(None);
    }
    let row = client.query_one("SELECT version FROM tollgate_meta", &[]).map_err(|e| said(&e))?;
    let version: i64 = row.try_get(0).map_err(|e| said(&e))?;
    if version > VERSION {
        let why = format!("made by a newer tollgate (schema {version}, this one knows {VERSION}); run that one");
        return Err(StoreError::Row(format!("PostgreSQL: {why}")));
    }
    Ok(Some(version))
}

/// Checks that a database has none of these names: another program's tables are left alone. `do_so` advises the owner.
fn free(client: &mut Client, names: impl IntoIterator<Item = &'static str>, do_so: &str) -> Result<(), StoreError> {
    let kind = "SELECT (SELECT CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' \
                WHEN 'i' THEN 'index' ELSE 'table' END FROM pg_class WHERE oid = to_regclass($1))";
    for name in names {
        let found: Option<String> =
            client.query_one(kind, &[&name]).and_then(|row| row.try_get(0)).map_err(|e| said(&e))?;
        if let Some(kind) = found {
            let why = format!("PostgreSQL: the database has a {kind} {name} that is not the ledger's: {do_so}");
            return Err(StoreError::Row(why));
        }
    }
    Ok(())
}

/// Brings the schema up to date in one transaction, so that a kill leaves it as it was. Obstacles are looked for first,
/// even if there is no `time`: the old process of an upgrade can still go on then.
fn forward(client: &mut Client, (epoch, from): (i64, i64), time: bool) -> Result<(), StoreError> {
    let rows = client.query_one(sql::ROWS, &[]).and_then(|row| row.try_get(0)).map_err(|e| said(&e))?;
    free(
        client,
        SqlDialect::new_names(from),
        "rename it, or set the role's `search_path` so that the ledger does not meet it",
    )?;
    let answers = client.simple_query(&begin(epoch)).map_err(|e| said(&e))?;
    if !is_ours(&answers) {
        return Err(StoreError::Lost(TAKEN_OVER.into()));
    }
    for table in SqlDialect::altered(from) {
        let lock = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        client.batch_execute(&lock).map_err(|e| held(&e, table))?;
    }
    if from < 2 {
        let leave = SqlDialect::Postgres.leave().join("; ");
        client.batch_execute(&format!("SAVEPOINT tried; {leave}; ROLLBACK TO tried")).map_err(|e| needed(&e))?;
    }
    if from < 2 && rows > FEW && !time {
        client.batch_execute("ROLLBACK").map_err(|e| said(&e))?;
        return Err(later(rows));
    }
    let began = clock::now();
    log::warn!("ledger: bringing the store of an older tollgate up to date (schema {VERSION}), over {rows} rows");
    for step in SqlDialect::Postgres.forward(from) {
        client.batch_execute(&step).map_err(|e| said(&e))?;
    }
    let end = format!("UPDATE tollgate_meta SET version = {VERSION}; COMMIT");
    client.batch_execute(&end).map_err(|e| said(&e))?;
    log::warn!("ledger: the store is up to date after {:.1} s", clock::now().since(began).as_secs_f64());
    Ok(())
}

/// The error if a table could not be locked: its readers did not end within `lock_timeout`.
fn held(error: &tokio_postgres::Error, table: &str) -> StoreError {
    if error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) {
        return said(error);
    }
    StoreError::Held(format!(
        "the store is of an older tollgate, and cannot be brought up to date while somebody reads `{table}` (pg_dump, a \
         report, a transaction that was left open): end that; it is tried again"
    ))
}

/// The error if the state columns of events could not be dropped. The detail names what depends on them and quotes no
/// value.
fn needed(error: &tokio_postgres::Error) -> StoreError {
    let detail = error.as_db_error().filter(|said| *said.code() == SqlState::DEPENDENT_OBJECTS_STILL_EXIST);
    let Some(detail) = detail.and_then(DbError::detail) else { return said(error) };
    StoreError::Row(format!(
        "PostgreSQL: the store is of an older tollgate, and cannot be brought up to date: {}; drop what depends on it, and make \
         it over `{}` afterwards",
        detail.replace('\n', ", "),
        Table::Outgoing.source()
    ))
}

/// Makes the schema in one transaction, unless there is one. Other programs' tables of the same names are left alone.
fn create(client: &mut Client) -> Result<(), StoreError> {
    if version(client)?.is_some() {
        return Ok(());
    }
    let parts = Table::ALL.iter().flat_map(|table| table.parts()).map(|part| part.name);
    let names = parts.chain([Table::Outgoing.source(), "chain", "balances", "keys", ATTEMPTS, "writer"]);
    free(client, names, "name another database")?;
    let mut sql = "BEGIN;".to_owned();
    for statement in SqlDialect::Postgres.tables().iter().map(String::as_str).chain(INDEXES.iter().copied()) {
        sql.push_str(statement);
        sql.push(';');
    }
    sql.push_str(&format!(
        "CREATE TABLE writer (one BOOL PRIMARY KEY CHECK (one), epoch BIGINT NOT NULL, at TIMESTAMPTZ NOT NULL); \
         INSERT INTO writer VALUES (TRUE, 0, now()); \
         CREATE TABLE tollgate_meta (one BOOL PRIMARY KEY CHECK (one), version BIGINT NOT NULL); \
         INSERT INTO tollgate_meta VALUES (TRUE, {VERSION}); COMMIT"
    ));
    client.batch_execute(&sql).map_err(|e| said(&e))
}

/// Begins a transaction as this epoch's writer: two commands, the last of which finds one row or none. A takeover
/// raises the epoch and waits for the row's lock; a writer that waits for a takeover no longer finds the row. The lock
/// makes no new version of the row: while a view is open no version could be removed, and each commit would read them
/// all.
pub(super) fn begin(epoch: i64) -> String {
    format!("BEGIN; SELECT FROM writer WHERE epoch = {epoch} FOR UPDATE")
}

/// The reason for which a writer of an older epoch stops.
pub(super) const TAKEN_OVER: &str = "another writer has taken over";

/// Whether [`begin`] found its epoch, by the answers to BEGIN and to the lock of its row.
pub(super) fn is_ours(answers: &[SimpleQueryMessage]) -> bool {
    matches!(answers.last(), Some(SimpleQueryMessage::CommandComplete(1)))
}

/// A query with one row while the lock and the epoch are ours.
pub(super) fn ours(epoch: i64) -> String {
    let (high, low) = ((LOCK as u64) >> 32, LOCK as u64 & 0xffff_ffff);
    format!(
        "SELECT 1 FROM writer WHERE epoch = {epoch} AND EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' \
         AND pid = pg_backend_pid() AND granted AND classid = {high} AND objid = {low} AND objsubid = 1)"
    )
}

/// A connection that changes data outside of the chain, beside a writer.
pub(super) fn operator(url: &str, password: Option<&Secret>) -> Result<Client, StoreError> {
    let (mut client, _) = connect(url, password, "tollgate-ledger-keys")?;
    client.batch_execute("SET lock_timeout = '5s'; SET synchronous_commit = on").map_err(|e| said(&e))?;
    match version(&mut client)? {
        Some(VERSION) => Ok(client),
        _ => Err(StoreError::Row("no ledger of this version in this database; start the ledger once".into())),
    }
}

/// A reader's connection.
pub(super) fn reader(url: &str, password: Option<&Secret>) -> Result<Client, StoreError> {
    let (mut client, _) = connect(url, password, "tollgate-ledger-reader")?;
    client.batch_execute(READER).map_err(|e| said(&e))?;
    match version(&mut client)? {
        Some(VERSION) => Ok(client),
        Some(_) => Err(StoreError::Row(format!("PostgreSQL: {OLDER}"))),
        None => Err(StoreError::Row("there is no ledger in this database yet; `tollgate ledger run` makes it".into())),
    }
}
