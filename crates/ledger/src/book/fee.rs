//! The merchant's fee of a payment, set by configuration.
//!
//! It is a journal of its own in the payment's commit. A refund does not return it.

use rust_decimal::{Decimal, RoundingStrategy};

use super::facts::Facts;
use super::posting_builder::PostingBuilder;
use crate::rows::Transaction;
use crate::stored_enum::TxState;
use config::model::ledger::{Channel, Fee, Rounding};
use providers::event::{AMOUNT_MAX, Kind};

/// The channel's fee of a payment of `amount` minor units; `None` if there is none.
pub fn of(channel: &Channel, amount: i64) -> Option<i64> {
    let fee = amount_of(channel.fee.as_ref()?, amount);
    (fee > 0).then_some(fee)
}

/// The fee of an amount in minor units.
pub fn amount_of(fee: &Fee, amount: i64) -> i64 {
    let strategy = match fee.rounding {
        Rounding::HalfEven => RoundingStrategy::MidpointNearestEven,
        Rounding::HalfUp => RoundingStrategy::MidpointAwayFromZero,
        Rounding::Up => RoundingStrategy::AwayFromZero,
        Rounding::Down => RoundingStrategy::ToZero,
    };
    let share = Decimal::from(amount).checked_mul(fee.percent).map(|product| product / Decimal::ONE_HUNDRED);
    let whole =
        share.map(|share| share.round_dp_with_strategy(0, strategy)).and_then(|share| i64::try_from(share).ok());
    let sum = whole.and_then(|whole| whole.checked_add(fee.fixed_minor)).unwrap_or(AMOUNT_MAX);
    sum.max(fee.minimum_minor).min(AMOUNT_MAX)
}

/// Posts the fee of a posted payment.
pub fn post(payment: usize, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let payment = facts.transaction(payment).clone();
    let Some(amount) = payment.fee_minor else { return };
    let (seq, id) = scribe.name();
    let fee = Transaction {
        seq,
        id,
        evidence_id: None,
        provider: String::new(),
        account: String::new(),
        kind: Kind::Fee,
        key: String::new(),
        channel_txn_no: None,
        of: payment.channel_txn_no.as_ref().map(|number| format!("n:{number}")),
        amount_minor: Some(amount),
        stated_minor: Some(amount),
        stated_currency: payment.currency,
        first_state: TxState::Posted,
        state: TxState::Posted,
        recorded_at: scribe.now(),
        payment_txn_no: payment.channel_txn_no.clone(),
        fee_minor: None,
        refunded_minor: 0,
        held_minor: 0,
        ..payment.clone()
    };
    scribe.row(&fee);
    scribe.journal(&fee, Some(&payment));
    // A later call of the same batch may take it back.
    facts.add(fee);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fee(percent: &str, fixed: i64, minimum: i64, rounding: Rounding) -> Fee {
        Fee { percent: percent.parse().unwrap(), fixed_minor: fixed, minimum_minor: minimum, rounding }
    }

    #[test]
    fn a_fee_is_exact_and_rounded_as_it_is_told() {
        let halves = [(250, 2, 3, 3, 2), (350, 4, 4, 4, 3), (251, 3, 3, 3, 2), (249, 2, 2, 3, 2)];
        for (amount, even, up_half, up, down) in halves {
            let of = |rounding| amount_of(&fee("1", 0, 0, rounding), amount);
            assert_eq!(of(Rounding::HalfEven), even, "{amount}");
            assert_eq!(of(Rounding::HalfUp), up_half, "{amount}");
            assert_eq!(of(Rounding::Up), up, "{amount}");
            assert_eq!(of(Rounding::Down), down, "{amount}");
        }
        assert_eq!(amount_of(&fee("0.6", 30, 0, Rounding::HalfEven), 10_000), 90);
        assert_eq!(amount_of(&fee("0.6", 0, 100, Rounding::HalfEven), 10_000), 100);
        assert_eq!(amount_of(&fee("100", 0, 0, Rounding::HalfEven), AMOUNT_MAX), AMOUNT_MAX);
    }
}
