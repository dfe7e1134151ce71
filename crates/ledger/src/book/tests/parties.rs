//! Whose numbers they are: channels of different merchants, accounts that are named, and rows of the time before.

use super::*;

fn of_merchant(channel: &str, merchant: &str) -> Channel {
    Channel { name: channel.into(), merchant: merchant.into(), ..channel_of(None) }
}

fn channel_of(account: Option<&str>) -> Channel {
    let mut values = Values::default();
    if let Some(account) = account {
        values.set(&stripe::ACCOUNT, KeyValue::Text(account.to_owned()));
    }
    Channel { provider: Configured { provider: &stripe::PROVIDER, values }, ..channel() }
}

fn under(account: &str, event: ProviderEvent) -> ProviderEvent {
    ProviderEvent { account: account.into(), ..event }
}

impl Books {
    /// What comes to this channel.
    fn takes(&mut self, channel: &Channel, event: &ProviderEvent) -> Outcome {
        self.channel = Arc::new(channel.clone());
        self.take(event)
    }
}

#[test]
fn what_another_merchants_channel_says_of_a_payment_is_a_conflict() {
    let (a, b) = (of_merchant("a", "alpha"), of_merchant("b", "beta"));
    for kind in [Kind::Refund, Kind::Chargeback] {
        let mut books = Books::new();
        assert_eq!(books.takes(&b, &paid("p1", "A", 1000)), Outcome::Posted);
        assert_eq!(books.takes(&a, &of(kind, "r1", "p1", 1000)), Outcome::Conflict);
        assert_eq!((books.balance("liabilities:merchant:beta"), books.order().state), (-1000, OrderState::Paid));
        assert_eq!(books.anomalies(), ["content_conflict"]);
        let anomaly = &books.all::<Anomaly>()[0];
        assert_eq!((&*anomaly.channel, &*anomaly.merchant), ("a", "alpha"), "it is told where it came from");
        assert_eq!(books.all::<Transaction>().len(), 1);
        assert_eq!(books.takes(&b, &of(kind, "r1", "p1", 1000)), Outcome::Posted, "and the true one is booked");
    }
}

#[test]
fn a_number_that_another_merchant_has_is_a_conflict_whatever_else_it_says() {
    let (a, b) = (of_merchant("a", "alpha"), of_merchant("b", "beta"));
    let mut books = Books::new();
    assert_eq!(books.takes(&a, &paid("p1", "A", 1000)), Outcome::Posted);
    assert_eq!(books.takes(&b, &paid("p1", "A", 1000)), Outcome::Conflict, "the same to the letter");
    assert_eq!(books.anomalies(), ["content_conflict"]);
    // Another channel of the same merchant, and the same channel that is another merchant's now, know it.
    assert_eq!(books.takes(&of_merchant("c", "alpha"), &paid("p1", "A", 1000)), Outcome::Duplicate);
    assert_eq!(books.takes(&of_merchant("a", "gamma"), &paid("p1", "A", 1000)), Outcome::Duplicate);
    assert_eq!(books.takes(&of_merchant("a", "gamma"), &of(Kind::Refund, "r1", "p1", 400)), Outcome::Posted);
    assert_eq!(books.balance("liabilities:merchant:alpha"), -600);
}

#[test]
fn a_refund_of_another_merchant_that_waits_stays_parked_when_the_payment_comes() {
    let (a, b) = (of_merchant("a", "alpha"), of_merchant("b", "beta"));
    let mut books = Books::new();
    assert_eq!(books.takes(&a, &of(Kind::Refund, "r1", "p1", 400)), Outcome::Parked);
    assert_eq!(books.takes(&a, &of(Kind::RefundReversal, "r2", "p1", 300)), Outcome::Noted);
    assert_eq!(books.takes(&b, &paid("p1", "A", 1000)), Outcome::Posted);
    assert_eq!((books.balance("liabilities:merchant:beta"), books.anomalies()), (-1000, vec!["content_conflict"]));
    assert_eq!(books.takes(&b, &of(Kind::Refund, "r2", "p1", 300)), Outcome::Posted, "his reversal counts for nothing");
}

/// As Stripe's messages come to the channel.
fn to(channel: &Channel, event: ProviderEvent) -> ProviderEvent {
    under(&stripe::account(&channel.provider.values, &channel.merchant), event)
}

/// The configuration changed from one channel to the other, or the other is a second endpoint of one account.
fn are_of_one_merchant(one: &Channel, other: &Channel) {
    let (pays, first, second) =
        (paid("p1", "A", 1000), of(Kind::Refund, "r1", "p1", 400), of(Kind::Refund, "r2", "p1", 100));
    let mut books = Books::new();
    assert_eq!(books.takes(one, &to(one, pays.clone())), Outcome::Posted);
    assert_eq!(books.takes(one, &to(one, first.clone())), Outcome::Posted);
    for event in [&pays, &first] {
        assert_eq!(books.takes(other, &to(other, event.clone())), Outcome::Duplicate, "{one:?} {other:?}");
    }
    assert_eq!(books.takes(other, &to(other, second.clone())), Outcome::Posted);
    assert_eq!((books.balance(OWED), books.order().refunded_minor), (-500, 500));
    let filed: Vec<String> = books.all::<Transaction>().into_iter().map(|t| t.account).collect();
    assert!(filed.iter().all(|account| *account == filed[0]), "with their payment");

    // What waits is found, and what waits for one payment waits in one place.
    let mut books = Books::new();
    assert_eq!(books.takes(one, &to(one, first.clone())), Outcome::Parked);
    assert_eq!(books.takes(other, &to(other, second)), Outcome::Parked);
    assert_eq!(books.takes(other, &to(other, first)), Outcome::Duplicate);
    assert_eq!(books.takes(other, &to(other, pays)), Outcome::Posted);
    assert_eq!((books.order().refunded_minor, books.anomalies().len()), (500, 0));
}

#[test]
fn what_was_kept_for_one_merchant_is_not_accepted_for_another() {
    let foreign = ProviderEvent { effect: Effect::Foreign("app_id"), ..paid("p1", "A", 1000) };
    let mended = paid("p1", "A", 1000);
    let mut books = Books::new();
    assert_eq!(books.take(&foreign), Outcome::Noted);
    let anomaly = books.all::<Anomaly>().remove(0);
    let others = Anomaly { merchant: "else".into(), ..anomaly.clone() };
    books.run(&mended, |callback, facts, scribe| {
        assert!(accept(callback, &others, facts, scribe).unwrap_err().contains("another merchant's"));
        let channels = [of_merchant("card", "store"), of_merchant("card2", "shop")].map(Arc::new);
        for channel in &channels {
            let callback = Callback { channel, ..*callback };
            let why = accept(&callback, &anomaly, facts, scribe).unwrap_err();
            assert!(why.contains("for the merchant shop by the channel card"), "{why}");
        }
        assert_eq!(accept(callback, &anomaly, facts, scribe), Ok(Outcome::Posted));
    });
    assert_eq!(books.balance(OWED), -1000);
}

#[test]
fn what_reached_the_wrong_channel_takes_nothing_from_its_owner() {
    let (a, b) = (of_merchant("a", "alpha"), Channel { name: "b".into(), ..of_merchant("a", "alpha") });
    for refund in [None, Some(cumulative("p1/r1", "p1", 400))] {
        let mut books = Books::new();
        books.provider = &alipay::PROVIDER;
        for event in std::iter::once(paid("p1", "A", 1000)).chain(refund) {
            let foreign = ProviderEvent { effect: Effect::Foreign("app_id"), ..event.clone() };
            assert_eq!(books.takes(&a, &foreign), Outcome::Noted);
            assert_eq!(books.takes(&a, &foreign), Outcome::Duplicate);
            assert_eq!(books.takes(&b, &event), Outcome::Posted, "the genuine one");
            assert_eq!(books.takes(&b, &event), Outcome::Duplicate);
            assert_eq!(books.takes(&a, &foreign), Outcome::Duplicate);
        }
    }
    // Where the configuration was wrong, it is the same once that is mended.
    let mut books = Books::new();
    books.provider = &alipay::PROVIDER;
    let foreign = ProviderEvent { effect: Effect::Foreign("app_id"), ..paid("p1", "A", 1000) };
    assert_eq!(books.takes(&a, &foreign), Outcome::Noted);
    assert_eq!(books.takes(&a, &paid("p1", "A", 1000)), Outcome::Duplicate);
}

#[test]
fn one_payment_is_booked_once_whatever_the_configuration_names() {
    let (none, named, other) = (channel_of(None), channel_of(Some("acct_1")), channel_of(Some("acct_2")));
    let renamed = of_merchant("card", "store");
    let endpoint = Channel { name: "second".into(), ..named.clone() };
    let pairs = [(&none, &renamed), (&none, &endpoint), (&endpoint, &none), (&named, &other), (&named, &none)];
    pairs.into_iter().for_each(|(one, other)| are_of_one_merchant(one, other));
}

#[test]
fn what_another_merchant_filed_elsewhere_is_nothing_to_this_one() {
    let (a, b) = (of_merchant("a", "alpha"), of_merchant("b", "beta"));
    let mut books = Books::new();
    for (channel, other) in [(&a, "alpha"), (&b, "beta")] {
        assert_eq!(books.takes(channel, &to(channel, of(Kind::Refund, "r1", "p1", 400))), Outcome::Parked);
        assert_eq!(books.takes(channel, &to(channel, paid("p1", "A", 1000))), Outcome::Posted);
        assert_eq!(books.balance(&format!("liabilities:merchant:{other}")), -600);
    }
    assert_eq!(books.anomalies(), [""; 0]);
}

#[test]
fn what_was_filed_without_an_account_is_found_and_stays_where_it_is() {
    let own = channel_of(None);
    let (paid, refund) = (paid("p1", "A", 1000), of(Kind::Refund, "r1", "p1", 400));
    let mut books = Books::new();
    // As an earlier version filed it.
    assert_eq!(books.takes(&own, &paid), Outcome::Posted);
    let again = under("merchant:shop", paid.clone());
    assert_eq!(books.takes(&own, &again), Outcome::Duplicate);
    assert_eq!(books.takes(&own, &under("merchant:shop", refund.clone())), Outcome::Posted);
    assert_eq!(books.takes(&own, &under("merchant:shop", refund.clone())), Outcome::Duplicate);
    assert_eq!(books.all::<Transaction>()[1].account, "", "filed with its payment");
    // And once an account is named.
    let named = channel_of(Some("acct_1"));
    assert_eq!(books.takes(&named, &under("acct_1", paid)), Outcome::Duplicate);
    assert_eq!(books.takes(&named, &under("acct_1", refund)), Outcome::Duplicate);
    assert_eq!(books.balance(OWED), -600);

    let mut books = Books::new();
    assert_eq!(books.takes(&own, &of(Kind::Refund, "r1", "p1", 400)), Outcome::Parked);
    assert_eq!(books.takes(&named, &under("acct_1", again)), Outcome::Posted);
    assert_eq!(books.balance(OWED), -600, "what waited follows");
    assert!(books.all::<Transaction>().iter().all(|transaction| transaction.account.is_empty()));
    assert_eq!(books.takes(&named, &under("acct_1", of(Kind::Refund, "r2", "p1", 600))), Outcome::Posted);
    assert_eq!(books.order().state, OrderState::Refunded);
}
