//! The plans of the API's first pages, on a store as it is.

use std::time::Duration;

use base::clock;
use config::model::ledger::Store as Place;
use ledger::query::{self, list};
use ledger::rows::{Type, Value};
use ledger::store::{Reader, Readers, StoreError};

/// Prints the plan of each, and how long it takes.
pub fn run(place: &Place, merchant: &str, number: &str) -> Result<(), String> {
    let readers = Readers::limited(place.clone(), Duration::from_secs(5));
    for list in [&list::ORDERS, &list::REFUNDS, &list::TRANSACTIONS, &list::EVENTS, &list::ANOMALIES] {
        for (name, value) in [("merchant", merchant), ("out_trade_no", number)] {
            let asked = list.asked(&vec![(name.to_owned(), value.to_owned())]).map_err(|e| e.to_string())?;
            let (tail, values) = asked.sql();
            let sql = query::select(list.table, &tail);
            let plan = readers.with(|reader| plan(place, reader, &sql, &values)).map_err(|e| e.to_string())?;
            println!("{} by {name} = {value}:", list.table.name());
            plan.iter().for_each(|step| println!("    {step}"));
            let types: Vec<Type> = list.table.columns().map(|column| column.ty).collect();
            let mut times: Vec<f64> = vec![];
            for _ in 0..20 {
                let began = clock::now();
                readers.with(|reader| reader.select(&sql, &values, &types)).map_err(|e| e.to_string())?;
                times.push(clock::now().since(began).as_secs_f64() * 1_000.0);
            }
            println!("    first {:.2} ms, then {:.2} ms", times[0], times[1..].iter().copied().fold(0.0, f64::max));
        }
    }
    Ok(())
}

fn plan(place: &Place, reader: &mut dyn Reader, sql: &str, values: &[Value]) -> Result<Vec<String>, StoreError> {
    let (explain, types): (&str, &[Type]) = match place {
        Place::Sqlite(_) => ("EXPLAIN QUERY PLAN", &[Type::Int, Type::Int, Type::Int, Type::Text]),
        Place::Postgres { .. } => ("EXPLAIN", &[Type::Text]),
    };
    let rows = reader.select(&format!("{explain} {sql}"), values, types)?;
    let step = |row: Vec<Value>| if let Some(Value::Text(step)) = row.last() { step.clone() } else { String::new() };
    Ok(rows.into_iter().map(step).collect())
}
