//! What came of a call to a provider, where no message of the provider tells it: what the payer needs, a number, a
//! refusal, and when to ask again.
//!
//! A payment or a refund that an answer tells of goes the way of a callback instead.

use uuid::Uuid;

use super::facts::Facts;
use super::posting_builder::PostingBuilder;
use super::refunds;
use crate::query::views::{self, View};
use crate::stored_enum::OrderState;
use config::model::ledger::Channel;

/// What a provider is called about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An order.
    Order(Uuid),
    /// A requested refund.
    Refund(Uuid),
}

impl Subject {
    /// The id of the order or refund.
    pub fn id(self) -> Uuid {
        match self {
            Subject::Order(id) | Subject::Refund(id) => id,
        }
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Came {
    /// Nothing that is recorded here.
    Nothing,
    /// What the payer needs, and the provider's number. `evidence` is where it is kept.
    Created {
        /// The id of the evidence.
        evidence: Uuid,
        /// The provider's number.
        number: Option<String>,
    },
    /// The provider's number.
    Number(String),
    /// The provider does not do it.
    Refused,
}

/// Writes what came of a call; returns the object as it is now, if there is one.
pub fn record(
    subject: Subject,
    came: &Came,
    query_at: Option<i64>,
    facts: &mut Facts,
    scribe: &mut PostingBuilder<'_>,
) -> Option<Shown> {
    match subject {
        Subject::Order(id) => {
            let order = facts.order(id)?;
            match came {
                Came::Created { evidence, number } if order.pay_id.is_none() => {
                    (order.pay_id, order.provider_no) = (Some(*evidence), number.clone());
                }
                Came::Refused if order.state == OrderState::Pending => order.state = OrderState::Closed,
                _ => {}
            }
            order.query_at = query_at;
            scribe.update(order);
            Some(Shown::Order(Box::new(views::Order::of(order.clone()))))
        }
        Subject::Refund(id) => {
            if *came == Came::Refused {
                refunds::refused(id, facts, scribe);
            }
            let refund = facts.refund_where(|refund, _| refund.id == id)?;
            if let Came::Number(number) = came {
                refund.refund_txn_no.get_or_insert_with(|| number.clone());
            }
            refund.query_at = query_at;
            scribe.update(refund);
            Some(Shown::Refund(views::Refund::of(refund.clone())))
        }
    }
}

/// What a call was about, as it is shown.
#[derive(Debug)]
pub enum Shown {
    /// An order.
    Order(Box<views::Order>),
    /// A refund.
    Refund(views::Refund),
}

/// When a provider is asked next about what is pending since `created_at`; none once all times have passed.
pub fn next(created_at: i64, now: i64, channel: &Channel) -> Option<i64> {
    let times = channel.query_after.iter().map(|wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
    times.map(|wait| created_at.saturating_add(wait)).find(|at| *at > now)
}

/// The same for a refund, which does not stay pending for ever: then after the last of these times again.
pub fn next_of_refund(created_at: i64, now: i64, channel: &Channel) -> Option<i64> {
    let last = channel.query_after.last().map(|wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
    next(created_at, now, channel).or_else(|| last.map(|wait| now.saturating_add(wait)))
}
