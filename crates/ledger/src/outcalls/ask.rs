//! What is to be asked about an order or a refund, from its rows.

use uuid::Uuid;

use crate::book::called::Subject;
use crate::keys::Ring;
use crate::query::{self, views};
use crate::rows::{Cell, Evidence, Order, Refund, Transaction};
use crate::store::{Reader, StoreError};
use crate::stored_enum::{OrderState, RefundState};
use providers::api::{AskedOrder, AskedRefund, Call};

/// An order or a refund, as its provider is asked about it.
#[derive(Debug)]
pub struct Asked {
    /// The channel's name.
    pub channel: String,
    /// When it was created, in milliseconds since 1970.
    pub created_at: i64,
    /// The question; none once it is decided.
    pub call: Option<Call>,
    /// What the payer needs, if it is known.
    pub pay: Option<views::Pay>,
}

/// Reads what is to be asked.
pub fn load(reader: &mut dyn Reader, subject: Subject, ring: &Ring) -> Result<Option<Asked>, StoreError> {
    match subject {
        Subject::Order(id) => {
            let Some(order) = query::one::<Order>(reader, id, None)? else { return Ok(None) };
            let pay = pay(reader, &order, ring)?;
            Ok(Some(Asked {
                channel: order.channel.clone(),
                created_at: order.created_at,
                call: of_order(&order),
                pay,
            }))
        }
        Subject::Refund(id) => {
            let Some(refund) = query::one::<Refund>(reader, id, None)? else { return Ok(None) };
            let (channel, created_at) = (refund.channel.clone(), refund.created_at);
            Ok(Some(Asked { channel, created_at, call: of_refund(reader, &refund)?, pay: None }))
        }
    }
}

/// What the payer of an order needs; none if it is not known, or its key was erased.
pub fn pay(reader: &mut dyn Reader, order: &Order, ring: &Ring) -> Result<Option<views::Pay>, StoreError> {
    let Some(id) = order.pay_id else { return Ok(None) };
    let kept = query::one::<Evidence>(reader, id, None)?;
    let body = kept.and_then(|kept| ring.unseal(kept.key_id, "evidence", "body", id, &kept.body));
    Ok(body.and_then(|body| serde_json::from_slice(&body).ok()))
}

fn of_order(order: &Order) -> Option<Call> {
    let asked = AskedOrder {
        id: order.id.to_string(),
        out_trade_no: order.out_trade_no.clone(),
        amount_minor: order.amount_minor,
        currency: order.currency.code().to_owned(),
        number: order.provider_no.clone(),
    };
    let call = if order.pay_id.is_some() { Call::Query } else { Call::Create };
    (order.state == OrderState::Pending).then(|| call(asked))
}

fn of_refund(reader: &mut dyn Reader, refund: &Refund) -> Result<Option<Call>, StoreError> {
    if refund.state != RefundState::Pending {
        return Ok(None);
    }
    let tail = " WHERE order_id = $1 AND kind = 'payment' AND state = 'posted' ORDER BY seq LIMIT 1";
    let payment = query::rows::<Transaction>(reader, tail, &[Uuid::put(&refund.order_id)])?.pop();
    let asked = payment.and_then(|payment| {
        Some(AskedRefund {
            id: refund.id.to_string(),
            out_trade_no: payment.out_trade_no?,
            payment_no: payment.channel_txn_no?,
            paid_minor: payment.amount_minor?,
            out_refund_no: refund.out_refund_no.clone(),
            amount_minor: refund.amount_minor,
            currency: refund.currency.code().to_owned(),
            number: refund.refund_txn_no.clone(),
        })
    });
    let call = if refund.refund_txn_no.is_some() { Call::QueryRefund } else { Call::Refund };
    Ok(asked.map(call))
}
