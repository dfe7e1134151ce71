//! What a person takes out of suspense.

use super::*;
use crate::book::orders::NewOrder;
use crate::command::Call;
use crate::rows::Journal;
use crate::stored_enum::What;

impl Books {
    fn accepts(&mut self, event: &ProviderEvent) -> Result<Outcome, String> {
        let of = self.all::<Transaction>().into_iter().find(|one| one.key == event.key).unwrap();
        let anomalies: Vec<Anomaly> = self.all();
        let anomaly = anomalies.into_iter().find(|anomaly| anomaly.transaction_id == Some(of.id)).unwrap();
        self.run(event, |callback, facts, scribe| accept(callback, &anomaly, facts, scribe))
    }
}

#[test]
fn a_second_payment_and_what_was_refunded_of_it_go_to_the_merchant() {
    let fee =
        Some(Fee { percent: "1".parse().unwrap(), fixed_minor: 0, minimum_minor: 0, rounding: Rounding::HalfEven });
    let mut books = Books::with(Channel { fee, ..channel() });
    books.take(&paid("p1", "A", 1000));
    let second = paid("p2", "A", 1000);
    assert_eq!(books.take(&second), Outcome::Suspense);
    books.take(&of(Kind::Refund, "r1", "p2", 300));
    books.take(&of(Kind::Refund, "r2", "p2", 800));
    assert_eq!((books.balance(OWED), books.balance(SUSPENSE)), (-990, 100));
    assert_eq!(books.accepts(&second), Ok(Outcome::Posted));
    // The second refund takes more than the payment leaves: it stays for a person.
    assert_eq!((books.balance(OWED), books.balance(SUSPENSE)), (-990 - 990 + 300, 800));
    let order = books.order();
    assert_eq!((order.state, order.paid_minor, order.refunded_minor), (OrderState::PartiallyRefunded, 2000, 300));
    let payment = books.all::<Transaction>().into_iter().find(|one| one.key == "p2").unwrap();
    assert_eq!((payment.refunded_minor, payment.held_minor, payment.fee_minor), (300, 800, Some(10)));
    let whats: Vec<What> = books.all::<Journal>().iter().map(|journal| journal.what).collect();
    use What::{Post, Release, Suspend};
    assert_eq!(whats, [Post, Post, Suspend, Suspend, Suspend, Release, Post, Post, Release, Post]);
    assert!(books.accepts(&second).unwrap_err().contains("in the books already"));
}

#[test]
fn another_amount_is_accepted_and_another_currency_is_not() {
    let mut books = Books::new();
    let asked = Call::Order(NewOrder {
        channel: books.channel.clone(),
        out_trade_no: "A".into(),
        amount_minor: 1000,
        currency: usd(),
    });
    books.ask("k1", asked);
    let less = paid("p1", "A", 900);
    books.take(&less);
    assert_eq!(books.accepts(&less), Ok(Outcome::Posted));
    assert_eq!((books.order().state, books.order().paid_minor, books.balance(OWED)), (OrderState::Paid, 900, -900));
    let foreign = ProviderEvent { currency: Some(Currency::CNY), ..paid("p2", "A", 1000) };
    assert_eq!(books.take(&foreign), Outcome::Suspense);
    assert!(books.accepts(&foreign).unwrap_err().contains("It is in CNY"));
}
