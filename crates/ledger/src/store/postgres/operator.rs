//! An operator's session in PostgreSQL.

use tokio_postgres::types::ToSql;

use super::cells::{PgCell, failure};
use super::client::Client;
use super::connect;
use crate::store::StoreError;
use crate::store::operator::{Operator, Statement};
use base::secret::Secret;

/// An operator's session.
pub struct PostgresOperator(Client);

impl PostgresOperator {
    /// Connects to a database of this version.
    pub fn open(url: &str, password: Option<&Secret>) -> Result<PostgresOperator, StoreError> {
        Ok(PostgresOperator(connect::operator(url, password)?))
    }
}

impl Operator for PostgresOperator {
    fn run(&mut self, statements: &[Statement<'_>]) -> Result<(), StoreError> {
        let client = &mut self.0;
        let mut run = || {
            client.batch_execute("BEGIN")?;
            for (sql, values) in statements {
                let cells: Vec<PgCell<'_>> = values.iter().map(PgCell::from).collect();
                let params: Vec<&(dyn ToSql + Sync)> = cells.iter().map(|cell| cell as _).collect();
                client.execute(sql, &params)?;
            }
            client.batch_execute("COMMIT")
        };
        run().map_err(|e: tokio_postgres::Error| {
            let told = failure(&e);
            // The failure is told; what was begun ends with the connection at the latest.
            let _ = client.batch_execute("ROLLBACK");
            told
        })
    }
}
