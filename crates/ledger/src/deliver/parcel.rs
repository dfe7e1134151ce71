//! An event on its way to one address.

use uuid::Uuid;

use crate::rows::{Delivery, Outgoing, Table, Typed, Update};

/// An address of a merchant's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum To {
    /// The url that the configuration gives to this merchant.
    Merchant(String),
    /// An endpoint of the books.
    Endpoint(Uuid),
}

/// An event on its way to one address.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// The address.
    pub to: To,
    /// The row that holds the state of this delivery: the event's own, or the delivery's.
    pub seq: i64,
    /// The event; its state is that of this delivery.
    pub event: Outgoing,
}

impl Parcel {
    /// The event on its way to an endpoint.
    pub fn to_endpoint(event: &Outgoing, delivery: Delivery) -> Parcel {
        let Delivery { state, attempts, round, next_attempt_at, last_status, delivered_at, .. } = delivery;
        let event = Outgoing { state, attempts, round, next_attempt_at, last_status, delivered_at, ..event.clone() };
        Parcel { to: To::Endpoint(delivery.endpoint_id), seq: delivery.seq, event }
    }

    /// The new state of the delivery. Both tables have the same columns of state.
    pub fn update(&self) -> Update {
        let Update { state, .. } = self.event.update();
        let table = match self.to {
            To::Merchant(_) => Table::Outgoing,
            To::Endpoint(_) => Table::Delivery,
        };
        Update { table, seq: self.seq, state }
    }
}

impl From<Outgoing> for Parcel {
    fn from(event: Outgoing) -> Parcel {
        Parcel { to: To::Merchant(event.merchant.clone()), seq: event.seq, event }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_keep_the_same_state() {
        assert_eq!(Table::Outgoing.state(), Table::Delivery.state());
    }
}
