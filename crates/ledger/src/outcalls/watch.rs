//! The watch over orders and refunds that are pending: their providers are asked about them at the times of
//! `query_after`, so that a callback that never came is found, and a call that did not come through is made again.
//!
//! When is stored with the row, so a restart loses nothing. Each channel has turns of its own: one whose provider hangs
//! slows no other, and neither the writer nor a callback waits for any.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use super::{Outcalls, Unfinished};
use crate::book::called::Subject;
use crate::journal::Standing;
use crate::rows::{Cell, Type, Value};
use crate::store::{Reader, StoreError};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// The most calls at once of a channel.
const TURNS: usize = 8;

/// Looks for what is due while this process writes, until it is told to stop.
pub async fn watch(outcalls: Arc<Outcalls>, mut stop: watch::Receiver<bool>) {
    let mut turns: HashMap<Arc<str>, Arc<Semaphore>> = HashMap::new();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let channels = outcalls.channels();
        if outcalls.journal.standing() != Standing::Active || channels.by_name.is_empty() {
            continue;
        }
        let now = super::now(&outcalls.journal);
        for name in channels.by_name.keys() {
            let turns = turns.entry(name.clone()).or_insert_with(|| Arc::new(Semaphore::new(TURNS)));
            let free = turns.available_permits();
            if free == 0 {
                continue;
            }
            let channel = name.to_string();
            match outcalls.read(move |reader| due(reader, &channel, now)).await {
                Ok(subjects) => {
                    let idle = subjects.into_iter().filter(|subject| !outcalls.busy.lock().contains(&subject.id()));
                    idle.take(free).for_each(|subject| begin(&outcalls, turns, subject));
                }
                Err(why) => log::warn!("ledger: what is due of channel {name} cannot be read: {why}"),
            }
        }
    }
}

fn begin(outcalls: &Arc<Outcalls>, turns: &Arc<Semaphore>, subject: Subject) {
    let Ok(turn) = turns.clone().try_acquire_owned() else { return };
    let outcalls = outcalls.clone();
    tokio::spawn(async move {
        // The log says why no answer came; the time of the next call is written.
        if let Err(Unfinished::NotWritten(why)) = outcalls.attempt(subject, None).await {
            log::warn!("ledger: what came of a call to a provider could not be written: {why:?}");
        }
        drop(turn);
    });
}

/// The pending orders and refunds of a channel that are to be asked about, those that wait longest first. There may be
/// as many as are being asked about, and as many again.
pub fn due(reader: &mut dyn Reader, channel: &str, now: i64) -> Result<Vec<Subject>, StoreError> {
    let ids = |reader: &mut dyn Reader, table: &str| {
        let sql = format!(
            "SELECT id FROM {table} WHERE channel = $1 AND state = 'pending' AND query_at IS NOT NULL AND query_at <= $2 \
             ORDER BY query_at LIMIT {}",
            2 * TURNS
        );
        let values = [Value::Text(channel.to_owned()), Value::Int(now)];
        let rows = reader.select(&sql, &values, &[Type::Text])?;
        Ok::<_, StoreError>(rows.into_iter().flatten().filter_map(Uuid::take).collect::<Vec<_>>())
    };
    let orders = ids(reader, "orders")?.into_iter().map(Subject::Order);
    let refunds = ids(reader, "refunds")?.into_iter().map(Subject::Refund);
    Ok(orders.chain(refunds).collect())
}
