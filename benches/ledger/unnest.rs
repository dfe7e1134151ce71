//! The bare insert into PostgreSQL: a statement for each stored table of a batch, its rows as one array for each column.
//!
//! What is counted is this client's CPU, as for the ledger; the server's is its own.

use ledger::rows::{Table, Type};
use ledger::store::schema::{INDEXES, SqlDialect};
use postgres::types::ToSql;
use postgres::{Client, NoTls};
use rusqlite::types::Value;

use super::base::BATCH;
use super::cpu_ns;
use super::rows::{All, Callback, array, names};

/// A column of a batch.
enum Column<'a> {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<&'a str>>),
    Blob(Vec<Option<&'a [u8]>>),
}

impl<'a> Column<'a> {
    fn new(ty: Type) -> Column<'a> {
        match ty {
            Type::Int => Column::Int(vec![]),
            Type::Text => Column::Text(vec![]),
            Type::Blob => Column::Blob(vec![]),
        }
    }

    fn push(&mut self, cell: &'a Value) {
        match (self, cell) {
            (Column::Int(column), Value::Integer(number)) => column.push(Some(*number)),
            (Column::Text(column), Value::Text(text)) => column.push(Some(text)),
            (Column::Blob(column), Value::Blob(bytes)) => column.push(Some(bytes)),
            (Column::Int(column), _) => column.push(None),
            (Column::Text(column), _) => column.push(None),
            (Column::Blob(column), _) => column.push(None),
        }
    }

    fn param(&self) -> &(dyn ToSql + Sync) {
        match self {
            Column::Int(column) => column,
            Column::Text(column) => column,
            Column::Blob(column) => column,
        }
    }
}

/// A prepared insert.
struct Insert {
    /// Of which rows: a place in [`Table::ALL`].
    table: usize,
    statement: postgres::Statement,
    types: Vec<Type>,
    /// Which cells of a row.
    cells: Vec<usize>,
}

fn prepare(
    client: &mut Client,
    name: &str,
    names: &str,
    types: Vec<Type>,
    end: &str,
) -> Result<Insert, postgres::Error> {
    let arrays: Vec<String> = types.iter().enumerate().map(|(at, ty)| format!("${}::{}", at + 1, array(*ty))).collect();
    let sql = format!("INSERT INTO {name} ({names}) SELECT * FROM UNNEST({}) {end}", arrays.join(", "));
    Ok(Insert { table: 0, statement: client.prepare(&sql)?, cells: (0..types.len()).collect(), types })
}

fn put<'a>(
    client: &mut Client,
    insert: &Insert,
    rows: impl Iterator<Item = &'a Vec<Value>>,
) -> Result<(), postgres::Error> {
    let mut columns: Vec<Column<'a>> = insert.types.iter().map(|ty| Column::new(*ty)).collect();
    let mut any = false;
    for cells in rows {
        any = true;
        columns.iter_mut().zip(&insert.cells).for_each(|(column, at)| column.push(&cells[*at]));
    }
    if any {
        let params: Vec<_> = columns.iter().map(Column::param).collect();
        client.execute(&insert.statement, &params)?;
    }
    Ok(())
}

/// Inserts all into an empty database; nanoseconds of this thread's CPU.
pub fn insert(url: &str, all: &All) -> Result<u64, String> {
    let run = || -> Result<Result<u64, String>, postgres::Error> {
        let mut client = Client::connect(url, NoTls)?;
        for statement in SqlDialect::Postgres.tables().iter().map(String::as_str).chain(INDEXES.iter().copied()) {
            client.batch_execute(statement)?;
        }
        let mut tables = vec![];
        for (table, part) in
            Table::ALL.iter().enumerate().flat_map(|(at, table)| table.parts().into_iter().map(move |part| (at, part)))
        {
            let types = part.columns().map(|column| column.ty).collect();
            let insert = prepare(&mut client, part.name, &names(part.columns()), types, "")?;
            tables.push(Insert { table, cells: part.columns.iter().map(|(at, _)| *at).collect(), ..insert });
        }
        let types = vec![Type::Int, Type::Blob, Type::Blob];
        let chain = prepare(&mut client, "chain", "seq, rows, link", types, "")?;
        let end = "ON CONFLICT (account, currency) DO UPDATE SET debit = excluded.debit, credit = excluded.credit";
        let columns = "account, currency, debit, credit";
        let balances = prepare(&mut client, "balances", columns, vec![Type::Text; 4], end)?;
        let began = match cpu_ns() {
            Ok(began) => began,
            Err(why) => return Ok(Err(why)),
        };
        for batch in all.callbacks.chunks(BATCH) {
            write(&mut client, (&tables, &chain, &balances), all, batch)?;
        }
        Ok(cpu_ns().map(|end| end - began))
    };
    run().map_err(|e| format!("{e}: {:?}", std::error::Error::source(&e)))?
}

fn write(
    client: &mut Client,
    (tables, chain, balances): (&[Insert], &Insert, &Insert),
    all: &All,
    batch: &[Callback],
) -> Result<(), postgres::Error> {
    client.simple_query("BEGIN")?;
    for insert in tables {
        let rows = batch.iter().flat_map(|callback| &callback.rows).filter(|row| row.table == insert.table);
        put(client, insert, rows.map(|row| &row.cells))?;
    }
    put(client, chain, batch.iter().map(|callback| &callback.link))?;
    let touched: Vec<Vec<Value>> = all
        .touched(batch)
        .into_iter()
        .map(|balance| balance.iter().map(|text| Value::Text(text.clone())).collect())
        .collect();
    put(client, balances, touched.iter())?;
    client.simple_query("COMMIT").map(drop)
}
