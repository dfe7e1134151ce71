//! Which endpoints get an event: those that take its type and were there when it was made.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::PostingBuilder;
use crate::endpoints::filter::{self, ORDER_CREATED};
use crate::query::views::{self, View};
use crate::rows::{Delivery, Endpoint, Order, Outgoing, Row, Typed, Value};
use crate::stored_enum::{EventState, OrderState, Source};

/// The endpoints that are not deleted.
#[derive(Clone, Debug, Default)]
pub struct LiveEndpoints {
    by_merchant: BTreeMap<String, BTreeMap<Uuid, Endpoint>>,
    merchants: BTreeMap<Uuid, String>,
}

impl LiveEndpoints {
    /// These endpoints.
    pub fn new(endpoints: Vec<Endpoint>) -> LiveEndpoints {
        let mut live = LiveEndpoints::default();
        endpoints.into_iter().for_each(|endpoint| live.put(endpoint));
        live
    }

    /// Takes the new state of an endpoint.
    pub fn put(&mut self, endpoint: Endpoint) {
        let of_merchant = self.by_merchant.entry(endpoint.merchant.clone()).or_default();
        if endpoint.deleted_at.is_some() {
            self.merchants.remove(&endpoint.id);
            of_merchant.remove(&endpoint.id);
        } else {
            self.merchants.insert(endpoint.id, endpoint.merchant.clone());
            of_merchant.insert(endpoint.id, endpoint);
        }
    }

    /// An endpoint.
    pub fn get(&self, id: Uuid) -> Option<&Endpoint> {
        self.by_merchant.get(self.merchants.get(&id)?)?.get(&id)
    }

    /// How many a merchant has.
    pub fn count(&self, merchant: &str) -> usize {
        self.by_merchant.get(merchant).map_or(0, BTreeMap::len)
    }

    fn that_take<'a>(&'a self, merchant: &str, kind: &'a str) -> impl Iterator<Item = &'a Endpoint> {
        let of_merchant = self.by_merchant.get(merchant).into_iter().flat_map(BTreeMap::values);
        of_merchant.filter(move |endpoint| filter::takes(&endpoint.events, kind))
    }
}

/// Writes the deliveries of new events to endpoints, and the event of a new order if an endpoint asks for it.
pub fn fan_out(endpoints: &LiveEndpoints, scribe: &mut PostingBuilder<'_>) {
    if endpoints.merchants.is_empty() {
        return;
    }
    let (orders, events): (Vec<Order>, Vec<Outgoing>) = (of(scribe.rows()), of(scribe.rows()));
    for order in orders {
        let is_asked_for = || endpoints.that_take(&order.merchant, ORDER_CREATED).next().is_some();
        if order.source == Source::Api && order.state == OrderState::Pending && is_asked_for() {
            let (about, merchant) = (order.id, order.merchant.clone());
            let shown = views::Order::of(order);
            let event = scribe.tell_endpoints(ORDER_CREATED, (about, Some(about)), &merchant, shown);
            deliver(&event, endpoints, scribe);
        }
    }
    events.iter().for_each(|event| deliver(event, endpoints, scribe));
}

fn deliver(event: &Outgoing, endpoints: &LiveEndpoints, scribe: &mut PostingBuilder<'_>) {
    for endpoint in endpoints.that_take(&event.merchant, &event.kind) {
        let (seq, id) = scribe.name();
        scribe.row(&Delivery {
            seq,
            id,
            event_seq: event.seq,
            endpoint_id: endpoint.id,
            order_id: event.order_id,
            state: EventState::Pending,
            attempts: 0,
            round: 0,
            next_attempt_at: Some(scribe.wall()),
            last_status: None,
            delivered_at: None,
        });
        scribe.sent(1);
    }
}

/// The rows of one table; evidence, which is large, is not copied.
fn of<T: Typed>(rows: &[Row]) -> Vec<T> {
    let typed = |row: &Row| {
        let head = [Value::Int(row.seq), Value::Text(row.id.hyphenated().to_string())];
        T::from_cells(head.into_iter().chain(row.values.iter().cloned()).collect())
    };
    rows.iter().filter(|row| row.table == T::TABLE).filter_map(typed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Time;

    const NOW: i64 = 1_795_232_280_000;

    fn endpoint(n: u128, merchant: &str, events: &str) -> Endpoint {
        Endpoint {
            seq: n as i64,
            id: Uuid::from_u128(n),
            merchant: merchant.into(),
            created_at: NOW,
            events: events.into(),
            paused: 0,
            settings: vec![],
            failing_since: None,
            deleted_at: None,
        }
    }

    /// The deliveries of an event of `shop`: place, event and endpoint.
    fn fanned(live: &LiveEndpoints) -> Vec<(i64, i64, u128)> {
        let mut ids = Uuid::now_v7;
        let mut scribe = PostingBuilder::new(10, Time { recorded: NOW, wall: NOW - 1 }, &mut ids);
        scribe.tell("payment.posted".into(), (Uuid::nil(), None), "shop", 0);
        fan_out(live, &mut scribe);
        let plan = scribe.done();
        let deliveries: Vec<Delivery> = of(&plan.rows);
        assert_eq!(plan.events, 1 + deliveries.len());
        assert!(deliveries.iter().all(|delivery| delivery.next_attempt_at == Some(NOW - 1)));
        deliveries.iter().map(|it| (it.seq, it.event_seq, it.endpoint_id.as_u128())).collect()
    }

    #[test]
    fn an_event_goes_to_the_endpoints_of_its_merchant_that_take_it() {
        let mut live = LiveEndpoints::new(vec![
            endpoint(1, "shop", ""),
            endpoint(2, "shop", "refund.*"),
            endpoint(3, "other", ""),
            endpoint(4, "shop", "payment.posted"),
        ]);
        assert_eq!(fanned(&live), [(12, 11, 1), (13, 11, 4)]);
        live.put(Endpoint { deleted_at: Some(NOW), ..endpoint(1, "shop", "") });
        assert_eq!((fanned(&live), live.count("shop")), (vec![(12, 11, 4)], 2));
        assert_eq!(fanned(&LiveEndpoints::default()), []);
    }
}
