//! The watch over transfers that are held: they expire, and merchants are asked about them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use uuid::Uuid;

use crate::journal::{Journal, Standing};
use crate::rows::{Cell, Type, Value};
use crate::store::{Reader, Readers, StoreError};
use base::clock;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// The most transfers of one look.
const MOST: i64 = 256;

/// Looks for what is due while this process writes, until it is told to stop.
pub async fn watch(journal: Journal, readers: Arc<Readers>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        if journal.standing() != Standing::Active {
            continue;
        }
        // Rows are never recorded before this.
        let now = journal.recorded_at().max(i64::try_from(clock::wall_ms()).unwrap_or(i64::MAX));
        let readers = readers.clone();
        match tokio::task::spawn_blocking(move || readers.with(|reader| due(reader, now))).await {
            Ok(Ok(transfers)) if transfers.is_empty() => {}
            Ok(Ok(transfers)) => {
                // Each apart: one that cannot be read keeps no other.
                let all = transfers.into_iter().map(|transfer| journal.due(vec![transfer]));
                for why in join_all(all).await.into_iter().filter_map(Result::err) {
                    log::warn!("ledger: a transfer that is due waits: {why:?}");
                }
            }
            Ok(Err(e)) => log::warn!("ledger: transfers that are due cannot be read: {e}"),
            Err(e) => log::error!("ledger: the look for transfers that are due failed: {e}"),
        }
    }
}

/// The transfers of which something is due at `now`.
pub fn due(reader: &mut dyn Reader, now: i64) -> Result<Vec<Uuid>, StoreError> {
    let mut found: Vec<Uuid> = vec![];
    for condition in
        ["state = 'pending' AND expires_at IS NOT NULL AND expires_at <= $1", "check_at IS NOT NULL AND check_at <= $1"]
    {
        let sql = format!("SELECT id FROM transfers WHERE {condition} LIMIT {MOST}");
        let rows = reader.select(&sql, &[Value::Int(now)], &[Type::Text])?;
        found.extend(rows.into_iter().flatten().filter_map(Uuid::take));
    }
    found.sort();
    found.dedup();
    Ok(found)
}
