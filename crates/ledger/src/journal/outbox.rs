//! New events on their way from a commit to delivery, in memory. Delivery reads the store only when it is behind.

use std::collections::{BTreeSet, HashMap, HashSet};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::deliver::parcel::{Parcel, To};
use crate::rows::{Delivery, Outgoing, Row, Table, Typed, Value};
use crate::stored_enum::EventState;

/// The most events that wait here; delivery finds the others in the store.
const MOST: usize = 2_048;

/// The events of a range of rows.
#[derive(Debug, Default)]
pub struct Fresh {
    /// The last row before the range.
    pub after: i64,
    /// The last row of the range.
    pub upto: i64,
    /// Each event, once for each address, with whether it is the first of its order there or has no order: then it
    /// waits for no other event.
    pub events: Vec<(Parcel, bool)>,
}

impl Fresh {
    /// The events among rows that begin after `after`.
    pub(super) fn of(after: i64, rows: Vec<Row>) -> Fresh {
        let mut fresh = Fresh { after, upto: rows.last().map_or(after, |row| row.seq), events: vec![] };
        let has_deliveries = rows.iter().any(|row| row.table == Table::Delivery);
        // Orders that are new in these rows, and the addresses that have an event of one already.
        let (mut new, mut begun) = (HashSet::new(), HashSet::new());
        let mut is_first = |order: Option<Uuid>, new: &HashSet<Uuid>, to: &To| {
            order.is_none_or(|order| new.contains(&order) && begun.insert((order, to.clone())))
        };
        let mut events = HashMap::new();
        for row in rows {
            match row.table {
                Table::Order => _ = new.insert(row.id),
                Table::Outgoing => {
                    let Some(event) = typed::<Outgoing>(row) else { continue };
                    if has_deliveries {
                        events.insert(event.seq, event.clone());
                    }
                    if event.state == EventState::Pending {
                        let parcel = Parcel::from(event);
                        let is_first = is_first(parcel.event.order_id, &new, &parcel.to);
                        fresh.events.push((parcel, is_first));
                    }
                }
                Table::Delivery => {
                    let Some(delivery) = typed::<Delivery>(row) else { continue };
                    let Some(event) = events.get(&delivery.event_seq) else { continue };
                    let parcel = Parcel::to_endpoint(event, delivery);
                    let is_first = is_first(parcel.event.order_id, &new, &parcel.to);
                    fresh.events.push((parcel, is_first));
                }
                _ => {}
            }
        }
        fresh
    }
}

fn typed<T: Typed>(row: Row) -> Option<T> {
    let head = [Value::Int(row.seq), Value::Text(row.id.hyphenated().to_string())];
    T::from_cells(head.into_iter().chain(row.values).collect())
}

/// News for delivery.
#[derive(Debug, Default)]
pub struct OutboxNews {
    /// Events committed since the last look.
    pub fresh: Option<Fresh>,
    /// Whether there may be more in the store.
    pub look: bool,
    /// Addresses to which something was put back.
    pub again: BTreeSet<To>,
    /// Whether endpoints changed.
    pub endpoints: bool,
}

/// The queue between the writer and delivery.
#[derive(Debug, Default)]
pub struct OutboxQueue {
    news: Mutex<OutboxNews>,
    notify: Notify,
}

impl OutboxQueue {
    /// Adds committed events. If too many wait, or the rows between are missing here, only the last are kept: delivery
    /// sees the gap before them.
    pub(super) fn put(&self, fresh: Fresh) {
        if fresh.upto == fresh.after {
            return;
        }
        let has_events = !fresh.events.is_empty();
        let mut news = self.news.lock();
        match &mut news.fresh {
            Some(before) if before.upto == fresh.after && before.events.len() < MOST => {
                before.upto = fresh.upto;
                before.events.extend(fresh.events);
            }
            waits => *waits = Some(fresh),
        }
        drop(news);
        if has_events {
            self.notify.notify_one();
        }
    }

    /// Says that events in the store may be due.
    pub(super) fn look(&self) {
        self.news.lock().look = true;
        self.notify.notify_one();
    }

    /// Says that something was put back for these addresses.
    pub(super) fn again(&self, addresses: BTreeSet<To>) {
        self.news.lock().again.extend(addresses);
        self.notify.notify_one();
    }

    /// Says that endpoints changed.
    pub(super) fn endpoints(&self) {
        self.news.lock().endpoints = true;
        self.notify.notify_one();
    }

    /// Takes the news.
    pub fn take(&self) -> OutboxNews {
        std::mem::take(&mut *self.news.lock())
    }

    /// Returns when there may be news.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: i64, order_id: Option<u128>) -> Row {
        let event = Outgoing {
            seq,
            id: Uuid::from_u128(seq as u128),
            kind: "payment.posted".into(),
            transaction_id: Uuid::nil(),
            order_id: order_id.map(Uuid::from_u128),
            merchant: "shop".into(),
            body: "{}".into(),
            created_at: 7,
            state: EventState::Pending,
            attempts: 0,
            round: 0,
            next_attempt_at: Some(7),
            last_status: None,
            delivered_at: None,
        };
        event.row()
    }

    fn order(seq: i64, id: u128) -> Row {
        Row { table: Table::Order, seq, id: Uuid::from_u128(id), values: vec![] }
    }

    #[test]
    fn the_first_event_of_a_new_order_waits_for_none() {
        let rows = vec![order(8, 1), event(9, Some(1)), event(10, Some(1)), event(11, Some(2)), event(12, None)];
        let fresh = Fresh::of(7, rows);
        let told: Vec<(i64, bool)> = fresh.events.iter().map(|(parcel, is_first)| (parcel.seq, *is_first)).collect();
        assert_eq!((fresh.after, fresh.upto), (7, 12));
        assert_eq!(told, [(9, true), (10, false), (11, false), (12, true)]);
    }

    #[test]
    fn what_follows_is_told_together_and_a_gap_shows() {
        let outbox = OutboxQueue::default();
        let told = |outbox: &OutboxQueue| {
            let news = outbox.take();
            (news.fresh.map(|fresh| (fresh.after, fresh.upto, fresh.events.len())), news.look)
        };
        outbox.put(Fresh::of(0, vec![event(1, None)]));
        outbox.put(Fresh::of(1, vec![order(2, 1)]));
        outbox.put(Fresh::of(2, vec![]));
        outbox.put(Fresh::of(2, vec![event(3, None)]));
        assert_eq!(told(&outbox), (Some((0, 3, 2)), false));
        outbox.put(Fresh::of(3, vec![event(4, None)]));
        outbox.put(Fresh::of(9, vec![event(10, None)]));
        outbox.look();
        assert_eq!(told(&outbox), (Some((9, 10, 1)), true));
        assert_eq!(told(&outbox), (None, false));
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let outbox = OutboxQueue::default();
        for seq in 1..=MOST as i64 + 5 {
            outbox.put(Fresh::of(seq - 1, vec![event(seq, None)]));
        }
        let fresh = outbox.take().fresh.unwrap();
        assert_eq!((fresh.after, fresh.events.len()), (MOST as i64, 5), "the rest is in the store");
    }
}
